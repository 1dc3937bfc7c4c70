/* What the network behind a merge's beam learns from: stretches of the files that `unfade array --beams` writes. */
#include "sounds.h"

#include <math.h>
#include <sndfile.h>
#include <stdlib.h>

enum { TRIES = 64, RATE = 16000 };

struct uf_beams {
    uf_ctx *ctx;
    uf_data *data;
};

int uf_beams_open(uf_beams **out, uf_ctx *ctx, const uf_source *sources, int n) {
    uf_beams *b = uf_alloc(ctx, 1, sizeof *b);
    if (!b) return UF_ENOMEM;
    b->ctx = ctx;
    int err = uf_data_open_sounds(&b->data, ctx, sources, n);
    if (err < 0) uf_beams_close(&b);
    else *out = b;
    return err;
}

void uf_beams_close(uf_beams **pb) {
    uf_beams *b = *pb;
    if (!b) return;
    uf_data_close(&b->data);
    free(b);
    *pb = NULL;
}

/* n frames from share `place` of the file on, where it is longer than that, to x; silence behind what is shorter. */
static int read_stretch(const uf_beams *b, int64_t which, double place, int n, float *x) {
    char *path = uf_data_path(b->data, which);
    SF_INFO info = {0};
    SNDFILE *f = path ? sf_open(path, SFM_READ, &info) : NULL;
    int err = UF_OK;
    if (!f || info.channels != UF_BEAMS_CHANNELS || info.samplerate != RATE)
        err = uf_fail(b->ctx, UF_EINVAL, "'%s' is no file of 'unfade array --beams'; make them with that, and give their folder to the recipe", path ? path : uf_data_name(b->data, which));
    sf_count_t from = info.frames > n ? (sf_count_t)(place * (double)(info.frames - n)) : 0, got = 0;
    if (err == UF_OK && sf_seek(f, from, SEEK_SET) >= 0) got = sf_readf_float(f, x, n);
    if (err == UF_OK && got <= 0) err = UF_EDATA;
    for (int64_t i = got * UF_BEAMS_CHANNELS; err == UF_OK && i < (int64_t)n * UF_BEAMS_CHANNELS; i++) x[i] = 0;
    if (f) sf_close(f);
    free(path);
    return err;
}

/* Now and then the reference is away for a while, or for all of it, and the beam is of others. */
static void leave(uint64_t seed, uint64_t index, int n, float *mic, float *alone) {
    uint64_t key = uf_hash("away", 4);
    if (uf_uniform(seed, key, index) > .25f) return;
    double length = fmin((.2 + 5 * (double)uf_uniform(seed, key + 1, index)) * RATE, n), from = (n - length) * (double)uf_uniform(seed, key + 2, index);
    for (int i = (int)from; i < (int)(from + length); i++) mic[i] = alone[i] = 0;
}

/* UF_EDATA without a message: nobody speaks there. */
static int pick_one(const uf_beams *b, uint64_t seed, uint64_t index, int n, float *x, float *heard, float *voice) {
    uint64_t key = uf_hash("beam", 4);
    const int side[UF_BEAMS_HEARD] = {UF_BEAMS_FIRST + (uf_uniform(seed, key, index) < .5f), UF_BEAMS_MIC, UF_BEAMS_ALONE};
    float gain = powf(10, (20 * uf_uniform(seed, key + 1, index) - 10) / 20);
    double power = 0;
    UF_TRY(read_stretch(b, uf_data_pick(b->data, seed, index), (double)uf_uniform(seed, key + 2, index), n, x));
    for (int i = 0; i < n; i++, x += UF_BEAMS_CHANNELS) {
        for (int c = 0; c < UF_BEAMS_HEARD; c++) heard[(size_t)c * (size_t)n + (size_t)i] = gain * x[side[c]];
        voice[i] = gain * x[UF_BEAMS_VOICE];
        power += (double)voice[i] * (double)voice[i] / n;
    }
    leave(seed, index, n, heard + n, heard + 2 * (size_t)n);
    return power > 1e-8 ? UF_OK : UF_EDATA;
}

int uf_beams_pick(const uf_beams *b, uint64_t seed, uint64_t index, int n, float *heard, float *voice) {
    float *x = uf_alloc(b->ctx, (size_t)n * UF_BEAMS_CHANNELS, sizeof *x);
    int err = x ? UF_EDATA : UF_ENOMEM;
    for (uint64_t t = 0; err == UF_EDATA && t < TRIES; t++) err = pick_one(b, seed + t, index, n, x, heard, voice);
    free(x);
    return err == UF_EDATA ? uf_fail(b->ctx, UF_EDATA, "in %d stretches in a row nobody spoke; check the files of 'unfade array --beams'", TRIES) : err;
}
