/* One step of learning. Internal to training/. */
#ifndef UF_STEP_H
#define UF_STEP_H

#include "group.h"
#include "network.h"
#include "schedule.h"

typedef struct uf_stepped { /* what one step tells */
    double loss, term[UF_MAX_LOSSES], rate, norm, samples_per_second;
} uf_stepped;

typedef struct uf_learner {
    uf_ctx *ctx;
    const uf_recipe *r;  /* the optimizer's settings */
    uf_params *params;
    uf_network *network; /* compiled to train */
    uf_loader *loader;
    int accumulate;      /* batches whose gradients are averaged into one step, over all processes; a multiple of their number */
    uf_group group;
} uf_learner;

/* Step number `step` (from 0) on the loader's next batches. UF_EDATA: the loss or a gradient is not finite, and the parameters are
 * as they were. */
int uf_learn(const uf_learner *l, int64_t step, uf_cycle cycle, uf_stepped *t);

#endif
