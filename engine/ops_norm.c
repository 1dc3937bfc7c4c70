/* Normalisation: batch (Ioffe & Szegedy, arXiv:1502.03167), instance (Ulyanov et al., arXiv:1607.08022), group (Wu & He,
 * arXiv:1803.08494). One walk serves all three: a set of elements shares a mean and a variance. */
#include "ops.h"

#include <math.h>
#include <stdint.h>

static int infer_norm(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape;
    for (int i = 1; i < y->n_in; i++)
        if (uf_count(y->in[i]->shape) != (size_t)x.c) return uf_shape_error(ctx, y, "one value a channel is needed");
    if (y->attr.groups && x.c % y->attr.groups) return uf_shape_error(ctx, y, "channels must divide into the groups");
    y->shape = x;
    return UF_OK;
}

/* A set: samples [n0, n1) and channels [c0, c1). */
typedef struct range {
    int n0, n1, c0, c1;
} range;

static void statistics(uf_shape s, range r, const float *x, double *mean, double *var) {
    double sum = 0, sq = 0, n = (double)(r.n1 - r.n0) * (r.c1 - r.c0) * s.h * s.w;
    size_t plane = (size_t)s.h * (size_t)s.w;
    for (int b = r.n0; b < r.n1; b++)
        for (int c = r.c0; c < r.c1; c++)
            for (size_t i = 0; i < plane; i++) sum += (double)x[uf_at(s, b, c, 0, 0) + i];
    *mean = sum / n;
    for (int b = r.n0; b < r.n1; b++)
        for (int c = r.c0; c < r.c1; c++)
            for (size_t i = 0; i < plane; i++) {
                double d = (double)x[uf_at(s, b, c, 0, 0) + i] - *mean;
                sq += d * d;
            }
    *var = sq / n;
}

static void forward_range(const uf_call *k, range r, float mean, float istd) {
    uf_shape s = k->y->shape;
    size_t plane = (size_t)s.h * (size_t)s.w;
    for (int b = r.n0; b < r.n1; b++)
        for (int c = r.c0; c < r.c1; c++)
            for (size_t i = 0; i < plane; i++) {
                size_t at = uf_at(s, b, c, 0, 0) + i;
                k->out[at] = (k->x[0][at] - mean) * istd * k->x[1][c] + k->x[2][c];
            }
}

/* With xh = (x-mean)*istd and g = dy*gamma: dx = istd (g - mean(g) - xh mean(g xh)); the means vanish when the
 * statistics are constants. */
static void backward_range(const uf_call *k, range r, float mean, float istd, bool constant) {
    uf_shape s = k->y->shape;
    size_t plane = (size_t)s.h * (size_t)s.w;
    double sg = 0, sgx = 0, n = (double)(r.n1 - r.n0) * (r.c1 - r.c0) * (double)plane;
    for (int b = r.n0; b < r.n1; b++)
        for (int c = r.c0; c < r.c1; c++) {
            double db = 0, dg = 0;
            for (size_t i = 0; i < plane; i++) {
                size_t at = uf_at(s, b, c, 0, 0) + i;
                double xh = (double)((k->x[0][at] - mean) * istd);
                db += (double)k->dy[at];
                dg += (double)k->dy[at] * xh;
            }
            sg += db * (double)k->x[1][c];
            sgx += dg * (double)k->x[1][c];
            if (k->dx[1]) k->dx[1][c] += (float)dg;
            if (k->dx[2]) k->dx[2][c] += (float)db;
        }
    if (!k->dx[0]) return;
    float mg = constant ? 0.f : (float)(sg / n), mgx = constant ? 0.f : (float)(sgx / n);
    for (int b = r.n0; b < r.n1; b++)
        for (int c = r.c0; c < r.c1; c++)
            for (size_t i = 0; i < plane; i++) {
                size_t at = uf_at(s, b, c, 0, 0) + i;
                float xh = (k->x[0][at] - mean) * istd;
                k->dx[0][at] += istd * (k->dy[at] * k->x[1][c] - mg - xh * mgx);
            }
}

/* Running statistics are parameters that no gradient changes: the forward pass of a training plan owns them. */
static void running_update(const uf_call *k, int c, double mean, double var, double n) {
    float *rm = (float *)(uintptr_t)k->x[3], *rv = (float *)(uintptr_t)k->x[4], m = k->y->attr.momentum;
    rm[c] += m * ((float)mean - rm[c]);
    rv[c] += m * ((float)(var * n / (n > 1 ? n - 1 : 1)) - rv[c]);
}

static void batch_fwd(const uf_call *k) {
    uf_shape s = k->y->shape;
    bool batch = k->train && k->y->attr.mode;
    for (int c = 0; c < s.c; c++) {
        range r = {0, s.n, c, c + 1};
        double mean = (double)k->x[3][c], var = (double)k->x[4][c];
        if (batch) {
            statistics(s, r, k->x[0], &mean, &var);
            running_update(k, c, mean, var, (double)s.n * s.h * s.w);
        }
        k->aux[2 * c] = (float)mean;
        k->aux[2 * c + 1] = (float)(1 / sqrt(var + (double)k->y->attr.eps));
        forward_range(k, r, k->aux[2 * c], k->aux[2 * c + 1]);
    }
}

static void batch_bwd(const uf_call *k) {
    for (int c = 0; c < k->y->shape.c; c++) {
        range r = {0, k->y->shape.n, c, c + 1};
        backward_range(k, r, k->aux[2 * c], k->aux[2 * c + 1], !(k->train && k->y->attr.mode));
    }
}

static size_t batch_aux(const uf_node *y) { return 2 * (size_t)y->shape.c; }

const uf_op uf_op_batch_norm = {.name = "batch_norm", .n_in = 5, .infer = infer_norm, .fwd = batch_fwd,
                                .bwd = batch_bwd, .n_aux = batch_aux, .no_grad = {false, false, false, true, true}};

/* attr.groups sets a sample; 0: one set a channel (instance norm). */
static int sets_of(const uf_node *y) { return y->attr.groups ? y->attr.groups : y->shape.c; }

static void group_fwd(const uf_call *k) {
    uf_shape s = k->y->shape;
    int sets = sets_of(k->y), per = s.c / sets;
    for (int i = 0; i < s.n * sets; i++) {
        range r = {i / sets, i / sets + 1, i % sets * per, (i % sets + 1) * per};
        double mean, var;
        statistics(s, r, k->x[0], &mean, &var);
        k->aux[2 * i] = (float)mean;
        k->aux[2 * i + 1] = (float)(1 / sqrt(var + (double)k->y->attr.eps));
        forward_range(k, r, k->aux[2 * i], k->aux[2 * i + 1]);
    }
}

static void group_bwd(const uf_call *k) {
    uf_shape s = k->y->shape;
    int sets = sets_of(k->y), per = s.c / sets;
    for (int i = 0; i < s.n * sets; i++) {
        range r = {i / sets, i / sets + 1, i % sets * per, (i % sets + 1) * per};
        backward_range(k, r, k->aux[2 * i], k->aux[2 * i + 1], false);
    }
}

static size_t group_aux(const uf_node *y) { return 2 * (size_t)(y->shape.n * sets_of(y)); }

const uf_op uf_op_instance_norm = {
    .name = "instance_norm", .n_in = 3, .infer = infer_norm, .fwd = group_fwd, .bwd = group_bwd, .n_aux = group_aux};
const uf_op uf_op_group_norm = {
    .name = "group_norm", .n_in = 3, .infer = infer_norm, .fwd = group_fwd, .bwd = group_bwd, .n_aux = group_aux};
