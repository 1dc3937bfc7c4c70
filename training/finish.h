/* The adversarial finish of a run. Internal to training/. */
#ifndef UF_FINISH_H
#define UF_FINISH_H

#include "run.h"

int64_t uf_finish_steps(const uf_finish *f); /* at most; NULL: 0 */
/* Steps [u->step, base + uf_finish_steps()) of the run, from the parameters as they stand; they hold the best step's
 * afterwards. first_sample counts the samples of the stages before. */
int uf_finish_run(uf_run *u, int64_t base, int64_t first_sample);

#endif
