#include "array_aligned.h"

#include "app.h"
#include "beam.h"
#include "highs.h"
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RATE = UF_ALIGNED_RATE, BLOCK = RATE };

int uf_aligned_open(uf_aligned *a, uf_ctx *ctx, int n_mics, int n) {
    *a = (uf_aligned){.ctx = ctx, .n_mics = n_mics, .n = n};
    if (!(a->memory = uf_alloc(ctx, 2 * (size_t)n_mics * (size_t)n, sizeof *a->memory))) return UF_ENOMEM;
    for (int i = 0; i < n_mics; i++) {
        a->x[i] = a->memory + (size_t)(2 * i) * (size_t)n;
        a->early[i] = a->x[i] + n;
    }
    return UF_OK;
}

void uf_aligned_close(uf_aligned *a) {
    free(a->memory);
    *a = (uf_aligned){0};
}

/* ---- hearing ------------------------------------------------------------------------------------------------------------------------ */

static double distance(const uf_array *scene, const uf_array_scene *s, int mic) {
    double sum = 0;
    for (int k = 0; k < 3; k++) {
        double place = s->source[0].moving ? .5 * (s->source[0].from[k] + s->source[0].to[k]) : s->source[0].from[k], t = uf_array_mic(scene, mic)->place[k] - place;
        sum += t * t;
    }
    return sqrt(sum);
}

/* x, n samples, comes `late` samples earlier, with silence behind. */
static void advance(float *x, int n, int late) {
    memmove(x, x + late, (size_t)(n - late) * sizeof *x);
    memset(x + n - late, 0, (size_t)late * sizeof *x);
}

int uf_aligned_hear(uf_aligned *a, uf_array *scene) {
    uf_array_scene s;
    double d[UF_MOST_MICS], nearest = INFINITY;
    uf_array_describe(scene, &s);
    for (int i = 0; i < a->n_mics; i++) nearest = fmin(nearest, d[i] = distance(scene, &s, i));
    for (int i = 0; i < a->n_mics; i++) {
        float *x = a->x[i];
        int late = (int)lround((d[i] - nearest) / 343 * RATE);
        UF_TRY(uf_array_hear(scene, i, x, NULL, a->early[i]));
        UF_TRY(uf_array_device(scene, i, x));
        for (int k = 0; uf_array_mic(scene, i)->inverted && k < a->n; k++) x[k] = -x[k];
        advance(x, a->n, late);
        advance(a->early[i], a->n, late);
    }
    return UF_OK;
}

/* ---- merging ------------------------------------------------------------------------------------------------------------------------ */

static int band_of(const uf_aligned *a, const float *x, double *hertz) {
    uf_rolloff *r = NULL;
    UF_TRY(uf_rolloff_open(&r, a->ctx, RATE, 1));
    int err = uf_rolloff_push(r, &x, a->n);
    *hertz = uf_rolloff_hertz(r);
    uf_rolloff_close(&r);
    return err;
}

static int choose_home(const uf_aligned *a, const double *band, int *home) {
    uf_reference *r = NULL;
    UF_TRY(uf_reference_open(&r, a->ctx, a->n_mics, NULL, UNFADE_WEIGHTS_DIR, false, band));
    int err = UF_OK;
    for (int at = 0; err == UF_OK && at + UF_REFERENCE_STRETCH <= a->n; at += UF_REFERENCE_STRETCH) {
        const float *x[UF_MOST_MICS];
        for (int i = 0; i < a->n_mics; i++) x[i] = a->x[i] + at;
        err = uf_reference_hear(r, x, NULL);
    }
    *home = uf_reference_best(r);
    uf_reference_close(&r);
    return err;
}

int uf_aligned_merge(const uf_aligned *a, float *y, int *reference) {
    uf_beam *m = NULL;
    float weight[UF_MOST_MICS];
    double band[UF_MOST_MICS];
    const float *from[UF_MOST_MICS];
    int done = 0, home = -1;
    for (int i = 0; i < a->n_mics; i++) UF_TRY(band_of(a, a->x[i], &band[i]));
    UF_TRY(choose_home(a, band, &home));
    int err = uf_beam_open(&m, a->ctx, &(uf_beam_options){.weights_dir = UNFADE_WEIGHTS_DIR, .n_mics = a->n_mics, .rate = RATE, .reference = -1, .home = home, .band = band});
    for (int i = 0; i < a->n_mics; i++) weight[i] = 1;
    for (int at = 0; err == UF_OK && at <= a->n; at += BLOCK) {
        int some = a->n - at < BLOCK ? a->n - at : BLOCK;
        for (int i = 0; i < a->n_mics; i++) from[i] = a->x[i] + at;
        if (some > 0) err = uf_beam_push(m, from, weight, some);
        if (err == UF_OK && at + BLOCK > a->n) err = uf_beam_push(m, from, weight, 0);
        int got;
        while (err == UF_OK && (got = uf_beam_pull(m, y + done, a->n - done)) > 0) done += got;
    }
    if (err == UF_OK) *reference = uf_beam_leader(m);
    uf_beam_close(&m);
    return err;
}
