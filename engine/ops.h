/* What the oracle's files share. Internal to engine/. */
#ifndef UF_OPS_H
#define UF_OPS_H

#include "engine.h"

/* Index of (n,c,h,w) in a dense NCHW tensor. */
static inline size_t uf_at(uf_shape s, int n, int c, int h, int w) {
    return (((size_t)n * (size_t)s.c + (size_t)c) * (size_t)s.h + (size_t)h) * (size_t)s.w + (size_t)w;
}
static inline int uf_axis(uf_shape s, int axis) { return axis == 0 ? s.n : axis == 1 ? s.c : axis == 2 ? s.h : s.w; }
static inline void uf_axis_set(uf_shape *s, int axis, int v) {
    *(axis == 0 ? &s->n : axis == 1 ? &s->c : axis == 2 ? &s->h : &s->w) = v;
}
/* Elements before and behind an axis: index = (outer * size + i) * inner + k. */
static inline size_t uf_outer(uf_shape s, int axis) {
    size_t n = 1;
    for (int a = 0; a < axis; a++) n *= (size_t)uf_axis(s, a);
    return n;
}
static inline size_t uf_inner(uf_shape s, int axis) {
    size_t n = 1;
    for (int a = axis + 1; a < 4; a++) n *= (size_t)uf_axis(s, a);
    return n;
}
int uf_infer_same(uf_ctx *ctx, uf_node *y);   /* y like its first input */
int uf_infer_scalar(uf_ctx *ctx, uf_node *y); /* two inputs of one shape -> (1,1,1,1) */
int uf_shape_error(uf_ctx *ctx, const uf_node *y, const char *why);

#endif
