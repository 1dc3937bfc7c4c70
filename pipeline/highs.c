/* Bandwidth extension: the cleaned band's fine structure, copied upwards ("spectral band replication", Dietz et al., AES 112, 2002), at levels
 * that are told from the shape of what is there. A linear rule of the levels in dB does that (Jax & Vary, Signal Processing 83, 2003, compare
 * such rules); it hears fricatives by the strength of the uppermost known octave against what lies below. */
#include "highs.h"

#include "fft.h"
#include "sound_reader.h"

#include <stdlib.h>
#include <string.h>

enum { KNOWN = 4, BANDS = 7, OVERLAP = 4, SMOOTH = 300, BLOCK = 4096, TOP = 20000, LOWEST = 2500 };
static const double whole_band = .9, gentle = -2; /* of half the rate; dB */

/* Where the levels above are told, Hz: the beginnings of bands, the last of which ends at 18 kHz. */
static const double edge[BANDS + 1] = { 3550, 4500, 5600, 7100, 9000, 11200, 14000, 18000 };

/* Mean level of a band in dB over that of four known stretches, out of how far three of those (the uppermost: 3/4 to 1 of the roll-off; 1/2 to
 * 3/4; 1/4 to 1/2; the rest is the fourth) are from it, and a constant. Least squares over the frames with voice of 144 recordings at
 * 44.1 kHz (Tux Paint's stamps, Spanish and Russian); 36 more told how far it is off: docs/speech.md. */
typedef struct rule {
    double rolloff;
    double of[BANDS][KNOWN];
} rule;
static const rule rules[] = {
    { 3550, { { .71, .25, .01, -5.72 }, { .62, .34, -.11, -7.7 }, { .52, .27, -.05, -13.71 }, { .58, .30, .04, -20.05 }, { .34, .27, -.09, -26.34 },
              { .29, .13, -.22, -26.71 }, { .21, .05, -.10, -31.74 } } },
    { 5600, { [2] = { .66, .03, -.05, -8.73 }, { .63, .11, .01, -15.55 }, { .55, -.08, -.04, -21.65 }, { .68, -.24, -.26, -20.24 },
              { .37, -.26, -.22, -27.68 } } },
    { 8000, { [3] = { .70, .08, -.01, -12.19 }, { .66, .05, -.15, -13.47 }, { .67, .21, -.34, -11.3 }, { .62, -.18, -.35, -18.53 } } },
    { 11200, { [5] = { .81, .28, -.05, -.10 }, { .50, .18, -.30, -9.87 } } },
    { 14000, { [6] = { .50, .10, -.29, -9.53 } } },
};

typedef struct channel {
    float *frame, *sum, *out; /* the last n samples; what frames add to them; finished ones */
} channel;

struct uf_highs {
    uf_ctx *ctx;
    uf_highs_options o;
    const rule *rule;
    int n, hop, fill;            /* samples of a frame, and from frame to frame; of the next hop those that are there */
    int first, last, source, width; /* bins that are made, [first, last), out of [source, source + width) */
    uf_fft fft;
    float *window;
    double *power, *gain;        /* of the known bins; amplitude of the made ones, n/2+1 each */
    channel *channel;
    SwrContext *swr;             /* to rate_out, or NULL */
    float **y;                   /* pull's */
    int64_t n_in, n_made, late;  /* at rate; at rate_out, given out; samples that are still to be dropped */
    int n_out, room;
};

int uf_highs_rate(int rate) { return rate < UF_HIGHS_LEAST ? UF_HIGHS_RATE : rate; }

bool uf_highs_adds(const uf_highs_options *o) { return o->rolloff >= LOWEST && o->rolloff < whole_band * .5 * o->rate_out; }

static int memory(uf_highs *h) {
    size_t n = (size_t)h->n, channels = (size_t)h->o.channels;
    bool ok = uf_fft_open(&h->fft, h->n);
    h->window = uf_alloc(h->ctx, n, sizeof(float));
    h->power = uf_alloc(h->ctx, n / 2 + 1, sizeof(double));
    h->gain = uf_alloc(h->ctx, n / 2 + 1, sizeof(double));
    h->channel = uf_alloc(h->ctx, channels, sizeof(*h->channel));
    h->y = uf_alloc(h->ctx, channels, sizeof(*h->y));
    ok = ok && h->window && h->power && h->gain && h->channel && h->y;
    for (size_t i = 0; ok && i < channels; i++) {
        h->channel[i].frame = uf_alloc(h->ctx, n, sizeof(float));
        h->channel[i].sum = uf_alloc(h->ctx, n, sizeof(float));
        ok = h->channel[i].frame && h->channel[i].sum;
    }
    return ok ? UF_OK : uf_fail(h->ctx, UF_ENOMEM, "out of memory for sound; close other programs");
}

/* Bins; shifts are multiples of OVERLAP, for which phases go on from frame to frame as they are. */
static void place(uf_highs *h) {
    double bin = (double)h->o.rate_out / h->n, top = fmin(TOP, .5 * h->o.rate_out);
    h->first = (int)ceil(h->o.rolloff / bin);
    h->last = uf_highs_adds(&h->o) ? (int)(top / bin) : h->first;
    int below = (h->first / 25 + OVERLAP - 1) / OVERLAP * OVERLAP; /* filters fall before they end */
    h->width = h->first / 2 / OVERLAP * OVERLAP;
    h->source = h->first - below - h->width;
    h->rule = &rules[0];
    for (int i = 1; i < UF_LEN(rules); i++)
        if (fabs(log(h->o.rolloff / rules[i].rolloff)) < fabs(log(h->o.rolloff / h->rule->rolloff))) h->rule = &rules[i];
}

int uf_highs_open(uf_highs **out, uf_ctx *ctx, const uf_highs_options *o) {
    uf_highs *h = uf_alloc(ctx, 1, sizeof(*h));
    if (!h) return UF_ENOMEM;
    h->ctx = ctx;
    h->o = *o;
    h->n = 512;
    while (h->n < o->rate_out / 50) h->n *= 2;
    h->hop = h->n / OVERLAP;
    h->late = h->n - h->hop;
    int err = memory(h);
    if (err == UF_OK && o->rate != o->rate_out) err = uf_sound_rates_open(ctx, &h->swr, o->channels, o->rate, o->rate_out, 24);
    if (err == UF_OK) {
        uf_fft_window(h->n, h->window);
        place(h);
        *out = h;
    } else {
        uf_highs_close(&h);
    }
    return err;
}

void uf_highs_close(uf_highs **ph) {
    uf_highs *h = *ph;
    if (!h) return;
    for (int i = 0; h->channel && i < h->o.channels; i++) {
        free(h->channel[i].frame);
        free(h->channel[i].sum);
        free(h->channel[i].out);
    }
    free(h->channel);
    free(h->y);
    free(h->window);
    free(h->power);
    free(h->gain);
    uf_fft_close(&h->fft);
    swr_free(&h->swr);
    free(h);
    *ph = NULL;
}

/* ---- one frame ----------------------------------------------------------------------------------------------------------- */

/* Mean power of the known bins between two frequencies, dB. */
static double level(const uf_highs *h, double from, double to) {
    double bin = (double)h->o.rate_out / h->n, sum = 0;
    int a = (int)(from / bin + .5), b = (int)(to / bin + .5);
    if (b <= a) b = a + 1;
    for (int i = a; i < b; i++) sum += h->power[i] / (b - a);
    return 10 * log10(sum + 1e-12);
}

/* Amplitudes of the bins that are made, by the rule; between the middles of bands along straight lines in dB. */
static void tell_levels(uf_highs *h) {
    double f = h->o.rolloff, bin = (double)h->o.rate_out / h->n, db[BANDS], middle[BANDS];
    double known[KNOWN] = { level(h, .75 * f, .98 * f), level(h, .5 * f, .75 * f), level(h, .25 * f, .5 * f), level(h, 100, .25 * f) };
    double mean = (known[0] + known[1] + known[2] + known[3]) / KNOWN;
    int n = 0;
    for (int b = 0; b < BANDS; b++) {
        const double *k = h->rule->of[b];
        if (k[0] == 0) continue; /* below the rule's roll-off */
        middle[n] = .5 * (edge[b] + edge[b + 1]);
        db[n++] = mean + k[0] * (known[0] - mean) + k[1] * (known[1] - mean) + k[2] * (known[2] - mean) + k[3];
    }
    for (int i = h->first, at = 0; i < h->last; i++) {
        double hertz = i * bin;
        while (at + 2 < n && hertz > middle[at + 1]) at++;
        double t = n > 1 ? fmin(fmax((hertz - middle[at]) / (middle[at + 1] - middle[at]), 0), 1) : 0;
        double here = n > 1 ? (1 - t) * db[at] + t * db[at + 1] : db[0];
        h->gain[i] = pow(10, (here + gentle) / 20);
    }
}

/* The frame's upper bins out of its lower ones, which are flattened first; the lower ones go. */
static void make(uf_highs *h) {
    int reach = (int)(SMOOTH * h->n / h->o.rate_out), end = h->source + h->width;
    float(*x)[2] = h->fft.bins;
    for (int i = 0; i < h->first; i++) h->power[i] = (double)x[i][0] * (double)x[i][0] + (double)x[i][1] * (double)x[i][1];
    tell_levels(h);
    for (int i = h->first; i < h->last; i++) {
        int from = h->source + (i - h->first) % h->width;
        double around = 1e-12;
        for (int k = from - reach; k <= from + reach; k++)
            if (k >= h->source && k < end) around += h->power[k] / (2 * reach + 1);
        float g = (float)(h->gain[i] / sqrt(around));
        x[i][0] = g * x[from][0];
        x[i][1] = g * x[from][1];
    }
    memset(x, 0, (size_t)h->first * sizeof(*x));
    memset(x + h->last, 0, (size_t)(h->n / 2 + 1 - h->last) * sizeof(*x));
}

/* A hop is complete: what is above it is added, and the oldest one is finished. */
static void run_hop(uf_highs *h, channel *c, int drop, int keep) {
    float scale = 2.f / (3.f * OVERLAP / 4 * (float)h->n); /* the squares of four windows add up to 3/2 */
    for (int i = 0; i < h->n; i++) h->fft.time[i] = h->window[i] * c->frame[i];
    uf_fft_forward(&h->fft);
    make(h);
    uf_fft_inverse(&h->fft);
    for (int i = 0; i < h->n; i++) c->sum[i] += scale * h->window[i] * h->fft.time[i];
    for (int i = 0; i < keep; i++) c->out[h->n_out + i] = c->frame[drop + i] + c->sum[drop + i];
    memmove(c->frame, c->frame + h->hop, (size_t)(h->n - h->hop) * sizeof(float));
    memmove(c->sum, c->sum + h->hop, (size_t)(h->n - h->hop) * sizeof(float));
    memset(c->sum + h->n - h->hop, 0, (size_t)h->hop * sizeof(float));
}

/* ---- the stream ---------------------------------------------------------------------------------------------------------- */

static int grow(uf_highs *h, int n) {
    if (n <= h->room) return UF_OK;
    for (int i = 0; i < h->o.channels; i++) {
        float *more = realloc(h->channel[i].out, 2 * (size_t)n * sizeof(float));
        if (!more) return uf_fail(h->ctx, UF_ENOMEM, "out of memory for sound; close other programs");
        h->channel[i].out = more;
    }
    h->room = 2 * n;
    return UF_OK;
}

/* n samples at rate_out (x NULL: silence); of what is finished `most` more are wanted. */
static int add(uf_highs *h, float *const *x, int n, int64_t most) {
    for (int at = 0; at < n;) {
        int some = n - at < h->hop - h->fill ? n - at : h->hop - h->fill;
        for (int i = 0; i < h->o.channels; i++) {
            float *to = h->channel[i].frame + h->n - h->hop + h->fill;
            if (x) memcpy(to, x[i] + at, (size_t)some * sizeof(float));
            else memset(to, 0, (size_t)some * sizeof(float));
        }
        at += some;
        if ((h->fill += some) < h->hop) return UF_OK;
        int drop = h->late < h->hop ? (int)h->late : h->hop;
        int64_t keep = h->hop - drop < most - h->n_made ? h->hop - drop : most - h->n_made;
        UF_TRY(grow(h, h->n_out + h->hop));
        for (int i = 0; i < h->o.channels; i++) run_hop(h, &h->channel[i], drop, (int)keep);
        h->n_out += (int)keep;
        h->n_made += keep;
        h->late -= drop;
        h->fill = 0;
    }
    return UF_OK;
}

/* What comes out of the change of rate for n samples; n 0: what is still inside. */
static int convert(uf_highs *h, const float *const *x, int n) {
    for (int got = 1; got > 0;) {
        int most = swr_get_out_samples(h->swr, n), channels = h->o.channels;
        float *room = most > 0 ? uf_alloc(h->ctx, (size_t)most * (size_t)channels, sizeof(*room)) : NULL, *to[64];
        if (most <= 0) return UF_OK;
        if (!room) return UF_ENOMEM;
        for (int i = 0; i < channels; i++) to[i] = room + (size_t)i * (size_t)most;
        got = swr_convert(h->swr, (uint8_t **)to, most, n ? (const uint8_t **)(uintptr_t)x : NULL, n);
        int err = got < 0 ? uf_fail(h->ctx, UF_ENOMEM, "out of memory for sound; close other programs") : add(h, to, got, INT64_MAX);
        free(room);
        UF_TRY(err);
        if (n) return UF_OK;
    }
    return UF_OK;
}

int uf_highs_push(uf_highs *h, const float *const *x, int n) {
    h->n_out = 0;
    h->n_in += n;
    if (n) return h->swr ? convert(h, x, n) : add(h, (float *const *)(uintptr_t)x, n, INT64_MAX);
    int64_t all = (h->n_in * h->o.rate_out + h->o.rate / 2) / h->o.rate;
    if (h->swr) UF_TRY(convert(h, NULL, 0));
    while (h->n_made < all) UF_TRY(add(h, NULL, h->hop, all));
    return UF_OK;
}

int uf_highs_pull(uf_highs *h, float *const **x, int *n) {
    for (int i = 0; i < h->o.channels; i++) h->y[i] = h->channel[i].out;
    *x = h->y;
    *n = h->n_out;
    h->n_out = 0;
    return UF_OK;
}
