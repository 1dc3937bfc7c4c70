/* Splices: where two pieces of film were joined, the first frame and the last of a scene may show the joint as a bar across the picture, have
 * jumped in the gate, and be exposed unlike the others. Each is measured against the frames that follow (or came before) in the same scene, and
 * only what those agree about is changed. A bar inside a scene, where a tear was mended, is seen against both sides. No frame is taken out or
 * shown twice: time stays as it was. (Damage as Read and Meyer name it, Restoration of Motion Picture Film, 2000.) */
#include "gate.h"
#include "motion.h"

#include <math.h>
#include <string.h>

enum { N_SECTIONS = 8, SOFT = 2, FOLLOWING = 3 };
static const float BAR = .06f;         /* of full scale: by how much a bar's rows differ, at strength 1 */
static const float TALLEST = .15f;     /* share of the picture's height */
static const float JUMP = 1.f;         /* pixels that a frame jumps, at strength 1 */
static const float FARTHEST = 40;      /* pixels: more is another picture */
static const float FLASH = .025f;      /* of full scale: change of the mean, at strength 1 */
static const float MOST_GAIN = 2.5f;
static const float SAME = .035f;       /* mean difference of frames that show the same, laid on each other, beside what others of the scene have */

typedef struct splice {
    uf_stage_work *k;
    const float *beside[FOLLOWING + 1]; /* the next frames of the scene away from the joint; NULL beyond */
    float *level, *other;               /* planes: this frame with the exposure of the others; one of the others laid on it */
    float *rows[3];                     /* (h) row means: this frame, those beside it */
    float gain, offset, dx, dy;         /* what level was made with; where the frame is against beside[0] */
    bool told;
} splice;

typedef struct measure { float mean, spread; } measure;

static measure measure_of(const uf_stage_size *s, const float *luma, const float *rows, const float *against, float most) {
    double sum = 0, squares = 0, n = 0;
    for (int y = 0; y < s->h; y += 2) { /* rows that a bar lies on are left out */
        float a = 0, b = 0;
        if (fabsf(rows[y] - against[y]) > most) continue;
        for (int x = 0; x < s->w; x++) {
            float v = luma[y * s->pitch + x];
            a += v;
            b += v * v;
        }
        sum += (double)a;
        squares += (double)b;
        n += s->w;
    }
    if (n < 1) return (measure){ 0, 0 };
    double mean = sum / n;
    return (measure){ (float)mean, (float)sqrt(fmax(squares / n - mean * mean, 0)) };
}

UF_CLONES static float mean_of_row(const float *row, int n) {
    float lane[16] = { 0 }, sum = 0;
    int x = 0;
    for (; x + 16 <= n; x += 16)
        for (int i = 0; i < 16; i++) lane[i] += row[x + i];
    for (int i = 0; i < 16; i++) sum += lane[i];
    for (; x < n; x++) sum += row[x];
    return sum / (float)n;
}

static void rows_of(const uf_stage_size *s, const float *luma, float *rows) {
    for (int y = 0; y < s->h; y++) rows[y] = mean_of_row(luma + y * s->pitch, s->w);
}

/* ---- bars --------------------------------------------------------------------------------------------------------- */

/* Do the rows differ in nearly all sections of the width, with one sign? */
static bool across(const uf_stage_size *s, const float *now, const float *other, int y0, int y1, float sign, float least) {
    int n = 0;
    for (int i = 0; i < N_SECTIONS; i++) {
        int x0 = i * s->w / N_SECTIONS, x1 = (i + 1) * s->w / N_SECTIONS;
        float sum = 0;
        for (int y = y0; y < y1; y++) sum += mean_of_row(now + y * s->pitch + x0, x1 - x0) - mean_of_row(other + y * s->pitch + x0, x1 - x0);
        n += sign * sum > least * (float)(y1 - y0);
    }
    return n >= N_SECTIONS - 1;
}

/* Rows y0..y1-1 become those of `other`, with soft ends. */
static void cover(uf_stage_work *k, const float *other, int y0, int y1) {
    for (int y = y0 - SOFT; y < y1 + SOFT; y++) {
        if (y < 0 || y >= k->size.h) continue;
        int off = y < y0 ? y0 - y : y >= y1 ? y - y1 + 1 : 0;
        float share = 1 - (float)off / (SOFT + 1);
        for (int x = 0; x < k->size.w; x++) {
            float *p = &k->out[y * k->size.pitch + x];
            *p += share * (other[y * k->size.pitch + x] - *p);
            k->mask[(ptrdiff_t)y * k->size.w + x] = 255;
        }
    }
}

/* rows[1] and rows[2] are of frames that agree where there is a bar. Covers each bar with `other`, laid on this frame; their number. */
static int cover_bars(splice *p, const float *now, const float *other, float least) {
    const uf_stage_size *s = &p->k->size;
    int n = 0;
    for (int y = 0; y < s->h; y++) {
        float d = p->rows[0][y] - p->rows[1][y], sign = d < 0 ? -1 : 1;
        int y0 = y, y1 = y;
        if (fabsf(d) < least || fabsf(p->rows[1][y] - p->rows[2][y]) > .3f * least) continue;
        while (y1 < s->h && sign * (p->rows[0][y1] - p->rows[1][y1]) > .3f * least) y1++;
        while (y0 > 0 && sign * (p->rows[0][y0 - 1] - p->rows[1][y0 - 1]) > .3f * least) y0--;
        y = y1;
        if (y1 - y0 < 2 || (float)(y1 - y0) > TALLEST * (float)s->h) continue;
        if (!across(s, now, other, y0, y1, sign, .5f * least)) continue;
        cover(p->k, other, y0, y1);
        n++;
    }
    return n;
}

/* Is there a row to look at? Nearly no frame has one, and then nothing more is computed. */
static bool rows_differ(const splice *p, float least) {
    int n = 0;
    for (int y = 0; y < p->k->size.h; y++) {
        float a = p->rows[0][y] - p->rows[1][y], b = p->rows[0][y] - p->rows[2][y];
        n += a * b > 0 && fminf(fabsf(a), fabsf(b)) > least && fabsf(p->rows[1][y] - p->rows[2][y]) < .3f * least;
    }
    return n >= 2 && (float)n <= TALLEST * (float)p->k->size.h;
}

static int lay(uf_ctx *ctx, splice *p, const float *from, float dx, float dy) {
    memcpy(p->other, from, (size_t)p->k->size.pitch * (size_t)p->k->size.h * sizeof(float));
    return fabsf(dx) < .05f && fabsf(dy) < .05f ? UF_OK : uf_gate_shift(ctx, &p->k->size, p->other, dx, dy);
}

/* A bar on a frame with both neighbours. 1: covered. */
static int mend_within(uf_ctx *ctx, splice *p, const float *past, const float *next, int *n_bars) {
    const uf_stage_size *s = &p->k->size;
    const float *now = p->k->luma[UF_STAGE_REACH];
    const float least = BAR / p->k->strength;
    float dx, dy;
    bool told;
    rows_of(s, now, p->rows[0]);
    rows_of(s, past, p->rows[1]);
    rows_of(s, next, p->rows[2]);
    if (!rows_differ(p, least)) return UF_OK;
    UF_TRY(uf_gate_motion(ctx, s, now, past, &dx, &dy, &told));
    if (!told || fabsf(dx) > FARTHEST || fabsf(dy) > FARTHEST) return UF_OK;
    UF_TRY(lay(ctx, p, past, dx, dy));
    rows_of(s, p->other, p->rows[1]);
    *n_bars = cover_bars(p, now, p->other, least);
    return UF_OK;
}

/* ---- a scene's ends ----------------------------------------------------------------------------------------------- */

/* Exposure: what `level` of the frame would have, were it taken as the others were. False: it is as they are, or it shows something else. */
static bool measure_exposure(splice *p, measure m[3]) {
    const uf_stage_size *s = &p->k->size;
    const float *now = p->k->luma[UF_STAGE_REACH];
    rows_of(s, now, p->rows[0]);
    rows_of(s, p->beside[0], p->rows[1]);
    rows_of(s, p->beside[1], p->rows[2]);
    for (int y = 0; y < s->h; y++) p->level[y] = p->rows[0][y] - p->rows[1][y];
    float off = uf_stage_median(p->level, s->h);
    for (int y = 0; y < s->h; y++) p->rows[1][y] += off; /* what a bar is seen against */
    m[0] = measure_of(s, now, p->rows[0], p->rows[1], .15f);
    for (int i = 1; i < 3; i++) m[i] = measure_of(s, p->beside[i - 1], p->rows[0], p->rows[1], .15f);
    p->gain = 1, p->offset = 0;
    if (m[0].spread < .01f || m[1].spread < .01f) return false;
    float mean = 2 * m[1].mean - m[2].mean, change = fabsf(m[0].mean - mean), usual = fabsf(m[1].mean - m[2].mean);
    float gain = m[1].spread / m[0].spread;
    p->gain = gain;
    p->offset = m[1].mean - gain * m[0].mean;
    return change > FLASH / p->k->strength && change > 4 * usual && gain < MOST_GAIN && gain > 1 / MOST_GAIN;
}

/* How unlike two frames are that were laid on each other, but for a bar's few rows: the median of rows' mean differences. */
static float unlike(splice *p, const float *a, const float *b) {
    const uf_stage_size *s = &p->k->size;
    int n = 0;
    for (int y = s->h / 16; y < s->h - s->h / 16; y++, n++)
        p->rows[2][n] = uf_motion_difference(a + y * s->pitch, b + y * s->pitch, s->pitch, s->w, 1) / (float)s->w;
    return uf_stage_median(p->rows[2], n);
}

/* Jump: the frame's place against the next, beyond the step that the following ones make. */
static int measure_jump(uf_ctx *ctx, splice *p, float *jx, float *jy, bool *jumped) {
    const uf_stage_size *s = &p->k->size;
    float x[2], y[2];
    bool told[2];
    *jumped = false;
    UF_TRY(uf_gate_motion(ctx, s, p->level, p->beside[0], &p->dx, &p->dy, &p->told));
    if (!p->told || !p->beside[2]) return UF_OK;
    for (int i = 0; i < 2; i++) UF_TRY(uf_gate_motion(ctx, s, p->beside[i], p->beside[i + 1], &x[i], &y[i], &told[i]));
    if (!told[0] || !told[1]) return UF_OK;
    *jx = p->dx - .5f * (x[0] + x[1]);
    *jy = p->dy - .5f * (y[0] + y[1]);
    float unrest = fmaxf(fabsf(x[0] - x[1]), fabsf(y[0] - y[1])), far = fmaxf(fabsf(*jx), fabsf(*jy));
    *jumped = far > JUMP / p->k->strength && far > 4 * unrest + .5f && far < FARTHEST;
    return UF_OK;
}

static void tell(splice *p, bool flash, bool jumped, float jx, float jy, int n_bars) {
    int n = 0, room = (int)sizeof(p->k->said);
    char *to = p->k->said;
    to[0] = 0;
    if (flash) n += snprintf(to + n, (size_t)(room - n), "exposure %+.1f %%", 100 * (double)(p->gain - 1));
    if (jumped) n += snprintf(to + n, (size_t)(room - n), "%sa jump of %+.1f, %+.1f pixels", n ? "; " : "", (double)jx, (double)jy);
    if (n_bars) snprintf(to + n, (size_t)(room - n), "%s%d bar%s", n ? "; " : "", n_bars, n_bars == 1 ? "" : "s");
}

static int mend_end(uf_ctx *ctx, splice *p) {
    uf_stage_work *k = p->k;
    const uf_stage_size *s = &k->size;
    size_t n = (size_t)s->pitch * (size_t)s->h;
    const float *now = k->luma[UF_STAGE_REACH];
    float jx = 0, jy = 0, usual, dx, dy;
    bool jumped, told, flash;
    measure m[3];
    flash = measure_exposure(p, m);
    for (size_t i = 0; i < n; i++) p->level[i] = flash ? fminf(fmaxf(now[i] * p->gain + p->offset, 0), 1) : now[i];
    UF_TRY(measure_jump(ctx, p, &jx, &jy, &jumped));
    if (!p->told || fabsf(p->dx) > FARTHEST || fabsf(p->dy) > FARTHEST) return 0;
    /* do they show the same? As much as the two next ones do. */
    UF_TRY(uf_gate_motion(ctx, s, p->beside[0], p->beside[1], &dx, &dy, &told));
    if (!told) return 0;
    UF_TRY(lay(ctx, p, p->beside[1], dx, dy));
    usual = unlike(p, p->beside[0], p->other);
    UF_TRY(lay(ctx, p, p->beside[0], p->dx, p->dy));
    if (unlike(p, p->level, p->other) > SAME + 1.5f * usual) return 0;
    rows_of(s, p->level, p->rows[0]);
    rows_of(s, p->other, p->rows[1]);
    UF_TRY(lay(ctx, p, p->beside[1], p->dx + dx, p->dy + dy));
    rows_of(s, p->other, p->rows[2]);
    UF_TRY(lay(ctx, p, p->beside[0], p->dx, p->dy));
    if (flash) memcpy(k->out, p->level, n * sizeof(float));
    int n_bars = cover_bars(p, p->level, p->other, BAR / k->strength);
    if (jumped) UF_TRY(uf_gate_shift(ctx, s, k->out, -jx, -jy));
    tell(p, flash, jumped, jx, jy, n_bars);
    return flash || jumped || n_bars;
}

enum { ROOM = 3 };

static int mend(uf_ctx *ctx, uf_stage_work *k) {
    const float *const *l = k->luma + UF_STAGE_REACH;
    size_t n = (size_t)k->size.pitch * (size_t)k->size.h;
    splice p = { .k = k, .level = k->room, .other = k->room + n };
    int n_bars = 0, way = !l[-1] ? 1 : !l[1] ? -1 : 0;
    if (k->size.h < 64 || k->size.w < 64) return 0; /* three rows of means need no more than a plane */
    for (int i = 0; i < 3; i++) p.rows[i] = k->room + 2 * n + (ptrdiff_t)i * k->size.h;
    if (way) {
        for (int i = 0; i <= FOLLOWING; i++) p.beside[i] = l[way * (i + 1)];
        return p.beside[0] && p.beside[1] ? mend_end(ctx, &p) : 0;
    }
    UF_TRY(mend_within(ctx, &p, l[-1], l[1], &n_bars));
    if (n_bars) tell(&p, false, false, 0, 0, n_bars);
    return n_bars > 0;
}

const uf_stage uf_stage_splice = { .name = "splice", .about = "covers the bars, jumps and flashes where pieces of film were joined", .reach = FOLLOWING + 1,
                                   .planes = true, .room = ROOM, .mend = mend };
