/* The mixtures of a recipe as files: to hear what a network learns from, and to measure networks on the same sound. */
#include "run.h"

#include <sndfile.h>
#include <stdlib.h>

int uf_wave_write(uf_ctx *ctx, const char *path, const float *x, size_t n, int rate, bool overwrite) {
    SF_INFO info = {.samplerate = rate, .channels = 1, .format = SF_FORMAT_WAV | SF_FORMAT_FLOAT};
    uf_whole *w = NULL;
    int err = uf_whole_open(&w, ctx, path, overwrite);
    SNDFILE *f = err == UF_OK ? sf_open(uf_whole_path(w), SFM_WRITE, &info) : NULL;
    if (f) sf_command(f, SFC_SET_ADD_PEAK_CHUNK, NULL, SF_FALSE); /* it holds the time of day: the same sound is the same file */
    if (err == UF_OK && (!f || sf_writef_float(f, x, (sf_count_t)n) != (sf_count_t)n)) err = uf_fail(ctx, UF_EIO, "cannot write '%s': %s", path, sf_strerror(f));
    if (f && sf_close(f) && err == UF_OK) err = uf_fail(ctx, UF_EIO, "cannot write '%s'; is the disk full?", path);
    if (err == UF_OK) err = uf_whole_commit(w);
    uf_whole_close(&w);
    return err;
}

static int write_wav(uf_ctx *ctx, const char *dir, const char *kind, int64_t number, const float *x, int n, int rate, bool overwrite) {
    char *path = uf_format(ctx, "%s/%s/%04lld.wav", dir, kind, (long long)number);
    int err = path ? uf_wave_write(ctx, path, x, (size_t)n, rate, overwrite) : UF_ENOMEM;
    free(path);
    return err;
}

static int make_folder(uf_ctx *ctx, const char *dir, const char *below) {
    char *path = uf_format(ctx, "%s%s", dir, below);
    int err = path ? uf_make_folder(ctx, path) : UF_ENOMEM;
    free(path);
    return err;
}

static int write_all(uf_ctx *ctx, const uf_recipe *r, const uf_mixer *m, const uf_mixtures_options *o) {
    uf_mixing *w = NULL;
    int n = (int)(o->seconds * m->rate), err = uf_mixing_open(&w, ctx, m, n);
    float *noisy = err == UF_OK ? uf_alloc(ctx, 3 * (size_t)n, sizeof *noisy) : NULL, *voice = noisy ? noisy + n : NULL, *room = voice ? voice + n : NULL;
    if (err == UF_OK && !noisy) err = UF_ENOMEM;
    double started = uf_now();
    for (int64_t i = 0; err == UF_OK && i < o->n; i++) {
        if (uf_ctx_cancelled(ctx)) err = uf_fail(ctx, UF_EINTR, "stopped after %lld mixtures", (long long)i);
        if (err == UF_OK) err = uf_mix(w, r->seed + o->seed + 5000000, (uint64_t)i, noisy, voice, room);
        if (err == UF_OK) err = write_wav(ctx, o->out_dir, "noisy", i, noisy, n, m->rate, o->overwrite);
        if (err == UF_OK) err = write_wav(ctx, o->out_dir, "voice", i, voice, n, m->rate, o->overwrite);
        if (err == UF_OK) err = write_wav(ctx, o->out_dir, "room", i, room, n, m->rate, o->overwrite);
        if (err == UF_OK && o->progress)
            o->progress(o->user, &(uf_train_progress){.step = i + 1, .n_steps = o->n, .samples_per_second = (double)(i + 1) / (uf_now() - started),
                                                      .seconds = uf_now() - started});
    }
    free(noisy);
    uf_mixing_close(&w);
    return err;
}

int uf_mixer_open_recipe(uf_mixer *m, uf_ctx *ctx, const char *recipe, bool training, uf_recipe **r) {
    UF_TRY(uf_recipe_open(r, ctx, recipe));
    if (!uf_model_find((*r)->model)->rate)
        return uf_fail(ctx, UF_EINVAL, "recipe '%s' is for model '%s', which makes pictures; give one for speech", recipe, (*r)->model);
    return uf_mixer_open(m, ctx, *r, training);
}

int uf_mixtures(uf_ctx *ctx, const char *recipe, const uf_mixtures_options *o) {
    uf_recipe *r = NULL;
    uf_mixer m = {.snr_from = o->snr_from, .snr_to = o->snr_to};
    int err = uf_mixer_open_recipe(&m, ctx, recipe, o->training, &r);
    if (err == UF_OK) err = make_folder(ctx, o->out_dir, "");
    if (err == UF_OK) err = make_folder(ctx, o->out_dir, "/noisy");
    if (err == UF_OK) err = make_folder(ctx, o->out_dir, "/voice");
    if (err == UF_OK) err = make_folder(ctx, o->out_dir, "/room");
    if (err == UF_OK) err = write_all(ctx, r, &m, o);
    uf_mixer_close(&m);
    uf_recipe_close(&r);
    return err;
}
