/* A scratch stands for many frames: a narrow line from top to bottom, of one sign in nearly every strip of the picture, in the frames
 * beside it too (after Kokaram, Motion Picture Restoration, 1998, chapter 8). */
#include "scratch_lines.h"

#include "motion.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_STRIPS = 8 };
static const float LINE = .008f; /* height of a scratch over what lies beside it */

/* profile (N_STRIPS,w): how far each column of a strip is above what lies 3 and 4 columns beside it; noise: of a strip. */
static void profile(const uf_stage_size *s, const float *luma, float *p, float noise[N_STRIPS])
{
    memset(p, 0, (size_t)N_STRIPS * (size_t)s->w * sizeof(*p));
    for (int i = 0; i < N_STRIPS; i++) {
        int from = i * s->h / N_STRIPS, to = (i + 1) * s->h / N_STRIPS;
        float *strip = p + (ptrdiff_t)i * s->w, sum = 0;
        for (int y = from; y < to; y++) {
            const float *r = luma + y * s->pitch;
            for (int x = 4; x + 4 < s->w; x++) strip[x] += r[x] - .25f * (r[x - 4] + r[x - 3] + r[x + 3] + r[x + 4]);
        }
        for (int x = 0; x < s->w; x++) sum += fabsf(strip[x] /= (float)(to - from));
        noise[i] = sum / (float)s->w;
    }
}

/* In how many strips column x, or one within `reach` of it, stands out with this sign. */
static int standing(const float *p, const float *noise, int w, int x, int reach, float sign, float least)
{
    int n = 0;
    for (int i = 0; i < N_STRIPS; i++) {
        float most = 0;
        for (int c = x - reach; c <= x + reach; c++)
            if (c >= 0 && c < w) most = fmaxf(most, sign * p[(ptrdiff_t)i * w + c]);
        n += most > 2.5f * noise[i] + least;
    }
    return n;
}

static float height(const float *p, int w, int x, float sign)
{
    float sum = 0;
    for (int i = 0; i < N_STRIPS; i++) sum += sign * p[(ptrdiff_t)i * w + x];
    return sum / N_STRIPS;
}

/* A line makes the columns beside it stand out with the other sign: only the strongest within reach counts. */
static bool is_peak(const float *p, int w, int x, float here)
{
    for (int c = x - 6; c <= x + 6; c++)
        if (c >= 0 && c < w && (c < x ? fabsf(height(p, w, c, 1)) >= here : c > x && fabsf(height(p, w, c, 1)) > here)) return false;
    return true;
}

/* Columns x0..x1 become a line from what is left of them to what is right. */
static void bridge(uf_stage_work *k, int x0, int x1)
{
    for (int y = 0; y < k->size.h; y++) {
        float *r = k->out + y * k->size.pitch, a = .5f * (r[x0 - 1] + r[x0 - 2]), b = .5f * (r[x1 + 1] + r[x1 + 2]);
        for (int x = x0; x <= x1; x++) {
            r[x] = a + (b - a) * (float)(x - x0 + 1) / (float)(x1 - x0 + 2);
            k->mask[(ptrdiff_t)y * k->size.w + x] = 255;
        }
    }
}

int uf_scratch_lines(uf_ctx *ctx, uf_stage_work *k, int *n_lines)
{
    const float *past = k->luma[UF_STAGE_REACH - 1], *next = k->luma[UF_STAGE_REACH + 1];
    if (!past || !next) return UF_OK;
    int w = k->size.w;
    size_t n = (size_t)N_STRIPS * (size_t)w;
    float *p = uf_alloc(ctx, 3 * n, sizeof(float)), noise[3][N_STRIPS], least = LINE / k->strength;
    const float *luma[] = { k->luma[UF_STAGE_REACH], past, next };
    if (!p) return UF_ENOMEM;
    for (int i = 0; i < 3; i++) profile(&k->size, luma[i], p + (size_t)i * n, noise[i]);
    for (int x = 7; x + 7 < w; x++)
        for (float sign = -1; sign <= 1; sign += 2) {
            float here = height(p, w, x, sign);
            if (here < least || !is_peak(p, w, x, here)) continue;
            if (standing(p, noise[0], w, x, 0, sign, .5f * least) < N_STRIPS - 1) continue;
            if (standing(p + n, noise[1], w, x, 5, sign, .5f * least) < N_STRIPS - 2) continue;
            if (standing(p + 2 * n, noise[2], w, x, 5, sign, .5f * least) < N_STRIPS - 2) continue;
            int x0 = x, x1 = x;
            while (x0 > x - 2 && height(p, w, x0 - 1, sign) > .25f * here) x0--;
            while (x1 < x + 2 && height(p, w, x1 + 1, sign) > .25f * here) x1++;
            bridge(k, x0, x1);
            ++*n_lines;
        }
    free(p);
    return UF_OK;
}
