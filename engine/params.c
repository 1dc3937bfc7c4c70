/* Named parameters and how they begin. */
#include "engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct uf_params {
    uf_ctx *ctx;
    uint64_t seed;
    bool blank;
    uf_param **at;
    int n, room;
    int *slot; /* open-addressed index by name: 1 + position, 0 empty */
    int n_slots;
};

int uf_params_open(uf_params **out, uf_ctx *ctx, uint64_t seed) {
    uf_params *set = uf_alloc(ctx, 1, sizeof *set);
    if (!set) return UF_ENOMEM;
    set->ctx = ctx;
    set->seed = seed;
    *out = set;
    return UF_OK;
}

static void param_free(uf_param *p) {
    if (!p) return;
    free(p->name);
    free(p->value);
    free(p->grad);
    free(p->m);
    free(p->v);
    free(p->average);
    free(p);
}

void uf_params_close(uf_params **set) {
    if (!set || !*set) return;
    for (int i = 0; i < (*set)->n; i++) param_free((*set)->at[i]);
    free((*set)->at);
    free((*set)->slot);
    free(*set);
    *set = NULL;
}

int uf_params_n(const uf_params *set) { return set->n; }
uf_param *uf_params_at(const uf_params *set, int i) { return set->at[i]; }

static int *slot_of(const uf_params *set, const char *name) {
    uint64_t h = uf_hash(name, strlen(name));
    for (;; h++) {
        int *s = &set->slot[h % (uint64_t)set->n_slots];
        if (*s == 0 || !strcmp(set->at[*s - 1]->name, name)) return s;
    }
}

uf_param *uf_params_find(const uf_params *set, const char *name) {
    if (!set->n_slots) return NULL;
    int s = *slot_of(set, name);
    return s ? set->at[s - 1] : NULL;
}

static int grow(uf_params *set) {
    if (set->n < set->room) return UF_OK;
    int room = set->room ? 2 * set->room : 64;
    int *slot = uf_alloc(set->ctx, (size_t)(4 * room), sizeof *slot);
    if (!slot) return UF_ENOMEM;
    uf_param **at = realloc(set->at, (size_t)room * sizeof *at);
    if (!at) {
        free(slot);
        return uf_fail(set->ctx, UF_ENOMEM, "out of memory for the parameters; close other programs");
    }
    set->at = at;
    set->room = room;
    free(set->slot);
    set->slot = slot;
    set->n_slots = 4 * room;
    for (int i = 0; i < set->n; i++) *slot_of(set, at[i]->name) = 1 + i;
    return UF_OK;
}

/* Inputs that one output sums, and outputs that one input reaches: kernels (out,in,kh,kw), matrices (1,1,out,in). */
static double fan_in(uf_shape s) { return s.n == 1 && s.c == 1 ? s.w : (double)s.c * s.h * s.w; }
static double fan_out(uf_shape s) { return s.n == 1 && s.c == 1 ? s.h : (double)s.n * s.h * s.w; }
/* He et al. 2015 (arXiv:1502.01852), for layers before a ReLU. */
static double he(uf_shape s) { return sqrt(2 / fan_in(s)); }
/* Glorot & Bengio 2010 (AISTATS), the normal form, for the others. */
static double xavier(uf_shape s) { return sqrt(2 / (fan_in(s) + fan_out(s))); }

static void init_scaled(uf_param *p, uint64_t seed, uint64_t stream, double deviation) {
    float scale = (float)deviation;
    size_t n = uf_count(p->shape);
#pragma omp parallel for
    for (size_t i = 0; i < n; i++) p->value[i] = scale * uf_gaussian(seed, stream, i);
}

/* ICNR: fill each group of 2*2 output channels that pixel shuffle spreads over one place with one kernel, so that the
 * upsampler starts as nearest neighbour, without checkerboards. Aitken et al. 2017, arXiv:1707.02937. */
static void init_icnr(uf_param *p, uint64_t seed, uint64_t stream) {
    init_scaled(p, seed, stream, he(p->shape));
    size_t per = uf_count(p->shape) / (size_t)p->shape.n;
    for (int o = 0; o < p->shape.n; o++)
        if (o % 4) memcpy(p->value + (size_t)o * per, p->value + (size_t)(o / 4 * 4) * per, per * sizeof(float));
}

static void init_unit(uf_param *p, uint64_t seed, uint64_t stream) {
    double norm = 0;
    size_t n = uf_count(p->shape);
    for (size_t i = 0; i < n; i++) {
        p->value[i] = uf_gaussian(seed, stream, i);
        norm += (double)p->value[i] * (double)p->value[i];
    }
    for (size_t i = 0; i < n; i++) p->value[i] /= (float)sqrt(norm);
}

static void initialise(uf_param *p, uint64_t seed, uf_init init) {
    uint64_t stream = uf_hash(p->name, strlen(p->name));
    size_t n = uf_count(p->shape);
    switch (init) {
    case UF_INIT_ZERO: break;
    case UF_INIT_ONE:
        for (size_t i = 0; i < n; i++) p->value[i] = 1.f;
        break;
    case UF_INIT_HE: init_scaled(p, seed, stream, he(p->shape)); break;
    case UF_INIT_XAVIER: init_scaled(p, seed, stream, xavier(p->shape)); break;
    case UF_INIT_ICNR2: init_icnr(p, seed, stream); break;
    case UF_INIT_UNIT: init_unit(p, seed, stream); break;
    }
}

static int check_shape(uf_ctx *ctx, const char *name, uf_shape s, uf_init init) {
    if (s.n < 1 || s.c < 1 || s.h < 1 || s.w < 1)
        return uf_fail(ctx, UF_EINVAL, "parameter '%s' would be %dx%dx%dx%d; every size must be 1 or more", name, s.n,
                       s.c, s.h, s.w);
    if (init == UF_INIT_ICNR2 && s.n % 4)
        return uf_fail(ctx, UF_EINVAL, "parameter '%s' has %d output channels, but a 2x pixel shuffle follows; use a "
                       "multiple of 4", name, s.n);
    return UF_OK;
}

/* "enc.1.conv.w", "gru.wx": the last word begins with w. Norms' scales and all biases do not decay. */
static bool is_weight(const char *name) {
    const char *dot = strrchr(name, '.');
    return (dot ? dot + 1 : name)[0] == 'w';
}

uf_param *uf_params_add(uf_params *set, const char *name, uf_shape s, uf_init init) {
    uf_param *p = uf_params_find(set, name);
    if (p) {
        uf_shape t = p->shape;
        if (uf_same(s, t)) return p;
        uf_fail(set->ctx, UF_EINVAL, "parameter '%s' is %dx%dx%dx%d here and %dx%dx%dx%d before; give them two names",
                name, s.n, s.c, s.h, s.w, t.n, t.c, t.h, t.w);
        return NULL;
    }
    if (check_shape(set->ctx, name, s, init) < 0 || grow(set) < 0) return NULL;
    p = uf_alloc(set->ctx, 1, sizeof *p);
    if (!p) return NULL;
    p->shape = s;
    p->name = uf_strdup(set->ctx, name);
    p->value = uf_alloc(set->ctx, uf_count(s), sizeof(float));
    if (!p->name || !p->value) {
        param_free(p);
        return NULL;
    }
    p->decay = is_weight(name);
    if (!set->blank) initialise(p, set->seed, init);
    *slot_of(set, name) = 1 + set->n;
    return set->at[set->n++] = p;
}

void uf_params_blank(uf_params *set) { set->blank = true; }

void uf_params_freeze(uf_params *set, const char *prefix, bool frozen) {
    size_t n = prefix ? strlen(prefix) : 0;
    for (int i = 0; i < set->n; i++)
        if (!n || !strncmp(set->at[i]->name, prefix, n)) set->at[i]->frozen = frozen;
}

void uf_params_zero_grad(uf_params *set) {
    for (int i = 0; i < set->n; i++)
        if (set->at[i]->grad) memset(set->at[i]->grad, 0, uf_count(set->at[i]->shape) * sizeof(float));
}
