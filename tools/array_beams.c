#include "array_beams.h"

#include "app.h"
#include "array_aligned.h"

#include <math.h>
#include <sndfile.h>
#include <stdlib.h>
#include <string.h>

enum { RATE = UF_ALIGNED_RATE, BLOCK = 4096 };

typedef struct beams {
    uf_ctx *ctx;
    const uf_beams_options *o;
    char *weights; /* of `speech`, which does all: what is learnt does not depend on what was learnt from it */
    uf_aligned scene;
    float *plane[UF_BEAMS_CHANNELS], *y; /* n samples each */
    int done[2];                         /* of them, in either round */
} beams;

/* Microphones and voices count from the first round; both rounds have the same reference. */
static int take(void *user, const uf_beam_heard *h) {
    beams *b = user;
    int at = b->done[h->round], n = b->scene.n - at < h->n ? b->scene.n - at : h->n;
    size_t size = (size_t)(n > 0 ? n : 0) * sizeof(float);
    memcpy(b->plane[UF_BEAMS_FIRST + h->round] + at, h->beam, size);
    if (!h->round) {
        memcpy(b->plane[UF_BEAMS_MIC] + at, h->mic, size);
        memcpy(b->plane[UF_BEAMS_ALONE] + at, h->alone, size);
        memcpy(b->plane[UF_BEAMS_VOICE] + at, b->scene.early[h->reference] + at, size);
    }
    b->done[h->round] += n > 0 ? n : 0;
    return UF_OK;
}

/* 16 bit, as loud as they can be together. */
static int write_planes(const beams *b, const char *path) {
    SF_INFO info = {.samplerate = RATE, .channels = UF_BEAMS_CHANNELS, .format = SF_FORMAT_WAV | SF_FORMAT_PCM_16};
    uf_whole *w = NULL;
    double peak = 1e-6;
    float block[BLOCK * UF_BEAMS_CHANNELS];
    for (int c = 0; c < UF_BEAMS_CHANNELS; c++)
        for (int i = 0; i < b->scene.n; i++) peak = fmax(peak, fabs((double)b->plane[c][i]));
    int err = uf_whole_open(&w, b->ctx, path, b->o->overwrite);
    SNDFILE *f = err == UF_OK ? sf_open(uf_whole_path(w), SFM_WRITE, &info) : NULL;
    if (err == UF_OK && !f) err = uf_fail(b->ctx, UF_EIO, "cannot write '%s': %s", path, sf_strerror(NULL));
    for (int at = 0, some; err == UF_OK && at < b->scene.n; at += some) {
        some = b->scene.n - at < BLOCK ? b->scene.n - at : BLOCK;
        for (int c = 0; c < UF_BEAMS_CHANNELS; c++)
            for (int i = 0; i < some; i++) block[i * UF_BEAMS_CHANNELS + c] = b->plane[c][at + i] * (float)(.9 / peak);
        if (sf_writef_float(f, block, some) != some) err = uf_fail(b->ctx, UF_EIO, "cannot write '%s': %s", path, sf_strerror(f));
    }
    if (f && sf_close(f) && err == UF_OK) err = uf_fail(b->ctx, UF_EIO, "cannot write '%s'; is the disk full?", path);
    if (err == UF_OK) err = uf_whole_commit(w);
    uf_whole_close(&w);
    return err;
}

static int make_one(beams *b, const uf_mixer *m, int i) {
    static const int usual[] = {2, 2, 3, 4};
    const double wrong = .002; /* s: echoes that are taken for the direct sound are often as far off */
    uf_array *a = NULL;
    uf_array_options o = b->o->scene;
    int reference;
    o.seed += (uint64_t)i;
    if (!o.n_mics) o.n_mics = usual[(int)(4 * (double)uf_uniform(o.seed, uf_hash("mics", 4), 0)) & 3];
    b->scene.n_mics = o.n_mics;
    b->done[0] = b->done[1] = 0;
    UF_TRY(uf_array_open(&a, b->ctx, m, &o));
    int err = uf_aligned_hear(&b->scene, a, o.seed, wrong, true);
    uf_array_close(&a);
    if (err == UF_OK) err = uf_aligned_merge(&b->scene, b->weights, b->y, &reference, take, b);
    char *path = err == UF_OK ? uf_format(b->ctx, "%s/%05llu.wav", b->o->dir, (unsigned long long)o.seed) : NULL;
    if (err == UF_OK) err = path ? write_planes(b, path) : UF_ENOMEM;
    free(path);
    return err;
}

static int make_all(beams *b, const uf_mixer *m) {
    double started = uf_now();
    for (int i = 0; i < b->o->scenes; i++) {
        if (uf_ctx_cancelled(b->ctx)) return uf_fail(b->ctx, UF_EINTR, "stopped after %d scenes", i);
        UF_TRY(make_one(b, m, i));
        double seconds = uf_now() - started;
        if (b->o->progress) b->o->progress(b->o->user, &(uf_train_progress){.step = i + 1, .n_steps = b->o->scenes, .samples_per_second = (i + 1) / seconds, .seconds = seconds});
    }
    return UF_OK;
}

int uf_array_beams(uf_ctx *ctx, const char *recipe, const uf_beams_options *o) {
    beams b = {.ctx = ctx, .o = o};
    int n = (int)(o->scene.seconds * RATE), most = o->scene.n_mics ? o->scene.n_mics : 4;
    uf_mixer m = {0};
    uf_recipe *r = NULL;
    int err = uf_mixer_open_recipe(&m, ctx, recipe, o->training, &r);
    if (err == UF_OK) err = uf_weights_choose(ctx, NULL, uf_model_speech.file, UNFADE_WEIGHTS_DIR, &b.weights);
    if (err == UF_OK) err = uf_make_folder(ctx, o->dir);
    if (err == UF_OK) err = uf_aligned_open(&b.scene, ctx, most, n);
    float *all = err == UF_OK ? uf_alloc(ctx, (UF_BEAMS_CHANNELS + 1) * (size_t)n, sizeof *all) : NULL;
    if (err == UF_OK && !all) err = UF_ENOMEM;
    for (int c = 0; all && c < UF_BEAMS_CHANNELS; c++) b.plane[c] = all + (size_t)c * (size_t)n;
    if (all) b.y = all + UF_BEAMS_CHANNELS * (size_t)n;
    if (err == UF_OK) err = make_all(&b, &m);
    free(all);
    free(b.weights);
    uf_aligned_close(&b.scene);
    uf_mixer_close(&m);
    uf_recipe_close(&r);
    return err;
}
