/* What a recipe's model becomes for one picture size: graph, loss, plan. Internal to training/. */
#ifndef UF_NETWORK_H
#define UF_NETWORK_H

#include "training.h"

typedef struct uf_network {
    uf_graph *graph;
    uf_plan *plan;
    uf_node *luma, *clean, *chroma, *label; /* inputs; unused ones NULL */
    uf_node *noisy, *voice, *room;          /* of sound; room: only where the second output learns */
    uf_node *out, *loss;
    uf_node *fooled;                        /* unweighted loss of a critic's opinion, or NULL */
    uf_node *term[UF_MAX_LOSSES];           /* the unweighted losses, by their place in uf_losses[]; unused ones NULL. Where two outputs
                                               learn: summed over both as the recipe weighs them */
} uf_network;

typedef struct uf_network_options {
    const uf_recipe *r;
    const float *losses;   /* weights by place in uf_losses[]; NULL: the recipe's */
    uf_params *params;
    uf_params *judge;      /* of the frozen feature network, or NULL */
    uf_params *critic;     /* color: of the critic, which is to take the result for a photograph, or NULL */
    float adversarial;     /* weight of the critic's opinion ... */
    bool hinge;            /* ... which is minus its mean score instead of BCE against "photograph" */
    int batch, size;       /* batch: whole scenes, for a recipe with `mics` */
    bool train;            /* false: an INFER plan that still computes the loss */
    bool fixed;            /* norms keep their running statistics: what learns is what will be shipped */
} uf_network_options;
int uf_network_open(uf_network *n, uf_ctx *ctx, const uf_network_options *o);
void uf_network_close(uf_network *n);
int uf_network_set(uf_network *n, const uf_batch *b);

#endif
