#include "beam_chunk.h"

#include "beam_filter.h"
#include "spectra.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { FFT = UF_BEAM_FFT, HOP = UF_BEAM_HOP, BINS = UF_BEAM_BINS, BLOCK = UF_BEAM_BLOCK };

struct uf_beam_chunk {
    uf_ctx *ctx;
    uf_voice_ears *ears; /* borrowed */
    uf_beam_chunk_options o;
    uf_spectra *spectra; /* one a thread */
    int n_spectra;
    uf_beam_filter *filter;
    float *spectrum;   /* (BINS, mics, 2, frames) of the microphones */
    float *one, *two;  /* (BINS, 2, frames): of a result; of what the network makes of it */
    float *power, *mask; /* (BINS, frames): of the voice; its share */
    float *voice;      /* (mics, n): what the network makes of each microphone */
    float *spare[2];   /* n: scratch of end(); the first of fall_back() too */
    bool *present;     /* (mics, frames) */
    double *quality;   /* voice over the rest, power, of each microphone in this stretch */
    double *both;      /* (mics, mics): power of the voice at the first while the second was there too, when that was last so */
    double *hop;       /* frames: scratch of compare() */
    double loud;       /* root mean square of the voice at `home`, when that last decided */
    float *share;      /* (frames, mics): how much of the result each has brought */
    int band[64];      /* bins of each microphone */
    double gain;       /* of the result: when another reference takes over, the voice stays as loud as it was */
    int frames, reference, home; /* home: the reference unless something is wrong with it; -1: nobody yet */
};

int uf_beam_chunk_reference(const uf_beam_chunk *c) { return c->reference; }
const float *uf_beam_chunk_share(const uf_beam_chunk *c) { return c->share; }
double uf_beam_chunk_quality(const uf_beam_chunk *c, int mic) { return c->quality[mic]; }

static void analyse(uf_beam_chunk *c, const float *x, float *to, size_t step) {
#pragma omp parallel for num_threads(c->n_spectra)
    for (int at = 0; at < c->frames; at += BLOCK) uf_spectra_analyse_some(&c->spectra[omp_get_thread_num()], x, c->frames * HOP, c->frames, at, at + BLOCK, to, step);
}

static void synthesise(uf_beam_chunk *c, const float *from, float *y) { uf_spectra_synthesise(c->spectra, from, c->frames, y, c->frames * HOP); }

/* ---- the network on each microphone -------------------------------------------------------------------------------------------- */

static double level(const float *x, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum / n);
}

static float *voice_of(const uf_beam_chunk *c, int m) { return c->voice + (size_t)m * (size_t)c->o.most; }

static bool any(const bool *there, int n) {
    for (int i = 0; i < n; i++)
        if (there[i]) return true;
    return false;
}

static int hear_all(uf_beam_chunk *c, float *const *x, const bool *const *there) {
    int n = c->frames * HOP;
    const float *in[64] = {NULL};
    float *out[64];
    for (int m = 0; m < c->o.n_mics; m++) {
        bool *present = c->present + (size_t)m * (size_t)c->frames;
        analyse(c, x[m], c->spectrum + (size_t)(2 * m) * (size_t)c->frames, (size_t)(2 * c->o.n_mics) * (size_t)c->frames);
        for (int t = 0; t < c->frames; t++) { /* a frame hears two hops to either side */
            present[t] = true;
            for (int k = t - 2 < 0 ? 0 : t - 2; k <= t + 2 && k < c->frames; k++) present[t] = present[t] && there[m][k];
        }
        out[m] = voice_of(c, m);
        if (any(present, c->frames)) in[m] = x[m];
        else memset(out[m], 0, (size_t)n * sizeof(float));
    }
    UF_TRY(uf_voice_ears_hear(c->o.together ? c->o.together : c->ears, c->o.n_mics, n, in, out));
    for (int m = 0; m < c->o.n_mics; m++) c->quality[m] = in[m] ? uf_voice_ratio(x[m], out[m], n, NULL) : 0;
    return UF_OK;
}

/* Power of the voice at microphone m while k was there as well, for all m and k: what one is louder by than another is told by what both heard. */
static void compare(uf_beam_chunk *c) {
    int n = c->o.n_mics;
    for (int m = 0; m < n; m++) {
        const bool *here = c->present + (size_t)m * (size_t)c->frames;
        const float *x = voice_of(c, m);
        for (int t = 0; t < c->frames; t++) {
            c->hop[t] = 0;
            for (int i = t * HOP; here[t] && i < (t + 1) * HOP; i++) c->hop[t] += (double)x[i] * (double)x[i];
        }
        for (int k = 0; k < n; k++) {
            const bool *there = c->present + (size_t)k * (size_t)c->frames;
            double sum = 0;
            for (int t = 0; t < c->frames; t++) sum += there[t] ? c->hop[t] : 0;
            if (sum > 1e-9) c->both[m * n + k] = sum;
        }
    }
}

/* One microphone decides how the result sounds, all the time; another takes over where that one has gone, or hears a voice far better: another
 * person speaks, who sits there. */
static void choose(uf_beam_chunk *c) {
    const double far_better = 10, voice = 1; /* power ratios */
    int best = 0, before = c->reference;
    for (int m = 1; m < c->o.n_mics; m++)
        if (c->quality[m] > c->quality[best]) best = m;
    if (c->home < 0 && c->quality[best] > voice) c->home = best; /* before there is a voice nothing is decided */
    c->reference = c->home < 0 ? best : c->home;
    bool better = c->quality[best] > voice && c->quality[best] > far_better * c->quality[c->reference];
    if (c->o.reference < 0 && (better || c->quality[c->reference] <= 0)) c->reference = best;
    double loud = level(voice_of(c, c->reference), c->frames * HOP);
    if (c->home < 0 || c->reference == c->home) {
        c->gain = 1;
        if (loud > 1e-6) c->loud = loud;
    } else if (c->reference != before && loud > 1e-6 && c->loud > 1e-6)
        c->gain = fmin(fmax(c->loud / loud, .25), 4);
}

/* How much microphone m has to say about each bin: by how well it hears the voice, among those whose band reaches there. */
static void say(const uf_beam_chunk *c, int m, float *share) {
    for (int b = 0; b < BINS; b++) {
        double all = 1e-30, able = 0;
        for (int k = 0; k < c->o.n_mics; k++) {
            all += c->quality[k];
            able += b < c->band[k] ? c->quality[k] : 0;
        }
        share[b] = (float)(able <= 0 ? c->quality[m] / all : b < c->band[m] ? c->quality[m] / able : 0);
    }
}

/* What the network makes of its silence is not looked at where microphone m is away. */
static void blank(const uf_beam_chunk *c, int m, float *voice) {
    const bool *present = c->present + (size_t)m * (size_t)c->frames;
    for (int t = 0; t < c->frames; t++)
        for (int row = 0; !present[t] && row < 2 * BINS; row++) voice[(size_t)row * (size_t)c->frames + (size_t)t] = 0;
}

/* In frames where some are away the others say it all. share: (mics, BINS) */
static void say_instead(const uf_beam_chunk *c, const float *share) {
    size_t row = (size_t)c->frames;
    for (size_t t = 0; t < row; t++) {
        bool away = false;
        for (int m = 0; m < c->o.n_mics; m++) away = away || !c->present[(size_t)m * row + t];
        for (int b = 0; away && b < BINS; b++) {
            float said = 0;
            for (int m = 0; m < c->o.n_mics; m++) said += c->present[(size_t)m * row + t] ? share[m * BINS + b] : 0;
            if (said <= .01f) continue; /* nobody of them has anything to say */
            c->power[(size_t)b * row + t] /= said;
            c->mask[(size_t)b * row + t] /= said;
        }
    }
}

/* Power and share of the voice from what the network hears at each microphone, the better ones first; brought to the reference's level. */
static void look(uf_beam_chunk *c) {
    size_t all = (size_t)BINS * (size_t)c->frames;
    double loud[64], reference = 1e-12;
    float share[64 * BINS] = {0};
    memset(c->power, 0, all * sizeof(*c->power));
    memset(c->mask, 0, all * sizeof(*c->mask));
    for (int m = 0; m < c->o.n_mics; m++) loud[m] = pow(level(voice_of(c, m), c->frames * HOP), 2) + 1e-18;
    reference = loud[c->reference];
    if (reference < 1e-15)
        for (int m = 0; m < c->o.n_mics; m++) reference = fmax(reference, loud[m]);
    for (int m = 0; m < c->o.n_mics; m++) {
        if (c->quality[m] <= 0) continue;
        analyse(c, voice_of(c, m), c->two, 2 * (size_t)c->frames);
        blank(c, m, c->two);
        say(c, m, share + m * BINS);
        uf_beam_look(c->spectrum + (size_t)(2 * m) * (size_t)c->frames, (size_t)(2 * c->o.n_mics) * (size_t)c->frames, c->two, c->frames,
                     share + m * BINS, (float)(reference / loud[m]), c->power, c->mask);
    }
    say_instead(c, share);
    analyse(c, voice_of(c, c->reference), c->two, 2 * (size_t)c->frames);
}

/* ---- one stretch ----------------------------------------------------------------------------------------------------------------- */

/* In frame t the reference alone has taken over so much of the result. In silence there are no shares. */
static void lead(uf_beam_chunk *c, int t, double alone) {
    float *share = c->share + (size_t)t * (size_t)c->o.n_mics, sum = 0;
    for (int m = 0; m < c->o.n_mics; m++) sum += share[m];
    for (int m = 0; sum > 0 && m < c->o.n_mics; m++) share[m] = (float)((1 - alone) * (double)share[m] + (m == c->reference ? alone : 0));
}

/* How much of the result is to be the reference alone, 0 to 1, by the network's ratios of voice to the rest in both. A little of it always: two
 * estimates of one voice have errors of their own. All of it where the network thinks less of the result, as when another person begins to speak; but only
 * as far as it hears a clear voice at the reference: of loud noise it takes much for voice, of that which is left in the result less. Found on merges of
 * recordings that are held out. */
static double share_of_one(double alone, double together, int n) {
    double clear = fmin(fmax(10 * log10(alone) / 3, 0), 1), less = fmin(fmax(10 * log10(alone / together) + .5, 0), 1);
    return fmax(clear * less, .4 / n);
}

/* The reference alone takes a share of the result. Looked at over a second. */
static void fall_back(uf_beam_chunk *c, const float *x, const float *beam, float *y) {
    int n = c->frames * HOP, size = BLOCK * HOP, r = c->reference;
    const float *voice = voice_of(c, r);
    const bool *present = c->present + (size_t)r * (size_t)c->frames;
    double share = 0;
    for (int at = 0; at < n; at += size) {
        int from = at - size / 2 < 0 ? 0 : at - size / 2, to = at + size * 3 / 2 < n ? at + size * 3 / 2 : n;
        bool there = true;
        for (int t = from / HOP; t < to / HOP; t++) there = there && present[t];
        double before = share;
        share = there ? share_of_one(uf_voice_ratio(x + from, voice + from, to - from, NULL), uf_voice_ratio(beam + from, y + from, to - from, NULL), c->o.n_mics) : 0;
        if (!at) before = share;
        for (int i = at; i < at + size; i++) {
            double s = before + (share - before) * fmin((i - at) / (.25 * size), 1), single = (double)voice[i] + c->o.least * ((double)x[i] - (double)voice[i]);
            if (i % HOP == HOP / 2) lead(c, i / HOP, s);
            c->spare[0][i] = (float)(s * (single - ((double)y[i] + c->o.least * ((double)beam[i] - (double)y[i]))));
        }
    }
    for (int i = 0; i < n; i++) y[i] += (float)c->o.least * (beam[i] - y[i]) + c->spare[0][i];
}

/* The filter's result as it leaves: y, the voice in it, or the same in its room. For the voice it and the reference alone are heard a second time; the first
 * hearing of the result's voice is that of the round before, where microphones are few. In its room a second hearing brings nothing (-0.03 dB). */
static int end(uf_beam_chunk *c, const float *x, const float *beam, float *y) {
    int n = c->frames * HOP;
    const float *in[] = {x, beam}, *before[] = {c->spare[0], c->spare[1]};
    float *out[] = {voice_of(c, c->reference), y};
    if (c->o.keep_room && !c->o.room) {
        memcpy(y, beam, (size_t)n * sizeof(*y));
        return UF_OK;
    }
    if (c->o.keep_room) {
        UF_TRY(uf_voice_ears_hear(c->o.room, 2, n, in, out));
    } else {
        for (int i = 0; i < 2; i++) memcpy(c->spare[i], out[i], (size_t)n * sizeof(*y));
        UF_TRY(uf_voice_ears_hear_again(c->ears, 2, n, in, before, out));
    }
    fall_back(c, x, beam, y);
    return UF_OK;
}

int uf_beam_chunk_run(uf_beam_chunk *c, float *const *x, const bool *const *there, int n, int from, int to, float *y) {
    c->frames = n / HOP;
    UF_TRY(hear_all(c, x, there));
    compare(c);
    choose(c);
    look(c);
    uf_beam_filter_job job = {.spectrum = c->spectrum, .power = c->power, .mask = c->mask, .voice = c->two, .present = c->present, .band = c->band, .quality = c->quality, .both = c->both, .frames = c->frames, .reference = c->reference, .from = from, .to = to};
    float *beam = voice_of(c, c->o.n_mics), all[BINS];
    for (int b = 0; b < BINS; b++) all[b] = 1;
    bool few = c->o.n_mics <= UF_BEAM_FEW;
    int rounds = few && !c->o.together ? 3 : 2;
    for (int round = 0; round < rounds; round++) {
        job.learn = round == rounds - 1;
        job.share = job.learn ? c->share : NULL;
        uf_beam_filter_run(c->filter, &job, c->one);
        synthesise(c, c->one, beam);
        if (job.learn && (few || c->o.keep_room)) break; /* after one round of many the voice is not yet good enough to be a share of it */
        UF_TRY(uf_voice_ears_hear(c->ears, 1, n, (const float *[]){beam}, &y));
        if (job.learn) break;
        analyse(c, y, c->two, 2 * (size_t)c->frames);
        memset(c->power, 0, (size_t)BINS * (size_t)c->frames * sizeof(float));
        memset(c->mask, 0, (size_t)BINS * (size_t)c->frames * sizeof(float));
        uf_beam_look(c->one, 2 * (size_t)c->frames, c->two, c->frames, all, 1, c->power, c->mask);
    }
    UF_TRY(end(c, x[c->reference], beam, y));
    for (int i = 0; i < n; i++) y[i] *= (float)c->gain;
    return UF_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------------ */

int uf_beam_chunk_open(uf_beam_chunk **out, uf_ctx *ctx, uf_voice_ears *ears, const uf_beam_chunk_options *o) {
    uf_beam_chunk *c = uf_alloc(ctx, 1, sizeof(*c));
    if (!c) return UF_ENOMEM;
    size_t mics = (size_t)o->n_mics, frames = (size_t)(o->most / HOP), bins = BINS;
    c->ctx = ctx;
    c->ears = ears;
    c->o = *o;
    bool spectra = (c->spectra = uf_alloc(ctx, (size_t)uf_ctx_threads(ctx), sizeof(*c->spectra))) != NULL;
    while (spectra && c->n_spectra < uf_ctx_threads(ctx)) spectra = uf_spectra_open(&c->spectra[c->n_spectra++], FFT);
    c->spectrum = uf_alloc(ctx, bins * mics * 2 * frames, sizeof(float));
    c->one = uf_alloc(ctx, bins * 2 * frames, sizeof(float));
    c->two = uf_alloc(ctx, bins * 2 * frames, sizeof(float));
    c->power = uf_alloc(ctx, bins * frames, sizeof(float));
    c->mask = uf_alloc(ctx, bins * frames, sizeof(float));
    c->voice = uf_alloc(ctx, (mics + 1) * (size_t)o->most, sizeof(float));
    for (int i = 0; i < 2; i++) c->spare[i] = uf_alloc(ctx, (size_t)o->most, sizeof(float));
    c->present = uf_alloc(ctx, mics * frames, sizeof(bool));
    c->quality = uf_alloc(ctx, mics, sizeof(double));
    c->both = uf_alloc(ctx, mics * mics, sizeof(double));
    c->hop = uf_alloc(ctx, frames, sizeof(double));
    c->share = uf_alloc(ctx, frames * mics, sizeof(float));
    c->gain = 1;
    for (int m = 0; m < o->n_mics; m++) c->band[m] = o->band ? uf_beam_band(o->band[m]) : BINS;
    c->home = o->reference >= 0 ? o->reference : o->home;
    int err = spectra && c->spectrum && c->one && c->two && c->power && c->mask && c->voice && c->spare[0] && c->spare[1] && c->present && c->quality && c->both && c->hop && c->share
                  ? uf_beam_filter_open(&c->filter, ctx, &(uf_beam_filter_options){.n_mics = o->n_mics, .frames = (int)frames, .keep_room = o->keep_room})
                  : uf_fail(ctx, UF_ENOMEM, "out of memory for %d microphones; merge fewer", o->n_mics);
    if (err < 0) uf_beam_chunk_close(&c);
    else *out = c;
    return err;
}

void uf_beam_chunk_close(uf_beam_chunk **pc) {
    uf_beam_chunk *c = *pc;
    if (!c) return;
    uf_beam_filter_close(&c->filter);
    for (int i = 0; i < c->n_spectra; i++) uf_spectra_close(&c->spectra[i]);
    free(c->spectra);
    float *owned[] = {c->spectrum, c->one, c->two, c->power, c->mask, c->voice, c->spare[0], c->spare[1]};
    for (int i = 0; i < UF_LEN(owned); i++) free(owned[i]);
    free(c->present);
    free(c->quality);
    free(c->both);
    free(c->hop);
    free(c->share);
    free(c);
    *pc = NULL;
}
