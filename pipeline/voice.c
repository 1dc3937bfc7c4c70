#include "voice.h"

#include "live.h"
#include "sound_fifo.h"
#include "sound_reader.h"
#include "voice_net.h"

#include <stdlib.h>
#include <string.h>

/* The network sees chunks of 10 s: the second at each end is only looked at, so that what is kept has been heard from both sides; 50 ms
 * to each side of a seam fade into each other. Samples at 16 kHz; `speech-wide` takes UF_SPEECH_WIDER times as many. */
enum { RATE = UF_LIVE_RATE, KEPT = 128000, AROUND = 16000, FADE = 800, STEP = UF_SPEECH_HOP, BLOCK = 4096, PRECISION = 24 };

typedef struct lengths { /* the same at the network's rate */
    int rate, kept, around, chunk, fade, step;
} lengths;

typedef struct channel {
    uf_fifo recording;       /* at the stream's own rate, what is not yet given out */
    uf_fifo due;          /* at the network's rate, what it still needs */
    uf_fifo removed, heard;  /* of the network's rate, back at the stream's: what is taken away; all that the network heard */
    uf_fifo high_gain;       /* one a step of the network: what is left of the sound above its band */
    float tail[2 * FADE * UF_SPEECH_WIDER]; /* the last chunk's opinion of the next seam */
} channel;

struct uf_voice {
    uf_ctx *ctx;
    uf_voice_options o;
    uf_voice_net net;
    uf_live *live;         /* instead of net */
    lengths l;
    int64_t n_due;      /* samples at the network's rate, known at the end */
    channel *channel;
    SwrContext *down, *up; /* up: all `removed`, then all `heard` */
    float *in, *out;       /* a chunk and a seam each */
    float **planes;        /* 2*channels */
    float *block;          /* 2*channels blocks */
    int64_t chunk, n_out, n_broken; /* chunks done; samples of the stream given out; not numbers */
    bool ended;
    float least;           /* amplitude that noise keeps */
};

/* ---- rates ------------------------------------------------------------------------------------------------------------ */

static int resample_down(uf_voice *v, int n) {
    uf_fifo *to[64];
    for (int i = 0; i < v->o.channels; i++) to[i] = &v->channel[i].due;
    return uf_fifo_resample(v->ctx, v->down, v->planes, n, v->o.channels, to);
}

static int resample_up(uf_voice *v, int n) {
    uf_fifo *to[128];
    int c = v->o.channels;
    for (int i = 0; i < 2 * c; i++) to[i] = i < c ? &v->channel[i].removed : &v->channel[i - c].heard;
    return uf_fifo_resample(v->ctx, v->up, v->planes, n, 2 * c, to);
}

/* ---- the network ------------------------------------------------------------------------------------------------------ */

/* For the sound above the network's band, step by step. */
static int add_gains(uf_voice *v, channel *c, const float *heard, const float *left, int n) {
    for (int at = 0; at < n; at += v->l.step) {
        float gain = fminf(uf_voice_gain_above(heard, left, at, at + v->l.step < n ? at + v->l.step : n), 1);
        UF_TRY(uf_fifo_add(v->ctx, &c->high_gain, &gain, 1));
    }
    return UF_OK;
}

/* Chunk number v->chunk of one channel: its kept samples [first, first + n) of `due`, with the seam before it. */
static int run_chunk(uf_voice *v, channel *c, int64_t first, int n, bool last) {
    const uf_fifo *f = &c->due;
    int64_t from = first - v->l.around;
    for (int i = 0; i < v->net.size; i++) {
        int64_t at = from + i - f->start;
        v->in[i] = at >= 0 && at < (int64_t)f->n ? f->at[at] : 0.f;
    }
    UF_TRY(uf_voice_net_hear(&v->net, v->in, v->out));
    if (v->net.o.again) UF_TRY(uf_voice_net_hear_again(&v->net, v->in, v->out));
    float *out = v->out + v->l.around, *in = v->in + v->l.around; /* of the sample `first` */
    int before = first ? v->l.fade : 0, end = last ? n : n - v->l.fade;
    for (int i = 0; i < 2 * before; i++) {
        float t = ((float)i + .5f) / (2 * v->l.fade);
        out[i - before] = t * out[i - before] + (1.f - t) * c->tail[i];
    }
    if (!last) memcpy(c->tail, out + n - v->l.fade, (size_t)(2 * v->l.fade) * sizeof(*c->tail));
    UF_TRY(add_gains(v, c, in - before, out - before, end + before));
    for (int i = -before; i < end; i++) out[i] = (in[i] - out[i]) * (1.f - v->least); /* from here on: what is taken away */
    return end + before;
}

/* As many chunks as there is sound for. */
static int run_chunks(uf_voice *v) {
    for (;;) {
        int64_t first = v->chunk * v->l.kept, have = v->channel->due.start + (int64_t)v->channel->due.n;
        bool last = v->ended && have <= first + v->l.kept + v->l.fade; /* what is shorter than a seam goes with what is before it */
        if (v->ended ? have <= first : have < first + v->l.kept + v->l.around) return UF_OK;
        int n = last ? (int)(have - first) : v->l.kept, size = last ? (n + 2 * v->l.around + v->l.step - 1) / v->l.step * v->l.step : v->l.chunk, done = 0;
        UF_TRY(uf_voice_net_resize(&v->net, size));
        for (int i = 0; i < v->o.channels; i++) {
            channel *c = &v->channel[i];
            done = run_chunk(v, c, first, n, last);
            if (done < 0) return done;
            int64_t at = first - (first ? v->l.fade : 0) - c->due.start;
            float *removed = v->out + v->l.around - (first ? v->l.fade : 0);
            memcpy(v->planes[i], removed, (size_t)done * sizeof(*removed));
            memcpy(v->planes[v->o.channels + i], c->due.at + at, (size_t)done * sizeof(float));
        }
        UF_TRY(resample_up(v, done));
        v->chunk++;
        for (int i = 0; i < v->o.channels; i++) {
            int64_t keep = v->chunk * v->l.kept - v->l.around - v->l.fade;
            if (keep > v->channel[i].due.start) uf_fifo_drop(&v->channel[i].due, (size_t)(keep - v->channel[i].due.start));
        }
        if (last) return UF_OK;
    }
}

/* ---- live ---------------------------------------------------------------------------------------------------------------- */

/* The voice of the hop `first` is in v->planes: what it lacks goes back to the stream's rate. */
static int give_hop(uf_voice *v, int64_t first) {
    int n = v->ended && v->n_due - first < v->l.step ? (int)(v->n_due - first) : v->l.step, channels = v->o.channels;
    for (int i = 0; i < channels; i++) {
        channel *c = &v->channel[i];
        const float *in = c->due.at + (first - c->due.start);
        float *out = v->planes[i];
        UF_TRY(add_gains(v, c, in, out, n));
        for (int k = 0; k < n; k++) out[k] = (in[k] - out[k]) * (1.f - v->least);
        memcpy(v->planes[channels + i], in, (size_t)n * sizeof(float));
    }
    return resample_up(v, n);
}

/* As many hops as there is sound for; `due` keeps the last one, whose voice comes with the next. */
static int run_hops(uf_voice *v) {
    const float *from[64];
    for (;;) {
        int64_t next = v->chunk * v->l.step, have = v->channel->due.start + (int64_t)v->channel->due.n;
        bool last = v->ended && have <= next;
        if (!last && have < next + v->l.step) return UF_OK;
        for (int i = 0; i < v->o.channels; i++) from[i] = v->channel[i].due.at + (next - v->channel[i].due.start);
        UF_TRY(uf_live_push(v->live, last ? NULL : from));
        if (uf_live_pull(v->live, v->planes)) UF_TRY(give_hop(v, next - v->l.step));
        if (last) return UF_OK;
        for (int i = 0; i < v->o.channels; i++) uf_fifo_drop(&v->channel[i].due, (size_t)(next - v->channel[i].due.start));
        v->chunk++;
    }
}

/* The last hop is filled up with silence. */
static int end_hops(uf_voice *v) {
    static const float silence[STEP];
    v->n_due = v->channel->due.start + (int64_t)v->channel->due.n;
    for (int i = 0; i < v->o.channels; i++) UF_TRY(uf_fifo_add(v->ctx, &v->channel[i].due, silence, (size_t)((v->l.step - v->n_due % v->l.step) % v->l.step)));
    return run_hops(v);
}

double uf_voice_latency(const uf_voice *v) {
    return (double)UF_LIVE_LATENCY / v->l.rate + uf_sound_rates_delay(v->o.rate, v->l.rate) + uf_sound_rates_delay(v->l.rate, v->o.rate);
}

/* ---- in and out --------------------------------------------------------------------------------------------------------- */

static lengths lengths_at(int wider) {
    return (lengths){ .rate = wider * RATE, .kept = wider * KEPT, .around = wider * AROUND, .chunk = wider * (KEPT + 2 * AROUND), .fade = wider * FADE, .step = wider * STEP };
}

/* The network and the ways to its rate and back. */
static int network_open(uf_voice *v) {
    const uf_voice_options *o = &v->o;
    const uf_model *m = o->live ? &uf_model_speech_live : o->rate > RATE ? &uf_model_speech_wide : &uf_model_speech;
    char *weights = NULL;
    UF_TRY(uf_weights_choose(v->ctx, o->weights, m->file, o->weights_dir, &weights));
    int err = o->weights && !o->live ? uf_speech_kind(v->ctx, weights, &m) : UF_OK;
    if (err == UF_OK && o->keep_room) err = uf_speech_need_room(v->ctx, weights);
    v->l = lengths_at(m->rate / RATE);
    if (err < 0 || o->live) {
        if (err == UF_OK) err = uf_live_open(&v->live, v->ctx, weights, o->channels, o->keep_room);
        free(weights);
        UF_TRY(err);
        UF_TRY(uf_sound_rates_open_quick(v->ctx, &v->down, o->channels, o->rate, v->l.rate));
        return uf_sound_rates_open_quick(v->ctx, &v->up, 2 * o->channels, v->l.rate, o->rate);
    }
    UF_TRY(uf_voice_net_open(&v->net, v->ctx, weights, &(uf_voice_net_options){.model = m, .float32 = o->float32, .keep_room = o->keep_room, .again = o->again}));
    UF_TRY(uf_sound_rates_open(v->ctx, &v->down, o->channels, o->rate, v->l.rate, PRECISION));
    return uf_sound_rates_open(v->ctx, &v->up, 2 * o->channels, v->l.rate, o->rate, PRECISION);
}

int uf_voice_open(uf_voice **out, uf_ctx *ctx, const uf_voice_options *o) {
    uf_voice *v = uf_alloc(ctx, 1, sizeof(*v));
    int err = UF_OK;
    if (!v) return UF_ENOMEM;
    v->ctx = ctx;
    v->o = *o;
    v->least = o->most > 0 ? (float)pow(10, -o->most / 20) : 0.f;
    if (o->channels < 1 || o->channels > 64 || o->rate < 1000)
        err = uf_fail(ctx, UF_EUNSUPPORTED, "sound with %d channels and %d samples a second cannot be cleaned", o->channels, o->rate);
    if (err == UF_OK) err = network_open(v);
    size_t planes = 2 * (size_t)(err == UF_OK ? o->channels : 0), plane = (size_t)(o->live ? BLOCK : v->l.chunk + v->l.fade);
    if (err == UF_OK) {
        v->channel = uf_alloc(ctx, (size_t)o->channels, sizeof(*v->channel));
        v->in = uf_alloc(ctx, o->live ? 1 : (size_t)(v->l.chunk + 2 * v->l.step + v->l.fade), sizeof(float));
        v->out = uf_alloc(ctx, o->live ? 1 : (size_t)(v->l.chunk + 2 * v->l.step + v->l.fade), sizeof(float));
        v->planes = uf_alloc(ctx, planes, sizeof(*v->planes));
        v->block = uf_alloc(ctx, plane * planes, sizeof(float));
        if (!v->channel || !v->in || !v->out || !v->planes || !v->block) err = UF_ENOMEM;
    }
    for (size_t i = 0; err == UF_OK && i < planes; i++) v->planes[i] = v->block + plane * i;
    if (err < 0) uf_voice_close(&v);
    else *out = v;
    return err;
}

void uf_voice_close(uf_voice **pv) {
    uf_voice *v = *pv;
    if (!v) return;
    uf_voice_net_close(&v->net);
    uf_live_close(&v->live);
    swr_free(&v->down);
    swr_free(&v->up);
    for (int i = 0; v->channel && i < v->o.channels; i++) {
        channel *c = &v->channel[i];
        uf_fifo *all[] = { &c->recording, &c->due, &c->removed, &c->heard, &c->high_gain };
        for (int k = 0; k < UF_LEN(all); k++) free(all[k]->at);
    }
    free(v->channel);
    free(v->in);
    free(v->out);
    free(v->planes);
    free(v->block);
    free(v);
    *pv = NULL;
}

int uf_voice_push(uf_voice *v, const float *const *x, int n) {
    for (int from = 0; from < n; from += BLOCK) {
        int some = n - from < BLOCK ? n - from : BLOCK;
        for (int i = 0; i < v->o.channels; i++) {
            float *to = v->planes[i];
            for (int k = 0; k < some; k++) {
                to[k] = isfinite(x[i][from + k]) ? x[i][from + k] : 0.f;
                v->n_broken += !isfinite(x[i][from + k]);
            }
            UF_TRY(uf_fifo_add(v->ctx, &v->channel[i].recording, to, (size_t)some));
        }
        UF_TRY(resample_down(v, some));
    }
    if (!n && !v->ended) {
        v->ended = true;
        UF_TRY(resample_down(v, 0));
        UF_TRY(v->live ? end_hops(v) : run_chunks(v));
        return resample_up(v, 0);
    }
    return v->live ? run_hops(v) : run_chunks(v);
}

/* Gain for the sound above the network's band at a sample of the stream, between the middles of two steps; live, where the next step is not
 * known, between the ends. */
static float high_gain_at(const uf_voice *v, const channel *c, int64_t sample) {
    double at = (double)sample * v->l.rate / v->o.rate / v->l.step - (v->live ? 1 : .5);
    int64_t i = (int64_t)floor(at) - c->high_gain.start, end = (int64_t)c->high_gain.n - 1;
    double t = at - floor(at);
    if (end < 0) return 1.f;
    int64_t a = i < 0 ? 0 : i > end ? end : i, b = i + 1 < 0 ? 0 : i + 1 > end ? end : i + 1;
    return (float)((1 - t) * (double)c->high_gain.at[a] + t * (double)c->high_gain.at[b]);
}

int uf_voice_pull(uf_voice *v, float *const *y, int most) {
    size_t n = (size_t)most;
    for (int i = 0; i < v->o.channels; i++) {
        const channel *c = &v->channel[i];
        size_t ready = v->ended ? c->recording.n : c->removed.n < c->heard.n ? c->removed.n : c->heard.n;
        if (ready < n) n = ready;
        if (c->recording.n < n) n = c->recording.n;
    }
    for (int i = 0; i < v->o.channels; i++) {
        channel *c = &v->channel[i];
        for (size_t k = 0; k < n; k++) { /* resamplers may end a sample early: nothing is taken away there */
            float x = c->recording.at[k], away = k < c->removed.n ? c->removed.at[k] : 0.f;
            if (v->o.rate > v->l.rate && k < c->heard.n) {
                float gain = fmaxf(high_gain_at(v, c, v->n_out + (int64_t)k), v->least);
                away += (1.f - gain) * (x - c->heard.at[k]);
            }
            y[i][k] = x - (float)v->o.wet * away;
        }
        uf_fifo_drop(&c->recording, n);
        uf_fifo_drop(&c->removed, n);
        uf_fifo_drop(&c->heard, n);
        int64_t step = (v->n_out + (int64_t)n) * v->l.rate / v->o.rate / v->l.step - 2;
        if (step > c->high_gain.start) uf_fifo_drop(&c->high_gain, (size_t)(step - c->high_gain.start));
    }
    v->n_out += (int64_t)n;
    return (int)n;
}

int64_t uf_voice_n_broken(const uf_voice *v) { return v->n_broken; }
