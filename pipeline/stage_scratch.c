/* Dust, hairs and vertical scratches.
 *
 * Dust lies on one frame only: a sample that is brighter, or darker, than all around its places in the frame before and in the one after
 * (after motion) is not of the picture: the simplified ranked order difference (Roosmalen, Restoration of Archived Film and Video, 1999).
 * Only clumps of such samples count, and only where the picture around them does follow its neighbours: what moves too fast to follow is left.
 * A scratch stands for many frames: a narrow line from top to bottom, of one sign in nearly every strip of the picture, in the frames
 * beside it too (after Kokaram, Motion Picture Restoration, 1998, chapter 8). */
#include "motion.h"
#include "pipeline.h"
#include "stages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_STRIPS = 8, RING = 5, SMALLEST_CLUMP = 2 };
static const float DUST = .07f;        /* of full scale, at strength 1 */
static const float MISFIT = .025f;     /* mean difference around a clump, above the frame's own noise, where motion was not followed */
static const float LARGEST_CLUMP = .01f, LARGEST_SHARE = .02f; /* of the picture */
static const float LINE = .008f;       /* height of a scratch over what lies beside it */

typedef struct dust {
    uf_stage_size s;
    const float *now;
    float *moved[2];  /* the frames before and after, moved to where this one is (h,pitch) */
    float *high, *low, *line;
    uint8_t *found;   /* (h,w): 1 suspect, 2 seed, 0 neither */
    int *stack;
    float noise;
} dust;

/* ---- dust ------------------------------------------------------------------------------------------------------- */

static float difference(const float *a, const float *b, ptrdiff_t pitch, int w, int h)
{
    float sum = 0;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) sum += fabsf(a[y * pitch + x] - b[y * pitch + x]);
    return sum;
}

/* `past` moved to where `now` is: vectors of the half-size pictures, then a step to either side at full size. */
static void compensate(const uf_stage_size *s, const float *now, const float *past, const uf_vector *v, int v_across, float *out)
{
    const int b = 2 * UF_BLOCK;
    for (int y = 0; y < s->h; y += b)
        for (int x = 0; x < s->w; x += b) {
            int bw = s->w - x < b ? s->w - x : b, bh = s->h - y < b ? s->h - y : b, column = x / b < v_across ? x / b : v_across - 1;
            uf_vector m = v[(y / b < (s->h / 2 + UF_BLOCK - 1) / UF_BLOCK ? y / b : y / b - 1) * v_across + column], best = { 0, 0 };
            float least = 1e30f;
            for (int dy = 2 * m.y - 1; dy <= 2 * m.y + 1; dy++)
                for (int dx = 2 * m.x - 1; dx <= 2 * m.x + 1; dx++) {
                    if (y + dy < 0 || x + dx < 0 || y + dy + bh > s->h || x + dx + bw > s->w) continue;
                    float d = difference(now + y * s->pitch + x, past + (y + dy) * s->pitch + x + dx, s->pitch, bw, bh);
                    if (d < least) least = d, best = (uf_vector){ dx, dy };
                }
            for (int r = 0; r < bh; r++)
                memcpy(out + (y + r) * s->pitch + x, past + (y + r + best.y) * s->pitch + x + best.x, (size_t)bw * sizeof(float));
        }
}

/* The highest and the lowest of 3x3 places in both neighbours. */
static void bounds(dust *d)
{
    const uf_stage_size *s = &d->s;
    for (int way = 0; way < 2; way++) {
        float *to = way ? d->low : d->high, sign = way ? -1 : 1;
        for (int y = 0; y < s->h; y++) { /* across */
            const float *a = d->moved[0] + y * s->pitch, *b = d->moved[1] + y * s->pitch;
            for (int x = 0; x < s->w; x++) d->line[x + 1] = fmaxf(sign * a[x], sign * b[x]);
            d->line[0] = d->line[1];
            d->line[s->w + 1] = d->line[s->w];
            for (int x = 0; x < s->w; x++) to[y * s->pitch + x] = fmaxf(fmaxf(d->line[x], d->line[x + 1]), d->line[x + 2]);
        }
        for (int x = 0; x < s->w; x++) d->line[x] = to[x];
        for (int y = 0; y < s->h; y++) /* down; line: the row above, as it was */
            for (int x = 0; x < s->w; x++) {
                float here = to[y * s->pitch + x], below = y + 1 < s->h ? to[(y + 1) * s->pitch + x] : here;
                to[y * s->pitch + x] = fmaxf(fmaxf(d->line[x], here), below);
                d->line[x] = here;
            }
        for (int y = 0; way && y < s->h; y++)
            for (int x = 0; x < s->w; x++) to[y * s->pitch + x] = -to[y * s->pitch + x];
    }
}

static void suspect(dust *d, float seed)
{
    for (int y = 0; y < d->s.h; y++)
        for (int x = 0; x < d->s.w; x++) {
            ptrdiff_t i = y * d->s.pitch + x;
            float over = fmaxf(d->now[i] - d->high[i], d->low[i] - d->now[i]);
            d->found[(ptrdiff_t)y * d->s.w + x] = over > seed ? 2 : over > .3f * seed ? 1 : 0;
        }
}

/* Mean difference of what lies around the box (x0,y0)-(x1,y1) and is not suspect, to the neighbour that fits worse. */
static float misfit(const dust *d, int x0, int y0, int x1, int y1)
{
    float sum[2] = { 0, 0 };
    int n = 0;
    for (int y = y0 - RING < 0 ? 0 : y0 - RING; y <= y1 + RING && y < d->s.h; y++)
        for (int x = x0 - RING < 0 ? 0 : x0 - RING; x <= x1 + RING && x < d->s.w; x++) {
            ptrdiff_t i = y * d->s.pitch + x;
            if (d->found[(ptrdiff_t)y * d->s.w + x]) continue;
            for (int k = 0; k < 2; k++) sum[k] += fabsf(d->now[i] - d->moved[k][i]);
            n++;
        }
    return n < 8 ? 1 : fmaxf(sum[0], sum[1]) / (float)n;
}

/* Do the frames before and after agree about what is under these samples? */
static bool agree(const dust *d, int n)
{
    float sum = 0;
    for (int i = 0; i < n; i++) {
        ptrdiff_t at = d->stack[i] / d->s.w * d->s.pitch + d->stack[i] % d->s.w;
        sum += fabsf(d->moved[0][at] - d->moved[1][at]);
    }
    return sum / (float)n < .5f * DUST;
}

/* The clump that has this seed goes to the mask, or nowhere; its samples are taken off the suspects. Its size. */
static int take_clump(dust *d, int seed, uint8_t *mask)
{
    int n = 0, next = 0, w = d->s.w, x0 = w, y0 = d->s.h, x1 = 0, y1 = 0;
    d->stack[n++] = seed;
    d->found[seed] = 3;
    while (next < n) {
        int at = d->stack[next++], x = at % w, y = at / w;
        x0 = x < x0 ? x : x0, x1 = x > x1 ? x : x1, y0 = y < y0 ? y : y0, y1 = y > y1 ? y : y1;
        for (int dy = -1; dy <= 1; dy++)
            for (int dx = -1; dx <= 1; dx++) {
                if (x + dx < 0 || x + dx >= w || y + dy < 0 || y + dy >= d->s.h) continue;
                int to = at + dy * w + dx;
                if (d->found[to] != 1 && d->found[to] != 2) continue;
                d->found[to] = 3;
                d->stack[n++] = to;
            }
    }
    bool keep = n >= SMALLEST_CLUMP && (float)n <= LARGEST_CLUMP * (float)w * (float)d->s.h && agree(d, n) &&
        misfit(d, x0, y0, x1, y1) < MISFIT + d->noise;
    for (int i = 0; i < n && keep; i++) { /* with a rim: the edges of dust are soft */
        int x = d->stack[i] % w, y = d->stack[i] / w;
        for (int dy = -1; dy <= 1; dy++)
            for (int dx = -1; dx <= 1; dx++)
                if (x + dx >= 0 && x + dx < w && y + dy >= 0 && y + dy < d->s.h) mask[d->stack[i] + dy * w + dx] = 255;
    }
    return keep ? n : 0;
}

static int remove_dust(dust *d, uf_stage_work *k, int *n_clumps)
{
    int n = 0, w = k->size.w, h = k->size.h;
    bounds(d);
    suspect(d, DUST / k->strength + 2 * d->noise);
    for (int i = 0; i < w * h; i++)
        if (d->found[i] == 2) {
            int size = take_clump(d, i, k->mask);
            n += size;
            *n_clumps += size > 0;
        }
    if ((float)n > LARGEST_SHARE * (float)w * (float)h) { /* not dust: motion that nobody could follow */
        memset(k->mask, 0, (size_t)w * (size_t)h);
        *n_clumps = 0;
    }
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            ptrdiff_t i = y * k->size.pitch + x;
            if (k->mask[(ptrdiff_t)y * w + x]) k->out[i] = .5f * (d->moved[0][i] + d->moved[1][i]);
        }
    return UF_OK;
}

static int open_dust(uf_ctx *ctx, dust *d, const uf_stage_work *k, const float *past, const float *next)
{
    const uf_stage_size *s = &k->size;
    size_t n = (size_t)s->pitch * (size_t)s->h, n_half = (size_t)(s->w / 2) * (size_t)(s->h / 2);
    int across = (s->w / 2 + UF_BLOCK - 1) / UF_BLOCK, down = (s->h / 2 + UF_BLOCK - 1) / UF_BLOCK;
    float *half = uf_alloc(ctx, 2 * n_half + 1, sizeof(float));
    uf_vector *v = uf_alloc(ctx, (size_t)across * (size_t)down + 1, sizeof(*v));
    const float *other[2] = { past, next };
    d->s = *s;
    d->now = k->luma[UF_STAGE_REACH];
    float **planes[] = { &d->moved[0], &d->moved[1], &d->high, &d->low, &d->line };
    bool all = half && v;
    for (int i = 0; i < UF_LEN(planes); i++) all &= (*planes[i] = uf_alloc(ctx, n + 64, sizeof(float))) != NULL;
    all &= (d->found = uf_alloc(ctx, (size_t)s->w * (size_t)s->h, 1)) != NULL;
    all &= (d->stack = uf_alloc(ctx, (size_t)s->w * (size_t)s->h, sizeof(int))) != NULL;
    float noise[2] = { 0, 0 };
    if (all) uf_halve(d->now, s->pitch, half, s->w, s->h);
    for (int i = 0; all && i < 2; i++) {
        uf_halve(other[i], s->pitch, half + n_half, s->w, s->h);
        uf_motion_follow(v, half, half + n_half, s->w / 2, s->h / 2, s->w / 2);
        compensate(s, d->now, other[i], v, across, d->moved[i]);
        noise[i] = difference(d->now, d->moved[i], s->pitch, s->w, s->h) / (float)s->w / (float)s->h;
    }
    d->noise = fminf(noise[0], noise[1]);
    free(half);
    free(v);
    return all ? UF_OK : UF_ENOMEM;
}

static void close_dust(dust *d)
{
    free(d->moved[0]);
    free(d->moved[1]);
    free(d->high);
    free(d->low);
    free(d->line);
    free(d->found);
    free(d->stack);
}

/* ---- scratches ---------------------------------------------------------------------------------------------------- */

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

static int remove_lines(uf_ctx *ctx, uf_stage_work *k, const float *past, const float *next, int *n_lines)
{
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

static int mend(uf_ctx *ctx, uf_stage_work *k)
{
    const float *past = k->luma[UF_STAGE_REACH - 1], *next = k->luma[UF_STAGE_REACH + 1];
    int n_lines = 0, n_clumps = 0, err;
    dust d = { 0 };
    if (!past || !next || k->size.w < 2 * UF_BLOCK || k->size.h < 2 * UF_BLOCK) return 0; /* nothing to compare with */
    if ((err = open_dust(ctx, &d, k, past, next)) == UF_OK && (err = remove_dust(&d, k, &n_clumps)) == UF_OK)
        err = remove_lines(ctx, k, past, next, &n_lines);
    close_dust(&d);
    if (err < 0 || n_clumps + n_lines == 0) return err;
    snprintf(k->said, sizeof(k->said), "%d spot%s, %d line%s", n_clumps, n_clumps == 1 ? "" : "s", n_lines, n_lines == 1 ? "" : "s");
    return 1;
}

const uf_stage uf_stage_scratch = { .name = "scratch", .about = "removes dust, hairs and vertical scratches", .reach = 1, .planes = true, .mend = mend };
