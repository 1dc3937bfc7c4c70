#include "beam.h"

#include "beam_chunk.h"
#include "beam_mix.h"
#include "beam_share.h"
#include "sound_fifo.h"
#include "sound_reader.h"
#include "voice.h"

#include <stdlib.h>
#include <string.h>

/* Stretches of 16 s that are kept, with one second around to hear from both sides; 50 ms to each side of a seam fade into each other. Samples
 * at the network's 16 kHz, in blocks that share a filter. */
enum { RATE = 16000, HOP = UF_BEAM_HOP, UNIT = UF_BEAM_BLOCK * HOP, KEPT = 32 * UNIT, AROUND = UNIT, CHUNK = KEPT + 2 * AROUND, FADE = 800, BLOCK = 4096,
       PRECISION = 24, MOST = 32 };

typedef struct mic {
    uf_fifo recording;     /* at the stream's own rate, what is not yet given out */
    uf_fifo narrow, heard; /* at 16 kHz, what is still needed; all of it, back at the stream's rate */
    float *x;              /* CHUNK: a stretch at 16 kHz */
    bool *there;           /* a HOP of it each */
    double rest;           /* energy above the band, of the last stretch */
} mic;

struct uf_beam {
    uf_ctx *ctx;
    uf_beam_options o;
    uf_voice *voice;        /* one microphone: this, and nothing else */
    uf_beam_mix *mix;       /* mix_only: this, and nothing else */
    uf_voice_ears ears, together, room; /* together: of all microphones, for weights that can; room: keep_room, likewise */
    uf_beam_chunk *chunk;
    uf_beam_share share;
    mic mic[MOST];
    uf_fifo there[MOST];    /* a HOP each: 1, or 0 where a microphone was away in any part of it */
    uf_fifo result;         /* at the stream's rate */
    uf_fifo gain[MOST];     /* at 16 kHz, a HOP each: of the sound above the band, of each microphone */
    SwrContext *down[MOST], *up[MOST + 1]; /* one each, for as many threads; up: the result, then `heard` of all, if there is anything above the band */
    float *block, *planes[MOST + 1];
    float *y, tail[2 * FADE];
    float *xs[MOST];
    int64_t n_chunk, n_in, n_out;
    bool ended;
};

static bool is_wide(const uf_beam *b) { return b->o.rate > RATE; }

/* ---- rates ---------------------------------------------------------------------------------------------------------------------- */

static int n_up(const uf_beam *b) { return is_wide(b) ? b->o.n_mics + 1 : 1; }

/* n samples of b->planes, or what is still inside, each by its own s. */
static int resample(uf_beam *b, SwrContext *const *s, int n, int n_planes, uf_fifo *const *to) {
    int failed = UF_OK;
#pragma omp parallel for schedule(dynamic) num_threads(uf_ctx_threads(b->ctx))
    for (int i = 0; i < n_planes; i++) {
        int err = uf_fifo_resample(b->ctx, s[i], &b->planes[i], n, 1, &to[i]);
        if (err < 0) {
#pragma omp critical
            failed = err;
        }
    }
    return failed;
}

static int resample_down(uf_beam *b, int n) {
    uf_fifo *to[MOST];
    for (int m = 0; m < b->o.n_mics; m++) to[m] = &b->mic[m].narrow;
    return resample(b, b->down, n, b->o.n_mics, to);
}

static int resample_up(uf_beam *b, int n) {
    uf_fifo *to[MOST + 1] = { &b->result };
    for (int m = 0; m < b->o.n_mics; m++) to[m + 1] = &b->mic[m].heard;
    return resample(b, b->up, n, n_up(b), to);
}

/* ---- above the network's band ----------------------------------------------------------------------------------------------------- */

/* How much each has above the band, of what has come since `from`. Returns the least that counts. */
static double measure_rest(uf_beam *b, size_t from) {
    double most = 0;
    for (int m = 0; m < b->o.n_mics; m++) {
        mic *c = &b->mic[m];
        double rest = 0, all = 1e-9;
        for (size_t i = from; i < c->heard.n && i < c->recording.n; i++) {
            double d = (double)c->recording.at[i] - (double)c->heard.at[i];
            rest += d * d;
            all += (double)c->heard.at[i] * (double)c->heard.at[i];
        }
        c->rest = rest / all;
        most = fmax(most, c->rest);
    }
    return .03 * most;
}

/* Is it there from a hop before samples [from, to) of the stretch until one after them? Where it comes or goes its sound jumps, and jumps are heard as clicks
 * above the band. */
static bool is_there(const mic *c, int from, int to) {
    for (int hop = from / HOP - 1; hop <= (to - 1) / HOP + 1; hop++)
        if (hop >= 0 && hop < (CHUNK + UNIT) / HOP && !c->there[hop]) return false;
    return true;
}

/* Whose sound above the band is taken there: the reference's, if it has any; else that of the microphone that hears the voice best among those that have;
 * -1: nobody's. */
static int highs_of(const uf_beam *b, double least, int from, int to) {
    int best = -1, reference = uf_beam_chunk_reference(b->chunk);
    for (int m = 0; m < b->o.n_mics; m++) {
        if (b->mic[m].rest < least || !is_there(&b->mic[m], from, to)) continue;
        if (m == reference) return m;
        if (best < 0 || uf_beam_chunk_quality(b->chunk, m) > uf_beam_chunk_quality(b->chunk, best)) best = m;
    }
    return best;
}

/* Samples [at, at + n) of the stretch, b->y the result; least: of measure_rest(). */
static int add_gains(uf_beam *b, double least, int at, int n) {
    for (int i = 0; i < n; i += HOP) {
        int to = n - i < HOP ? n : i + HOP, which = highs_of(b, least, at + i, at + to);
        for (int m = 0; m < b->o.n_mics; m++) {
            float gain = m == which ? fminf(uf_voice_gain_above(b->mic[m].x + at, b->y + at, i, to), 4) : 0;
            UF_TRY(uf_fifo_add(b->ctx, &b->gain[m], &gain, 1));
        }
    }
    return UF_OK;
}

/* ---- stretches -------------------------------------------------------------------------------------------------------------------- */

static void fetch(uf_beam *b, int64_t first, int size) {
    for (int m = 0; m < b->o.n_mics; m++) {
        mic *c = &b->mic[m];
        for (int i = 0; i < size; i++) {
            int64_t at = first + i - c->narrow.start;
            c->x[i] = at >= 0 && at < (int64_t)c->narrow.n ? c->narrow.at[at] : 0.f;
        }
        for (int i = 0; i < size / HOP; i++) { /* before the beginning and after the end all are there, and silent */
            int64_t at = first / HOP + i - b->there[m].start;
            c->there[i] = at < 0 || at >= (int64_t)b->there[m].n || b->there[m].at[at] > 0;
        }
    }
}

/* Who has brought the n samples from `first` on, frame by frame. */
static int tell_shares(uf_beam *b, int64_t first, int n) {
    const float *share = uf_beam_chunk_share(b->chunk) + AROUND / HOP * b->o.n_mics;
    for (int at = 0; at < n; at += HOP, share += b->o.n_mics)
        UF_TRY(uf_beam_share_add(&b->share, b->ctx, b->o.n_mics, (double)(first + at) / RATE, (double)(first + (n - at < HOP ? n : at + HOP)) / RATE, share,
                                 uf_beam_chunk_reference(b->chunk)));
    return UF_OK;
}

/* Stretch number b->n_chunk: its kept samples [first, first + n), with the seam before it; from b->y + AROUND - FADE on, or without seam + AROUND.
 * Returns how many are finished. */
static int run_chunk(uf_beam *b, int64_t first, int n, bool last) {
    int size = last ? (n + 2 * AROUND + UNIT - 1) / UNIT * UNIT : CHUNK, before = first ? FADE : 0, end = last ? n : n - FADE;
    const bool *there[MOST];
    for (int m = 0; m < b->o.n_mics; m++) there[m] = b->mic[m].there;
    fetch(b, first - AROUND, size);
    UF_TRY(uf_beam_chunk_run(b->chunk, b->xs, there, size, AROUND / UNIT, (AROUND + n + UNIT - 1) / UNIT, b->y));
    UF_TRY(tell_shares(b, first, n));
    float *y = b->y + AROUND;
    for (int i = 0; i < 2 * before; i++) {
        float t = ((float)i + .5f) / (2 * FADE);
        y[i - before] = t * y[i - before] + (1.f - t) * b->tail[i];
    }
    if (!last) memcpy(b->tail, y + n - FADE, sizeof(b->tail));
    return end + before;
}

static int give_chunk(uf_beam *b, int64_t first, int done) {
    int at = AROUND - (first ? FADE : 0);
    size_t from = b->mic[0].heard.n;
    memcpy(b->planes[0], b->y + at, (size_t)done * sizeof(float));
    for (int m = 0; is_wide(b) && m < b->o.n_mics; m++) memcpy(b->planes[m + 1], b->mic[m].x + at, (size_t)done * sizeof(float));
    UF_TRY(resample_up(b, done));
    if (!is_wide(b)) return UF_OK;
    return add_gains(b, measure_rest(b, from), at, done);
}

static int run_chunks(uf_beam *b) {
    for (;;) {
        int64_t first = b->n_chunk * KEPT, have = b->mic[0].narrow.start + (int64_t)b->mic[0].narrow.n;
        bool last = b->ended && have <= first + KEPT + FADE; /* what is shorter than a seam goes with what is before it */
        if (uf_ctx_cancelled(b->ctx)) return uf_fail(b->ctx, UF_EINTR, "stopped");
        if (b->ended ? have <= first : have < first + KEPT + AROUND) return UF_OK;
        int n = last ? (int)(have - first) : KEPT, done = run_chunk(b, first, n, last);
        if (done < 0) return done;
        UF_TRY(give_chunk(b, first, done));
        b->n_chunk++;
        int64_t keep = b->n_chunk * KEPT - AROUND - FADE;
        for (int m = 0; m < b->o.n_mics; m++) {
            uf_fifo *f = &b->mic[m].narrow, *h = &b->there[m];
            if (keep > f->start) uf_fifo_drop(f, (size_t)(keep - f->start));
            if (keep / HOP > h->start) uf_fifo_drop(h, (size_t)(keep / HOP - h->start));
        }
        if (last) return UF_OK;
    }
}

/* ---- in and out ------------------------------------------------------------------------------------------------------------------- */

/* n more samples of microphone m are there, or not: hops at 16 kHz that they touch. */
static int note(uf_beam *b, int m, bool there, int n) {
    uf_fifo *f = &b->there[m];
    int64_t from = b->n_in * RATE / b->o.rate / HOP, to = (b->n_in + n) * RATE / b->o.rate / HOP;
    for (int64_t hop = from; hop <= to; hop++) {
        float one = 1;
        if (hop >= f->start + (int64_t)f->n) UF_TRY(uf_fifo_add(b->ctx, f, &one, 1));
        if (!there && hop >= f->start) f->at[hop - f->start] = 0;
    }
    return UF_OK;
}

static int take(uf_beam *b, const float *const *x, const float *weight, int from, int n) {
    for (int m = 0; m < b->o.n_mics; m++) {
        float *to = b->planes[m];
        bool there = weight[m] > 0;
        for (int i = 0; i < n; i++) {
            float v = there ? x[m][from + i] : 0.f;
            to[i] = isfinite(v) ? fminf(fmaxf(v, -16.f), 16.f) : 0.f; /* wild ones would drown the rest of a stretch */
        }
        if (is_wide(b)) UF_TRY(uf_fifo_add(b->ctx, &b->mic[m].recording, to, (size_t)n));
        UF_TRY(note(b, m, there, n));
    }
    b->n_in += n;
    return resample_down(b, n);
}

int uf_beam_push(uf_beam *b, const float *const *x, const float *weight, int n) {
    if (b->mix) return uf_beam_mix_push(b->mix, x, weight, n);
    if (b->voice) return uf_voice_push(b->voice, x, n);
    for (int from = 0; from < n; from += BLOCK) UF_TRY(take(b, x, weight, from, n - from < BLOCK ? n - from : BLOCK));
    if (n || b->ended) return run_chunks(b);
    b->ended = true;
    UF_TRY(resample_down(b, 0));
    UF_TRY(run_chunks(b));
    return resample_up(b, 0);
}

/* What is above the band at sample k of what waits: between the middles of two hops, a share of either's microphone. */
static float above(const uf_beam *b, size_t k) {
    double at = (double)(b->n_out + (int64_t)k) * RATE / b->o.rate / HOP - .5, t = at - floor(at), sum = 0;
    for (int m = 0; m < b->o.n_mics; m++) {
        const uf_fifo *g = &b->gain[m];
        const mic *c = &b->mic[m];
        int64_t i = (int64_t)floor(at) - g->start, end = (int64_t)g->n - 1, a = i < 0 ? 0 : i > end ? end : i, z = i + 1 < 0 ? 0 : i + 1 > end ? end : i + 1;
        double gain = end < 0 ? 0 : (1 - t) * (double)g->at[a] + t * (double)g->at[z];
        if (gain > 0 && k < c->heard.n) sum += gain * ((double)c->recording.at[k] - (double)c->heard.at[k]);
    }
    return (float)sum;
}

int uf_beam_pull(uf_beam *b, float *y, int most) {
    if (b->mix) return uf_beam_mix_pull(b->mix, y, most);
    if (b->voice) return uf_voice_pull(b->voice, &y, most);
    int64_t left = b->n_in - b->n_out, ready = b->ended ? left : (int64_t)b->result.n;
    if (is_wide(b) && !b->ended && (int64_t)b->mic[0].heard.n < ready) ready = (int64_t)b->mic[0].heard.n;
    int n = (int)(ready < left ? ready : left);
    if (n > most) n = most;
#pragma omp parallel for num_threads(uf_ctx_threads(b->ctx))
    for (int k = 0; k < n; k++) /* resamplers may end a sample early */
        y[k] = ((size_t)k < b->result.n ? b->result.at[k] : 0.f) + (is_wide(b) ? above(b, (size_t)k) : 0.f);
    uf_fifo_drop(&b->result, (size_t)n);
    int64_t hop = (b->n_out + n) * RATE / b->o.rate / HOP - 2;
    for (int m = 0; is_wide(b) && m < b->o.n_mics; m++) {
        uf_fifo_drop(&b->mic[m].recording, (size_t)n);
        uf_fifo_drop(&b->mic[m].heard, (size_t)n);
        if (hop > b->gain[m].start) uf_fifo_drop(&b->gain[m], (size_t)(hop - b->gain[m].start));
    }
    b->n_out += n;
    return n;
}

float uf_beam_weight(const uf_beam *b, int which, int64_t second) { return uf_beam_share_of(&b->share, which, second); }

int uf_beam_leader(const uf_beam *b) {
    int best = 0;
    for (int m = 1; m < b->o.n_mics; m++)
        if (b->share.led[m] > b->share.led[best]) best = m;
    return best;
}

int uf_beam_reference(const uf_beam *b) {
    return b->mix ? uf_beam_mix_reference(b->mix) : b->voice ? 0 : uf_beam_chunk_reference(b->chunk);
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------------- */

/* The network again, with the output that keeps the room. */
static int open_room(uf_beam *b, const char *path) {
    bool can;
    UF_TRY(uf_speech_knows_room(b->ctx, path, &can));
    if (!can) {
        uf_log(b->ctx, UF_LOG_WARN, "the weights '%s' were not trained to keep the room: what the microphones together leave of the noise stays", path);
        return UF_OK;
    }
    return uf_voice_ears_open(&b->room, b->ctx, path, &(uf_voice_ears_options){.most = 2, .float32 = b->o.float32, .keep_room = true});
}

static int open_ears(uf_beam *b, const char *each, const char *together) {
    const uf_beam_options *o = &b->o;
    UF_TRY(uf_voice_ears_open(&b->ears, b->ctx, each, &(uf_voice_ears_options){ .most = o->n_mics, .float32 = o->float32, .again = !o->keep_room }));
    if (together) UF_TRY(uf_voice_ears_open(&b->together, b->ctx, together, &(uf_voice_ears_options){ .most = o->n_mics, .together = true, .float32 = o->float32 }));
    return o->keep_room ? open_room(b, each) : UF_OK;
}

static int beam_open(uf_beam *b) {
    const uf_beam_options *o = &b->o;
    char *each, *together;
    UF_TRY(uf_voice_ears_weights(b->ctx, o->weights, o->weights_dir, &each, &together));
    int err = open_ears(b, each, together);
    free(each);
    free(together);
    UF_TRY(err);
    UF_TRY(uf_beam_chunk_open(&b->chunk, b->ctx, &b->ears,
                              &(uf_beam_chunk_options){ .n_mics = o->n_mics, .reference = o->reference, .home = o->home, .band = o->band, .keep_room = o->keep_room, .together = b->together.n ? &b->together : NULL, .room = b->room.n ? &b->room : NULL,
                                                        .least = o->most > 0 ? pow(10, -o->most / 20) : 0, .most = CHUNK + UNIT }));
    for (int m = 0; m < o->n_mics; m++) UF_TRY(uf_sound_rates_open(b->ctx, &b->down[m], 1, o->rate, RATE, PRECISION));
    for (int i = 0; i < n_up(b); i++) UF_TRY(uf_sound_rates_open(b->ctx, &b->up[i], 1, RATE, o->rate, PRECISION));
    b->block = uf_alloc(b->ctx, (size_t)(o->n_mics + 1) * (CHUNK + UNIT), sizeof(float));
    b->y = uf_alloc(b->ctx, CHUNK + UNIT, sizeof(float));
    if (!b->block || !b->y) return UF_ENOMEM;
    for (int m = 0; m <= o->n_mics; m++) b->planes[m] = b->block + (size_t)m * (CHUNK + UNIT);
    for (int m = 0; m < o->n_mics; m++) {
        b->xs[m] = b->mic[m].x = uf_alloc(b->ctx, CHUNK + UNIT, sizeof(float));
        b->mic[m].there = uf_alloc(b->ctx, (CHUNK + UNIT) / HOP, sizeof(bool));
        if (!b->mic[m].x || !b->mic[m].there) return UF_ENOMEM;
    }
    return UF_OK;
}

int uf_beam_open(uf_beam **out, uf_ctx *ctx, const uf_beam_options *o) {
    uf_beam *b = uf_alloc(ctx, 1, sizeof(*b));
    int err = UF_OK;
    if (!b) return UF_ENOMEM;
    b->ctx = ctx;
    b->o = *o;
    if (o->n_mics < 1 || o->n_mics > MOST || o->rate < 1000 || o->reference >= o->n_mics || o->home >= o->n_mics)
        err = uf_fail(ctx, UF_EUNSUPPORTED, "%d microphones with %d samples a second cannot be merged; up to %d can", o->n_mics, o->rate, MOST);
    else if (o->mix_only || (o->n_mics == 1 && o->keep_room)) /* alone and as it is: a mixture of one */
        err = uf_beam_mix_open(&b->mix, ctx, o->n_mics, o->rate, o->reference, o->band, &b->share);
    else if (o->n_mics == 1)
        err = uf_voice_open(&b->voice, ctx, &(uf_voice_options){ .weights = o->weights, .weights_dir = o->weights_dir, .rate = o->rate, .channels = 1,
                                                                 .most = o->most, .wet = 1, .float32 = o->float32, .again = true });
    else
        err = beam_open(b);
    if (err < 0) uf_beam_close(&b);
    else *out = b;
    return err;
}

void uf_beam_close(uf_beam **pb) {
    uf_beam *b = *pb;
    if (!b) return;
    uf_voice_close(&b->voice);
    uf_beam_mix_close(&b->mix);
    uf_beam_chunk_close(&b->chunk);
    uf_voice_ears_close(&b->ears);
    uf_voice_ears_close(&b->together);
    uf_voice_ears_close(&b->room);
    uf_beam_share_close(&b->share);
    swr_free(&b->up[MOST]);
    for (int m = 0; m < MOST; m++) {
        swr_free(&b->down[m]);
        swr_free(&b->up[m]);
        mic *c = &b->mic[m];
        float *owned[] = { c->recording.at, c->narrow.at, c->heard.at, c->x, b->there[m].at, b->gain[m].at };
        for (int i = 0; i < UF_LEN(owned); i++) free(owned[i]);
        free(c->there);
    }
    free(b->result.at);
    free(b->block);
    free(b->y);
    free(b);
    *pb = NULL;
}
