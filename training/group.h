/* Processes that train one network together, each on its share of every step's batches. Internal to training/.
 *
 * Started by an MPI launcher in a build with UNFADE_MPI there are as many as it started; otherwise one, and nothing here does
 * anything. */
#ifndef UF_GROUP_H
#define UF_GROUP_H

#include "engine.h"

typedef struct uf_group {
    int rank, n; /* this process, from 0, of how many */
} uf_group;

/* UF_EUNSUPPORTED: a launcher started several processes of a program that was built without MPI. */
int uf_group_open(uf_group *g, uf_ctx *ctx);
/* code: how this process's run ended. A failure (not UF_EINTR, which all share) ends the others too, which would wait for this one
 * for ever. */
void uf_group_close(uf_group *g, uf_ctx *ctx, int code);

/* Sums over the processes, in place, the same in all. */
int uf_group_sum(const uf_group *g, uf_ctx *ctx, double *x, int n);

/* Around the share of one step, `batches` here: makes gradients the sum over all processes' batches, and the running statistics of
 * batch norms those of one process that saw them in order, rank by rank. */
void uf_group_begin(const uf_group *g, uf_params *params);
int uf_group_end(const uf_group *g, uf_ctx *ctx, uf_params *params, int batches);

#endif
