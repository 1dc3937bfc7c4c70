/* Devices: curves, automatic gain, clipping, codecs, and clocks that run as they like. */
#include "array_device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TAPS = 64, TABLE = 4096 }; /* of the windowed sinc between two samples; places of its window */

#define NAME(name) #name,
const char *const uf_habits[] = {UF_HABITS(NAME) NULL};
#undef NAME

/* ---- what is drawn -------------------------------------------------------------------------------------------------------------- */

static bool has(const uf_array *a, const uf_array_options *o, int mic, int bit, double share) {
    return o->habits >> bit & 1 && uf_array_draw(a, uf_habits[bit], mic, 0, 1) < share;
}

static void draw_clock(const uf_array *a, const uf_array_options *o, int mic, uf_device_clock *c) {
    static const double off[] = {0, 10, -10, 50, -50, 100, -100, 400, -400};
    static const int rates[] = {16000, 44100, 48000};
    int n = 1;
    while (n < UF_LEN(off) && fabs(off[n]) <= o->ppm) n++;
    c->rate = o->habits & UF_HABIT_rates ? rates[(int)uf_array_draw(a, "rate", mic, 0, UF_LEN(rates))] : 16000;
    c->ppm = off[(int)uf_array_draw(a, "ppm", mic, 0, n)];
    c->wander = o->wander ? uf_array_draw(a, "wander", mic, 2, 20) : 0;
    c->period = uf_array_draw(a, "period", mic, 120, 900);
    c->phase = uf_array_draw(a, "phase", mic, 0, 2 * M_PI);
    c->start = uf_array_draw(a, "start", mic, 0, o->offset);
    c->end = o->seconds - uf_array_draw(a, "end", mic, 0, o->offset);
    if (o->habits & UF_HABIT_partial) { /* two halves that share 30 % of the scene */
        if (mic % 2) c->start = fmax(c->start, .35 * o->seconds);
        else c->end = fmin(c->end, .65 * o->seconds);
    }
    if (!has(a, o, mic, UF_HABIT_BIT_loss, .5)) return;
    c->n_losses = (int)uf_array_draw(a, "losses", mic, 1, 4);
    for (int i = 0; i < c->n_losses; i++) { /* frames of some ms, and now and then half a second */
        double at = uf_array_draw(a, "lost at", mic, .1, .3) + .25 * i, s = uf_array_draw(a, "lost", mic * UF_MOST_LOSSES + i, 0, 1);
        c->loss[i].at = (int64_t)(at * (c->end - c->start) * c->rate);
        c->loss[i].n = (int)((s < .3 ? .5 : .01 + .05 * s) * c->rate);
    }
}

void uf_device_draw(const uf_array *a, const uf_array_options *o, int mic, uf_mic *m) {
    m->gain = has(a, o, mic, UF_HABIT_BIT_gain, 2) ? uf_array_draw(a, "dB", mic, -12, 12) : 0;
    bool curve = has(a, o, mic, UF_HABIT_BIT_curve, 2);
    for (int i = 0; i < UF_CURVE; i++) m->curve[i] = curve ? uf_array_draw(a, "dB at", mic * UF_CURVE + i, -5, 5) : 0;
    m->band = curve && uf_array_draw(a, "band on", mic, 0, 1) < .15 ? uf_array_draw(a, "band", mic, 3600, 7500) : 1e9;
    m->clip = has(a, o, mic, UF_HABIT_BIT_clip, .34) ? uf_array_draw(a, "top", mic, .15, .5) : 0;
    m->codec = has(a, o, mic, UF_HABIT_BIT_codec, .5) ? (int)uf_array_draw(a, "which", mic, 0, uf_codecs_n()) : -1;
    m->agc = has(a, o, mic, UF_HABIT_BIT_agc, .5);
    m->inverted = has(a, o, mic, UF_HABIT_BIT_invert, .34);
    draw_clock(a, o, mic, &m->clock);
    m->n_dropouts = has(a, o, mic, UF_HABIT_BIT_dropout, .5) ? (int)uf_array_draw(a, "dropouts", mic, 1, 3) : 0;
    for (int i = 0; i < m->n_dropouts; i++) {
        m->dropout[i][0] = o->seconds * (uf_array_draw(a, "out", mic, .1, .5) + .4 * i);
        m->dropout[i][1] = m->dropout[i][0] + uf_array_draw(a, "out for", mic * 2 + i, .3, fmin(3, .1 * o->seconds));
    }
}

/* ---- electronics ------------------------------------------------------------------------------------------------------------------ */

/* Loud is made quieter within 10 ms, quiet louder within a second, both half of the way in dB. */
static void agc(float *x, int64_t n, int rate) {
    double up = 1 - exp(-1 / (.01 * rate)), down = 1 - exp(-1 / (1. * rate)), level = .03;
    for (int64_t i = 0; i < n; i++) {
        double now = fabs((double)x[i]);
        level += (now > level ? up : down) * (now - level);
        x[i] *= (float)fmin(sqrt(.1 / fmax(level, 1e-4)), 8);
    }
}

static int codec(uf_ctx *ctx, int which, float *x, int64_t n, int rate) {
    uf_fft f = {0};
    int size = 65536;
    while (size < n + rate / 2) size *= 2;
    bool fft = uf_fft_open(&f, size);
    float (*spectrum)[2] = fft ? uf_alloc(ctx, (size_t)size / 2 + 1, sizeof *spectrum) : NULL;
    if (spectrum) uf_codec_pass(which, .5, rate, x, (int)n, &f, spectrum);
    int err = spectrum ? UF_OK : uf_fail(ctx, UF_ENOMEM, "out of memory for a codec over %lld samples; take a shorter scene", (long long)n);
    free(spectrum);
    uf_fft_close(&f);
    return err;
}

void uf_device_drop(const uf_mic *m, int rate, float *x, int64_t n) {
    for (int i = 0; i < m->n_dropouts; i++)
        for (int64_t k = (int64_t)(m->dropout[i][0] * rate); k < (int64_t)(m->dropout[i][1] * rate) && k < n; k++) x[k] = 0;
}

int uf_device_pass(uf_ctx *ctx, const uf_mic *m, int rate, float *x, int64_t n) {
    double peak = 0;
    if (m->agc) agc(x, n, rate);
    for (int64_t i = 0; i < n; i++) peak = fmax(peak, fabs((double)x[i]));
    float top = (float)fmin(1, m->clip > 0 ? m->clip * peak : 1), sign = m->inverted ? -1.f : 1.f;
    for (int64_t i = 0; i < n; i++) x[i] = sign * fminf(fmaxf(x[i], -top), top);
    if (m->codec >= 0) UF_TRY(codec(ctx, m->codec, x, n, rate));
    uf_device_drop(m, rate, x, n);
    return UF_OK;
}

/* ---- clocks ----------------------------------------------------------------------------------------------------------------------- */

/* Ticks of the device since its start, as if none were lost. */
static double ticks(const uf_device_clock *c, double t) {
    double s = t - c->start, w = 2 * M_PI / c->period, swing = c->wander > 0 ? (cos(c->phase) - cos(w * s + c->phase)) / w : 0;
    return c->rate * (s * (1 + 1e-6 * c->ppm) + 1e-6 * c->wander * swing);
}

double uf_device_clock_at(const uf_device_clock *c, double t) {
    double at = ticks(c, t);
    for (int i = 0; i < c->n_losses; i++)
        if (at >= (double)c->loss[i].at) at = fmax(at - c->loss[i].n, (double)c->loss[i].at);
    return at;
}

/* Kaiser's window, beta 10, from the middle (0) to the end (TABLE). */
static void window(float *w) {
    double most = 0;
    for (int i = 0; i <= TABLE; i++) {
        double x = 10 * sqrt(fmax(1 - (double)i * i / ((double)TABLE * TABLE), 0)), sum = 1, term = 1;
        for (int k = 1; k < 40; k++) sum += term *= x * x / (4. * k * k);
        if (!i) most = sum;
        w[i] = (float)(sum / most);
    }
}

/* x between its samples, by a windowed sinc. */
static float between(const float *x, int64_t n, double at, const float *w) {
    int64_t first = (int64_t)floor(at) - TAPS / 2 + 1;
    double sum = 0, sine = sin(M_PI * (at - (double)first));
    for (int k = 0; k < TAPS; k++, sine = -sine) {
        double t = at - (double)(first + k);
        if (first + k < 0 || first + k >= n) continue;
        double place = fmin(fabs(t) * TABLE / (TAPS / 2), TABLE), sinc = fabs(t) < 1e-9 ? 1 : sine / (M_PI * t);
        sum += sinc * (double)w[(int)(place + .5)] * (double)x[first + k];
    }
    return (float)sum;
}

int uf_device_clock_sample(uf_ctx *ctx, const uf_device_clock *c, const float *x, int64_t n, int rate, float **y, size_t *n_y) {
    int64_t all = (int64_t)floor(ticks(c, c->end)), left = all, out = 0;
    float w[TABLE + 1];
    double t = c->start;
    for (int i = 0; i < c->n_losses; i++) left -= c->loss[i].n;
    if (left < 1) return uf_fail(ctx, UF_EINVAL, "a recording of the scene would be empty; take a longer scene or smaller offsets");
    if (!(*y = uf_alloc(ctx, (size_t)left, sizeof **y))) return UF_ENOMEM;
    window(w);
    int lost = 0;
    for (int64_t tick = 0; tick < all && out < left; tick++) {
        if (lost < c->n_losses && out == c->loss[lost].at) tick += c->loss[lost++].n;
        double off = (double)tick - ticks(c, t);
        t += off / (c->rate * (1 + 1e-6 * c->ppm)); /* the rest of one step of Newton's is 1e-10 samples */
        off = (double)tick - ticks(c, t);
        t += off / (c->rate * (1 + 1e-6 * c->ppm));
        (*y)[out++] = between(x, n, t * rate, w);
    }
    *n_y = (size_t)out;
    return UF_OK;
}
