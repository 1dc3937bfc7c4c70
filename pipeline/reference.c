#include "reference.h"

#include "merge.h"
#include "sound_reader.h"
#include "voice.h"
#include "voice_ears.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* dB: below the best one of a stretch at worst; one that is not there; a voice under which there is none; an octave that is missing,
 * and what comes to that at worst. */
static const double far = -20, away = -2, voiceless = -25, octave = -1, octave_worst = -6;

struct uf_reference {
    uf_ctx *ctx;
    int n_mics, n_heard;
    uf_voice_ears ears;
    float *out, **voice; /* n_mics stretches of the voice */
    double *score, *db; /* n_mics: sum over the stretches; of this one */
    double *narrow;     /* n_mics: octaves that its band lacks */
};

/* Of what the network hears. */
static void judge_bands(uf_reference *r, const double *band) {
    double widest = 0;
    for (int m = 0; m < r->n_mics; m++) widest = fmin(fmax(widest, band[m]), UF_REFERENCE_RATE / 2.);
    for (int m = 0; m < r->n_mics; m++) r->narrow[m] = log2(fmax(widest / fmax(band[m], 1), 1));
}

int uf_reference_open(uf_reference **out, uf_ctx *ctx, int n_mics, const char *weights, const char *weights_dir, bool float32, const double *band) {
    char *each = NULL;
    uf_reference *r = uf_alloc(ctx, 1, sizeof *r);
    if (!r) return UF_ENOMEM;
    *r = (uf_reference){.ctx = ctx, .n_mics = n_mics};
    r->out = uf_alloc(ctx, (size_t)n_mics * UF_REFERENCE_STRETCH, sizeof *r->out);
    r->voice = uf_alloc(ctx, (size_t)n_mics, sizeof *r->voice);
    r->score = uf_alloc(ctx, (size_t)n_mics, sizeof *r->score);
    r->db = uf_alloc(ctx, (size_t)n_mics, sizeof *r->db);
    r->narrow = uf_alloc(ctx, (size_t)n_mics, sizeof *r->narrow);
    if (band && r->narrow) judge_bands(r, band);
    int err = r->out && r->voice && r->score && r->db && r->narrow ? uf_voice_ears_weights(ctx, weights, weights_dir, &each, NULL) : UF_ENOMEM;
    for (int m = 0; err == UF_OK && m < n_mics; m++) r->voice[m] = r->out + (size_t)m * UF_REFERENCE_STRETCH;
    if (err == UF_OK) err = uf_voice_ears_open(&r->ears, ctx, each, &(uf_voice_ears_options){.most = n_mics, .float32 = float32});
    free(each);
    if (err < 0) uf_reference_close(&r);
    else *out = r;
    return err;
}

void uf_reference_close(uf_reference **pr) {
    uf_reference *r = *pr;
    if (!r) return;
    uf_voice_ears_close(&r->ears);
    free(r->out);
    free(r->voice);
    free(r->score);
    free(r->db);
    free(r->narrow);
    free(r);
    *pr = NULL;
}

/* Voice over the rest as the network hears it, dB, and what it lacks: others give the highs, but not in the phase of a telephone, whose codec has changed
 * the rest too. That is as bad as noise half as loud as the voice for each octave: under loud noise it matters little who is narrow. Found on voices and
 * noises that are held out: ten scenes that were aligned by the truth, one of two through GSM, and forty-eight whole merges of two, fourteen of them with one. */
static double heard(const float *x, const float *made, double narrow) {
    double voice, ratio = uf_voice_ratio(x, made, UF_REFERENCE_STRETCH, &voice);
    return voice > 1e-9 ? 10 * log10(ratio) + octave * narrow + fmax(-10 * log10(1 + narrow * ratio / 2), octave_worst * narrow) : -INFINITY;
}

int uf_reference_hear(uf_reference *r, const float *const *x, const double *there) {
    double best = -INFINITY;
    UF_TRY(uf_voice_ears_hear(&r->ears, r->n_mics, UF_REFERENCE_STRETCH, x, r->voice));
    for (int m = 0; m < r->n_mics; m++) {
        r->db[m] = x[m] ? heard(x[m], r->voice[m], r->narrow[m]) : -INFINITY;
        best = fmax(best, r->db[m]);
    }
    if (best < voiceless) return UF_OK;
    r->n_heard++;
    for (int m = 0; m < r->n_mics; m++) {
        double share = !x[m] ? 0 : there ? there[m] : 1;
        r->score[m] += (share > 0 ? share * fmax(r->db[m] - best, far) : 0) + (1 - share) * away;
    }
    return UF_OK;
}

int uf_reference_best(const uf_reference *r) {
    double most = -INFINITY;
    int best = -1;
    for (int m = 0; m < r->n_mics && r->n_heard; m++) {
        double score = r->score[m] / r->n_heard;
        if (score > most) most = score, best = m;
    }
    return best;
}

/* ---- recordings that were listened to and placed -------------------------------------------------------------------------------------- */

enum { MOST_STRETCHES = 8, SECONDS = UF_REFERENCE_STRETCH / UF_REFERENCE_RATE };

/* The stretch of a recording from common time `at` on, new memory, and how much of it is no hole; NULL: it has begun later, or ended, or most of it is
 * missing. Within 8 s a clock's drift is of no matter. */
static int stretch_of(uf_ctx *ctx, const uf_take *t, double at, float **to, double *there) {
    bool here[2];
    double from = uf_clock_read(&t->clock, at, &here[0]), last = uf_clock_read(&t->clock, at + SECONDS, &here[1]);
    *to = NULL;
    if (!here[0] || !here[1] || from < 0 || last * t->rate > (double)t->n) return UF_OK;
    double hole = 0;
    for (int i = 0; i < t->quality.n_drops; i++) hole += fmax(fmin((double)t->drop[i].to, last * t->rate) - fmax((double)t->drop[i].from, from * t->rate), 0);
    *there = 1 - hole / ((last - from) * t->rate);
    if (!(*there > .5)) return UF_OK;
    float low[SECONDS * UF_MERGE_RATE];
    uf_sound in = {low, UF_LEN(low), UF_MERGE_RATE}, out = {0};
    UF_TRY(uf_take_read(t, ctx, (int64_t)(from * UF_MERGE_RATE), UF_LEN(low), low));
    UF_TRY(uf_sound_at_rate(ctx, &in, UF_REFERENCE_RATE, &out));
    *to = uf_alloc(ctx, UF_REFERENCE_STRETCH, sizeof **to);
    if (*to) memcpy(*to, out.x, sizeof **to * (out.n < UF_REFERENCE_STRETCH ? out.n : UF_REFERENCE_STRETCH));
    free(out.x);
    return *to ? UF_OK : UF_ENOMEM;
}

int uf_reference_of_takes(uf_ctx *ctx, const uf_take *const *take, int n, double from, double seconds, const uf_merge_options *o, const char *weights_dir, int *best) {
    uf_reference *r = NULL;
    double band[UF_MERGE_MOST];
    for (int i = 0; i < n; i++) band[i] = take[i]->quality.band;
    UF_TRY(uf_reference_open(&r, ctx, n, o->weights, weights_dir, o->float32, band));
    int stretches = (int)fmin(fmax(seconds / SECONDS, 1), MOST_STRETCHES), err = UF_OK;
    for (int k = 0; k < stretches && err == UF_OK; k++) { /* each in the middle of its share */
        double at = from + seconds * (k + .5) / stretches - SECONDS / 2.;
        float *x[UF_MERGE_MOST] = {NULL};
        double there[UF_MERGE_MOST] = {0};
        for (int i = 0; i < n && err == UF_OK; i++) err = stretch_of(ctx, take[i], at, &x[i], &there[i]);
        if (err == UF_OK) err = uf_reference_hear(r, (const float *const *)x, there);
        for (int i = 0; i < n; i++) free(x[i]);
    }
    *best = uf_reference_best(r);
    uf_reference_close(&r);
    return err;
}
