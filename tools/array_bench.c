/* The merge's benchmark: simulated scenes, aligned by the truth, through everybody's method; or as they are, through all of a merge. */
#include "array_bench.h"

#include "beam.h"
#include "highs.h"
#include "reference.h"
#include "sound_measure.h"
#include "sound_reader.h"
#include "voice.h"

#include <stdlib.h>
#include <string.h>

enum { RATE = 16000, BLOCK = 16000 };

#define METHODS(X) X(best) X(enhanced) X(sum) X(blind) X(beamformit) X(ours)
enum {
#define METHOD(name) METHOD_##name,
    METHODS(METHOD) N_METHODS
};
#define NAME(name) #name,
static const char *const methods[] = {METHODS(NAME)};

typedef struct score {
    double si_sdr, stoi, estoi;
} score;

typedef struct bench {
    uf_app *app;
    uf_ctx *ctx;
    const uf_bench_options *o;
    uf_mixer mixer;
    int n, n_mics;
    float *x[UF_MOST_MICS], *early[UF_MOST_MICS], *y;
    double seconds; /* that ours took */
} bench;

static int measure(const bench *b, const float *want, const float *y, score *s) {
    uf_sound in[2] = {{(float *)(uintptr_t)want, (size_t)b->n, RATE}, {(float *)(uintptr_t)y, (size_t)b->n, RATE}}, out[2] = {{0}};
    int err = UF_OK;
    s->si_sdr = uf_si_sdr(want, y, (size_t)b->n);
    for (int i = 0; err == UF_OK && i < 2; i++) err = uf_sound_at_rate(b->ctx, &in[i], UF_STOI_RATE, &out[i]);
    if (err == UF_OK) err = uf_stoi(b->ctx, out[0].x, out[1].x, out[0].n < out[1].n ? out[0].n : out[1].n, &s->stoi, &s->estoi);
    free(out[0].x);
    free(out[1].x);
    return err;
}

/* ---- ours ------------------------------------------------------------------------------------------------------------------------ */

static int enhance(const bench *b, const float *x, float *y) {
    uf_voice *v = NULL;
    int done = 0;
    UF_TRY(uf_voice_open(&v, b->ctx, &(uf_voice_options){.weights_dir = UNFADE_WEIGHTS_DIR, .rate = RATE, .channels = 1, .wet = 1}));
    int err = uf_voice_push(v, &x, b->n);
    if (err == UF_OK) err = uf_voice_push(v, NULL, 0);
    while (err == UF_OK && done < b->n) {
        float *to = y + done;
        int got = uf_voice_pull(v, &to, b->n - done);
        if (got <= 0) break;
        done += got;
    }
    uf_voice_close(&v);
    return err;
}

static int band_of(const bench *b, const float *x, double *hertz) {
    uf_rolloff *r = NULL;
    UF_TRY(uf_rolloff_open(&r, b->ctx, RATE, 1));
    int err = uf_rolloff_push(r, &x, b->n);
    *hertz = uf_rolloff_hertz(r);
    uf_rolloff_close(&r);
    return err;
}

/* As the first pass of a merge does, but of all stretches. */
static int choose_home(const bench *b, const double *band, int *home) {
    uf_reference *r = NULL;
    UF_TRY(uf_reference_open(&r, b->ctx, b->n_mics, NULL, UNFADE_WEIGHTS_DIR, false, band));
    int err = UF_OK;
    for (int at = 0; err == UF_OK && at + UF_REFERENCE_STRETCH <= b->n; at += UF_REFERENCE_STRETCH) {
        const float *x[UF_MOST_MICS];
        for (int i = 0; i < b->n_mics; i++) x[i] = b->x[i] + at;
        err = uf_reference_hear(r, x, NULL);
    }
    *home = uf_reference_best(r);
    uf_reference_close(&r);
    return err;
}

static int merge(bench *b, float *y, int *reference) {
    uf_beam *m = NULL;
    float weight[UF_MOST_MICS];
    double band[UF_MOST_MICS];
    const float *from[UF_MOST_MICS];
    double started = uf_now();
    int done = 0, home = -1;
    for (int i = 0; i < b->n_mics; i++) UF_TRY(band_of(b, b->x[i], &band[i]));
    UF_TRY(choose_home(b, band, &home));
    int err = uf_beam_open(&m, b->ctx, &(uf_beam_options){.weights_dir = UNFADE_WEIGHTS_DIR, .n_mics = b->n_mics, .rate = RATE, .reference = -1, .home = home, .band = band});
    for (int i = 0; i < b->n_mics; i++) weight[i] = 1;
    for (int at = 0; err == UF_OK && at <= b->n; at += BLOCK) {
        int some = b->n - at < BLOCK ? b->n - at : BLOCK;
        for (int i = 0; i < b->n_mics; i++) from[i] = b->x[i] + at;
        if (some > 0) err = uf_beam_push(m, from, weight, some);
        if (err == UF_OK && at + BLOCK > b->n) err = uf_beam_push(m, from, weight, 0);
        int got;
        while (err == UF_OK && (got = uf_beam_pull(m, y + done, b->n - done)) > 0) done += got;
    }
    b->seconds += uf_now() - started;
    if (err == UF_OK) *reference = uf_beam_leader(m);
    uf_beam_close(&m);
    return err;
}

/* ---- one scene --------------------------------------------------------------------------------------------------------------------- */

/* Every microphone hears the talker at the time at which the nearest does, and none upside down: what a perfect alignment gives. */
static int hear(bench *b, uf_array *a) {
    uf_array_scene s;
    double d[UF_MOST_MICS], nearest = 1e9;
    uf_array_describe(a, &s);
    for (int i = 0; i < b->n_mics; i++) {
        double sum = 0;
        for (int k = 0; k < 3; k++) {
            double place = s.source[0].moving ? .5 * (s.source[0].from[k] + s.source[0].to[k]) : s.source[0].from[k], t = uf_array_mic(a, i)->place[k] - place;
            sum += t * t;
        }
        d[i] = sqrt(sum);
        if (d[i] < nearest) nearest = d[i];
    }
    for (int i = 0; i < b->n_mics; i++) {
        int late = (int)lround((d[i] - nearest) / 343 * RATE);
        UF_TRY(uf_array_hear(a, i, b->x[i], NULL, b->early[i]));
        UF_TRY(uf_array_device(a, i, b->x[i]));
        if (uf_array_mic(a, i)->inverted)
            for (int k = 0; k < b->n; k++) b->x[i][k] = -b->x[i][k];
        float *both[2] = {b->x[i], b->early[i]};
        for (int k = 0; k < 2; k++) {
            memmove(both[k], both[k] + late, (size_t)(b->n - late) * sizeof(float));
            memset(both[k] + b->n - late, 0, (size_t)late * sizeof(float));
        }
    }
    return UF_OK;
}

/* Everybody on the scene that is in b: *best: the best of the microphones; *reference: that of our result. */
static int through_all(bench *b, score *to, int *best, int *reference) {
    *best = *reference = 0;
    for (int i = 1; i < b->n_mics; i++)
        if (uf_si_sdr(b->early[i], b->x[i], (size_t)b->n) > uf_si_sdr(b->early[*best], b->x[*best], (size_t)b->n)) *best = i;
    UF_TRY(measure(b, b->early[*best], b->x[*best], &to[METHOD_best]));
    UF_TRY(enhance(b, b->x[*best], b->y));
    UF_TRY(measure(b, b->early[*best], b->y, &to[METHOD_enhanced]));
    uf_peer_sum(b->n_mics, (const float *const *)b->x, b->n, b->y);
    UF_TRY(measure(b, b->early[*best], b->y, &to[METHOD_sum]));
    UF_TRY(uf_peer_blind(b->ctx, b->n_mics, (const float *const *)b->x, b->n, *best, b->y));
    UF_TRY(measure(b, b->early[*best], b->y, &to[METHOD_blind]));
    UF_TRY(uf_peer_beamformit(b->ctx, b->n_mics, (const float *const *)b->x, b->n, RATE, b->y, reference));
    UF_TRY(measure(b, b->early[*reference], b->y, &to[METHOD_beamformit]));
    UF_TRY(merge(b, b->y, reference));
    return measure(b, b->early[*reference], b->y, &to[METHOD_ours]);
}

/* What the devices of a scene do that no clock undoes. */
static json_t *habits_of(const uf_array *a, int n) {
    json_t *all = json_array();
    for (int i = 0; i < n; i++) {
        const uf_mic *m = uf_array_mic(a, i);
        json_array_append_new(all, json_pack("{s:b,s:f,s:s?}", "agc", m->agc, "clip", m->clip, "codec", m->codec >= 0 ? uf_codec_name(m->codec) : NULL));
    }
    return all;
}

/* mics: owned. */
static void tell_scene(const bench *b, double snr, uint64_t seed, int best, int reference, const score *s, json_t *mics) {
    json_t *all = json_object();
    for (int i = 0; i < N_METHODS; i++) json_object_set_new(all, methods[i], json_real(s[i].si_sdr));
    uf_report_event(b->app, "scene", json_pack("{s:f,s:I,s:i,s:i,s:o,s:o}", "snr", snr, "seed", (json_int_t)seed, "best", best, "reference", reference, "si_sdr", all, "microphones", mics));
}

static uf_array_options scene_of(const bench *b, double snr, uint64_t seed) {
    uf_array_options o = b->o->scene;
    o.n_mics = b->n_mics;
    o.seed = seed;
    o.snr_from = o.snr_to = snr;
    o.seconds = b->o->seconds;
    return o;
}

static int one_scene(bench *b, double snr, uint64_t seed, score *to) {
    uf_array *a = NULL;
    uf_array_options o = scene_of(b, snr, seed);
    UF_TRY(uf_array_open(&a, b->ctx, &b->mixer, &o));
    int err = hear(b, a), best = 0, reference = 0;
    json_t *mics = habits_of(a, b->n_mics);
    uf_array_close(&a);
    if (err == UF_OK) err = through_all(b, to, &best, &reference);
    if (err == UF_OK) tell_scene(b, snr, seed, best, reference, to, mics);
    else json_decref(mics);
    return err;
}

/* ---- all of them -------------------------------------------------------------------------------------------------------------------- */

typedef struct cell {
    score mean[N_METHODS];
    double gain, worst; /* ours over the enhanced best microphone, dB */
    int n;
} cell;

static void add_gain(cell *c, double gain) {
    c->gain += (gain - c->gain) / (c->n + 1);
    c->worst = c->n ? fmin(c->worst, gain) : gain;
    c->n++;
}

static void add(cell *c, const score *s) {
    for (int i = 0; i < N_METHODS; i++) {
        c->mean[i].si_sdr += (s[i].si_sdr - c->mean[i].si_sdr) / (c->n + 1);
        c->mean[i].stoi += (s[i].stoi - c->mean[i].stoi) / (c->n + 1);
        c->mean[i].estoi += (s[i].estoi - c->mean[i].estoi) / (c->n + 1);
    }
    add_gain(c, s[METHOD_ours].si_sdr - s[METHOD_enhanced].si_sdr);
}

static void show(uf_app *app, int mics, const char *snr, const cell *c) {
    char line[512];
    int at = 0;
    json_t *all = json_object();
    for (int i = 0; i < N_METHODS; i++) {
        const score *s = &c->mean[i];
        at += snprintf(line + at, sizeof line - (size_t)at, " %6.2f/%.3f/%.3f", s->si_sdr, s->stoi, s->estoi);
        json_object_set_new(all, methods[i], json_pack("{s:f,s:f,s:f}", "si_sdr", s->si_sdr, "stoi", s->stoi, "estoi", s->estoi));
    }
    uf_report_event(app, "bench", json_pack("{s:i,s:s,s:i,s:f,s:f,s:o}", "mics", mics, "snr", snr, "scenes", c->n, "gain", c->gain, "worst", c->worst, "methods", all));
    if (!app->json) uf_report_line(app, "%4d %5s %s %+6.2f %+6.2f", mics, snr, line, c->gain, c->worst);
}

static void head(uf_app *app) {
    char line[512];
    int at = 0;
    for (int i = 0; i < N_METHODS; i++) at += snprintf(line + at, sizeof line - (size_t)at, " %18s", methods[i]);
    if (!app->json) uf_report_line(app, "mics   SNR %s   gain  worst   (SI-SDR dB/STOI/ESTOI; gain of ours over the enhanced best microphone)", line);
}

/* Gates: gain by the number of microphones, and never worse than by .2 dB. */
static void gate(uf_app *app, int mics, const cell *c) {
    double want = mics >= 8 ? 4 : mics >= 4 ? 2.5 : mics >= 2 ? 1 : 0;
    if (app->json) return;
    uf_report_line(app, "%d microphones: gain %+.2f dB, %s %+.1f; worst %+.2f dB, %s -0.2", mics, c->gain, c->gain >= want ? "at least" : "BELOW", want, c->worst,
                   c->worst >= -.2 ? "at least" : "BELOW");
}

static int run_cells(bench *b) {
    for (int k = 0; k < b->o->n_counts; k++) {
        cell all = {0};
        b->n_mics = b->o->counts[k];
        for (int s = 0; s < b->o->n_snrs; s++) {
            cell c = {0};
            char name[16];
            for (int i = 0; i < b->o->scenes; i++) {
                score to[N_METHODS] = {{0}};
                if (uf_ctx_cancelled(b->ctx)) return uf_fail(b->ctx, UF_EINTR, "stopped");
                UF_TRY(one_scene(b, b->o->snrs[s], b->o->scene.seed + (uint64_t)i, to));
                add(&c, to);
                add(&all, to);
            }
            snprintf(name, sizeof name, "%g", b->o->snrs[s]);
            show(b->app, b->n_mics, name, &c);
        }
        show(b->app, b->n_mics, "all", &all);
        gate(b->app, b->n_mics, &all);
        if (!b->app->json) uf_report_line(b->app, "  merged %.1f times faster than real time", b->o->seconds * all.n / b->seconds);
        b->seconds = 0;
    }
    return UF_OK;
}

/* The recordings of one scene after another lie in the same memory. */
static int run_aligned(bench *b) {
    float *all = uf_alloc(b->ctx, (size_t)(2 * UF_MOST_MICS + 1) * (size_t)b->n, sizeof *all);
    if (!all) return UF_ENOMEM;
    for (int i = 0; i < UF_MOST_MICS; i++) {
        b->x[i] = all + (size_t)(2 * i) * (size_t)b->n;
        b->early[i] = all + (size_t)(2 * i + 1) * (size_t)b->n;
    }
    b->y = all + (size_t)(2 * UF_MOST_MICS) * (size_t)b->n;
    head(b->app);
    int err = run_cells(b);
    free(all);
    return err;
}

/* ---- whole merges ------------------------------------------------------------------------------------------------------------------- */

static int whole_scene(const bench *b, double snr, uint64_t seed, cell *c) {
    uf_array_options o = scene_of(b, snr, seed);
    uf_whole_score s;
    UF_TRY(uf_array_whole(b->ctx, &b->mixer, &o, &s));
    double gain = s.merged - s.alone;
    add_gain(c, gain);
    uf_report_event(b->app, "scene", json_pack("{s:f,s:I,s:i,s:i,s:i,s:f,s:f,s:f}", "snr", snr, "seed", (json_int_t)seed, "mics", b->n_mics, "used", s.n_used, "best", s.best, "alone", s.alone,
                                               "merged", s.merged, "seconds", s.seconds));
    if (!b->app->json) uf_report_line(b->app, "%4d %5g %6d %4d/%-4d %6.2f %6.2f %+6.2f %6.1f", b->n_mics, snr, (int)seed, s.n_used, b->n_mics, s.alone, s.merged, gain, b->o->seconds / s.seconds);
    return UF_OK;
}

static int run_whole(bench *b) {
    if (!b->app->json) uf_report_line(b->app, "mics   SNR  scene   used   alone merged   gain  speed   (SI-SDR, dB: the best recording cleaned alone, the merge; times real time)");
    for (int k = 0; k < b->o->n_counts; k++) {
        cell all = {0};
        b->n_mics = b->o->counts[k];
        for (int i = 0; i < b->o->n_snrs * b->o->scenes; i++) {
            if (uf_ctx_cancelled(b->ctx)) return uf_fail(b->ctx, UF_EINTR, "stopped");
            UF_TRY(whole_scene(b, b->o->snrs[i / b->o->scenes], b->o->scene.seed + (uint64_t)(i % b->o->scenes), &all));
        }
        gate(b->app, b->n_mics, &all);
    }
    return UF_OK;
}

int uf_array_bench(uf_app *app, const char *recipe, const uf_bench_options *o) {
    bench b = {.app = app, .ctx = app->ctx, .o = o, .n = (int)(o->seconds * RATE)};
    uf_recipe *r = NULL;
    int err = uf_mixer_open_recipe(&b.mixer, b.ctx, recipe, o->training, &r);
    if (err == UF_OK) err = o->whole ? run_whole(&b) : run_aligned(&b);
    uf_mixer_close(&b.mixer);
    uf_recipe_close(&r);
    return err;
}
