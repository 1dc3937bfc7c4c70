/* The merge's benchmark: simulated scenes, aligned by the truth, through everybody's method; or as they are, through all of a merge. */
#include "array_bench.h"

#include "array_aligned.h"
#include "sound_measure.h"
#include "sound_reader.h"
#include "voice.h"

#include <stdlib.h>
#include <string.h>

enum { RATE = UF_ALIGNED_RATE };

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
    uf_aligned scene; /* of one scene after another */
    float *y;
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
    UF_TRY(uf_voice_open(&v, b->ctx, &(uf_voice_options){.weights_dir = UNFADE_WEIGHTS_DIR, .rate = RATE, .channels = 1, .wet = 1, .again = true}));
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

/* ---- one scene --------------------------------------------------------------------------------------------------------------------- */

/* Everybody on the scene that is in b: *best: the best of the microphones; *reference: that of our result. */
static int through_all(bench *b, score *to, int *best, int *reference) {
    const uf_aligned *a = &b->scene;
    *best = *reference = 0;
    for (int i = 1; i < a->n_mics; i++)
        if (uf_si_sdr(a->early[i], a->x[i], (size_t)a->n) > uf_si_sdr(a->early[*best], a->x[*best], (size_t)a->n)) *best = i;
    UF_TRY(measure(b, a->early[*best], a->x[*best], &to[METHOD_best]));
    UF_TRY(enhance(b, a->x[*best], b->y));
    UF_TRY(measure(b, a->early[*best], b->y, &to[METHOD_enhanced]));
    uf_peer_sum(a->n_mics, (const float *const *)a->x, a->n, b->y);
    UF_TRY(measure(b, a->early[*best], b->y, &to[METHOD_sum]));
    UF_TRY(uf_peer_blind(b->ctx, a->n_mics, (const float *const *)a->x, a->n, *best, b->y));
    UF_TRY(measure(b, a->early[*best], b->y, &to[METHOD_blind]));
    UF_TRY(uf_peer_beamformit(b->ctx, a->n_mics, (const float *const *)a->x, a->n, RATE, b->y, reference));
    UF_TRY(measure(b, a->early[*reference], b->y, &to[METHOD_beamformit]));
    double started = uf_now();
    UF_TRY(uf_aligned_merge(a, b->y, reference));
    b->seconds += uf_now() - started;
    return measure(b, a->early[*reference], b->y, &to[METHOD_ours]);
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
    b->scene.n_mics = b->n_mics;
    int err = uf_aligned_hear(&b->scene, a), best = 0, reference = 0;
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

static int run_aligned(bench *b) {
    int err = uf_aligned_open(&b->scene, b->ctx, UF_MOST_MICS, b->n);
    if (err == UF_OK && !(b->y = uf_alloc(b->ctx, (size_t)b->n, sizeof *b->y))) err = UF_ENOMEM;
    if (err == UF_OK) head(b->app);
    if (err == UF_OK) err = run_cells(b);
    free(b->y);
    uf_aligned_close(&b->scene);
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
