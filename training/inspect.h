/* What uf_inspect() found, on its way to the page. Internal to training/. */
#ifndef UF_INSPECT_H
#define UF_INSPECT_H

#include "training.h"

enum { UF_INSPECT_MAPS = 12, UF_INSPECT_LAYERS = 64, UF_INSPECT_WORST = 12 };

typedef struct uf_layer_seen { /* one layer's activations over all pictures */
    char name[64];
    const uf_node *node;      /* gone when the page is written; its shape stays */
    uf_shape shape;
    double sum, squares, most, zeros, n;
    float *channel_most;      /* (c) */
    int n_dead;
    char *maps;               /* PNG of some channels on the first picture ... */
    size_t n_maps;            /* ... bytes */
    double gradient, length;  /* norms of the layer's weight gradient and of its weights; 0: no weights */
} uf_layer_seen;

typedef struct uf_picture_seen {
    char name[160];
    int64_t index;
    double ciede2000;
} uf_picture_seen;

typedef struct uf_seen {
    uf_layer_seen layer[UF_INSPECT_LAYERS];
    int n_layers;
    uf_picture_seen *picture; /* worst first */
    int n_pictures;
    char *worst;              /* PNG: rows of grey, network, original */
    size_t n_worst;
    double clipped;           /* share of the chroma outside of what a film can hold */
} uf_seen;

int uf_inspect_page(uf_ctx *ctx, FILE *to, const uf_inspect_options *o, const uf_seen *s); /* inspect_page.c */

#endif
