/* Were a channel's peaks cut off, and where. Internal to the pipeline room. */
#ifndef UF_CLIPPING_H
#define UF_CLIPPING_H

#include <stdbool.h>

typedef struct uf_clipping { /* begins as {0} */
    float top[2], before;  /* farthest from 0 so far, [1]: of what is below 0; the last sample */
    int n_run, n_full, n_flat[2]; /* samples at the top in a row; such runs at full scale, and at the top as it is now */
    bool leapt;            /* into the run */
} uf_clipping;
void uf_clipping_look(uf_clipping *c, const float *x, int n); /* n more samples of the channel */
/* How many peaks were cut off; *at: where, of full scale, 1 if none was. */
int uf_clipping_found(const uf_clipping *c, double *at);

#endif
