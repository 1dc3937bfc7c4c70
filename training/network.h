/* What a recipe's model becomes for one picture size: graph, loss, plan. Internal to training/. */
#ifndef UF_NETWORK_H
#define UF_NETWORK_H

#include "training.h"

typedef struct uf_network {
    uf_graph *graph;
    uf_plan *plan;
    uf_node *luma, *clean, *chroma, *label; /* inputs; unused ones NULL */
    uf_node *out, *loss;
    uf_node *term[UF_MAX_LOSSES];           /* the unweighted losses, by their place in uf_losses[]; unused ones NULL */
} uf_network;

/* judge: parameters of the frozen feature network, or NULL. train false: an INFER plan that still computes the loss. */
int uf_network_open(uf_network *n, uf_ctx *ctx, const uf_recipe *r, uf_params *params, uf_params *judge, int batch,
                    int size, bool train);
void uf_network_close(uf_network *n);
int uf_network_set(uf_network *n, const uf_batch *b);

#endif
