/* Scenes as files, with the truth beside them. */
#include "array_device.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

static json_t *place(const double *p) { return json_pack("[f,f,f]", p[0], p[1], p[2]); }

static json_t *losses_json(const uf_device_clock *c) {
    json_t *list = json_array();
    for (int i = 0; i < c->n_losses; i++) json_array_append_new(list, json_pack("{s:I,s:i}", "at", (json_int_t)c->loss[i].at, "samples", c->loss[i].n));
    return list;
}

/* Where the device is, second by second: [s of the scene, sample of the file]. */
static json_t *clock_json(const uf_device_clock *c) {
    json_t *list = json_array();
    for (double t = ceil(c->start); t < c->end; t++) json_array_append_new(list, json_pack("[f,f]", t, uf_device_clock_at(c, t)));
    return list;
}

static json_t *mic_json(const uf_mic *m, const char *file, size_t n) {
    const uf_device_clock *c = &m->clock;
    json_t *out = json_array(), *j;
    for (int i = 0; i < m->n_dropouts; i++) json_array_append_new(out, json_pack("[f,f]", m->dropout[i][0], m->dropout[i][1]));
    j = json_pack("{s:s,s:i,s:I,s:o,s:f,s:f,s:s?,s:b,s:b,s:f,s:f,s:f,s:f,s:f,s:f,s:o,s:o,s:o}", "file", file, "rate", c->rate, "samples", (json_int_t)n, "place",
                  place(m->place), "gain_db", m->gain, "clip", m->clip, "codec", m->codec < 0 ? NULL : uf_codec_name(m->codec), "agc", m->agc, "inverted",
                  m->inverted, "start", c->start, "end", c->end, "ppm", c->ppm, "wander_ppm", c->wander, "wander_period", c->period, "wander_phase", c->phase,
                  "losses", losses_json(c), "dropouts", out, "clock", clock_json(c));
    return j;
}

static json_t *scene_json(const uf_array *a, const uf_array_options *o) {
    uf_array_scene s;
    uf_array_describe(a, &s);
    json_t *list = json_array();
    for (int i = 0; i < s.n_sources; i++)
        json_array_append_new(list, json_pack("{s:s,s:b,s:o,s:o}", "kind", i < o->talkers ? "voice" : "noise", "moving", s.source[i].moving, "from",
                                              place(s.source[i].from), "to", place(s.source[i].to)));
    return json_pack("{s:I,s:f,s:o,s:f,s:f,s:o}", "seed", (json_int_t)o->seed, "seconds", o->seconds, "room", place(s.size), "t60", s.t60, "snr_db", s.snr,
                     "sources", list);
}

/* x as the device's clock has it, in DIR/KIND-MIC.wav; its length comes back in *n. */
static int write_one(uf_array *a, uf_ctx *ctx, const uf_array_files *f, int mic, const char *kind, const float *x, size_t *n) {
    float *y = NULL;
    char *path = kind ? uf_format(ctx, "%s/%s-%d.wav", f->dir, kind, mic) : uf_format(ctx, "%s/unrelated.wav", f->dir);
    int err = path ? uf_array_sample(a, mic, x, &y, n) : UF_ENOMEM;
    if (err == UF_OK) err = uf_wave_write(ctx, path, y, *n, uf_array_mic(a, mic)->clock.rate, f->overwrite);
    free(y);
    free(path);
    return err;
}

/* One microphone's three files; `alone`: what it heard, under the name of a stranger. */
static int write_mic(uf_array *a, uf_ctx *ctx, const uf_array_files *f, int mic, bool alone, float *sound, json_t *list) {
    int64_t n = uf_array_n(a);
    float *heard = sound, *voice = sound + n, *early = sound + 2 * n;
    size_t n_file;
    char name[32];
    UF_TRY(uf_array_hear(a, mic, heard, alone ? NULL : voice, alone ? NULL : early));
    UF_TRY(uf_array_device(a, mic, heard));
    UF_TRY(write_one(a, ctx, f, mic, alone ? NULL : "mic", heard, &n_file));
    if (alone) return UF_OK;
    snprintf(name, sizeof name, "mic-%d.wav", mic);
    json_array_append_new(list, mic_json(uf_array_mic(a, mic), name, n_file));
    UF_TRY(write_one(a, ctx, f, mic, "voice", voice, &n_file));
    return write_one(a, ctx, f, mic, "early", early, &n_file);
}

static int write_truth(uf_ctx *ctx, const uf_array_files *f, const json_t *truth) {
    uf_whole *w = NULL;
    char *path = uf_format(ctx, "%s/truth.json", f->dir);
    int err = path ? uf_whole_open(&w, ctx, path, f->overwrite) : UF_ENOMEM;
    FILE *to = err == UF_OK ? uf_whole_file(w) : NULL;
    if (err == UF_OK && !to) err = UF_EIO;
    if (err == UF_OK && (json_dumpf(truth, to, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) < 0 || fputc('\n', to) == EOF))
        err = uf_fail(ctx, UF_EIO, "cannot write '%s'; is the disk full?", path);
    if (err == UF_OK) err = uf_whole_commit(w);
    uf_whole_close(&w);
    free(path);
    return err;
}

/* All microphones of a scene; or the first one of another scene, as the file that does not belong. */
static int write_scene(uf_ctx *ctx, const uf_mixer *m, const uf_array_options *o, const uf_array_files *f, bool alone) {
    uf_array *a = NULL;
    UF_TRY(uf_array_open(&a, ctx, m, o));
    double started = uf_now();
    json_t *mics = json_array(), *truth = NULL;
    float *sound = uf_alloc(ctx, 3 * (size_t)uf_array_n(a), sizeof *sound);
    int err = sound ? UF_OK : UF_ENOMEM;
    for (int i = 0; err == UF_OK && i < (alone ? 1 : o->n_mics); i++) {
        if (uf_ctx_cancelled(ctx)) err = uf_fail(ctx, UF_EINTR, "stopped after %d microphones", i);
        if (err == UF_OK) err = write_mic(a, ctx, f, i, alone, sound, mics);
        if (err == UF_OK && f->progress)
            f->progress(f->user, &(uf_train_progress){.step = i + 1, .n_steps = o->n_mics, .samples_per_second = (i + 1) / (uf_now() - started),
                                                      .seconds = uf_now() - started});
    }
    if (err == UF_OK && !alone) {
        truth = scene_json(a, o);
        json_object_set(truth, "microphones", mics);
        if (o->habits & UF_HABIT_unrelated) json_object_set_new(truth, "unrelated", json_string("unrelated.wav"));
        err = write_truth(ctx, f, truth);
    }
    json_decref(truth);
    json_decref(mics);
    free(sound);
    uf_array_close(&a);
    return err;
}

int uf_array_write(uf_ctx *ctx, const char *recipe, const uf_array_options *o, const uf_array_files *f) {
    uf_recipe *r = NULL;
    uf_mixer m = {0};
    uf_array_options other = *o;
    other.seed += 1000003;
    int err = uf_mixer_open_recipe(&m, ctx, recipe, f->training, &r);
    if (err == UF_OK) err = uf_make_folder(ctx, f->dir);
    if (err == UF_OK) err = write_scene(ctx, &m, o, f, false);
    if (err == UF_OK && o->habits & UF_HABIT_unrelated) err = write_scene(ctx, &m, &other, f, true);
    uf_mixer_close(&m);
    uf_recipe_close(&r);
    return err;
}
