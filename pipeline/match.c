/* Which recordings heard the same, and when: correlation of the levels of bands, piece by piece, over all lags, and over all rates of the clocks. */
#include "merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PIECES = 24, LONGEST = 60, SHORTEST = 10, MOST_SLOPES = 121 };
static const double drift_most = 1e-3; /* of one clock against another */
static const double least_shared = 4;  /* s of sound that a lag needs to be looked at */
static const double apart = 1.5;       /* s, between places that are not the same */
static const double chance = 4.3;      /* deviations that the best of unrelated lags has */

typedef struct piece { /* of recording a */
    int64_t from;         /* samples at UF_MERGE_COARSE */
    int n;
    float *r;             /* n_r: correlation with b from sample i - n on */
    int64_t n_r;
} piece;

typedef struct coarse { /* the bands of one recording */
    const float *x;       /* (UF_MERGE_BANDS, n) */
    int64_t n;
    float (*spectrum)[2]; /* (UF_MERGE_BANDS, size/2 + 1) */
} coarse;

typedef struct matcher { /* a thread's */
    uf_ctx *ctx;
    const uf_take *take;
    const coarse *low;
    uf_fft fft;
    float (*cross)[2];    /* size/2 + 1 */
    float *room, *sum;    /* of the pieces' correlations; of their sum */
    piece piece[MOST_PIECES];
    int n;
} matcher;

typedef struct line { /* how much later b's time is: at a's beginning, and per second */
    double lag, slope, z;
} line;

/* ---- correlation over all lags ------------------------------------------------------------------------------------------ */

/* An even number of small factors: what FFTW is quick with. */
static int good_size(int64_t n) {
    for (;; n++) {
        int64_t m = n;
        for (int p = 2; p <= 5; p++)
            while (m % p == 0) m /= p;
        if (m == 1 && n % 2 == 0) return (int)n;
    }
}

/* Deviation of most of r: peaks do not count, nor does what was not looked at. */
static double deviation(const float *r, int64_t n) {
    double square = 0, limit = INFINITY;
    int64_t count = 1;
    for (int round = 0; round < 3; round++) {
        square = 0;
        count = 0;
        for (int64_t i = 0; i < n; i++)
            if (r[i] != 0.f && fabs((double)r[i]) <= limit) square += (double)r[i] * (double)r[i], count++;
        limit = 3.5 * sqrt(square / (double)(count ? count : 1));
    }
    return limit / 3.5 + 1e-12;
}

static int64_t under(int64_t at, int64_t n, int64_t n_b) { return (at + n > n_b ? n_b : at + n) - (at < 0 ? 0 : at); }

/* The piece of a against all of b. Bands count alike: each has deviation 1. */
static void correlate(matcher *m, const coarse *a, const coarse *b, piece *p) {
    uf_fft *f = &m->fft;
    int64_t n = p->n, size = f->n, bins = size / 2 + 1;
    memset(m->cross, 0, (size_t)bins * sizeof(*m->cross));
    for (int band = 0; band < UF_MERGE_BANDS; band++) {
        const float(*y)[2] = (const float(*)[2])b->spectrum + band * bins;
        memset(f->time, 0, (size_t)size * sizeof(float));
        memcpy(f->time, a->x + band * a->n + p->from, (size_t)n * sizeof(float));
        uf_fft_forward(f);
        for (int64_t k = 0; k < bins; k++) {
            m->cross[k][0] += y[k][0] * f->bins[k][0] + y[k][1] * f->bins[k][1];
            m->cross[k][1] += y[k][1] * f->bins[k][0] - y[k][0] * f->bins[k][1];
        }
    }
    memcpy(f->bins, m->cross, (size_t)bins * sizeof(*m->cross));
    uf_fft_inverse(f);
    for (int64_t i = 0; i < p->n_r; i++) {
        int64_t at = i - n;
        p->r[i] = under(at, n, b->n) > 0 ? f->time[at < 0 ? at + size : at] : 0;
    }
}

/* ---- all pieces along a line ------------------------------------------------------------------------------------------------ */

/* Lags of the sum: from -a.n on. What the pieces have in common with b if its time is later by slope * time more. */
static void add_up(const matcher *m, const coarse *a, int64_t n_sum, double slope) {
    memset(m->sum, 0, (size_t)n_sum * sizeof(*m->sum));
    for (int i = 0; i < m->n; i++) {
        const piece *p = m->piece + i;
        int64_t moved = llround(slope * ((double)p->from + .5 * p->n)), first = p->from + p->n - a->n + moved;
        int64_t from = first < 0 ? -first : 0, to = p->n_r - first < n_sum ? p->n_r - first : n_sum;
        for (int64_t k = from; k < to; k++) m->sum[k] += p->r[first + k];
    }
}

/* How much sound lies at the lags, in pieces' samples: 1/sqrt of it, or 0 where it is too little. */
static void weigh(const matcher *m, const coarse *a, const coarse *b, int64_t n_sum, float *weight) {
    double shared = 0, whole = 0;
    for (int i = 0; i < m->n; i++) whole += m->piece[i].n;
    double least = fmin(least_shared * UF_MERGE_COARSE, .5 * (double)(a->n < b->n ? a->n : b->n)) * whole / (double)a->n;
    for (int64_t k = 0; k < n_sum; k++) {
        shared = 0;
        for (int i = 0; i < m->n; i++) {
            int64_t some = under(m->piece[i].from + k - a->n, m->piece[i].n, b->n);
            if (some > 0) shared += (double)some;
        }
        weight[k] = shared >= least ? (float)(1 / sqrt(shared)) : 0;
    }
}

/* The line on which most is in common. Its z is what it has more than the best one elsewhere: of music that repeats itself nobody can tell the place. */
static line best_line(matcher *m, const coarse *a, const coarse *b, float *weight) {
    int64_t n_sum = a->n + b->n, at = 0;
    double unit = 0, most = 0, second = 0, step = fmax(1. / (double)a->n, 2 * drift_most / (MOST_SLOPES - 1));
    int n_slopes = (int)(drift_most / step), best = 0;
    weigh(m, a, b, n_sum, weight);
    for (int s = 0; s <= 2 * n_slopes; s++) {
        int which = s % 2 ? -(s + 1) / 2 : s / 2; /* from 0 on */
        add_up(m, a, n_sum, which * step);
        for (int64_t k = 0; k < n_sum; k++) m->sum[k] *= weight[k];
        if (!s) unit = deviation(m->sum, n_sum);
        for (int64_t k = 0; k < n_sum; k++)
            if ((double)m->sum[k] > most) most = (double)m->sum[k], at = k, best = which;
    }
    add_up(m, a, n_sum, best * step);
    for (int64_t k = 0; k < n_sum; k++)
        if (llabs(k - at) > apart * UF_MERGE_COARSE) second = fmax(second, (double)(m->sum[k] * weight[k]));
    most /= unit;
    second = fmax(second / unit, chance);
    return (line){ .lag = (double)(at - a->n) / UF_MERGE_COARSE, .slope = best * step, .z = most > second ? sqrt(most * most - second * second + chance * chance) : 0 };
}

/* ---- the course of the lag -------------------------------------------------------------------------------------------------- */

typedef struct course { /* of one pair */
    int *place, n_states;   /* lags in a's middle, samples at UF_MERGE_COARSE, that are thought of */
    int n, length;          /* windows of a, one after the other; samples of one */
    double slope;           /* by which all of them grow, as the clocks run: a course that had to creep along would rather jump now and then */
    double middle;          /* s: where they are what they are called */
    float *score;           /* (n, n_states) */
    int *state;             /* n */
    double *lag, *moved;    /* n: s, without the jumps; the jumps until then */
} course;

static void course_close(course *c) {
    free(c->place);
    free(c->score);
    free(c->state);
    free(c->lag);
}

static double time_of(const course *c, int k) { return (k + .5) * c->length / UF_MERGE_COARSE; }

/* By how much lags have grown at a time of a, samples. */
static int64_t grown(const course *c, double at) { return llround(c->slope * (at - c->middle) * UF_MERGE_COARSE); }

/* Where a piece is clearest, within `reach` of a lag (samples): may that be another stretch of the same event, behind a pause of the recorder? */
static int64_t clearest(const piece *p, const coarse *b, int64_t lag, int64_t reach) {
    static const double sure = 7;
    double unit = deviation(p->r, p->n_r), best = sure;
    int64_t at = INT64_MIN;
    for (int64_t i = 0; i < p->n_r; i++) {
        int64_t some = under(i - p->n, p->n, b->n), l = i - p->n - p->from;
        double z = some * 3 > p->n ? (double)p->r[i] / (unit * sqrt((double)some / p->n)) : 0;
        if (z > best && llabs(l - lag) < reach) best = z, at = l;
    }
    return at;
}

/* Near the line; and near where single pieces are sure of themselves. */
static int choose_states(const matcher *m, const coarse *a, const coarse *b, const line *l, course *c) {
    static const double farthest = 30, around = 1.5, line_off = 2e-4; /* s that a recorder may lose at once; what losses may bend the line by */
    int64_t n_sum = a->n + b->n, reach = llround(around * UF_MERGE_COARSE);
    uint8_t *mark = uf_alloc(m->ctx, (size_t)n_sum, 1);
    if (!mark) return UF_ENOMEM;
    for (int i = -1; i < m->n; i++) {
        int64_t middle = llround((l->lag + .5 * l->slope * (double)a->n / UF_MERGE_COARSE) * UF_MERGE_COARSE), side = reach + llround(line_off * (double)a->n);
        if (i >= 0) {
            int64_t more = grown(c, ((double)m->piece[i].from + .5 * m->piece[i].n) / UF_MERGE_COARSE);
            middle = clearest(&m->piece[i], b, middle + more, llround(farthest * UF_MERGE_COARSE));
            if (middle == INT64_MIN) continue;
            middle -= more;
        }
        for (int64_t k = middle - side; k <= middle + side; k++)
            if (k + a->n >= 0 && k + a->n < n_sum) mark[k + a->n] = 1;
    }
    for (int64_t k = 0; k < n_sum; k++) c->n_states += mark[k];
    c->place = uf_alloc(m->ctx, (size_t)c->n_states + 1, sizeof(*c->place));
    int s = 0;
    for (int64_t k = 0; k < n_sum && c->place; k++)
        if (mark[k]) c->place[s++] = (int)(k - a->n);
    free(mark);
    return c->place ? UF_OK : UF_ENOMEM;
}

UF_KERNEL static float dot(const float *a, const float *b, int64_t n) {
    float sum[16] = { 0 }, all = 0;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++) sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++) sum[0] += a[i] * b[i];
    for (int k = 0; k < 16; k++) all += sum[k];
    return all;
}

/* What each window of a has in common with b at each lag, as far as it decides: deviations times those that are to be expected at the right one. */
static void rate(const coarse *a, const coarse *b, const line *l, const course *c) {
    static const double top = 10;
    size_t n = (size_t)c->n * (size_t)c->n_states;
    int64_t common = under(llround(l->lag * UF_MERGE_COARSE), a->n, b->n);
    for (int k = 0; k < c->n; k++)
        for (int s = 0; s < c->n_states; s++) {
            int64_t lag = c->place[s] + grown(c, time_of(c, k)), from = (int64_t)k * c->length, first = from + lag < 0 ? -lag : from;
            int64_t end = from + c->length + lag > b->n ? b->n - lag : from + c->length;
            float sum = 0;
            for (int band = 0; band < UF_MERGE_BANDS && end > first; band++) sum += dot(a->x + band * a->n + first, b->x + band * b->n + first + lag, end - first);
            c->score[(size_t)k * (size_t)c->n_states + (size_t)s] = sum;
        }
    double unit = deviation(c->score, (int64_t)n), strength = l->z / sqrt(fmax((double)common / c->length, 1));
    strength = fmin(fmax(strength, 1.5), 5);
    for (size_t i = 0; i < n; i++) c->score[i] = (float)(uf_course_worth(fmin((double)c->score[i] / unit, top), strength));
}

/* Jumps; and the rest of the lag as a line, for places lie a hundredth of a second apart. Returns its slope. */
static double straighten(course *c, uf_jump *jump, int *n_jumps, int least) {
    double w = 0, at = 0, lag = 0, aa = 0, al = 0, moved = 0;
    for (int k = 0; k < c->n; k++) {
        int step = k ? c->place[c->state[k]] - c->place[c->state[k - 1]] : 0;
        if (abs(step) >= least && *n_jumps < UF_FIT_STEPS) {
            jump[(*n_jumps)++] = (uf_jump){ .at = time_of(c, k) - .5 * c->length / UF_MERGE_COARSE, .by = (double)step / UF_MERGE_COARSE };
            moved += (double)step / UF_MERGE_COARSE;
        }
        c->moved[k] = moved;
        c->lag[k] = (double)(c->place[c->state[k]] + grown(c, time_of(c, k))) / UF_MERGE_COARSE - moved;
    }
    for (int pass = 0; pass < 2; pass++)
        for (int k = 0; k < c->n; k++) {
            double weight = fmax((double)c->score[(size_t)k * (size_t)c->n_states + (size_t)c->state[k]], 1e-6), t = time_of(c, k);
            if (!pass) w += weight, at += weight * t, lag += weight * c->lag[k];
            else aa += weight * (t - at / w) * (t - at / w), al += weight * (t - at / w) * (c->lag[k] - lag / w);
        }
    double slope = aa > 0 ? fmax(fmin(al / aa, drift_most), -drift_most) : 0;
    for (int k = 0; k < c->n; k++) c->lag[k] = lag / w + slope * (time_of(c, k) - at / w);
    return slope;
}

/* An anchor for every ten seconds or so between jumps in which something was heard. */
static int keep_anchors(const matcher *m, uf_match *out, const course *c) {
    int ten = 10 * UF_MERGE_COARSE / c->length, most = c->n / 150 > ten ? c->n / 150 : ten;
    out->anchor = uf_alloc(m->ctx, (size_t)c->n + 1, sizeof(*out->anchor));
    if (!out->anchor) return UF_ENOMEM;
    for (int k = 0, end; k < c->n; k = end) {
        double sum = 0;
        for (end = k; end < c->n && end < k + most && c->moved[end] == c->moved[k]; end++) sum += (double)c->score[(size_t)end * (size_t)c->n_states + (size_t)c->state[end]];
        if (out->n == UF_MERGE_ANCHORS || sum <= 0 || (end - k < 4 && c->n > 8)) continue;
        double at = .5 * (time_of(c, k) + time_of(c, end - 1)), lag = .5 * (c->lag[k] + c->lag[end - 1]) + c->moved[k];
        out->anchor[out->n++] = (uf_anchor){ .at = at, .lag = lag, .z = sqrt(sum) };
    }
    return UF_OK;
}

static int follow(matcher *m, uf_match *out, const line *l) {
    static const int longest[] = { 300, 1000 }; /* s: windows of half a second, of one, and else of two */
    const coarse *a = m->low + out->a, *b = m->low + out->b;
    course c = { .length = UF_MERGE_COARSE / 2, .slope = l->slope, .middle = .5 * (double)a->n / UF_MERGE_COARSE };
    for (int i = 0; i < UF_LEN(longest); i++)
        if (a->n > (int64_t)longest[i] * UF_MERGE_COARSE) c.length *= 2;
    c.n = (int)(a->n / c.length);
    int err = c.n ? choose_states(m, a, b, l, &c) : UF_EOF;
    if (err == UF_OK) {
        c.score = uf_alloc(m->ctx, (size_t)c.n * (size_t)c.n_states, sizeof(float));
        c.state = uf_alloc(m->ctx, (size_t)c.n, sizeof(*c.state));
        c.lag = uf_alloc(m->ctx, 2 * (size_t)c.n, sizeof(*c.lag));
        out->jump = uf_alloc(m->ctx, UF_FIT_STEPS, sizeof(*out->jump));
        if (!c.score || !c.state || !c.lag || !out->jump) err = UF_ENOMEM;
    }
    if (err == UF_OK) {
        c.moved = c.lag + c.n;
        uf_course how = { .place = c.place, .n_states = c.n_states, .creep = 3, .jump = 14, .leap = 300, .near = UF_MERGE_COARSE, .least = 8 };
        for (int round = 0; round < 2 && err == UF_OK; round++) { /* losses have bent the line; the course tells the slope without them */
            rate(a, b, l, &c);
            err = uf_course_find(m->ctx, &how, c.score, c.n, c.state);
            if (err < 0) break;
            out->n_jumps = 0;
            double slope = straighten(&c, out->jump, &out->n_jumps, how.least);
            if (fabs(slope - c.slope) * c.middle * UF_MERGE_COARSE < 2) break;
            c.slope = slope;
        }
        if (err == UF_OK) err = keep_anchors(m, out, &c);
    }
    course_close(&c);
    return err == UF_EOF ? UF_OK : err;
}

/* ---- all pairs ----------------------------------------------------------------------------------------------------------------- */

/* Pieces overlap by half, where they are not far apart. */
static void cut(matcher *m, const coarse *a, const coarse *b) {
    int64_t length = a->n / 6;
    if (length < SHORTEST * UF_MERGE_COARSE) length = SHORTEST * UF_MERGE_COARSE;
    if (length > LONGEST * UF_MERGE_COARSE) length = LONGEST * UF_MERGE_COARSE;
    if (length > a->n) length = a->n;
    m->n = length ? (int)(2 * a->n / length) - 1 : 0;
    if (m->n > MOST_PIECES) m->n = MOST_PIECES;
    for (int i = 0; i < m->n; i++) {
        m->piece[i] = (piece){ .from = m->n > 1 ? (a->n - length) * i / (m->n - 1) : 0, .n = (int)length, .n_r = b->n + length };
        m->piece[i].r = m->room + i * (b->n + length);
    }
}

static int match_pair(matcher *m, uf_match *out) {
    if (m->low[out->a].n > m->low[out->b].n) {
        int a = out->a;
        out->a = out->b;
        out->b = a;
    }
    const coarse *a = m->low + out->a, *b = m->low + out->b;
    cut(m, a, b);
    if (!m->n) return UF_OK;
    for (int i = 0; i < m->n; i++) correlate(m, a, b, &m->piece[i]);
    line l = best_line(m, a, b, m->sum + a->n + b->n);
    out->z = l.z;
    if (l.z >= UF_MERGE_ENOUGH) UF_TRY(follow(m, out, &l));
    if (!out->n) out->z = fmin(out->z, UF_MERGE_ENOUGH - 1); /* nothing to go by */
    uf_log(m->ctx, UF_LOG_DEBUG, "'%s' in '%s': z %.1f, %d anchors, %d jumps, lag %.3f s, %.0f ppm", m->take[out->a].path, m->take[out->b].path, out->z, out->n, out->n_jumps,
           l.lag, 1e6 * l.slope);
    return UF_OK;
}

static int coarse_open(uf_ctx *ctx, coarse *c, const uf_take *t, int size) {
    uf_fft f;
    size_t bins = (size_t)size / 2 + 1;
    c->n = t->n_bands;
    c->x = t->bands;
    c->spectrum = uf_alloc(ctx, UF_MERGE_BANDS * bins, sizeof(*c->spectrum));
    bool ok = uf_fft_open(&f, size) && c->spectrum;
    for (int b = 0; b < UF_MERGE_BANDS && ok; b++) {
        memset(f.time, 0, (size_t)size * sizeof(float));
        memcpy(f.time, c->x + b * c->n, (size_t)c->n * sizeof(float));
        uf_fft_forward(&f);
        memcpy(c->spectrum + (size_t)b * bins, f.bins, bins * sizeof(*c->spectrum));
    }
    uf_fft_close(&f);
    return ok ? UF_OK : uf_fail(ctx, UF_ENOMEM, "out of memory for %.0f minutes of '%s'; give shorter recordings", (double)t->n_low / UF_MERGE_RATE / 60, t->path);
}

static bool matcher_open(matcher *m, int size, int64_t longest) {
    bool ok = uf_fft_open(&m->fft, size);
    m->cross = uf_alloc(m->ctx, (size_t)size / 2 + 1, sizeof(*m->cross));
    m->room = uf_alloc(m->ctx, MOST_PIECES * ((size_t)longest + LONGEST * UF_MERGE_COARSE), sizeof(float));
    m->sum = uf_alloc(m->ctx, 4 * (size_t)longest + 1, sizeof(float));
    return ok && m->cross && m->room && m->sum;
}

static int match_some(uf_ctx *ctx, const uf_take *take, const coarse *low, int size, int64_t longest, uf_match *match, int n_pairs) {
    int failed = UF_OK;
#pragma omp parallel num_threads(uf_ctx_threads(ctx))
    {
        matcher *m = uf_alloc(ctx, 1, sizeof(*m));
        int err = m ? UF_OK : UF_ENOMEM;
        if (m) {
            *m = (matcher){ .ctx = ctx, .take = take, .low = low };
            if (!matcher_open(m, size, longest)) err = UF_ENOMEM;
        }
#pragma omp for schedule(dynamic)
        for (int i = 0; i < n_pairs; i++)
            if (err == UF_OK && !uf_ctx_cancelled(ctx)) err = match_pair(m, match + i);
#pragma omp critical
        if (err < 0) failed = err;
        if (m) {
            uf_fft_close(&m->fft);
            free(m->cross);
            free(m->room);
            free(m->sum);
        }
        free(m);
    }
    if (uf_ctx_cancelled(ctx)) return uf_fail(ctx, UF_EINTR, "stopped; nothing was written");
    return failed == UF_ENOMEM ? uf_fail(ctx, UF_ENOMEM, "out of memory for %d pairs of recordings; give fewer or shorter ones", n_pairs) : failed;
}

int uf_match_all(uf_ctx *ctx, const uf_take *take, int n, uf_match *match) {
    coarse low[UF_MERGE_MOST] = { 0 };
    int64_t longest = 0;
    int n_pairs = 0, err = UF_OK;
    for (int i = 0; i < n; i++)
        if (take[i].n_bands > longest) longest = take[i].n_bands;
    int size = good_size(longest + LONGEST * UF_MERGE_COARSE + 16);
    for (int i = 0; i < n && err == UF_OK; i++) err = coarse_open(ctx, &low[i], &take[i], size);
    for (int i = 0; i < n; i++)
        for (int k = i + 1; k < n; k++) match[n_pairs++] = (uf_match){ .a = i, .b = k };
    if (err == UF_OK) err = match_some(ctx, take, low, size, longest, match, n_pairs);
    for (int i = 0; i < n; i++) free(low[i].spectrum);
    return err;
}

void uf_matches_close(uf_match *match, int n) {
    for (int i = 0; i < n; i++) { /* NULL of pairs that were never looked at */
        free(match[i].anchor);
        free(match[i].jump);
    }
}
