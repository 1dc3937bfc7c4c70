#include "motion.h"

#include <math.h>
#include <string.h>

static const float MOVE_COST = 0.002f; /* mean difference a moved block must gain over staying */

static float block_difference(const float *now, const float *past, ptrdiff_t pitch, int bw, int bh, float stop)
{
    float sum = 0;
    for (int r = 0; r < bh && sum < stop; r++) {
        const float *a = now + r * pitch, *b = past + r * pitch;
        float line = 0;
        for (int i = 0; i < bw; i++) line += fabsf(a[i] - b[i]);
        sum += line;
    }
    return sum;
}

void uf_motion_follow(uf_vector *v, const float *now, const float *past, int w, int h, ptrdiff_t pitch)
{
    for (int y = 0; y < h; y += UF_BLOCK)
        for (int x = 0; x < w; x += UF_BLOCK, v++) {
            int bw = w - x < UF_BLOCK ? w - x : UF_BLOCK, bh = h - y < UF_BLOCK ? h - y : UF_BLOCK;
            const float *here = now + y * pitch + x, *there = past + y * pitch + x;
            float best = block_difference(here, there, pitch, bw, bh, 1e30f) - MOVE_COST * (float)(bw * bh);
            *v = (uf_vector){ 0, 0 };
            for (int dy = -UF_REACH; dy <= UF_REACH && best > 0; dy++) {
                if (y + dy < 0 || y + dy + bh > h) continue;
                for (int dx = -UF_REACH; dx <= UF_REACH; dx++) {
                    float d;
                    if (x + dx < 0 || x + dx + bw > w) continue;
                    d = block_difference(here, there + dy * pitch + dx, pitch, bw, bh, best);
                    if (d < best) best = d, *v = (uf_vector){ dx, dy };
                }
            }
        }
}

/* ---- cuts ---------------------------------------------------------------------------------------------------- */

/* Luma histogram, and block means less their common mean (a flash or a fade is no cut). */
static void describe(const float *luma, int w, int h, ptrdiff_t pitch, float *histogram, float *grid)
{
    float count[UF_CUT_GRID * UF_CUT_GRID] = { 0 }, mean = 0, one = 1.0f / (float)(w * h);
    memset(histogram, 0, UF_CUT_BINS * sizeof(float));
    memset(grid, 0, sizeof(count));
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            float v = luma[y * pitch + x];
            int bin = (int)(v * UF_CUT_BINS), cell = y * UF_CUT_GRID / h * UF_CUT_GRID + x * UF_CUT_GRID / w;
            histogram[bin < 0 ? 0 : bin >= UF_CUT_BINS ? UF_CUT_BINS - 1 : bin] += one;
            grid[cell] += v;
            count[cell] += 1;
        }
    for (int i = 0; i < UF_CUT_GRID * UF_CUT_GRID; i++) mean += (grid[i] /= count[i] > 0 ? count[i] : 1) / (UF_CUT_GRID * UF_CUT_GRID);
    for (int i = 0; i < UF_CUT_GRID * UF_CUT_GRID; i++) grid[i] -= mean;
}

/* A cut moves the histogram and leaves little of the old structure. Blocks are compared relative to the contrast of both
 * pictures, so that dark scenes are cut too. */
bool uf_cuts_push(uf_cuts *s, const float *luma, int w, int h, ptrdiff_t pitch)
{
    float histogram[UF_CUT_BINS], grid[UF_CUT_GRID * UF_CUT_GRID], moved = 0, change = 0, contrast = 0;
    describe(luma, w, h, pitch, histogram, grid);
    for (int i = 0; i < UF_CUT_BINS; i++) moved += 0.5f * fabsf(histogram[i] - s->histogram[i]);
    for (int i = 0; i < UF_CUT_GRID * UF_CUT_GRID; i++) {
        change += fabsf(grid[i] - s->grid[i]);
        contrast += 0.5f * (fabsf(grid[i]) + fabsf(s->grid[i]));
    }
    change /= contrast + 0.01f * UF_CUT_GRID * UF_CUT_GRID;
    memcpy(s->histogram, histogram, sizeof(histogram));
    memcpy(s->grid, grid, sizeof(grid));
    bool first = !s->seen;
    s->seen = true;
    return first || change > 0.95f || (change > 0.55f && moved > 0.3f) || (change > 0.3f && moved > 0.6f);
}
