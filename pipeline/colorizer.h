/* The `color` network for one picture size: weights, graph and compiled plan. Internal to the pipeline room. */
#ifndef UF_COLORIZER_H
#define UF_COLORIZER_H

#include "base.h"

typedef struct uf_colorizer uf_colorizer;

typedef struct uf_colorizer_options {
    const char *weights;     /* safetensors file; NULL: the shipped one */
    const char *tune;        /* what `unfade tune` made of those weights; NULL: nothing */
    const char *weights_dir; /* see uf_weights_find() */
    const char *device;      /* NULL, "auto" or "cpu" */
    int w, h;                /* the film's size, pixels */
    int size;                /* short side for the network; 0: UF_COLOR_SIZE */
    bool float32;
    int64_t memory;          /* arena cap, bytes; 0: none */
    int n_threads;           /* 0: the context's */
} uf_colorizer_options;

/* The network's size for a film of w x h: short side `size`, aspect kept, both sides multiples of `multiple`. */
void uf_colorizer_fit(int w, int h, int size, int multiple, int *net_w, int *net_h);

/* UF_EINVAL: device; UF_EIO: no such file; UF_EDATA: not weights for `color`; UF_ENOMEM: over memory. */
int uf_colorizer_open(uf_colorizer **out, uf_ctx *ctx, const uf_colorizer_options *o);
/* The same weights with what another tuning changed of them; NULL: as o->tune at opening. */
int uf_colorizer_retune(uf_colorizer *c, const char *tune);
void uf_colorizer_close(uf_colorizer **c);
void uf_colorizer_size(const uf_colorizer *c, int *net_w, int *net_h);
/* luma (net_h,net_w) [0,1] to chroma (2,net_h/2,net_w/2), (Cb, Cr) in about [-0.5,0.5], BT.601 full range. */
int uf_colorizer_run(uf_colorizer *c, const float *luma, float *chroma);

#endif
