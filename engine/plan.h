/* Inside a plan: buffers with lifetimes, and the steps that run over them. Shared by the lowering files of engine/.
 *
 * A node's value may exist in two layouts, each made when first wanted: PLAIN (NCHW float32, the oracle's) and NATIVE
 * (nhwc in the plan's element type). Gradients likewise. Buffers are numbered; a buffer's place in the arena is chosen
 * after all steps are known, from the first and last step that touch it. */
#ifndef UF_PLAN_H
#define UF_PLAN_H

#include "cpu_kernels.h"
#include "engine.h"

typedef enum uf_layout { UF_PLAIN, UF_NATIVE, UF_N_LAYOUTS } uf_layout;
enum { UF_MAX_USE = 16, UF_NO_BUF = -1 };

typedef struct uf_buf {
    size_t bytes, offset;
    int first, last;        /* steps that touch it; -1: none yet */
    bool pinned;            /* readable between runs: lives through the whole plan */
    const uf_param *param;  /* not in the arena: this parameter's value, or its gradient */
    bool gradient;
} uf_buf;

typedef struct uf_step uf_step;
struct uf_step {
    int (*run)(uf_plan *p, uf_step *s);
    void (*close)(void *priv);
    void *priv;
    const uf_node *node;
    int use[UF_MAX_USE];    /* buffers; what each means is the step's own affair; UF_NO_BUF where absent */
    int n_use;
    int i[6];
    float f[4];
    uf_shape shape;
};

typedef struct uf_steps {
    uf_step *at;
    int n, room;
} uf_steps;

/* Nodes computed together, known by the last of them. */
typedef struct uf_group {
    const uf_node *conv, *norm, *add, *residual, *act;
    const uf_node *shuffle, *blur, *skip;
} uf_group;

typedef struct uf_tensor {
    int value[UF_N_LAYOUTS];
    int grad;
    uf_layout grad_layout;
    int last_use;           /* index of the last group that reads it; INT_MAX for outputs */
    int n_consumers;
    bool live, absorbed;    /* absorbed: computed inside a later node's group */
    bool oracle;            /* lowered to the oracle: so is its backward pass */
    int aux;                /* buffer kept for the backward pass */
    void *keep;             /* backend's object made forward and used again backward; owned by the forward step */
    uf_group group;
} uf_tensor;

/* Who computes a plan: a row of uf_backends[]. What a backend leaves to others the oracle computes, in its own layout. */
typedef struct uf_backend {
    const char *name;
    uf_dtype (*dtype)(uf_dtype wanted);                   /* of activations; wanted may be UF_AUTO */
    void (*fuse)(uf_plan *p);                             /* groups nodes before lowering, or NULL */
    /* Append steps. UF_EUNSUPPORTED, before anything was appended, sends the node to the oracle; NULL: all of them. */
    int (*forward)(uf_plan *p, const uf_node *n);
    int (*backward)(uf_plan *p, const uf_node *n);
} uf_backend;
extern const uf_backend uf_backend_ref, uf_backend_cpu;
extern const uf_backend *const uf_backends[]; /* NULL-ended */

struct uf_plan {
    uf_ctx *ctx;
    uf_graph *graph;
    uf_plan_options options;
    uf_dtype dtype;
    const uf_backend *backend;
    int n_threads;
    int n_nodes;
    uf_tensor *tensor;
    uf_buf *buf;
    int n_bufs, room_bufs;
    uf_steps forward, backward, *now; /* now: the list being appended to */
    int clock;              /* step number across both lists */
    char *arena;
    size_t n_arena;
    uint64_t step;
    bool stale;             /* constants must be packed again */
    const uf_kernels *kernels;
};

/* plan.c */
int uf_plan_buf(uf_plan *p, size_t bytes);           /* a new arena buffer; UF_ENOMEM */
int uf_plan_param(uf_plan *p, const uf_param *param, bool gradient);
uf_step *uf_plan_step(uf_plan *p, const uf_node *node, int (*run)(uf_plan *, uf_step *)); /* NULL: out of memory */
void uf_step_use(uf_plan *p, uf_step *s, int buf);   /* appends to s->use and lengthens the buffer's life */
void *uf_ptr(const uf_plan *p, int buf);             /* NULL for UF_NO_BUF */
static inline void *uf_use(const uf_plan *p, const uf_step *s, int i) { return uf_ptr(p, s->use[i]); }
uf_tensor *uf_tensor_of(const uf_plan *p, const uf_node *n);
size_t uf_bytes(const uf_plan *p, uf_shape s, uf_layout layout);
int uf_value(uf_plan *p, const uf_node *n, uf_layout layout);      /* buffer of n's value, converted when necessary */
int uf_value_new(uf_plan *p, const uf_node *n, uf_layout layout);  /* buffer to write n's value into */
int uf_grad(uf_plan *p, const uf_node *n, uf_layout layout);       /* buffer of d loss / d n; UF_NO_BUF: none arrived */
int uf_grad_add(uf_plan *p, const uf_node *n, int buf, uf_layout layout); /* one more contribution */
bool uf_wants_grad(const uf_plan *p, const uf_node *n);
static inline bool uf_is_constant(const uf_plan *p, const uf_node *w) { /* weights that change only when the caller says so (uf_plan_stale) */
    return w->param && (p->options.mode == UF_INFER || w->param->frozen);
}

/* plan_oracle.c */
int uf_oracle_forward(uf_plan *p, const uf_node *n);
int uf_oracle_backward(uf_plan *p, const uf_node *n);

/* cpu_fuse.c, cpu_lower.c, cpu_conv.c, ...: the cpu backend */
void uf_cpu_fuse(uf_plan *p);
bool uf_conv_fusible(const uf_plan *p, const uf_node *n); /* false: the oracle must compute it, alone */
int uf_conv_forward(uf_plan *p, const uf_node *n);
int uf_conv_backward(uf_plan *p, const uf_node *n);
int uf_norm_forward(uf_plan *p, const uf_node *n);
int uf_norm_backward(uf_plan *p, const uf_node *n);
int uf_attention_forward(uf_plan *p, const uf_node *n);
int uf_attention_backward(uf_plan *p, const uf_node *n);
int uf_gru_forward(uf_plan *p, const uf_node *n);
int uf_gru_backward(uf_plan *p, const uf_node *n);

#endif
