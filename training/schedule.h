/* Schedules of a run. Internal to training/. */
#ifndef UF_SCHEDULE_H
#define UF_SCHEDULE_H

/* One-cycle (Smith, arXiv:1803.09820, with fast.ai's cosine legs): the rate climbs from peak/25 to peak over the first
 * 25 % of the steps and falls to peak/100000; the first moment's decay goes .95 -> .85 -> .95 against it. */
typedef struct uf_cycle {
    float rate, beta1;
} uf_cycle;
uf_cycle uf_one_cycle(long long step, long long n_steps, float peak);

#endif
