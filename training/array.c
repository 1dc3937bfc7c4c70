/* Scenes for several microphones: who speaks, where, what else sounds, and what reaches each of them. */
#include "array.h"

#include "array_device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FFT = 32768, HOP = 8192, BEFORE = 1024, ROOM = 12800, NOISES = 2, CALIBRATE = 20 }; /* BEFORE: of curves, which reach both ways */
static const double wall = .3, walk = .7; /* m; m/s */

typedef struct track { /* one thing that sounds */
    float *x;
    double from[3], to[3];
    bool moving;
} track;

struct uf_array {
    uf_ctx *ctx;
    const uf_mixer *m;
    uf_array_options o;
    int64_t n;
    double size[3], t60;
    track track[UF_MOST_TALKERS + NOISES]; /* talkers, then noises */
    int n_tracks;
    uf_mic mic[UF_MOST_MICS];
    double level, noise, diffuse; /* factors: on everything; on the noises; on what comes from everywhere */
    uf_fft fft;
    float (*whole)[2], (*early)[2], (*sound)[2]; /* FFT/2+1 bins each */
    float *response, *one;
};

double uf_array_draw(const uf_array *a, const char *what, int which, double from, double to) {
    return from + (to - from) * (double)uf_uniform(a->o.seed, uf_hash(what, strlen(what)), (uint64_t)which);
}

/* ---- the sound ----------------------------------------------------------------------------------------------------------------- */

static void level_out(float *x, int64_t n, double level) {
    for (int64_t i = 0; i < n; i++) x[i] *= (float)(1 / fmax(level, 1e-9));
}

/* Recordings one after the other, at one level, each talker some of them before the next takes over; nobody speaks at once. */
static void lay_voices(uf_array *a) {
    int rate = a->m->rate, who = 0, turn = 0;
    int64_t at = rate / 4;
    for (int k = 0; at < a->n && k < 100000; k++) {
        size_t n;
        const int16_t *s = uf_sounds_pick(a->m->voice, a->o.seed, (uint64_t)k, &n);
        if (n > (size_t)rate * 12) n = (size_t)rate * 12;
        float *to = a->track[who].x + at;
        int64_t some = (int64_t)n < a->n - at ? (int64_t)n : a->n - at;
        for (int64_t i = 0; i < some; i++) to[i] = (float)s[i] / 32768.f;
        double level = uf_active_level(to, (int)some, rate);
        if (level < 1e-4) {
            memset(to, 0, (size_t)some * sizeof *to);
            continue;
        }
        level_out(to, some, level);
        at += some + (int64_t)uf_array_draw(a, "pause", k, .1 * rate, .9 * rate);
        if (++turn >= (int)uf_array_draw(a, "turn", k, 1, 4)) {
            turn = 0;
            who = (who + 1) % a->o.talkers;
        }
    }
}

/* Noise that falls by some dB an octave, from seeds of its own. */
static void hiss(const uf_array *a, const char *what, int which, double pole, float *x) {
    uint64_t stream = uf_hash(what, strlen(what)) + (uint64_t)which;
    double y = 0;
    for (int64_t i = 0; i < a->n; i++) {
        y = pole * y + (double)uf_gaussian(a->o.seed, stream, (uint64_t)i);
        x[i] = (float)(y * sqrt(1 - pole * pole));
    }
}

/* A recording of noise over and over, or one that is made up. */
static void lay_noise(uf_array *a, int which) {
    track *t = &a->track[a->o.talkers + which];
    int rate = a->m->rate;
    if (!a->m->noise || uf_array_draw(a, "made up", which, 0, 1) < .2)
        hiss(a, "hiss", which, uf_array_draw(a, "slope", which, 0, .97), t->x);
    else
        for (int64_t at = 0, k = 0; at < a->n && k < 100000; k++) {
            size_t n;
            const int16_t *s = uf_sounds_pick(a->m->noise, a->o.seed + 31 * (uint64_t)(which + 1), (uint64_t)k, &n);
            if (n > (size_t)rate * 30) n = (size_t)rate * 30;
            int64_t some = (int64_t)n < a->n - at ? (int64_t)n : a->n - at;
            for (int64_t i = 0; i < some; i++) t->x[at + i] = (float)s[i] / 32768.f;
            double level = uf_active_level(t->x + at, (int)some, rate);
            if (level < 1e-4) continue;
            level_out(t->x + at, some, level);
            at += some;
        }
    level_out(t->x, a->n, uf_active_level(t->x, (int)(a->n < INT32_MAX ? a->n : INT32_MAX), rate));
}

/* ---- places -------------------------------------------------------------------------------------------------------------------- */

static double apart(const double *p, const double *q) { return sqrt(pow(p[0] - q[0], 2) + pow(p[1] - q[1], 2) + pow(p[2] - q[2], 2)); }

/* Somewhere in the room, between two heights, and at least `far` m from all `others`, if that can be. */
static void draw_place(const uf_array *a, const char *what, int which, double low, double high, const double (*others)[3], int n_others, double far, double *p) {
    for (int try = 0; try < 50; try++) {
        bool fits = true;
        for (int k = 0; k < 3; k++)
            p[k] = uf_array_draw(a, what, 3 * (50 * which + try) + k, k < 2 ? wall : low, k < 2 ? a->size[k] - wall : fmin(high, a->size[2] - wall));
        for (int i = 0; i < n_others; i++) fits = fits && apart(p, others[i]) >= far;
        if (fits) return;
    }
}

static void draw_room(uf_array *a) {
    static const double least[3] = {4, 3.5, 2.4}, most[3] = {8, 6.5, 3.2};
    double voice[UF_MOST_TALKERS][3];
    for (int k = 0; k < 3; k++) a->size[k] = uf_array_draw(a, "room", k, least[k], most[k]);
    a->t60 = uf_array_draw(a, "t60", 0, a->o.t60_from, a->o.t60_to);
    for (int i = 0; i < a->n_tracks; i++) {
        track *t = &a->track[i];
        bool speaks = i < a->o.talkers;
        draw_place(a, "from", i, speaks ? 1.1 : .2, speaks ? 1.8 : 2.2, voice, speaks ? i : a->o.talkers, 1, t->from);
        if (speaks) memcpy(voice[i], t->from, sizeof voice[i]);
        t->moving = speaks && a->o.moving;
        draw_place(a, "to", i, t->from[2], t->from[2], NULL, 0, 0, t->to);
    }
    for (int i = 0; i < a->o.n_mics; i++)
        draw_place(a, "microphone", i, .6, 1.6, (const double(*)[3])voice, a->o.talkers, .5, a->mic[i].place);
}

/* Where it is at sample `at`: to and fro between two places, as fast as people walk. */
static void place_at(const uf_array *a, const track *t, int64_t at, double *p) {
    double way = apart(t->from, t->to), turns = t->moving && way > .1 ? (double)at / a->m->rate * walk / way : 0;
    double share = fabs(turns - 2 * floor(turns / 2 + .5));
    for (int k = 0; k < 3; k++) p[k] = t->from[k] + share * (t->to[k] - t->from[k]);
}

/* ---- what arrives --------------------------------------------------------------------------------------------------------------- */

/* a->response as the spectrum of what comes out of the microphone, curve and gain included. */
static void response_spectrum(uf_array *a, const uf_mic *m, int n, float (*to)[2]) {
    uf_fft *f = &a->fft;
    memset(f->time, 0, FFT * sizeof(float));
    memcpy(f->time, a->response, (size_t)n * sizeof(float));
    uf_fft_forward(f);
    double gain = pow(10, m->gain / 20) / FFT;
    for (int b = 0; b <= FFT / 2; b++) {
        float g = (float)(gain * uf_curve_gain(m->curve, m->band, (double)b * a->m->rate / FFT));
        to[b][0] = g * f->bins[b][0];
        to[b][1] = g * f->bins[b][1];
    }
}

static void respond(uf_array *a, int which, int mic, int64_t at, bool both) {
    const uf_mic *m = &a->mic[mic];
    int direct, rate = a->m->rate, fade = rate / 100;
    uf_room r = {.t60 = a->t60};
    memcpy(r.size, a->size, sizeof r.size);
    memcpy(r.microphone, m->place, sizeof r.microphone);
    place_at(a, &a->track[which], at, r.source);
    uf_room_response(&r, rate, a->o.seed, (uint64_t)(which * UF_MOST_MICS + mic), a->response, ROOM, &direct);
    float far = (float)(1 / fmax(apart(r.source, r.microphone), .05)); /* uf_room_response() has the direct sound at 1 */
    for (int i = 0; i < ROOM; i++) a->response[i] *= far;
    response_spectrum(a, m, ROOM, a->whole);
    if (!both) return;
    int end = direct + rate / 20; /* early: what the ear takes for the voice itself */
    for (int i = end; i < ROOM; i++) a->response[i] *= i < end + fade ? 1.f - (float)(i - end) / (float)fade : 0.f;
    response_spectrum(a, m, ROOM, a->early);
}

/* y[at - BEFORE ...] += the block of a->sound through h. */
static void add_block(uf_array *a, float (*h)[2], int64_t at, int64_t n, float *y) {
    uf_fft *f = &a->fft;
    for (int b = 0; b <= FFT / 2; b++) {
        float re = a->sound[b][0], im = a->sound[b][1];
        f->bins[b][0] = re * h[b][0] - im * h[b][1];
        f->bins[b][1] = re * h[b][1] + im * h[b][0];
    }
    uf_fft_inverse(f);
    for (int i = 0; i < FFT; i++) {
        int64_t to = at + (i < FFT - BEFORE ? i : i - FFT);
        if (to >= 0 && to < n) y[to] += f->time[i];
    }
}

/* One track at one microphone: blocks that fade into each other, each through the room from where the source then is. */
static void convolve(uf_array *a, int which, int mic, int64_t n, float *whole, float *early) {
    const track *t = &a->track[which];
    uf_fft *f = &a->fft;
    for (int64_t at = -HOP; at < n; at += HOP) {
        bool silent = true;
        memset(f->time, 0, FFT * sizeof(float));
        for (int i = 0; i < 2 * HOP; i++) {
            if (at + i < 0 || at + i >= a->n) continue;
            f->time[i] = t->x[at + i] * (1.f - fabsf((float)(i - HOP) + .5f) / HOP);
            silent = silent && f->time[i] == 0.f;
        }
        if (silent && at >= 0) continue;
        uf_fft_forward(f);
        memcpy(a->sound, f->bins, (FFT / 2 + 1) * sizeof *a->sound);
        if (at < 0 || t->moving) respond(a, which, mic, at + HOP, early != NULL);
        add_block(a, a->whole, at, n, whole);
        if (early) add_block(a, a->early, at, n, early);
    }
}

/* The first n samples at a microphone, at the levels of the sources; any may be NULL. */
static void arrive(uf_array *a, int mic, int64_t n, float *voice, float *early, float *noise) {
    if (voice) memset(voice, 0, (size_t)n * sizeof *voice);
    if (early) memset(early, 0, (size_t)n * sizeof *early);
    if (noise) memset(noise, 0, (size_t)n * sizeof *noise);
    for (int i = 0; i < a->o.talkers && voice; i++) convolve(a, i, mic, n, voice, early);
    for (int i = a->o.talkers; i < a->n_tracks && noise; i++) convolve(a, i, mic, n, noise, NULL);
}

/* Levels by the first seconds at every microphone: the voice is to be at -26 dB, the noise as far below as the scene's SNR says, mean of
 * the microphones; with what comes from everywhere 15 dB below that. */
static int calibrate(uf_array *a) {
    int n = (int)(a->n < CALIBRATE * a->m->rate ? a->n : CALIBRATE * a->m->rate);
    float *voice = uf_alloc(a->ctx, 2 * (size_t)n, sizeof *voice), *noise = voice ? voice + n : NULL;
    double v = 0, s = 0, snr = uf_array_draw(a, "snr", 0, a->o.snr_from, a->o.snr_to);
    if (!voice) return UF_ENOMEM;
    for (int i = 0; i < a->o.n_mics; i++) {
        arrive(a, i, n, voice, NULL, noise);
        double level = uf_active_level(voice, n, a->m->rate);
        if (level < 1e-7) {
            free(voice);
            return UF_EDATA;
        }
        v += log(level) - a->mic[i].gain * log(10) / 20;
        s += log(level / (uf_active_level(noise, n, a->m->rate) + 1e-12));
    }
    free(voice);
    a->level = .05 / exp(v / a->o.n_mics);
    a->noise = exp(s / a->o.n_mics) * pow(10, -snr / 20);
    a->diffuse = .05 * pow(10, -snr / 20 - .75);
    return UF_OK;
}

int uf_array_hear(uf_array *a, int mic, float *heard, float *voice, float *early) {
    const uf_mic *m = &a->mic[mic];
    float *own = voice ? NULL : uf_alloc(a->ctx, (size_t)a->n, sizeof *own), *v = voice ? voice : own;
    if (!v) return UF_ENOMEM;
    arrive(a, mic, a->n, v, early, heard);
    if (heard) {
        double around = a->diffuse * pow(10, m->gain / 20), self = 5e-5;
        hiss(a, "around", mic, .9, a->one);
        for (int64_t i = 0; i < a->n; i++) {
            double rustle = self * (double)uf_gaussian(a->o.seed, uf_hash("self", 4) + (uint64_t)mic, (uint64_t)i);
            heard[i] = (float)(a->level * ((double)v[i] + a->noise * (double)heard[i]) + around * (double)a->one[i] + rustle);
        }
    }
    for (int64_t i = 0; i < a->n; i++) {
        v[i] *= (float)a->level;
        if (early) early[i] *= (float)a->level;
    }
    free(own);
    return UF_OK;
}

/* ---- opening -------------------------------------------------------------------------------------------------------------------- */

static int room_for_sound(uf_array *a) {
    bool fft = uf_fft_open(&a->fft, FFT);
    a->whole = uf_alloc(a->ctx, FFT / 2 + 1, sizeof *a->whole);
    a->early = uf_alloc(a->ctx, FFT / 2 + 1, sizeof *a->early);
    a->sound = uf_alloc(a->ctx, FFT / 2 + 1, sizeof *a->sound);
    a->response = uf_alloc(a->ctx, ROOM, sizeof *a->response);
    a->one = uf_alloc(a->ctx, (size_t)a->n, sizeof *a->one);
    bool all = fft && a->whole && a->early && a->sound && a->response && a->one;
    for (int i = 0; all && i < a->n_tracks; i++) all = (a->track[i].x = uf_alloc(a->ctx, (size_t)a->n, sizeof(float))) != NULL;
    return all ? UF_OK : uf_fail(a->ctx, UF_ENOMEM, "out of memory for a scene of %.0f s; take a shorter one", a->o.seconds);
}

int uf_array_try(uf_array **out, uf_ctx *ctx, const uf_mixer *m, const uf_array_options *o) {
    uf_array *a = uf_alloc(ctx, 1, sizeof *a);
    if (!a) return UF_ENOMEM;
    a->ctx = ctx;
    a->m = m;
    a->o = *o;
    a->n = (int64_t)(o->seconds * m->rate);
    a->n_tracks = o->talkers + NOISES;
    int err = UF_OK;
    if (o->n_mics < 1 || o->n_mics > UF_MOST_MICS || o->talkers < 1 || o->talkers > UF_MOST_TALKERS || !(o->seconds >= 1 && o->seconds <= 4 * 3600))
        err = uf_fail(ctx, UF_EINVAL, "a scene takes 1 to %d microphones, 1 to %d talkers and 1 s to 4 hours", UF_MOST_MICS, UF_MOST_TALKERS);
    if (err == UF_OK) err = room_for_sound(a);
    if (err == UF_OK) {
        lay_voices(a);
        for (int i = 0; i < NOISES; i++) lay_noise(a, i);
        draw_room(a);
        for (int i = 0; i < o->n_mics; i++) uf_device_draw(a, o, i, &a->mic[i]);
        err = calibrate(a);
    }
    if (err < 0) uf_array_close(&a);
    else *out = a;
    return err;
}

int uf_array_open(uf_array **out, uf_ctx *ctx, const uf_mixer *m, const uf_array_options *o) {
    int err = uf_array_try(out, ctx, m, o);
    return err == UF_EDATA ? uf_fail(ctx, UF_EDATA, "there is no voice in the scene of seed %llu; check the recordings", (unsigned long long)o->seed) : err;
}

void uf_array_close(uf_array **pa) {
    uf_array *a = *pa;
    if (!a) return;
    uf_fft_close(&a->fft);
    for (int i = 0; i < a->n_tracks && i < UF_LEN(a->track); i++) free(a->track[i].x);
    free(a->whole);
    free(a->early);
    free(a->sound);
    free(a->response);
    free(a->one);
    free(a);
    *pa = NULL;
}

int64_t uf_array_n(const uf_array *a) { return a->n; }
const uf_mic *uf_array_mic(const uf_array *a, int mic) { return &a->mic[mic]; }

int uf_array_device(uf_array *a, int mic, float *heard) { return uf_device_pass(a->ctx, &a->mic[mic], a->m->rate, heard, a->n); }

int uf_array_sample(uf_array *a, int mic, const float *x, float **y, size_t *n) {
    return uf_device_clock_sample(a->ctx, &a->mic[mic].clock, x, a->n, a->m->rate, y, n);
}

void uf_array_describe(const uf_array *a, uf_array_scene *s) {
    memcpy(s->size, a->size, sizeof s->size);
    s->t60 = a->t60;
    s->snr = uf_array_draw(a, "snr", 0, a->o.snr_from, a->o.snr_to);
    s->n_sources = a->n_tracks;
    for (int i = 0; i < a->n_tracks; i++) {
        memcpy(s->source[i].from, a->track[i].from, sizeof s->source[i].from);
        memcpy(s->source[i].to, a->track[i].to, sizeof s->source[i].to);
        s->source[i].moving = a->track[i].moving;
    }
}
