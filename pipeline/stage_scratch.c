/* Dust, hairs and vertical scratches (scratches: scratch_lines.c).
 *
 * Dust lies on one frame only: a sample that is brighter, or darker, than all around its places in the frame before and in the one after
 * (after motion) is not of the picture: the simplified ranked order difference (Roosmalen, Restoration of Archived Film and Video, 1999). At a
 * scene's first and last frame two frames of the one side take their places.
 * Only clumps of such samples count, and what else looks so is sorted out by what it does and dust does not: things that move faster than
 * motion is followed have a counterpart near by, glints come at places that were and will be restless, limbs and uncovered walls have
 * surroundings that do not fit either. */
#include "motion.h"
#include "pipeline.h"
#include "scratch_lines.h"
#include "stages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RIM = 3, SMALLEST_CLUMP = 3, SMALLEST_RING = 8, SEARCH = 24, FAR_SEARCH = 14 }; /* samples */
enum { BRIGHT = 1, BRIGHT_SEED = 2, DARK = 5, DARK_SEED = 6, TAKEN = 9 };
static const float DUST = .07f;        /* of full scale, at strength 1 */
static const float CONTRAST = 1.4f;    /* of a clump, in units of what makes a seed */
static const float LARGEST_CLUMP = .01f, LARGEST_SHARE = .02f; /* of the picture */

typedef struct dust {
    const uf_stage_work *k;
    uf_stage_size s;
    const float *now, *near[2], *far[2]; /* near: before and after, or one side's two; far: the next ones on either side, or NULL */
    float *moved[2];  /* near, moved to where this frame is (h,pitch) */
    uint8_t *found;   /* (h,w) */
    int *clump, *ring; /* samples y * w + x: the clump's, and those within RIM of it */
    int n, n_ring;
    float noise, seed; /* mean difference to the better neighbour; what a sample stands out by at least */
    bool two_sided;
    uint8_t sign;     /* BRIGHT or DARK */
} dust;

/* ---- suspects ----------------------------------------------------------------------------------------------------- */

/* The highest and the lowest of three neighbours in a row, of both frames. Each row has a sample of room on either side. */
UF_CLONES static void bounds_of_row(const float *a, const float *b, int w, float *line, float *high, float *low) {
    for (int x = 0; x < w; x++) line[x + 1] = a[x] > b[x] ? a[x] : b[x];
    line[0] = line[1], line[w + 1] = line[w];
    for (int x = 0; x < w; x++) {
        float m = line[x] > line[x + 1] ? line[x] : line[x + 1];
        high[x] = m > line[x + 2] ? m : line[x + 2];
    }
    for (int x = 0; x < w; x++) line[x + 1] = a[x] < b[x] ? a[x] : b[x];
    line[0] = line[1], line[w + 1] = line[w];
    for (int x = 0; x < w; x++) {
        float m = line[x] < line[x + 1] ? line[x] : line[x + 1];
        low[x] = m < line[x + 2] ? m : line[x + 2];
    }
}

UF_CLONES static void suspects_of_row(const float *now, float *const high[3], float *const low[3], int w, float seed, uint8_t *found) {
    const float weak = .3f * seed, *h0 = high[0], *h1 = high[1], *h2 = high[2], *l0 = low[0], *l1 = low[1], *l2 = low[2];
    for (int x = 0; x < w; x++) {
        float h = h0[x] > h1[x] ? h0[x] : h1[x], l = l0[x] < l1[x] ? l0[x] : l1[x];
        h = h > h2[x] ? h : h2[x], l = l < l2[x] ? l : l2[x];
        float over = now[x] - h, under = l - now[x]; /* one of them at most is above zero */
        found[x] = (uint8_t)((over > weak) * BRIGHT + (over > seed) + (under > weak) * DARK + (under > seed));
    }
}

/* room: 7 rows of w + 2. */
static void suspect(dust *d, float seed, float *room) {
    int w = d->s.w, h = d->s.h;
    float *high[3], *low[3], *line = room;
    for (int i = 0; i < 3; i++) high[i] = room + (ptrdiff_t)(1 + i) * (w + 2), low[i] = room + (ptrdiff_t)(4 + i) * (w + 2);
    for (int y = -1; y < h; y++) {
        float *oldest[2] = { high[0], low[0] };
        int below = y + 1 < h ? y + 1 : h - 1;
        for (int i = 0; i < 2; i++) high[i] = high[i + 1], low[i] = low[i + 1];
        high[2] = oldest[0], low[2] = oldest[1];
        bounds_of_row(d->moved[0] + below * d->s.pitch, d->moved[1] + below * d->s.pitch, w, line, high[2], low[2]);
        if (y < 0) memcpy(high[1], high[2], (size_t)w * sizeof(float)), memcpy(low[1], low[2], (size_t)w * sizeof(float));
        else suspects_of_row(d->now + y * d->s.pitch, high, low, w, seed, d->found + (ptrdiff_t)y * w);
    }
}

/* ---- clumps ------------------------------------------------------------------------------------------------------- */

static float at(const dust *d, const float *luma, int i) {
    return luma[i / d->s.w * d->s.pitch + i % d->s.w];
}

/* The samples of one sign that hang together with this seed; taken off the suspects. */
static void gather(dust *d, int seed) {
    int w = d->s.w, next = 0;
    d->n = 0;
    d->sign = d->found[seed] == BRIGHT_SEED ? BRIGHT : DARK;
    d->clump[d->n++] = seed;
    d->found[seed] = TAKEN;
    while (next < d->n) {
        int here = d->clump[next++], x = here % w, y = here / w;
        for (int dy = -1; dy <= 1; dy++)
            for (int dx = -1; dx <= 1; dx++) {
                if (x + dx < 0 || x + dx >= w || y + dy < 0 || y + dy >= d->s.h) continue;
                int to = here + dy * w + dx;
                if (d->found[to] != d->sign && d->found[to] != d->sign + 1) continue;
                d->found[to] = TAKEN;
                d->clump[d->n++] = to;
            }
    }
}

/* Samples beside the clump. Its own rim is soft: one sample is left out. */
static void gather_ring(dust *d) {
    int w = d->s.w;
    d->n_ring = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < d->n; i++) {
            int x = d->clump[i] % w, y = d->clump[i] / w, reach = pass ? RIM : 1;
            for (int dy = -reach; dy <= reach; dy++)
                for (int dx = -reach; dx <= reach; dx++) {
                    if (x + dx < 0 || x + dx >= w || y + dy < 0 || y + dy >= d->s.h) continue;
                    uint8_t *f = &d->found[d->clump[i] + dy * w + dx];
                    if (*f & 0xc0 || *f == TAKEN) continue;
                    *f |= pass ? 0x80 : 0x40;
                    d->ring[d->n_ring++] = d->clump[i] + dy * w + dx;
                }
        }
    int n = 0;
    for (int i = 0; i < d->n_ring; i++) {
        uint8_t *f = &d->found[d->ring[i]];
        if (*f & 0x80) d->ring[n++] = d->ring[i];
        *f &= 0x3f;
    }
    d->n_ring = n;
}

static float contrast(const dust *d) {
    float sum = 0;
    for (int i = 0; i < d->n; i++) sum += fabsf(at(d, d->now, d->clump[i]) - .5f * (at(d, d->moved[0], d->clump[i]) + at(d, d->moved[1], d->clump[i])));
    return sum / (float)d->n;
}

/* Mean difference of the samples listed between two pictures. */
static float apart(const dust *d, const int *list, int n, const float *a, const float *b) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += fabsf(at(d, a, list[i]) - at(d, b, list[i]));
    return sum / (float)n;
}

/* The samples listed in this frame against those (dx,dy) away in another; 1e30 where it is more than `most` or leaves the picture. */
static float apart_moved(const dust *d, const int *list, int n, const float *other, int dx, int dy, float most) {
    float sum = 0;
    most *= (float)n;
    for (int i = 0; i < n; i++) {
        int x = list[i] % d->s.w, y = list[i] / d->s.w;
        if (x + dx < 0 || y + dy < 0 || x + dx >= d->s.w || y + dy >= d->s.h) return 1e30f;
        sum += fabsf(d->now[y * d->s.pitch + x] - other[(y + dy) * d->s.pitch + x + dx]);
        if (sum > most) return 1e30f;
    }
    return sum / (float)n;
}

/* Where in another frame the ring lies. */
static uf_vector lay(const dust *d, const float *other) {
    float least = 1e30f;
    uf_vector best = { 0, 0 };
    for (int dy = -FAR_SEARCH; dy <= FAR_SEARCH; dy++)
        for (int dx = -FAR_SEARCH; dx <= FAR_SEARCH; dx++) {
            float a = apart_moved(d, d->ring, d->n_ring, other, dx, dy, least);
            if (a < least) least = a, best = (uf_vector){ dx, dy };
        }
    return best;
}

/* Is what stands here to be seen in that frame within `reach` of *place, where this frame shows something else? Then *place is where. */
static bool counterpart(const dust *d, const float *other, float most, int reach, uf_vector *place) {
    uf_vector g = lay(d, other), centre = *place;
    for (int dy = centre.y - reach; dy <= centre.y + reach; dy++)
        for (int dx = centre.x - reach; dx <= centre.x + reach; dx++)
            if (apart_moved(d, d->clump, d->n, other, dx, dy, most) <= most && apart_moved(d, d->ring, d->n_ring, other, dx, dy, most) <= most &&
                apart_moved(d, d->clump, d->n, d->now, dx - g.x, dy - g.y, 1.5f * most) > 1.5f * most) {
                *place = (uf_vector){ dx, dy };
                return true;
            }
    return false;
}

/* A thing that moves is seen before and after, or, where it comes or goes, twice on one side; another grain of dust like this one is seen once. */
static bool is_thing(const dust *d, float most) {
    uf_vector place[2] = { { 0, 0 }, { 0, 0 } };
    int n = 0;
    for (int i = 0; i < 2; i++) {
        if (!counterpart(d, d->near[i], most, SEARCH, &place[i])) continue;
        uf_vector on = { 2 * place[i].x, 2 * place[i].y };
        const float *next = d->two_sided ? d->far[i] : d->near[1];
        if (++n == 2 || (next && counterpart(d, next, most, SEARCH / 2, &on))) return true;
    }
    return false;
}

/* How much a frame further off differs, under the clump, from what the near ones show there; it is laid on by the ring. */
static float restless(const dust *d, const float *other) {
    uf_vector m = lay(d, other);
    float sum = 0;
    for (int i = 0; i < d->n; i++) {
        int x = d->clump[i] % d->s.w + m.x, y = d->clump[i] / d->s.w + m.y;
        if (x < 0 || y < 0 || x >= d->s.w || y >= d->s.h) return 0;
        sum += fabsf(other[y * d->s.pitch + x] - .5f * (at(d, d->moved[0], d->clump[i]) + at(d, d->moved[1], d->clump[i])));
    }
    return sum / (float)d->n;
}

/* The share of the ring's samples that do not fit one of the frames. */
static float misfits(const dust *d, float most) {
    int n = 0;
    for (int i = 0; i < d->n_ring; i++) {
        float now = at(d, d->now, d->ring[i]);
        n += fabsf(now - at(d, d->moved[0], d->ring[i])) > most || fabsf(now - at(d, d->moved[1], d->ring[i])) > most;
    }
    return (float)n / (float)d->n_ring;
}

/* What is found on film that has no dust was told from dust that was put on it by these: everything is a share of the contrast c of the clump. */
static bool is_dust(dust *d) {
    const float near_by = d->two_sided ? 1 : .6f; /* less is known where only one side speaks */
    if (d->n < SMALLEST_CLUMP || (float)d->n > LARGEST_CLUMP * (float)d->s.w * (float)d->s.h) return false;
    gather_ring(d);
    float c = contrast(d);
    if (d->n_ring < SMALLEST_RING || c < CONTRAST * d->seed) return false;
    if (apart(d, d->clump, d->n, d->moved[0], d->moved[1]) > .1f * near_by * c) return false; /* what is under it is not known */
    for (int i = 0; i < 2; i++)
        if (apart(d, d->ring, d->n_ring, d->now, d->moved[i]) > .12f * near_by * c) return false; /* nor is what is around it */
    if (misfits(d, .3f * c) > .06f * near_by) return false;
    for (int i = 0; i < 2; i++)
        if (d->far[i] && restless(d, d->far[i]) > .12f * c) return false;
    return !is_thing(d, .4f * c);
}

/* With a rim: the edges of dust are soft. */
static void mark(const dust *d, uint8_t *mask) {
    for (int i = 0; i < d->n; i++) {
        int x = d->clump[i] % d->s.w, y = d->clump[i] / d->s.w;
        for (int dy = -1; dy <= 1; dy++)
            for (int dx = -1; dx <= 1; dx++)
                if (x + dx >= 0 && x + dx < d->s.w && y + dy >= 0 && y + dy < d->s.h) mask[d->clump[i] + dy * d->s.w + dx] = 255;
    }
}

static void remove_dust(dust *d, uf_stage_work *k, float *room, int *n_clumps) {
    int n = 0, w = k->size.w, h = k->size.h;
    d->seed = DUST / k->strength;
    suspect(d, d->seed + 2 * d->noise, room);
    for (int i = 0; i < w * h; i++)
        if (d->found[i] == BRIGHT_SEED || d->found[i] == DARK_SEED) {
            gather(d, i);
            if (!is_dust(d)) continue;
            mark(d, k->mask);
            n += d->n;
            ++*n_clumps;
        }
    if ((float)n > LARGEST_SHARE * (float)w * (float)h) { /* not dust: motion that nobody could follow */
        memset(k->mask, 0, (size_t)w * (size_t)h);
        *n_clumps = 0;
    }
    for (int y = 0; y < h && *n_clumps; y++)
        for (int x = 0; x < w; x++) {
            ptrdiff_t i = y * k->size.pitch + x;
            if (k->mask[(ptrdiff_t)y * w + x]) k->out[i] = d->two_sided ? .5f * (d->moved[0][i] + d->moved[1][i]) : d->moved[0][i];
        }
}

enum { ROOM = 7 }; /* planes: moved, halves, found, clump, ring, rows */

static float *plane(const uf_stage_work *k, int i) {
    return k->room + (ptrdiff_t)i * k->size.pitch * k->size.h;
}

static void open_dust(dust *d, const uf_stage_work *k) {
    const uf_stage_size *s = &k->size;
    const float *const *l = k->luma + UF_STAGE_REACH;
    float *half = plane(k, 2), noise[2];
    size_t n_half = (size_t)(s->w / 2) * (size_t)(s->h / 2);
    uf_vector *v = (uf_vector *)(void *)(half + 2 * n_half);
    *d = (dust){ .k = k, .s = *s, .now = l[0], .moved = { plane(k, 0), plane(k, 1) }, .found = (uint8_t *)plane(k, 3),
                 .clump = (int *)(void *)plane(k, 4), .ring = (int *)(void *)plane(k, 5), .two_sided = l[-1] && l[1] };
    for (int i = 0; i < 2; i++) {
        d->near[i] = d->two_sided ? l[i ? 1 : -1] : l[-1] ? l[-1 - i] : l[1 + i];
        d->far[i] = d->two_sided ? l[i ? 2 : -2] : NULL;
    }
    uf_halve(d->now, s->pitch, half, s->w, s->h);
    for (int i = 0; i < 2; i++) {
        uf_halve(d->near[i], s->pitch, half + n_half, s->w, s->h);
        uf_motion_follow(v, half, half + n_half, s->w / 2, s->h / 2, s->w / 2);
        uf_motion_compensate(v, d->now, d->near[i], s->w, s->h, s->pitch, d->moved[i]);
        noise[i] = uf_motion_difference(d->now, d->moved[i], s->pitch, s->w, s->h) / (float)s->w / (float)s->h;
    }
    d->noise = fminf(noise[0], noise[1]);
}

static int mend(uf_ctx *ctx, uf_stage_work *k) {
    const float *const *l = k->luma + UF_STAGE_REACH;
    int n_lines = 0, n_clumps = 0;
    dust d;
    if (k->size.w < 2 * UF_BLOCK || k->size.h < 2 * UF_BLOCK || !((l[-1] && l[1]) || (l[1] && l[2]) || (l[-1] && l[-2]))) return 0; /* nothing to compare with */
    open_dust(&d, k);
    remove_dust(&d, k, plane(k, 6), &n_clumps);
    UF_TRY(uf_scratch_lines(ctx, k, d.near, &n_lines));
    if (n_clumps + n_lines == 0) return 0;
    snprintf(k->said, sizeof(k->said), "%d spot%s, %d line%s", n_clumps, n_clumps == 1 ? "" : "s", n_lines, n_lines == 1 ? "" : "s");
    return 1;
}

const uf_stage uf_stage_scratch = { .name = "scratch", .about = "removes dust, hairs and vertical scratches", .reach = 2, .planes = true, .room = ROOM, .mend = mend };
