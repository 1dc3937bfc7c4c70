/* The index of all stages, in the order in which frames go through them. */
#include "stages.h"

#include <math.h>
#include <stdlib.h>

#define STAGES(X) X(splice) X(scratch) X(deflicker) X(steady)

#define DECLARE(name) extern const uf_stage uf_stage_##name;
STAGES(DECLARE)
#define ADDRESS(name) &uf_stage_##name,
const uf_stage *const uf_stages[] = { STAGES(ADDRESS) NULL };

float uf_stage_smooth(const float *values, const bool *there, int reach) {
    double s0 = 0, s1 = 0, s2 = 0, y0 = 0, y1 = 0;
    for (int i = 0; i <= 2 * reach; i++) {
        double t = i - reach, w = exp(-4.5 * t * t / ((double)reach * reach));
        if (!there[i]) continue;
        s0 += w;
        s1 += w * t;
        s2 += w * t * t;
        y0 += w * (double)values[i];
        y1 += w * t * (double)values[i];
    }
    double det = s0 * s2 - s1 * s1;
    return (float)(det > 1e-9 ? (y0 * s2 - y1 * s1) / det : y0 / s0);
}

float uf_stage_jumps(const float *values, const bool *there) {
    double sum = 0;
    int n = 0;
    for (int i = 1; i + 1 < UF_STAGE_WINDOW; i++) {
        if (!there[i - 1] || !there[i] || !there[i + 1]) continue;
        double d = (double)(values[i - 1] - 2 * values[i] + values[i + 1]);
        sum += d * d;
        n++;
    }
    return n ? (float)sqrt(sum / n / 6) : 0;
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

float uf_stage_median(float *v, int n) {
    qsort(v, (size_t)n, sizeof(*v), compare);
    return .5f * (v[n / 2] + v[(n - 1) / 2]);
}
