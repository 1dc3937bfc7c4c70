/* Mixtures: voices in rooms, through microphones that colour, with noises, at levels as they come. Each is a pure function of (seed,
 * index). */
#include "sounds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_VOICES = 32, CURVE = UF_CURVE, TRIES = 64 };

/* Random streams of one mixture. */
enum { GAP, OFFSET, ROOM, WIDTH, DEPTH, HEIGHT, SOURCE, MICROPHONE = SOURCE + 3, T60 = MICROPHONE + 3, EQ_VOICE, EQ_NOISE = EQ_VOICE + CURVE,
       BAND_ON = EQ_NOISE + CURVE, BAND, SECOND, SNR, LEVEL, CLIP_ON, CLIP, KIND, SHARE = KIND + 2, PLACE = SHARE + 2, SLOPE = PLACE + 64,
       SWELL = SLOPE + 2, HUM = SWELL + 8,
       CODEC_ON = HUM + 200, CODEC, BIT_RATE, FLOOR_ON, FLOOR_ALONE, FLOOR, FLOOR_SLOPE, QUIET_ON };

struct uf_mixing {
    const uf_mixer *m;
    uf_ctx *ctx;
    int n, n_room; /* samples of a mixture, of a room's response */
    uf_fft fft;
    float *dry, *noise, *one, *response;
    float (*spectrum)[2];
    double curve[2][CURVE];
    double band;
    uint64_t seed, index;
};

static double draw(const uf_mixing *w, int what, double from, double to) {
    return from + (to - from) * (double)uf_uniform(w->seed, uf_hash("mixture", 7) + (uint64_t)what, w->index);
}

int uf_mixer_open(uf_mixer *m, uf_ctx *ctx, const uf_recipe *r, bool training) {
    const uf_source *voices = training ? r->train : r->valid, *noises = training ? r->noises : r->valid_noises;
    unsigned n_voices = training ? r->train_count : r->valid_count, n_noises = training ? r->noises_count : r->valid_noises_count;
    m->rate = uf_model_find(r->model)->rate;
    m->codecs = (double)r->codecs;
    m->hiss = (double)r->hiss;
    m->quiet = (double)r->quiet;
    UF_TRY(uf_sounds_open(&m->voice, ctx, voices, (int)n_voices, m->rate));
    return n_noises ? uf_sounds_open(&m->noise, ctx, noises, (int)n_noises, m->rate) : UF_OK;
}

void uf_mixer_close(uf_mixer *m) {
    uf_sounds_close(&m->voice);
    uf_sounds_close(&m->noise);
}

int uf_mixing_open(uf_mixing **out, uf_ctx *ctx, const uf_mixer *m, int n) {
    uf_mixing *w = uf_alloc(ctx, 1, sizeof *w);
    if (!w) return UF_ENOMEM;
    int size = 1024;
    w->m = m;
    w->ctx = ctx;
    w->n = n;
    w->n_room = m->rate * 8 / 10;
    while (size < n + w->n_room) size *= 2;
    bool fft = uf_fft_open(&w->fft, size);
    w->dry = uf_alloc(ctx, (size_t)n, sizeof(float));
    w->noise = uf_alloc(ctx, (size_t)n, sizeof(float));
    w->one = uf_alloc(ctx, (size_t)n, sizeof(float));
    w->response = uf_alloc(ctx, (size_t)w->n_room, sizeof(float));
    w->spectrum = uf_alloc(ctx, (size_t)size / 2 + 1, sizeof *w->spectrum);
    if (!fft || !w->dry || !w->noise || !w->one || !w->response || !w->spectrum) {
        uf_mixing_close(&w);
        return uf_fail(ctx, UF_ENOMEM, "out of memory for mixtures of %d samples; take a smaller size", n);
    }
    *out = w;
    return UF_OK;
}

void uf_mixing_close(uf_mixing **pw) {
    uf_mixing *w = *pw;
    if (!w) return;
    uf_fft_close(&w->fft);
    free(w->dry);
    free(w->noise);
    free(w->one);
    free(w->response);
    free(w->spectrum);
    free(w);
    *pw = NULL;
}

/* ---- levels ------------------------------------------------------------------------------------------------------------------ */

double uf_active_level(const float *x, int n, int rate) {
    int size = rate * 32 / 1000, count = 0;
    double loudest = 0, sum = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int at = 0; at + size <= n; at += size) {
            double e = 0;
            for (int i = at; i < at + size; i++) e += (double)x[i] * (double)x[i];
            if (!pass) loudest = fmax(loudest, e);
            else if (e > 1e-3 * loudest) sum += e, count++;
        }
    return count ? sqrt(sum / ((double)count * size)) : 0;
}

static void scale(float *x, int n, double by) {
    for (int i = 0; i < n; i++) x[i] *= (float)by;
}

/* To level 1; false: it is silent. */
static bool level_out(const uf_mixing *w, float *x) {
    double level = uf_active_level(x, w->n, w->m->rate);
    if (level < 1e-4) return false;
    scale(x, w->n, 1 / level);
    return true;
}

/* ---- sources ----------------------------------------------------------------------------------------------------------------- */

/* Recordings one after the other until x is full, with pauses of up to `pause` seconds. */
static void lay(const uf_mixing *w, const uf_sounds *from, int stream, double pause, float *x) {
    int at = 0;
    memset(x, 0, (size_t)w->n * sizeof *x);
    for (int k = 0; k < MOST_VOICES && at < w->n; k++) {
        size_t n, room;
        const int16_t *s = uf_sounds_pick(from, w->seed + 977 * (uint64_t)(stream * MOST_VOICES + k), w->index, &n);
        if (!n) continue;
        double peak = 1e-9, u = draw(w, PLACE + (k + 8 * stream) % 64, 0, 1);
        at += (int)(u * pause * w->m->rate);
        if (at >= w->n) break;
        room = (size_t)(w->n - at);
        size_t skip = n > room ? (size_t)(draw(w, OFFSET + 1000 * (1 + stream), 0, 1) * (double)(n - room)) : 0;
        if (n - skip < room) room = n - skip;
        for (size_t i = 0; i < room; i++) peak = fmax(peak, fabs((double)s[skip + i]));
        for (size_t i = 0; i < room; i++) x[(size_t)at + i] = (float)(s[skip + i] / peak);
        at += (int)room;
    }
}

static void babble(const uf_mixing *w, int stream, float *x) {
    float *one = w->one;
    memset(x, 0, (size_t)w->n * sizeof *x);
    for (int v = 0; v < 5; v++) {
        lay(w, w->m->voice, 3 + 6 * stream + v, .3, one);
        if (!level_out(w, one)) continue;
        for (int i = 0; i < w->n; i++) x[i] += one[i] * (float)(.5 + .1 * v);
    }
}

/* Steady noise of power 1 to the transform's w->n first samples, its amplitude falling with `slope` powers of the frequency. */
static void colour(uf_mixing *w, uint64_t stream, double slope) {
    uf_fft *f = &w->fft;
    for (int b = 0; b <= f->n / 2; b++) {
        double hertz = (double)b * w->m->rate / f->n, gain = hertz < 30 ? 0 : pow(hertz / 1000, -slope);
        for (int k = 0; k < 2; k++)
            f->bins[b][k] = (float)(gain * (double)uf_gaussian(w->seed + stream, uf_hash("hiss", 4) ^ w->index, (uint64_t)(2 * b + k)));
    }
    uf_fft_inverse(f);
    double level = 0;
    for (int i = 0; i < w->n; i++) level += (double)f->time[i] * (double)f->time[i];
    level = 1 / sqrt(level / w->n + 1e-12);
    for (int i = 0; i < w->n; i++) f->time[i] *= (float)level;
}

/* Noise whose power falls by 0 to 8 dB an octave, that may swell and fade. */
static void hiss(uf_mixing *w, int stream, float *x) {
    double depth = draw(w, SWELL + stream, -.8, .8), turns = draw(w, SWELL + 2 + stream, .2, 4);
    colour(w, (uint64_t)stream, draw(w, SLOPE + stream, 0, 1.3));
    for (int i = 0; i < w->n; i++) x[i] = (float)((double)w->fft.time[i] * (1 + fmax(depth, 0) * sin(2 * M_PI * turns * i / w->m->rate + depth * 7)));
}

/* Mains hum: 50 or 60 Hz and its harmonics. */
static void hum(const uf_mixing *w, int stream, float *x) {
    double base = draw(w, HUM + 40 * stream, 0, 1) < .5 ? 50 : 60;
    memset(x, 0, (size_t)w->n * sizeof *x);
    for (int h = 1; h <= 16; h++) {
        double a = draw(w, HUM + 1 + 40 * stream + h, 0, 1) / h, phase = draw(w, HUM + 20 + 40 * stream + h, 0, 2 * M_PI);
        for (int i = 0; i < w->n; i++) x[i] += (float)(a * sin(2 * M_PI * base * h * i / w->m->rate + phase));
    }
}

static void add_noise(uf_mixing *w, int stream, float *x) {
    double kind = draw(w, KIND + stream, 0, 1);
    if (kind < .62 && w->m->noise) lay(w, w->m->noise, 1 + stream, .25, x);
    else if (kind < .72) babble(w, stream, x);
    else if (kind < .93) hiss(w, stream, x);
    else hum(w, stream, x);
}

/* ---- filters ----------------------------------------------------------------------------------------------------------------- */

double uf_curve_gain(const double *curve, double band, double hertz) {
    double at = log2(fmax(hertz, 62.5) / 62.5) * (CURVE - 1) / 7; /* 62.5 Hz to 8 kHz */
    int i = at >= CURVE - 1 ? CURVE - 2 : (int)at;
    double t = fmin(at - i, 1), db = (1 - t) * curve[i] + t * curve[i + 1];
    if (hertz > band) db -= 60 * fmin((hertz / band - 1) * 8, 1);
    if (hertz < 60) db -= 24 * (1 - hertz / 60);
    return pow(10, db / 20);
}

/* y = x through the response (or none) and the curve, n samples from `skip` on. */
static void filter(uf_mixing *w, const float *x, const float *response, int which, int skip, float *y) {
    uf_fft *f = &w->fft;
    int bins = f->n / 2 + 1;
    if (response) {
        memset(f->time, 0, (size_t)f->n * sizeof(float));
        memcpy(f->time, response, (size_t)w->n_room * sizeof(float));
        uf_fft_forward(f);
        memcpy(w->spectrum, f->bins, (size_t)bins * sizeof *w->spectrum);
    }
    memset(f->time, 0, (size_t)f->n * sizeof(float));
    memcpy(f->time, x, (size_t)w->n * sizeof(float));
    uf_fft_forward(f);
    for (int b = 0; b < bins; b++) {
        float g = (float)(uf_curve_gain(w->curve[which], w->band, (double)b * w->m->rate / f->n) / f->n), re = f->bins[b][0], im = f->bins[b][1];
        float p = response ? w->spectrum[b][0] : 1.f, q = response ? w->spectrum[b][1] : 0.f;
        f->bins[b][0] = g * (re * p - im * q);
        f->bins[b][1] = g * (re * q + im * p);
    }
    uf_fft_inverse(f);
    memcpy(y, f->time + skip, (size_t)w->n * sizeof(float));
}

static uf_room draw_room(const uf_mixing *w) {
    uf_room r = {.t60 = draw(w, T60, .12, .8), .size = {draw(w, WIDTH, 3, 8), draw(w, DEPTH, 3, 6.5), draw(w, HEIGHT, 2.3, 3.3)}};
    for (int a = 0; a < 3; a++) {
        r.source[a] = draw(w, SOURCE + a, .3, r.size[a] - .3);
        double reach = r.source[a] + draw(w, MICROPHONE + a, -1.6, 1.6); /* people speak near what records them */
        r.microphone[a] = fmin(fmax(reach, .2), r.size[a] - .2);
    }
    return r;
}

/* Voice as the microphone hears it, and as it should be: with the first 50 ms of the room. Both begin at the direct sound. */
static void place_voice(uf_mixing *w, float *heard, float *wanted) {
    if (draw(w, ROOM, 0, 1) < .5) {
        filter(w, w->dry, NULL, 0, 0, heard);
        memcpy(wanted, heard, (size_t)w->n * sizeof *wanted);
        return;
    }
    uf_room r = draw_room(w);
    int direct, fade = w->m->rate / 100;
    uf_room_response(&r, w->m->rate, w->seed, w->index, w->response, w->n_room, &direct);
    filter(w, w->dry, w->response, 0, direct, heard);
    int early = direct + w->m->rate / 20;
    for (int i = early; i < w->n_room; i++) w->response[i] *= i < early + fade ? 1.f - (float)(i - early) / (float)fade : 0.f;
    filter(w, w->dry, w->response, 0, direct, wanted);
}

/* A recorder's own noise, steady and far below the voice, as quiet rooms let it be heard: it may rise with the frequency, as tape's does. */
static void add_floor(uf_mixing *w, double level, float *noisy) {
    double share = level * pow(10, -draw(w, FLOOR, 12, 42) / 20);
    colour(w, 7, draw(w, FLOOR_SLOPE, -.3, 1));
    for (int i = 0; i < w->n; i++) noisy[i] += (float)share * w->fft.time[i];
}

/* What a recorder does: level, and now and then clipping and a codec. */
static void record(uf_mixing *w, float *noisy, float *voice, float *room) {
    double level = uf_active_level(noisy, w->n, w->m->rate), peak = 0;
    double gain = pow(10, draw(w, LEVEL, -40, -14) / 20) / (level + 1e-9);
    for (int i = 0; i < w->n; i++) peak = fmax(peak, fabs((double)noisy[i]));
    if (gain * peak > 1) gain = 1 / peak;
    scale(noisy, w->n, gain);
    scale(voice, w->n, gain);
    scale(room, w->n, gain);
    if (draw(w, CLIP_ON, 0, 1) <= .07) {
        float top = (float)(gain * peak * draw(w, CLIP, .2, .7));
        for (int i = 0; i < w->n; i++) noisy[i] = fminf(fmaxf(noisy[i], -top), top);
    }
    if (draw(w, CODEC_ON, 0, 1) < w->m->codecs)
        uf_codec_pass((int)draw(w, CODEC, 0, uf_codecs_n()), draw(w, BIT_RATE, 0, 1), w->m->rate, noisy, w->n, &w->fft, w->spectrum);
}

static double snr_of(const uf_mixing *w) {
    if (draw(w, QUIET_ON, 0, 1) < w->m->quiet) return draw(w, SNR, 15, 40);
    bool usual = w->m->snr_from == 0 && w->m->snr_to == 0;
    return usual ? draw(w, SNR, -5, 20) : draw(w, SNR, w->m->snr_from, w->m->snr_to);
}

/* UF_EDATA without a message: this draw is silent. */
static int mix_one(uf_mixing *w, uint64_t seed, uint64_t index, float *noisy, float *voice, float *room) {
    w->seed = seed;
    w->index = index;
    for (int i = 0; i < CURVE; i++)
        for (int k = 0; k < 2; k++) w->curve[k][i] = draw(w, (k ? EQ_NOISE : EQ_VOICE) + i, -5, 5);
    w->band = draw(w, BAND_ON, 0, 1) < .15 ? draw(w, BAND, 3200, 7500) : 1e9;
    lay(w, w->m->voice, 0, .4, w->dry);
    if (!level_out(w, w->dry)) return UF_EDATA;
    place_voice(w, noisy, voice);
    memcpy(room, noisy, (size_t)w->n * sizeof *room);
    double level = uf_active_level(noisy, w->n, w->m->rate);
    if (level < 1e-6) return UF_EDATA;
    add_noise(w, 0, w->noise);
    if (level_out(w, w->noise) && draw(w, SECOND, 0, 1) < .3) { /* w->one is the second's scratch too: babble is done with it */
        float *second = w->dry;                                 /* the voice is in its place by now */
        add_noise(w, 1, second);
        if (level_out(w, second))
            for (int i = 0; i < w->n; i++) w->noise[i] += second[i] * (float)draw(w, SHARE, .2, 1);
    }
    filter(w, w->noise, NULL, 1, 0, w->one);
    double noise = uf_active_level(w->one, w->n, w->m->rate), snr = snr_of(w);
    bool floor_on = draw(w, FLOOR_ON, 0, 1) < w->m->hiss, alone = floor_on && draw(w, FLOOR_ALONE, 0, 1) < .5;
    double share = noise > 1e-6 && !alone ? level / noise * pow(10, -snr / 20) : 0;
    for (int i = 0; i < w->n; i++) noisy[i] += w->one[i] * (float)share;
    if (floor_on) add_floor(w, level, noisy);
    record(w, noisy, voice, room);
    return UF_OK;
}

int uf_mix(uf_mixing *w, uint64_t seed, uint64_t index, float *noisy, float *voice, float *room) {
    int err = UF_EDATA;
    for (uint64_t t = 0; err == UF_EDATA && t < TRIES; t++) err = mix_one(w, seed + t, index, noisy, voice, room);
    return err == UF_EDATA ? uf_fail(w->ctx, UF_EDATA, "%d voices in a row were silent; check the recordings", TRIES) : err;
}
