/* The engine: a graph of tensors, compiled once for (shape, mode, backend) and run thousands of times. Internal API.
 *
 * Nodes are appended in call order, so the array is sorted: it is the tape, walked backwards for gradients. All
 * tensors are 4-D (N,C,H,W); a vector is (N,C,1,1), a matrix (1,1,H,W), a scalar (1,1,1,1), a sequence (N,C,1,T).
 * Builders return NULL after the first failure in a graph and pass NULL inputs on, so a model is written without a
 * check a line; uf_plan_open() reports the failure. */
#ifndef UF_ENGINE_H
#define UF_ENGINE_H

#include "base.h"

enum { UF_MAX_IN = 8 };

typedef struct uf_shape {
    int n, c, h, w;
} uf_shape;
static inline size_t uf_count(uf_shape s) { return (size_t)s.n * (size_t)s.c * (size_t)s.h * (size_t)s.w; }
static inline bool uf_same(uf_shape a, uf_shape b) { return a.n == b.n && a.c == b.c && a.h == b.h && a.w == b.w; }

/* ---- parameters --------------------------------------------------------------------------------------------- */

typedef enum uf_init { UF_INIT_ZERO, UF_INIT_ONE, UF_INIT_HE, UF_INIT_XAVIER, UF_INIT_ICNR2, UF_INIT_UNIT } uf_init;

typedef struct uf_param {
    char *name;      /* "enc.1.0.conv.w" */
    uf_shape shape;  /* conv: (out, in/groups, kh, kw) */
    float *value;    /* float32 master */
    float *grad;     /* NULL until a TRAIN plan wants it; same shape; accumulated (+=), cleared by uf_params_zero_grad */
    float *m, *v;    /* Adam moments, NULL until stepped */
    float *average;  /* EMA, NULL unless kept */
    bool frozen;     /* no gradient, no step */
    bool buffer;     /* not learnt by gradient (running mean and variance, power-iteration vectors) */
    bool decay;      /* weight decay applies (weights: yes; biases and norms: no) */
    int group;       /* layer group for discriminative rates, 0 = nearest the input */
} uf_param;

typedef struct uf_params uf_params; /* a named set, owned by whoever opened it; shared by any number of graphs */
int uf_params_open(uf_params **out, uf_ctx *ctx, uint64_t seed);
void uf_params_close(uf_params **set);
/* Parameters made from now on begin at zero: weights are loaded over all of them, and drawing millions takes its time. */
void uf_params_blank(uf_params *set);
int uf_params_n(const uf_params *set);
uf_param *uf_params_at(const uf_params *set, int i);
uf_param *uf_params_find(const uf_params *set, const char *name); /* NULL: none */
/* Adds (or finds, when name and shape agree) a parameter and initialises it from (seed, hash(name)). NULL after
 * uf_fail: the name is there with another shape. */
uf_param *uf_params_add(uf_params *set, const char *name, uf_shape shape, uf_init init);
void uf_params_freeze(uf_params *set, const char *prefix, bool frozen);
void uf_params_zero_grad(uf_params *set);

/* ---- optimiser ---------------------------------------------------------------------------------------------- */

typedef struct uf_adam {
    float rate, beta1, beta2, eps, decay; /* AdamW when decay > 0 (Loshchilov & Hutter, arXiv:1711.05101) */
    float clip;                           /* gradient norm ceiling, 0: none */
    float average;                        /* EMA decay, 0: none */
    const float *group_rate;              /* factor a layer group, NULL: all 1 */
    int n_groups;
} uf_adam;
/* One step over every param that is neither frozen nor a buffer; t counts from 1. *norm gets the gradient norm before
 * clipping. UF_EDATA: a gradient is NaN or infinite (nothing is changed then, and the message names the tensor). */
int uf_adam_step(uf_ctx *ctx, uf_params *set, const uf_adam *options, int64_t t, float *norm);

/* ---- graph -------------------------------------------------------------------------------------------------- */

typedef struct uf_graph uf_graph;
typedef struct uf_node uf_node;
typedef struct uf_op uf_op;

typedef struct uf_attr { /* what an op needs to know beyond its inputs; unused fields are 0 */
    int kh, kw, stride, pad, dilation, groups; /* convolution, pooling; pad: rows and columns, of conv2d the columns */
    int top, bottom;                           /* conv2d: padding of the rows */
    int out;                                   /* output channels, hidden size */
    int axis, from, to;                        /* concat, slice, softmax: axis 0..3 = N,C,H,W */
    unsigned axes;                             /* reductions: bit a set = reduce axis a (kept with size 1) */
    int r;                                     /* pixel shuffle factor */
    int fft, hop;                              /* STFT, samples */
    int reverse;                               /* GRU: run from the end */
    int mode;                                  /* resize: 0 nearest, 1 bilinear; norms and the like: 1 training */
    int perm[4];                               /* transpose: output axis i is input axis perm[i] */
    uf_shape shape;                            /* reshape, resize, inputs */
    float eps, slope, p, scale, bias, momentum;
} uf_attr;

struct uf_node {
    const uf_op *op;
    uf_graph *graph;
    char name[64];          /* scope + layer, for messages and inspection: "color.dec.2.conv" */
    int index;              /* place on the tape */
    int n_in;
    uf_node *in[UF_MAX_IN];
    uf_shape shape;
    uf_attr attr;
    uf_param *param;        /* op "param" only */
    bool needs_grad;        /* some learnable parameter, or an input marked so, lies upstream */
    bool output;            /* kept readable after a run */
};

int uf_graph_open(uf_graph **out, uf_ctx *ctx, uf_params *params); /* params borrowed, must outlive the graph */
void uf_graph_close(uf_graph **g);
/* From here on parameters come from another set (a frozen feature network behind a generator). */
void uf_graph_use(uf_graph *g, uf_params *params);
/* Names get this prefix ("enc.1."); NULL or "" ends it. Copied. */
void uf_graph_scope(uf_graph *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Training-mode statistics and dropout for the nodes added from here on (default true). A false norm uses its running
 * statistics and has no gradient towards them, as in a frozen network. */
void uf_graph_training(uf_graph *g, bool training);
bool uf_graph_is_training(const uf_graph *g);
/* Layer group given to parameters added from here on. */
void uf_graph_group(uf_graph *g, int group);
/* Recomputes needs_grad over the tape (parameters may have been frozen since), keeping inputs marked by hand. */
void uf_graph_mark_grads(uf_graph *g);
int uf_graph_n(const uf_graph *g);
uf_node *uf_graph_at(const uf_graph *g, int i);
uf_ctx *uf_graph_ctx(const uf_graph *g);
int uf_graph_status(const uf_graph *g); /* UF_OK, or the code of the first failing builder */
/* For builders that check their arguments: uf_fail(), and the graph stays failed. Returns code. */
int uf_graph_fail(uf_graph *g, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The one constructor: every builder ends here. Checks arity, runs infer, names the node. */
uf_node *uf_graph_add(uf_graph *g, const char *op, const char *name, int n_in, uf_node *const *in, uf_attr attr);

uf_node *uf_input(uf_graph *g, const char *name, uf_shape shape);
uf_node *uf_parameter(uf_graph *g, const char *name, uf_shape shape, uf_init init, bool decay);
/* A parameter that no gradient changes: running statistics, power-iteration vectors. */
uf_node *uf_buffer(uf_graph *g, const char *name, uf_shape shape, uf_init init);
uf_node *uf_output(uf_node *x); /* marks and returns x */

/* How conv2d pads the rows; columns always as `pad` says. For rows that are times: PAST puts both sides' padding on top, so that no row
 * sees a later one (a causal convolution), and NONE is the same convolution of rows whose past stands above them. */
typedef enum uf_conv_rows { UF_ROWS_AROUND, UF_ROWS_PAST, UF_ROWS_NONE } uf_conv_rows;
typedef struct uf_conv {
    int out, k, stride, pad, dilation, groups; /* k 0 = 3; stride, dilation, groups 0 = 1; pad 0 = dilation*(k-1)/2
                                                  ("same" at stride 1), -1 = none */
    uf_conv_rows rows; /* conv2d */
    bool no_bias;
    uf_init init; /* UF_INIT_ZERO (0) means the default, HE */
    bool spectral; /* divide the weight by its largest singular value */
} uf_conv;
/* params: NAME.w (out, in/groups, k, k), NAME.b (1,out,1,1) */
uf_node *uf_conv2d(uf_node *x, const char *name, uf_conv o);
/* y (N,out,(H-1)*stride+k-2*pad,...): params NAME.w (in, out/groups, k, k), NAME.b */
uf_node *uf_conv_transpose2d(uf_node *x, const char *name, uf_conv o);
/* params NAME.gamma .beta (1,C,1,1), buffers NAME.mean .var: mean += UF_BATCH_NORM_MOMENTUM * (the batch's - mean) */
#define UF_BATCH_NORM_MOMENTUM .1f
uf_node *uf_batch_norm(uf_node *x, const char *name);
uf_node *uf_instance_norm(uf_node *x, const char *name);
uf_node *uf_group_norm(uf_node *x, const char *name, int groups);
uf_node *uf_unary(uf_node *x, const char *op);              /* relu sigmoid tanh exp log sqrt abs square */
uf_node *uf_leaky_relu(uf_node *x, float slope);
uf_node *uf_binary(uf_node *a, const char *op, uf_node *b); /* add sub mul div; size-1 axes broadcast either way */
uf_node *uf_scale(uf_node *x, float scale, float bias);     /* scale*x + bias */
uf_node *uf_reduce(uf_node *x, const char *op, unsigned axes); /* sum mean */
uf_node *uf_max_pool(uf_node *x, int k, int stride);        /* no padding, floor */
uf_node *uf_avg_pool(uf_node *x, int k, int stride);
/* Of every `members` samples, one after the other in the batch: their mean, for each of them; as x. */
uf_node *uf_group_mean(uf_node *x, int members);
uf_node *uf_blur(uf_node *x);                               /* 2x2 average, stride 1, first row and column repeated */
uf_node *uf_resize(uf_node *x, int h, int w, int bilinear); /* half-pixel centres, edges clamped */
uf_node *uf_pixel_shuffle(uf_node *x, int r);               /* (N,C*r*r,H,W) -> (N,C,H*r,W*r), PyTorch's order */
uf_node *uf_pixel_unshuffle(uf_node *x, int r);
uf_node *uf_concat(int n, uf_node *const *x, int axis);
uf_node *uf_slice(uf_node *x, int axis, int from, int to);  /* [from, to) */
uf_node *uf_reshape(uf_node *x, uf_shape shape);
uf_node *uf_transpose(uf_node *x, int a, int b, int c, int d);
uf_node *uf_matmul(uf_node *a, uf_node *b);                 /* (N,C,M,K) x (N,C,K,L) -> (N,C,M,L); N,C of b may be 1 */
uf_node *uf_softmax(uf_node *x, int axis);
/* q (N,D,H,W), k (N,D,h,w), v (N,E,h,w) -> (N,E,H,W): softmax over h*w of scale * q.k. SAGAN, arXiv:1805.08318. */
uf_node *uf_attention(uf_node *q, uf_node *k, uf_node *v, float scale);
/* x (N,C,H,W) -> (N,out,H,W) along axis 3 (a sequence (N,C,1,T), or H of them) or 2, PyTorch's gates; params NAME.wx (1,1,3*out,C)
 * .wh (1,1,3*out,out) .bx .bh (1,1,1,3*out) */
uf_node *uf_gru(uf_node *x, const char *name, int out, int axis, bool reverse);
/* The same from a first state on: before (N,out,H,1) for axis 3, (N,out,1,W) for axis 2; NULL: zeros. A sequence cut in two is the whole
 * one when the second part begins with the first one's last step. */
uf_node *uf_gru_from(uf_node *x, uf_node *before, const char *name, int out, int axis, bool reverse);
uf_node *uf_fold(uf_node *x, int r);   /* (N,C,H,W) -> (N,r*C,H,W/r): r neighbours along W become channels, w%r the slower index */
uf_node *uf_unfold(uf_node *x, int r); /* its inverse */
/* x (N,C,1,T) -> (N,2*C*... see ops_spectral.c): (N,2C,F=fft/2+1,frames), real then imaginary; periodic Hann, centred,
 * reflected ends, PyTorch's convention, frames = 1 + T/hop */
uf_node *uf_stft(uf_node *x, int fft, int hop);
uf_node *uf_istft(uf_node *x, int fft, int hop, int length); /* its inverse by overlap-add, normalised: (N,C,1,length) */
/* On spectra as of uf_stft, p > 0; both are x where x is much smaller than 1e-3: */
uf_node *uf_compress(uf_node *x, float p);  /* x |x|^(p-1), complex: (N,2C,F,L) -> the same shape */
uf_node *uf_magnitude(uf_node *x, float p); /* |x|^p: (N,2C,F,L) -> (N,C,F,L) */
uf_node *uf_rotate(uf_node *x, uf_node *mask); /* complex product, both (N,2C,F,L) */
uf_node *uf_spectral_norm(uf_node *w, const char *name);     /* w/sigma; buffer NAME.u; Miyato, arXiv:1802.05957 */
uf_node *uf_dropout(uf_node *x, float p);
/* losses: scalars (1,1,1,1), means over all elements */
uf_node *uf_l1(uf_node *a, uf_node *b);
uf_node *uf_l2(uf_node *a, uf_node *b);
uf_node *uf_bce(uf_node *logits, uf_node *target);   /* with logits, stable */
uf_node *uf_hinge(uf_node *scores, uf_node *sign);   /* mean max(0, 1 - sign*score) */
uf_node *uf_cross_entropy(uf_node *logits, uf_node *labels, float smoothing); /* (N,C,H,W), labels (N,1,H,W) = index */

/* ---- ops ---------------------------------------------------------------------------------------------------- */

typedef struct uf_call { /* one evaluation of one node by the oracle; everything dense NCHW float32 */
    const uf_node *y;
    const float *const *x; /* y->n_in inputs */
    float *out;            /* fwd: written; bwd: read */
    const float *dy;       /* bwd: gradient of out */
    float **dx;            /* bwd: dx[i] += ..., or NULL where not wanted */
    float *aux;            /* op->n_aux(y) floats written by fwd for bwd (batch statistics, indices, masks) */
    uint64_t seed;         /* dropout: (seed, node, step) */
    bool train;            /* the node was built with training on and the plan is a TRAIN plan */
} uf_call;

struct uf_op {
    const char *name;
    int n_in;       /* -1: any */
    int n_optional; /* so many of the last ones may be left out */
    int (*infer)(uf_ctx *ctx, uf_node *y); /* shapes in -> y->shape; uf_fail names the layer (y->name) */
    void (*fwd)(const uf_call *c);
    void (*bwd)(const uf_call *c);         /* NULL: no gradient (inputs, parameters) */
    size_t (*n_aux)(const uf_node *y);     /* NULL: 0 */
    bool no_grad[UF_MAX_IN];               /* inputs that never get a gradient (labels, running statistics) */
};
extern const uf_op *const uf_ops[]; /* NULL-ended */
const uf_op *uf_op_find(const char *name);

/* ---- plans -------------------------------------------------------------------------------------------------- */

typedef enum uf_mode { UF_INFER, UF_TRAIN, UF_EXACT } uf_mode;
typedef enum uf_dtype { UF_AUTO, UF_F32, UF_BF16 } uf_dtype;

typedef struct uf_plan uf_plan;
typedef struct uf_plan_options {
    uf_mode mode;
    const char *backend; /* NULL or "cpu"; "ref". EXACT is always ref. UF_EINVAL: no such */
    uf_dtype dtype;      /* AUTO: bf16 where the processor multiplies it natively, else float32 */
    bool no_fuse;        /* for the tests: every node on its own */
    uf_node *loss;       /* TRAIN: the scalar to differentiate; may be NULL (forward only, training statistics) */
    size_t arena_max;    /* bytes; 0: no cap. UF_ENOMEM names the need */
    uint64_t seed;       /* dropout */
    int n_threads;       /* 0: the context's */
} uf_plan_options;

/* Compiles g. The graph and its parameters must outlive the plan. UF_EINVAL: the graph's own failure. */
int uf_plan_open(uf_plan **out, uf_ctx *ctx, uf_graph *g, const uf_plan_options *o);
void uf_plan_close(uf_plan **p);
int uf_plan_set(uf_plan *p, const uf_node *input, const float *nchw); /* (N,C,H,W) float32, copied */
int uf_plan_run(uf_plan *p);      /* forward */
/* A forward run that measures: the seconds of the step that computes `node` (its conversions apart), or of all, NULL. */
int uf_plan_time(uf_plan *p, const uf_node *node, double *seconds);
int uf_plan_backward(uf_plan *p); /* after run: grads of the params += d loss / d param */
int uf_plan_get(uf_plan *p, const uf_node *node, float *nchw); /* outputs, inputs and the loss; in EXACT any node */
/* Gradient of the loss with respect to an input marked needs_grad before compiling (tests, saliency). */
int uf_plan_get_grad(uf_plan *p, const uf_node *input, float *nchw);
void uf_plan_stale(uf_plan *p);   /* parameters changed: INFER plans fold and pack them again at the next run */
void uf_plan_set_step(uf_plan *p, uint64_t step); /* dropout stream */
size_t uf_plan_arena(const uf_plan *p);           /* bytes */
double uf_plan_macs(const uf_plan *p);            /* multiply-adds of one forward run */
uf_dtype uf_plan_dtype(const uf_plan *p);
bool uf_cpu_has_bf16(void);                       /* avx512_bf16 or AMX, and not masked by ONEDNN_MAX_CPU_ISA */
bool uf_cpu_has_amx(void);                        /* matrix units for bf16; likewise */
bool uf_cpu_has_avx512(void);                     /* likewise */
bool uf_cpu_has_avx2(void);                       /* with fused multiplications; likewise */
/* "AMD EPYC, AVX-512, bf16 dot products", written to buf and returned: for bench and messages. */
const char *uf_cpu_name(char *buf, size_t n);

/* ---- weights ------------------------------------------------------------------------------------------------ */

/* safetensors (huggingface/safetensors format): 8-byte little-endian header length, JSON header, tensors.
 * Nothing in a file is trusted: UF_EDATA names what is wrong with it. UF_EIO: it cannot be read. */
typedef struct uf_weights uf_weights; /* an opened and verified file, read into memory */
int uf_weights_open(uf_weights **out, uf_ctx *ctx, const char *path);
void uf_weights_close(uf_weights **w);
int uf_weights_n(const uf_weights *w);
/* Name (borrowed), shape (ranks 0-4; missing leading axes are 1) and stored type (F32, F16, BF16) of tensor i, which
 * counts in the order of the bytes. */
const char *uf_weights_tensor(const uf_weights *w, int i, uf_shape *shape, const char **dtype);
const char *uf_weights_meta(const uf_weights *w, const char *key); /* "__metadata__" string, NULL: absent */
int uf_weights_n_meta(const uf_weights *w);
const char *uf_weights_meta_at(const uf_weights *w, int i, const char **value); /* key; order of the file */
/* Copies into the parameters of `set`, by name; a vector fits whichever axis it lies on. strict: every parameter must be
 * found with its shape (UF_EDATA names the first that is not, and nothing is changed), and the optimiser's state comes
 * along where the file has it; else values alone, and missing or unfitting ones keep theirs. *n_loaded counts. */
int uf_weights_load(const uf_weights *w, uf_params *set, bool strict, int *n_loaded);
/* The first input channels of a convolution weight with more of them. UF_EDATA: no such tensor. */
int uf_weights_load_cut(const uf_weights *w, uf_param *p);

typedef struct uf_meta {
    const char *key, *value;
} uf_meta;
typedef struct uf_weights_save {
    const uf_meta *meta; /* n_meta pairs: model, options, recipe, data, licences, metrics, date */
    int n_meta;
    const char *dtype;   /* "F32" (default), "F16"; state is always written as F32 */
    bool average;        /* save the EMA where there is one */
    bool state;          /* add Adam's moments and averages as NAME.m, NAME.v, NAME.average: a checkpoint */
    bool overwrite;
} uf_weights_save;
/* Writes beside and renames; adds "sha256" of the tensor bytes to the metadata. UF_EINVAL: no such dtype, or a value
 * that F16 cannot hold; UF_EEXIST, UF_EIO: as uf_whole_open(). */
int uf_weights_write(uf_ctx *ctx, const char *path, const uf_params *set, const uf_weights_save *o);

#endif
