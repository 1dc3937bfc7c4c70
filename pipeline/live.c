#include "live.h"

#include "fft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FFT = UF_SPEECH_FFT, HOP = UF_LIVE_HOP, BINS = FFT / 2 + 1 };

/* The network has learnt sound between these levels; what is always quieter or louder is brought there. */
static const double quietest = .01, loudest = .15, first_level = .05, most_gain = 30;
static const double memory = 3; /* s over which the level is felt */

/* All that a channel remembers beside the network's states. */
typedef struct channel {
    float frame[FFT];     /* the last window: the hop before, and the newest */
    float tail[HOP];      /* what the last frame adds to the next hop */
    float ready[HOP];     /* a hop of the voice */
    double power;         /* mean square of late */
} channel;

struct uf_live {
    uf_ctx *ctx;
    uf_params *params;
    uf_graph *graph;
    uf_plan *plan;
    uf_built net;
    uf_node *voice; /* of net: what is wanted */
    float *state[UF_MAX_STATES]; /* the network's: what the last frame left to the next, each of its node's shape */
    channel *channel;
    int n_channels;
    uf_fft fft;
    float window[FFT], envelope[HOP]; /* envelope: sum of the two squared windows over a sample */
    float *spectrum;                  /* (n_channels,2,1,BINS) */
    int64_t n_frames;
    bool full, ended; /* `ready` holds a hop */
};

static int net_open(uf_live *l, const char *weights) {
    uf_plan_options plan = { .mode = UF_INFER, .dtype = UF_F32, .n_threads = 1 };
    UF_TRY(uf_params_open(&l->params, l->ctx, 0));
    uf_params_blank(l->params);
    UF_TRY(uf_graph_open(&l->graph, l->ctx, l->params));
    uf_graph_training(l->graph, false);
    UF_TRY(uf_model_speech_live.stream(l->graph, l->n_channels, 1, &l->net));
    l->voice = uf_output(l->net.keep_room ? l->net.room : l->net.out);
    UF_TRY(uf_model_load(l->ctx, &uf_model_speech_live, l->params, weights));
    for (int i = 0; i < l->net.n_states; i++)
        if (!(l->state[i] = uf_alloc(l->ctx, uf_count(l->net.state[i].before->shape), sizeof(float)))) return UF_ENOMEM;
    return uf_plan_open(&l->plan, l->ctx, l->graph, &plan);
}

static int buffers_open(uf_live *l) {
    l->channel = uf_alloc(l->ctx, (size_t)l->n_channels, sizeof(*l->channel));
    l->spectrum = uf_alloc(l->ctx, (size_t)l->n_channels * 2 * BINS, sizeof(float));
    if (!l->channel || !l->spectrum) return UF_ENOMEM;
    if (!uf_fft_open(&l->fft, FFT)) return uf_fail(l->ctx, UF_ENOMEM, "out of memory for sound; close other programs");
    uf_fft_window(FFT, l->window);
    for (int i = 0; i < HOP; i++) l->envelope[i] = l->window[HOP + i] * l->window[HOP + i] + l->window[i] * l->window[i];
    for (int c = 0; c < l->n_channels; c++) l->channel[c].power = first_level * first_level;
    return UF_OK;
}

int uf_live_open(uf_live **out, uf_ctx *ctx, const char *weights, int channels, bool keep_room) {
    uf_live *l = uf_alloc(ctx, 1, sizeof(*l));
    if (!l) return UF_ENOMEM;
    l->ctx = ctx;
    l->n_channels = channels;
    l->net.keep_room = keep_room;
    int err = net_open(l, weights);
    if (err == UF_OK) err = buffers_open(l);
    if (err < 0) uf_live_close(&l);
    else *out = l;
    return err;
}

void uf_live_close(uf_live **pl) {
    uf_live *l = *pl;
    if (!l) return;
    uf_plan_close(&l->plan);
    uf_graph_close(&l->graph);
    uf_params_close(&l->params);
    uf_fft_close(&l->fft);
    for (int i = 0; i < UF_MAX_STATES; i++) free(l->state[i]);
    free(l->channel);
    free(l->spectrum);
    free(l);
    *pl = NULL;
}

/* Moves the window on by a hop; both ends of the recording are reflected, as the network's own transform has them. */
static void advance(const uf_live *l, channel *c, const float *x) {
    float before = c->frame[HOP - 1];
    memmove(c->frame, c->frame + HOP, HOP * sizeof(float));
    if (x) memcpy(c->frame + HOP, x, HOP * sizeof(float));
    else
        for (int i = 0; i < HOP; i++) c->frame[HOP + i] = i < HOP - 1 ? c->frame[HOP - 2 - i] : before;
    if (l->n_frames) return;
    c->frame[0] = 0; /* the window is 0 there */
    for (int i = 1; i < HOP; i++) c->frame[i] = x[HOP - i];
}

/* What the channel is made louder by before the network hears it. */
static double gain_of(channel *c) {
    double sum = 0, share = HOP / (memory * UF_LIVE_RATE);
    for (int i = HOP; i < FFT; i++) sum += (double)c->frame[i] * (double)c->frame[i];
    c->power += share * (fmin(sum / HOP, 100) - c->power);
    double level = fmax(sqrt(c->power), sqrt(sum / HOP) / 50) + 1e-9; /* samples beyond all measure must not leave a trace in the states */
    return level < quietest ? fmin(quietest / level, most_gain) : level > loudest ? loudest / level : 1;
}

static void analyse(uf_live *l, const channel *c, float gain, float *bins) {
    for (int i = 0; i < FFT; i++) l->fft.time[i] = l->window[i] * (gain * c->frame[i]);
    uf_fft_forward(&l->fft);
    for (int b = 0; b < BINS; b++) {
        bins[b] = l->fft.bins[b][0];
        bins[BINS + b] = l->fft.bins[b][1];
    }
}

/* Adds the frame's voice to what the frame before left of it. */
static void synthesise(uf_live *l, channel *c, float gain, const float *bins) {
    for (int b = 0; b < BINS; b++) {
        l->fft.bins[b][0] = bins[b];
        l->fft.bins[b][1] = b == 0 || b == BINS - 1 ? 0.f : bins[BINS + b];
    }
    uf_fft_inverse(&l->fft);
    for (int i = 0; i < FFT; i++) l->fft.time[i] = l->window[i] * l->fft.time[i] / (float)FFT / gain;
    for (int i = 0; i < HOP; i++) c->ready[i] = (c->tail[i] + l->fft.time[i]) / l->envelope[i];
    memcpy(c->tail, l->fft.time + HOP, sizeof(c->tail));
}

/* One frame through the network: its states go from this one to the next. */
static int listen(uf_live *l) {
    for (int i = 0; i < l->net.n_states; i++) UF_TRY(uf_plan_set(l->plan, l->net.state[i].before, l->state[i]));
    UF_TRY(uf_plan_set(l->plan, l->net.spectrum, l->spectrum));
    UF_TRY(uf_plan_run(l->plan));
    for (int i = 0; i < l->net.n_states; i++) UF_TRY(uf_plan_get(l->plan, l->net.state[i].after, l->state[i]));
    return uf_plan_get(l->plan, l->voice, l->spectrum);
}

int uf_live_push(uf_live *l, const float *const *x) {
    float gain[64];
    if (l->ended || l->n_channels > UF_LEN(gain)) return uf_fail(l->ctx, UF_EINVAL, "no sound is taken after its end, nor of more than 64 channels");
    l->ended = !x;
    if (!x && !l->n_frames) return UF_OK;
    for (int i = 0; i < l->n_channels; i++) {
        channel *c = &l->channel[i];
        advance(l, c, x ? x[i] : NULL);
        gain[i] = (float)gain_of(c);
        analyse(l, c, gain[i], l->spectrum + (size_t)i * 2 * BINS);
    }
    UF_TRY(listen(l));
    for (int i = 0; i < l->n_channels; i++) synthesise(l, &l->channel[i], gain[i], l->spectrum + (size_t)i * 2 * BINS);
    l->full = l->n_frames++ > 0;
    return UF_OK;
}

int uf_live_pull(uf_live *l, float *const *y) {
    if (!l->full) return 0;
    for (int i = 0; i < l->n_channels; i++) memcpy(y[i], l->channel[i].ready, HOP * sizeof(float));
    l->full = false;
    return HOP;
}
