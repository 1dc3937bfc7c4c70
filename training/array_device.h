/* The devices of a scene: what is drawn for each, and what it does to sound. Internal to training/. */
#ifndef UF_ARRAY_DEVICE_H
#define UF_ARRAY_DEVICE_H

#include "array.h"

double uf_array_draw(const uf_array *a, const char *what, int which, double from, double to); /* a pure function of the scene's seed */
void uf_device_draw(const uf_array *a, const uf_array_options *o, int mic, uf_mic *m); /* all but its place */
int uf_device_pass(uf_ctx *ctx, const uf_mic *m, int rate, float *x, int64_t n); /* uf_array_device() */
void uf_device_drop(const uf_mic *m, int rate, float *x, int64_t n); /* silence where it dropped out */
/* x, n samples at `rate` from time 0 of the scene, as c samples it: *n_y samples, new memory. */
int uf_device_clock_sample(uf_ctx *ctx, const uf_device_clock *c, const float *x, int64_t n, int rate, float **y, size_t *n_y);

#endif
