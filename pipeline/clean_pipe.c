/* Cleaning sound while it is being made: a pipe in, a pipe out, as late as the network must be and no later. */
#include "models.h"
#include "sound_pipe.h"
#include "voice.h"

#include <stdlib.h>

enum { AT_ONCE = 2048 };

typedef struct job {
    uf_ctx *ctx;
    const uf_clean_options *o;
    uf_sound_source *source;
    uf_sound_sink *sink;
    uf_voice *voice;
    int channels;
    float **y;
} job;

static int write_ready(job *j) {
    int n;
    while ((n = uf_voice_pull(j->voice, j->y, AT_ONCE)) > 0) UF_TRY(uf_sound_sink_write(j->sink, (const float *const *)j->y, n));
    return UF_OK;
}

/* Until the source ends, or nobody reads what is made of it (UF_EOF). */
static int run(job *j) {
    float *const *x;
    int n, err;
    while ((err = uf_sound_source_next(j->source, &x, &n)) == UF_OK) {
        UF_TRY(uf_voice_push(j->voice, (const float *const *)x, n));
        UF_TRY(write_ready(j));
    }
    if (err != UF_EOF) return err;
    UF_TRY(uf_voice_push(j->voice, NULL, 0));
    return write_ready(j);
}

static int start(job *j, int from, int to, const uf_pipe_sound *p, const char *weights) {
    const uf_clean_options *o = j->o;
    UF_TRY(uf_sound_source_open(&j->source, j->ctx, from, p));
    const AVCodecContext *codec = uf_sound_source_codec(j->source);
    j->channels = codec->ch_layout.nb_channels;
    UF_TRY(uf_voice_open(&j->voice, j->ctx, &(uf_voice_options){ .weights = weights, .rate = codec->sample_rate, .channels = j->channels, .most = o->most,
                         .wet = o->wet > 0 ? o->wet : 1, .live = true, .keep_room = o->keep_room }));
    j->y = uf_alloc(j->ctx, (size_t)j->channels, sizeof(*j->y));
    if (!j->y) return UF_ENOMEM;
    for (int i = 0; i < j->channels; i++)
        if (!(j->y[i] = uf_alloc(j->ctx, AT_ONCE, sizeof(float)))) return UF_ENOMEM;
    UF_TRY(uf_sound_sink_open(&j->sink, j->ctx, to, p->format, codec));
    uf_log(j->ctx, UF_LOG_INFO, "live: %d Hz, %d channel%s, latency %.1f ms", codec->sample_rate, j->channels, j->channels > 1 ? "s" : "",
           1000 * uf_voice_latency(j->voice));
    return UF_OK;
}

int uf_sound_clean_pipe(uf_ctx *ctx, int from, int to, const uf_pipe_sound *p, const uf_clean_options *o, const char *weights_dir) {
    job j = { .ctx = ctx, .o = o };
    char *weights = NULL; /* whether they are there is told before anybody speaks */
    if (o->loudness < 0 || o->hum > 0 || o->clicks || o->clips || o->highs)
        return uf_fail(ctx, UF_EINVAL, "what comes through a pipe is cleaned by the network alone; leave --loudness, --hum, --clicks, --clips and "
                       "--highs out, "
                       "or give files");
    int err = uf_weights_choose(ctx, o->weights, uf_model_speech_live.file, weights_dir, &weights);
    if (err == UF_OK) err = start(&j, from, to, p, weights);
    if (err == UF_OK) err = run(&j);
    if (err == UF_EOF) { /* a player that was closed: nothing went wrong here */
        uf_log(ctx, UF_LOG_INFO, "nobody reads the sound any more: ended");
        err = UF_OK;
    }
    int64_t broken = j.voice ? uf_voice_n_broken(j.voice) : 0;
    if (broken) uf_log(ctx, UF_LOG_WARN, "%lld samples are no numbers: they became silence", (long long)broken);
    for (int i = 0; j.y && i < j.channels; i++) free(j.y[i]);
    free(j.y);
    uf_voice_close(&j.voice);
    uf_sound_sink_close(&j.sink);
    uf_sound_source_close(&j.source);
    free(weights);
    return err;
}
