#include "motion.h"

#include <math.h>
#include <string.h>

static const float MOVE_COST = 0.002f; /* mean difference a moved block must gain over staying */

enum { LANES = 8 }; /* partial sums, added in the same order whatever the vectors' width */

UF_INLINE float total(const float lane[LANES]) {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* Sum of |a - b|; `columns`, a multiple of LANES, is known where this is compiled in. */
UF_INLINE float difference(const float *a, const float *b, ptrdiff_t pitch, int columns, int rows) {
    float lane[LANES] = { 0 };
    for (int r = 0; r < rows; r++, a += pitch, b += pitch)
        for (int c = 0; c < columns; c += LANES)
            for (int i = 0; i < LANES; i++) lane[i] += fabsf(a[c + i] - b[c + i]);
    return total(lane);
}

UF_INLINE float difference_at_edge(const float *a, const float *b, ptrdiff_t pitch, int columns, int rows) {
    float sum = 0;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < columns; i++) sum += fabsf(a[r * pitch + i] - b[r * pitch + i]);
    return sum;
}

UF_CLONES float uf_motion_difference(const float *a, const float *b, ptrdiff_t pitch, int w, int h) {
    int even = w - w % LANES;
    return difference(a, b, pitch, even, h) + difference_at_edge(a + even, b + even, pitch, w - even, h);
}

UF_INLINE float block_difference(const float *now, const float *past, ptrdiff_t pitch, int bw, int bh) {
    return bw == UF_BLOCK ? difference(now, past, pitch, UF_BLOCK, bh) : difference_at_edge(now, past, pitch, bw, bh);
}

UF_CLONES void uf_motion_follow(uf_vector *v, const float *now, const float *past, int w, int h, ptrdiff_t pitch) {
    for (int y = 0; y < h; y += UF_BLOCK)
        for (int x = 0; x < w; x += UF_BLOCK, v++) {
            int bw = w - x < UF_BLOCK ? w - x : UF_BLOCK, bh = h - y < UF_BLOCK ? h - y : UF_BLOCK;
            const float *here = now + y * pitch + x, *there = past + y * pitch + x;
            float best = block_difference(here, there, pitch, bw, bh) - MOVE_COST * (float)(bw * bh);
            *v = (uf_vector){ 0, 0 };
            for (int dy = -UF_REACH; dy <= UF_REACH && best > 0; dy++) {
                if (y + dy < 0 || y + dy + bh > h) continue;
                for (int dx = -UF_REACH; dx <= UF_REACH; dx++) {
                    if (x + dx < 0 || x + dx + bw > w) continue;
                    float d = block_difference(here, there + dy * pitch + dx, pitch, bw, bh);
                    if (d < best) best = d, *v = (uf_vector){ dx, dy };
                }
            }
        }
}

/* The best of nine places around `start` for the block at (x,y). */
UF_INLINE uf_vector refine(const float *now, const float *past, int w, int h, ptrdiff_t pitch, int x, int y, uf_vector start) {
    const int b = 2 * UF_BLOCK;
    int bw = w - x < b ? w - x : b, bh = h - y < b ? h - y : b;
    const float *here = now + y * pitch + x;
    uf_vector best = { 0, 0 };
    float least = 1e30f;
    for (int dy = start.y - 1; dy <= start.y + 1; dy++)
        for (int dx = start.x - 1; dx <= start.x + 1; dx++) {
            if (y + dy < 0 || x + dx < 0 || y + dy + bh > h || x + dx + bw > w) continue;
            const float *there = past + (y + dy) * pitch + x + dx;
            float d = bw == b ? difference(here, there, pitch, b, bh) : difference_at_edge(here, there, pitch, bw, bh);
            if (d < least) least = d, best = (uf_vector){ dx, dy };
        }
    return best;
}

UF_CLONES void uf_motion_compensate(const uf_vector *v, const float *now, const float *past, int w, int h, ptrdiff_t pitch, float *out) {
    const int b = 2 * UF_BLOCK;
    int across = (w / 2 + UF_BLOCK - 1) / UF_BLOCK, down = (h / 2 + UF_BLOCK - 1) / UF_BLOCK;
    for (int y = 0; y < h; y += b)
        for (int x = 0; x < w; x += b) {
            int column = x / b < across ? x / b : across - 1, row = y / b < down ? y / b : down - 1;
            uf_vector m = v[row * across + column], best = refine(now, past, w, h, pitch, x, y, (uf_vector){ 2 * m.x, 2 * m.y });
            for (int r = 0; r < b && y + r < h; r++)
                memcpy(out + (y + r) * pitch + x, past + (y + r + best.y) * pitch + x + best.x, (size_t)(w - x < b ? w - x : b) * sizeof(float));
        }
}

/* ---- cuts ---------------------------------------------------------------------------------------------------- */

/* Luma histogram, and block means less their common mean (a flash or a fade is no cut). */
static void describe(const float *luma, int w, int h, ptrdiff_t pitch, float *histogram, float *grid) {
    float count[UF_CUT_GRID * UF_CUT_GRID] = { 0 }, mean = 0, one = 1.0f / (float)(w * h);
    int bins[2][UF_CUT_BINS] = { { 0 } };
    memset(grid, 0, sizeof(count));
    for (int y = 0; y < h; y++)
        for (int i = 0, x = 0; i < UF_CUT_GRID; i++) { /* the columns x of cell i: x * GRID / w == i */
            int to = ((i + 1) * w + UF_CUT_GRID - 1) / UF_CUT_GRID, cell = y * UF_CUT_GRID / h * UF_CUT_GRID + i;
            float sum = grid[cell];
            count[cell] += (float)(to - x);
            for (; x < to; x++) {
                float v = luma[y * pitch + x];
                int bin = (int)(v * UF_CUT_BINS);
                bins[x & 1][bin < 0 ? 0 : bin >= UF_CUT_BINS ? UF_CUT_BINS - 1 : bin]++; /* two: neighbours are alike, and would wait */
                sum += v;
            }
            grid[cell] = sum;
        }
    for (int i = 0; i < UF_CUT_BINS; i++) histogram[i] = (float)(bins[0][i] + bins[1][i]) * one;
    for (int i = 0; i < UF_CUT_GRID * UF_CUT_GRID; i++) mean += (grid[i] /= count[i] > 0 ? count[i] : 1) / (UF_CUT_GRID * UF_CUT_GRID);
    for (int i = 0; i < UF_CUT_GRID * UF_CUT_GRID; i++) grid[i] -= mean;
}

/* A cut moves the histogram and leaves little of the old structure. Blocks are compared relative to the contrast of both
 * pictures, so that dark scenes are cut too. */
bool uf_cuts_push(uf_cuts *s, const float *luma, int w, int h, ptrdiff_t pitch) {
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
