#include "drift.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- clocks -------------------------------------------------------------------------------------------------------------- */

static double along(const uf_knot *a, const uf_knot *b, double at) {
    return a->is + (at - a->at) * (b->is - a->is) / (b->at - a->at);
}

/* The pair of knots whose line holds at `at`: the first of them. */
static int pair_at(const uf_clock *c, double at) {
    int low = 0, high = c->n - 1;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (c->knot[middle].at <= at) low = middle;
        else high = middle;
    }
    return low;
}

double uf_clock_read(const uf_clock *c, double at, bool *there) {
    int i = pair_at(c, at);
    bool gap = c->knot[i + 1].opens;
    if (there) *there = !gap;
    return gap ? c->knot[i + 1].is : along(&c->knot[i], &c->knot[i + 1], at);
}

double uf_clock_inverse(const uf_clock *c, double is) {
    for (int i = 0; i + 1 < c->n; i++) {
        bool last = i + 2 >= c->n;
        if (c->knot[i + 1].opens) {
            if (is < c->knot[i + 1].is) return c->knot[i].at; /* it never gave that time: repeated on the other side */
            continue;
        }
        if (is <= c->knot[i + 1].is || last)
            return c->knot[i].at + (is - c->knot[i].is) * (c->knot[i + 1].at - c->knot[i].at) / (c->knot[i + 1].is - c->knot[i].is);
    }
    return is;
}

double uf_clock_ppm(const uf_clock *c) {
    double at = 0, is = 0;
    for (int i = 0; i + 1 < c->n; i++) {
        if (c->knot[i + 1].opens) continue;
        at += c->knot[i + 1].at - c->knot[i].at;
        is += c->knot[i + 1].is - c->knot[i].is;
    }
    return at > 0 ? (is / at - 1) * 1e6 : 0;
}

int uf_clock_copy(uf_ctx *ctx, uf_clock *to, const uf_clock *from) {
    uf_knot *k = uf_alloc(ctx, (size_t)from->n, sizeof(*k));
    if (!k) return UF_ENOMEM;
    memcpy(k, from->knot, (size_t)from->n * sizeof(*k));
    *to = (uf_clock){ .knot = k, .n = from->n };
    return UF_OK;
}

/* ---- the sinc ------------------------------------------------------------------------------------------------------------- */

enum { HALF = 32, PHASES = 512, MOST_TAPS = 1024 };
static const double beta = 9.5, cutoff = .95; /* stopband about -95 dB */
static const double fade = .004; /* s, at the edges of a stretch: a cut in the middle of a wave is a click */

static double bessel(double x) {
    double sum = 1, term = 1;
    for (int k = 1; term > 1e-12 * sum; k++) {
        term *= x * x / 4 / k / k;
        sum += term;
    }
    return sum;
}

int uf_sinc_open(uf_sinc *d, uf_ctx *ctx, int half, double scale) {
    *d = (uf_sinc){ .taps = 2 * (int)ceil(half / scale) };
    if (d->taps > MOST_TAPS) d->taps = MOST_TAPS;
    d->table = uf_alloc(ctx, (size_t)(PHASES + 1) * (size_t)d->taps, sizeof(float));
    if (!d->table) return UF_ENOMEM;
    for (int p = 0; p <= PHASES; p++) {
        double sum = 0;
        float *row = d->table + (size_t)p * (size_t)d->taps;
        for (int k = 0; k < d->taps; k++) {
            double t = k - d->taps / 2 + 1 - (double)p / PHASES, u = 2 * t / d->taps, a = M_PI * t * cutoff * scale;
            double w = fabs(u) < 1 ? bessel(beta * sqrt(1 - u * u)) : 0, s = fabs(a) < 1e-9 ? 1 : sin(a) / a;
            row[k] = (float)(w * s);
            sum += (double)row[k];
        }
        for (int k = 0; k < d->taps; k++) row[k] /= (float)sum; /* a constant stays one at every phase */
    }
    return UF_OK;
}

void uf_sinc_close(uf_sinc *s) {
    free(s->table);
    *s = (uf_sinc){ 0 };
}

UF_KERNEL static float convolve(const float *x, const float *a, const float *b, float share, int taps) {
    float sum[16] = { 0 }, four[4];
    for (int k = 0; k + 16 <= taps; k += 16)
        for (int i = 0; i < 16; i++) sum[i] += x[k + i] * (a[k + i] + share * (b[k + i] - a[k + i]));
    for (int k = taps & ~15; k < taps; k++) sum[0] += x[k] * (a[k] + share * (b[k] - a[k]));
    for (int i = 0; i < 4; i++) four[i] = (sum[i] + sum[i + 4]) + (sum[i + 8] + sum[i + 12]); /* one after the other takes longer than all the products */
    return (four[0] + four[1]) + (four[2] + four[3]);
}

/* Around `base`, the sample at or before the place, `phase` of PHASES behind it. */
static float interpolate(const uf_sinc *s, const float *x, int64_t n_x, int64_t base, double phase) {
    float edge[MOST_TAPS];
    int p = (int)phase;
    const float *a = s->table + (size_t)p * (size_t)s->taps;
    int64_t from = base - s->taps / 2 + 1;
    if (from >= 0 && from + s->taps <= n_x) return convolve(x + from, a, a + s->taps, (float)(phase - p), s->taps);
    for (int k = 0; k < s->taps; k++) edge[k] = from + k >= 0 && from + k < n_x ? x[from + k] : 0;
    return convolve(edge, a, a + s->taps, (float)(phase - p), s->taps);
}

enum { TOGETHER = 32 };

/* y[i], TOGETHER of them: around x[i], i / TOGETHER of the way from the filter a to b. */
UF_KERNEL static void convolve_together(const float *x, const float *a, const float *b, int taps, float *y) {
    float first[TOGETHER] = { 0 }, change[TOGETHER] = { 0 };
    for (int k = 0; k < taps; k++)
        for (int i = 0; i < TOGETHER; i++) {
            first[i] += a[k] * x[i + k];
            change[i] += (b[k] - a[k]) * x[i + k];
        }
    for (int i = 0; i < TOGETHER; i++) y[i] = first[i] + (float)i / TOGETHER * change[i];
}

UF_KERNEL static void filter_at(const uf_sinc *s, double phase, float *to) {
    const float *a = s->table + (size_t)phase * (size_t)s->taps, *b = a + s->taps;
    float share = (float)(phase - floor(phase));
    for (int k = 0; k < s->taps; k++) to[k] = a[k] + share * (b[k] - a[k]);
}

/* Recorders of one rate differ by millionths: for a while the places are one sample apart, and the filter changes by so little that a line between both ends will do:
 * `most` phases, or 490 millionths, are 70 dB down at the highest frequency and 94 at a quarter of it. */
static bool is_near(double step) {
    const double most = 8;
    return fabs(TOGETHER * (step - 1) * PHASES) <= most;
}

static bool is_steady(double place, double step) {
    double last = (place - floor(place)) * PHASES + TOGETHER * (step - 1) * PHASES;
    return is_near(step) && last >= 0 && last < PHASES;
}

/* The most of y, 1 or TOGETHER, that can be had at once, from place x[place] on, `step` apart, n at most. */
static int interpolate_some(const uf_sinc *s, const float *x, int64_t n_x, double place, double step, float *y, int n) {
    double base = floor(place), phase = (place - base) * PHASES, last = phase + TOGETHER * (step - 1) * PHASES;
    int64_t from = (int64_t)base - s->taps / 2 + 1;
    if (n < TOGETHER || from < 0 || from + TOGETHER + s->taps > n_x || !is_steady(place, step)) {
        *y = interpolate(s, x, n_x, (int64_t)base, phase);
        return 1;
    }
    float a[MOST_TAPS], b[MOST_TAPS];
    filter_at(s, phase, a);
    filter_at(s, last, b);
    convolve_together(x + from, a, b, s->taps, y);
    return TOGETHER;
}

void uf_sinc_line(const uf_sinc *s, const float *x, int n_x, double from, double step, float *y, int n) {
    for (int i = 0; i < n;) i += interpolate_some(s, x, n_x, from + i * step, step, y + i, n - i);
}


struct uf_drift {
    uf_ctx *ctx;
    uf_drift_options o;
    uf_sinc sinc;
    float **x;            /* from sample `first` of the recording, with room for `room` */
    int64_t first, n_in, n_out;
    int held, room;
    bool ended;
    int pair;             /* knots where the last sample lay */
    float run[TOGETHER];
};

int uf_drift_open(uf_drift **out, uf_ctx *ctx, const uf_drift_options *o) {
    uf_drift *d = uf_alloc(ctx, 1, sizeof(*d));
    if (!d) return UF_ENOMEM;
    double scale = o->to_rate < o->from_rate ? (double)o->to_rate / o->from_rate : 1;
    *d = (uf_drift){ .ctx = ctx, .o = *o, };
    d->x = uf_alloc(ctx, (size_t)o->channels, sizeof(*d->x));
    if (!d->x || uf_sinc_open(&d->sinc, ctx, o->half ? o->half : HALF, scale) < 0) {
        uf_drift_close(&d);
        return UF_ENOMEM;
    }
    *out = d;
    return UF_OK;
}

void uf_drift_close(uf_drift **pd) {
    uf_drift *d = *pd;
    if (!d) return;
    for (int c = 0; d->x && c < d->o.channels; c++) free(d->x[c]);
    free(d->x);
    uf_sinc_close(&d->sinc);
    free(d);
    *pd = NULL;
}

static double time_of(const uf_drift *d, int64_t n) { return d->o.from + (double)n / d->o.to_rate; }

/* Where sample n of the result lies, in samples of the recording. */
static double position(const uf_drift *d, int64_t n) { return uf_clock_read(d->o.clock, time_of(d, n), NULL) * d->o.from_rate; }

int uf_drift_push(uf_drift *d, const float *const *x, int n) {
    if (!n) d->ended = true;
    double wanted = position(d, d->n_out - d->n_out % TOGETHER) - d->sinc.taps;
    int64_t keep = wanted < (double)d->first ? d->first : wanted > (double)d->n_in ? d->n_in : (int64_t)wanted;
    int left = (int)(d->n_in - keep), drop = (int)(keep - d->first);
    if (left + n > d->room) d->room = 2 * (left + n) + 4096;
    for (int c = 0; c < d->o.channels; c++) {
        if (drop && left && d->x[c]) memmove(d->x[c], d->x[c] + drop, (size_t)left * sizeof(float));
        float *at = realloc(d->x[c], (size_t)d->room * sizeof(float));
        if (!at) return uf_fail(d->ctx, UF_ENOMEM, "out of memory for sound; give fewer recordings");
        d->x[c] = at;
        if (n) memcpy(at + left, x[c], (size_t)n * sizeof(float));
    }
    d->first = keep;
    d->n_in += n;
    d->held = left + n;
    return UF_OK;
}

/* 0 to 1 within `fade` of the stretch's ends. */
static float edge_gain(const uf_clock *c, int i, double at) {
    double gain = 1;
    if (c->knot[i].opens && i > 0) gain = fmin(gain, (at - c->knot[i].at) / fade);
    if (i + 2 < c->n && c->knot[i + 2].opens) gain = fmin(gain, (c->knot[i + 1].at - at) / fade);
    return gain < 0 ? 0 : (float)gain;
}

/* Where common time `at` lies by the line behind knot i, in samples of the recording. */
static double place_of(const uf_drift *d, int i, double at) { return along(&d->o.clock->knot[i], &d->o.clock->knot[i + 1], at) * d->o.from_rate; }

/* Whether TOGETHER samples from `at` on, at place and further ones, all lie between knots i and i + 1, away from their edges. */
static bool is_inside(const uf_drift *d, int i, double at, double place) {
    const uf_clock *c = d->o.clock;
    double last = at + (TOGETHER - 1.) / d->o.to_rate;
    return place >= 0 && (i == 0 || at >= c->knot[i].at) && (i + 2 >= c->n || last < c->knot[i + 1].at) && edge_gain(c, i, at) >= 1 && edge_gain(c, i, last) >= 1;
}

/* Sample d->n_out, behind knot i, which is common time `at` and lies at `place`, to y[k][at_y], and as many after it as can be had with it; n at most. Such runs
 * begin at multiples of TOGETHER, whatever the blocks that are asked for: these do not change a bit. 0: more must be pushed. */
static int pull_some(uf_drift *d, int i, double at, double place, float *const *y, int at_y, int n) {
    const uf_knot *a = &d->o.clock->knot[i], *b = a + 1;
    int behind = (int)(d->n_out % TOGETHER), some = TOGETHER - behind < n ? TOGETHER - behind : n;
    double step = (b->is - a->is) / (b->at - a->at) * d->o.from_rate / d->o.to_rate, begins = at, from = place;
    if (behind && is_near(step)) {
        begins = time_of(d, d->n_out - behind);
        from = place_of(d, i, begins);
    }
    bool run = is_steady(from, step) && is_inside(d, i, begins, from);
    if (run && !d->ended && from + (TOGETHER - 1) * step + d->sinc.taps / 2 + 1 >= (double)d->n_in) return 0;
    for (int k = 0; k < d->o.channels; k++) {
        if (run && interpolate_some(&d->sinc, d->x[k], d->held, from - (double)d->first, step, d->run, TOGETHER) == TOGETHER) {
            memcpy(y[k] + at_y, d->run + behind, (size_t)some * sizeof(float));
            continue;
        }
        some = 1;
        interpolate_some(&d->sinc, d->x[k], d->held, place - (double)d->first, step, y[k] + at_y, 1);
        y[k][at_y] *= edge_gain(d->o.clock, i, at);
    }
    return some;
}

int uf_drift_pull(uf_drift *d, float *const *y, uint8_t *there, int most) {
    const uf_clock *c = d->o.clock;
    int n = 0, some;
    for (; n < most; n += some, d->n_out += some) {
        double at = time_of(d, d->n_out);
        while (d->pair + 2 < c->n && (c->knot[d->pair + 1].at <= at)) d->pair++;
        int i = d->pair;
        bool gap = c->knot[i + 1].opens;
        double place = gap ? 0 : place_of(d, i, at);
        if (!gap && !d->ended && place + d->sinc.taps / 2 + 1 >= (double)d->n_in) break;
        bool sound = !gap && place >= 0 && (!d->ended || place <= (double)(d->n_in - 1));
        some = 1;
        if (sound) some = pull_some(d, i, at, place, y, n, most - n);
        else
            for (int k = 0; k < d->o.channels; k++) y[k][n] = 0;
        if (!some) break;
        memset(there + n, sound, (size_t)some);
    }
    return n;
}
