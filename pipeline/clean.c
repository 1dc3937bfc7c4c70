/* Cleaning the sound of a recording or a film: read, network, write; everything else is copied. */
#include "sound_filter.h"
#include "sound_reader.h"
#include "sound_writer.h"
#include "voice.h"

#include <stdlib.h>

typedef struct job {
    uf_ctx *ctx;
    const uf_clean_options *o;
    uf_sound_reader *reader;
    uf_sound_writer *writer;
    uf_voice *voice;
    uf_sound_filter *mend; /* classical stages before the network, or NULL */
    float **y;
    double started, shown;
    int64_t n_done;
} job;

enum { AT_ONCE = 8192 };

static void tell(job *j, bool last)
{
    double now = uf_now(), rate = uf_sound_reader_rate(j->reader);
    if (!j->o->progress || (!last && now - j->shown < .2)) return;
    j->shown = now;
    double seconds = (double)j->n_done / rate, took = now - j->started;
    uf_progress p = { .n_done = (int64_t)seconds, .n_total = (int64_t)uf_sound_reader_seconds(j->reader), .seconds = took,
                      .fps = took > 0 ? seconds / took : 0, .media_seconds = seconds };
    j->o->progress(j->o->user, &p);
}

static int write_ready(job *j)
{
    int n;
    while ((n = uf_voice_pull(j->voice, j->y, AT_ONCE)) > 0) {
        UF_TRY(uf_sound_writer_write(j->writer, (const float *const *)j->y, n, uf_sound_reader_start(j->reader)));
        j->n_done += n;
        tell(j, false);
    }
    return n;
}

/* n samples to the network, through what mends them; n 0: the end. */
static int take(job *j, const float *const *x, int n)
{
    if (!j->mend) {
        UF_TRY(uf_voice_push(j->voice, x, n));
        return write_ready(j);
    }
    UF_TRY(uf_sound_filter_push(j->mend, x, n));
    for (;;) {
        int ready;
        UF_TRY(uf_sound_filter_pull(j->mend, &x, &ready));
        if (!ready) break;
        UF_TRY(uf_voice_push(j->voice, x, ready));
        UF_TRY(write_ready(j));
    }
    if (n) return UF_OK;
    UF_TRY(uf_voice_push(j->voice, NULL, 0));
    return write_ready(j);
}

static int run(job *j)
{
    uf_sound_item item;
    int err;
    while ((err = uf_sound_reader_next(j->reader, &item)) == UF_OK) {
        if (uf_ctx_cancelled(j->ctx)) return uf_fail(j->ctx, UF_EINTR, "stopped; nothing was written");
        if (item.packet) {
            UF_TRY(uf_sound_writer_copy(j->writer, item.packet));
        } else if (item.n > 0) {
            UF_TRY(take(j, (const float *const *)item.x, item.n));
        }
    }
    if (err != UF_EOF) return err;
    UF_TRY(take(j, NULL, 0));
    int64_t broken = uf_voice_n_broken(j->voice);
    if (broken) uf_log(j->ctx, UF_LOG_WARN, "%lld samples are no numbers: they became silence", (long long)broken);
    UF_TRY(uf_sound_writer_finish(j->writer));
    tell(j, true);
    return UF_OK;
}

/* Clicks and clipped peaks by FFmpeg's autoregressive filters, whose usual way of joining windows changes all samples by -26 dB (m=s does
 * not); hum by notches at the mains' frequency and its harmonics. */
static int open_mend(job *j, int rate, int channels)
{
    enum { HARMONICS = 12 };
    char list[64 * (HARMONICS + 2)];
    int at = 0;
    const uf_clean_options *o = j->o;
    if (o->clips) at += snprintf(list + at, sizeof(list) - (size_t)at, ",adeclip=m=s");
    if (o->clicks) at += snprintf(list + at, sizeof(list) - (size_t)at, ",adeclick=m=s");
    for (int k = 1; o->hum > 0 && k <= HARMONICS && k * o->hum < .45 * rate; k++)
        at += snprintf(list + at, sizeof(list) - (size_t)at, ",bandreject=f=%g:t=h:w=%g", k * o->hum, 2. + .5 * k);
    return at ? uf_sound_filter_open(&j->mend, j->ctx, list + 1, rate, channels) : UF_OK;
}

static int start(job *j, const char *in, const char *out, const char *weights_dir)
{
    const uf_clean_options *o = j->o;
    if (!(o->wet >= 0 && o->wet <= 1 && o->most >= 0 && o->hum >= 0 && o->hum < 1000))
        return uf_fail(j->ctx, UF_EINVAL, "wet is a share from 0 to 1, the attenuation a number of dB, and hum a number of Hz");
    UF_TRY(uf_sound_reader_open(&j->reader, j->ctx, in));
    UF_TRY(uf_sound_writer_open(&j->writer, j->ctx, out, o->overwrite));
    UF_TRY(uf_sound_writer_start(j->writer, uf_sound_reader_format(j->reader), in, uf_sound_reader_stream(j->reader),
                                 uf_sound_reader_codec(j->reader)));
    int channels = uf_sound_reader_channels(j->reader);
    j->y = uf_alloc(j->ctx, (size_t)channels, sizeof(*j->y));
    if (!j->y) return UF_ENOMEM;
    for (int i = 0; i < channels; i++)
        if (!(j->y[i] = uf_alloc(j->ctx, AT_ONCE, sizeof(float)))) return UF_ENOMEM;
    UF_TRY(open_mend(j, uf_sound_reader_rate(j->reader), channels));
    return uf_voice_open(&j->voice, j->ctx, &(uf_voice_options){ .weights = o->weights, .weights_dir = weights_dir,
                         .rate = uf_sound_reader_rate(j->reader), .channels = channels, .most = o->most,
                         .wet = o->wet > 0 ? o->wet : 1, .float32 = o->float32 });
}

int uf_sound_clean(uf_ctx *ctx, const char *in, const char *out, const uf_clean_options *o, const char *weights_dir)
{
    job j = { .ctx = ctx, .o = o, .started = uf_now() };
    int err = start(&j, in, out, weights_dir);
    if (err == UF_OK) err = run(&j);
    for (int i = 0; j.y && i < uf_sound_reader_channels(j.reader); i++) free(j.y[i]);
    free(j.y);
    uf_sound_filter_close(&j.mend);
    uf_voice_close(&j.voice);
    uf_sound_writer_close(&j.writer);
    uf_sound_reader_close(&j.reader);
    return err;
}

int uf_clean(uf_ctx *ctx, const char *in, const char *out, const uf_clean_options *options)
{
    return uf_sound_clean(ctx, in, out, options ? options : &(uf_clean_options){ 0 }, NULL);
}
