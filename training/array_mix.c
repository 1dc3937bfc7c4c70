/* Scenes of several microphones as training batches: a stretch of each, from anywhere in it. */
#include "array_device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES = 64 };
static const double off = .005; /* s: what alignment takes for the direct sound is now and then a reflection */

typedef struct draw {
    uint64_t seed, index;
} draw;

static double chance(const draw *d, const char *what, int which, double from, double to) {
    return from + (to - from) * (double)uf_uniform(d->seed, uf_hash(what, strlen(what)) + (uint64_t)which, d->index);
}

/* What a filter over all of them may make of a microphone: less of the noise and of the late room. */
static void steer(const draw *d, int64_t n, const float *voice, const float *early, float *heard) {
    float late = (float)chance(d, "late", 0, .3, 1), noise = (float)pow(10, -chance(d, "less", 0, 3, 12) / 20);
    for (int64_t i = 0; i < n; i++) heard[i] = early[i] + late * (voice[i] - early[i]) + noise * (heard[i] - voice[i]);
}

/* Member k of the scene: microphone k, or what a filter makes of the first one. */
static int hear(uf_array *a, const draw *d, int k, bool beam, int rate, float *heard, float *voice, float *early) {
    int64_t n = uf_array_n(a);
    UF_TRY(uf_array_hear(a, beam ? 0 : k, heard, voice, early));
    if (beam) steer(d, n, voice, early, heard);
    else {
        UF_TRY(uf_array_device(a, k, heard));
        uf_device_drop(uf_array_mic(a, k), rate, early, n); /* where a recorder is silent there is no voice to find */
    }
    return UF_OK;
}

/* UF_EDATA without a message: there is no voice in it. */
static int scene(uf_ctx *ctx, const uf_mixer *m, const draw *d, int mics, int n, float *noisy, float *voice) {
    int slack = (int)(off * m->rate), real = chance(d, "fewer", 0, 0, 1) < .6 ? mics : (int)chance(d, "mics", 0, 2, mics), err;
    bool steered = chance(d, "beam", 0, 0, 1) < .35;
    uf_array_options o = {.n_mics = real, .seed = d->seed * 1000003 + d->index, .snr_from = -5, .snr_to = 25, .t60_from = .15, .t60_to = .8,
                          .talkers = chance(d, "talkers", 0, 0, 1) < .15 ? 2 : 1, .moving = chance(d, "moving", 0, 0, 1) < .15,
                          .habits = UF_HABIT_gain | UF_HABIT_curve | UF_HABIT_clip | UF_HABIT_codec};
    if (chance(d, "dropouts", 0, 0, 1) < .3) o.habits |= UF_HABIT_dropout;
    o.seconds = fmax(1.25 * n / m->rate + 2 * off, 1);
    uf_array *a = NULL;
    UF_TRY(uf_array_try(&a, ctx, m, &o));
    int64_t all = uf_array_n(a), from = slack + (int64_t)chance(d, "from", 0, 0, (double)(all - n - 2 * slack));
    float *memory = uf_alloc(ctx, 3 * (size_t)all, sizeof *memory);
    err = memory ? UF_OK : UF_ENOMEM;
    for (int i = 0; err == UF_OK && i < real; i++) {
        bool beam = steered && i == real - 1;
        int64_t at = from + (int64_t)chance(d, "off", beam ? 0 : i, -slack, slack);
        err = hear(a, d, i, beam, m->rate, memory, memory + all, memory + 2 * all);
        for (int k = i; err == UF_OK && k < mics; k += real) {
            memcpy(noisy + (size_t)k * (size_t)n, memory + at, (size_t)n * sizeof *noisy);
            memcpy(voice + (size_t)k * (size_t)n, memory + 2 * all + at, (size_t)n * sizeof *voice);
        }
    }
    free(memory);
    uf_array_close(&a);
    return err;
}

int uf_array_mix(uf_ctx *ctx, const uf_mixer *m, uint64_t seed, uint64_t index, int mics, int n, float *noisy, float *voice) {
    int err = UF_EDATA;
    for (uint64_t t = 0; err == UF_EDATA && t < TRIES; t++) err = scene(ctx, m, &(draw){seed + t, index}, mics, n, noisy, voice);
    return err == UF_EDATA ? uf_fail(ctx, UF_EDATA, "%d scenes in a row were silent; check the recordings", TRIES) : err;
}
