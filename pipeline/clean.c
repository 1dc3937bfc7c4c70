/* Cleaning the sound of a recording or a film: read, network, write; everything else is copied. */
#include "clipping.h"
#include "declip.h"
#include "highs.h"
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
    uf_declip *declip;     /* what the network is to hear mended goes through these two, or NULL */
    uf_sound_filter *mend;
    uf_highs *highs;       /* behind it, or NULL */
    double rolloff;        /* of the recording, Hz; 0: not measured */
    double *top;           /* a channel, where its peaks were cut off, of full scale; NULL: not measured */
    int rate;              /* of the result */
    uf_sound_filter *last; /* behind it: the meter of loudness in the first of two passes, a limiter in the second, or NULL */
    bool measuring;        /* nothing is written */
    double gain;
    const char *in;
    float **y;
    double started, shown;
    int64_t n_done;
} job;

enum { AT_ONCE = 8192 };

static void tell(job *j, bool last) {
    double now = uf_now(), rate = uf_sound_reader_rate(j->reader);
    if (!j->o->progress || (!last && now - j->shown < .2)) return;
    j->shown = now;
    double seconds = (double)j->n_done / rate, total = uf_sound_reader_seconds(j->reader) * (j->o->loudness < 0 ? 2 : 1), took = now - j->started;
    uf_progress p = { .n_done = (int64_t)seconds, .n_total = (int64_t)total, .seconds = took,
                      .fps = took > 0 ? seconds / took : 0, .media_seconds = seconds };
    j->o->progress(j->o->user, &p);
}

static int write_samples(job *j, const float *const *x, int n) {
    return j->measuring ? UF_OK : uf_sound_writer_write(j->writer, x, n, uf_sound_reader_start(j->reader));
}

/* n samples to the writer, through what stands last; n 0: the end. */
static int give(job *j, float *const *y, int n) {
    const float *const *x = (const float *const *)y;
    for (int c = 0; j->gain != 1 && c < uf_sound_reader_channels(j->reader); c++)
        for (int i = 0; i < n; i++) y[c][i] *= (float)j->gain;
    if (!j->last) return n ? write_samples(j, x, n) : UF_OK;
    UF_TRY(uf_sound_filter_push(j->last, x, n));
    for (;;) {
        UF_TRY(uf_sound_filter_pull(j->last, &x, &n));
        if (!n) return UF_OK;
        UF_TRY(write_samples(j, x, n));
    }
}

/* n samples of what the network made, with what is above them where that is wanted; n 0: the end. */
static int extend(job *j, int n) {
    float *const *x = j->y;
    if (j->highs) {
        UF_TRY(uf_highs_push(j->highs, (const float *const *)j->y, n));
        bool end = !n;
        UF_TRY(uf_highs_pull(j->highs, &x, &n));
        if (n) UF_TRY(give(j, x, n));
        return end ? give(j, NULL, 0) : UF_OK;
    }
    return give(j, x, n);
}

static int write_ready(job *j) {
    int n;
    while ((n = uf_voice_pull(j->voice, j->y, AT_ONCE)) > 0) {
        UF_TRY(extend(j, n));
        j->n_done += n;
        tell(j, false);
    }
    return n;
}

/* n samples to the network; n 0: the end. */
static int hear(job *j, const float *const *x, int n) {
    UF_TRY(uf_voice_push(j->voice, x, n));
    return write_ready(j);
}

/* The same, after clicks and hum. */
static int mend(job *j, const float *const *x, int n) {
    bool end = !n;
    if (!j->mend) return hear(j, x, n);
    UF_TRY(uf_sound_filter_push(j->mend, x, n));
    do {
        UF_TRY(uf_sound_filter_pull(j->mend, &x, &n));
        if (n) UF_TRY(hear(j, x, n));
    } while (n);
    return end ? hear(j, NULL, 0) : UF_OK;
}

/* The same, after clipped peaks. */
static int take(job *j, const float *const *x, int n) {
    bool end = !n;
    if (!j->declip) return mend(j, x, n);
    UF_TRY(uf_declip_push(j->declip, x, n));
    do {
        UF_TRY(uf_declip_pull(j->declip, &x, &n));
        if (n) UF_TRY(mend(j, x, n));
    } while (n);
    return end ? mend(j, NULL, 0) : UF_OK;
}

static int run(job *j) {
    uf_sound_item item;
    int err;
    while ((err = uf_sound_reader_next(j->reader, &item)) == UF_OK) {
        if (uf_ctx_cancelled(j->ctx)) return uf_fail(j->ctx, UF_EINTR, "stopped; nothing was written");
        if (item.packet) {
            if (!j->measuring) UF_TRY(uf_sound_writer_copy(j->writer, item.packet));
        } else if (item.n > 0) {
            UF_TRY(take(j, (const float *const *)item.x, item.n));
        }
    }
    if (err != UF_EOF) return err;
    UF_TRY(take(j, NULL, 0));
    UF_TRY(extend(j, 0));
    if (j->measuring) return UF_OK;
    int64_t broken = uf_voice_n_broken(j->voice);
    if (broken) uf_log(j->ctx, UF_LOG_WARN, "%lld samples are no numbers: they became silence", (long long)broken);
    UF_TRY(uf_sound_writer_finish(j->writer));
    tell(j, true);
    return UF_OK;
}

/* Clicks by FFmpeg's autoregressive filter, whose usual way of joining windows changes all samples by -26 dB (m=s does not); hum by notches at the mains' frequency and its harmonics. */
static int open_mend(job *j, int rate, int channels) {
    enum { HARMONICS = 12 };
    char list[64 * (HARMONICS + 2)];
    int at = 0;
    const uf_clean_options *o = j->o;
    if (o->clips) UF_TRY(uf_declip_open(&j->declip, j->ctx, rate, channels, j->top));
    if (o->clicks) at += snprintf(list + at, sizeof(list) - (size_t)at, ",adeclick=m=s");
    for (int k = 1; o->hum > 0 && k <= HARMONICS && k * o->hum < .45 * rate; k++)
        at += snprintf(list + at, sizeof(list) - (size_t)at, ",bandreject=f=%g:t=h:w=%g", k * o->hum, 2. + .5 * k);
    return at ? uf_sound_filter_open(&j->mend, j->ctx, list + 1, rate, channels) : UF_OK;
}

static void tell_band(job *j, int rate, const uf_rolloff *r) {
    j->rolloff = fmin(uf_rolloff_hertz(r), .97 * .5 * rate); /* changes of the rate end a little below the half */
    bool adds = uf_highs_adds(&(uf_highs_options){ .rate_out = uf_highs_rate(rate), .rolloff = j->rolloff });
    uf_log(j->ctx, UF_LOG_INFO, "the sound of '%s' goes up to %.1f kHz: %s", j->in, j->rolloff / 1000, adds ? "highs are added above" : "no highs are added");
}

/* A few runs of equal samples at the top are nothing that anybody hears. */
static void tell_clipping(job *j, int channels, const uf_clipping *found) {
    enum { FEW = 5 };
    int most = 0;
    double lowest = 1, at;
    for (int c = 0; c < channels; c++) {
        int n = uf_clipping_found(&found[c], &at);
        j->top[c] = n > FEW ? at : 1;
        lowest = fmin(lowest, j->top[c]);
        most = n > most ? n : most;
    }
    if (lowest < 1) uf_log(j->ctx, UF_LOG_INFO, "peaks of '%s' were cut off, and made quieter after that: %.1f dB below full scale", j->in, -20 * log10(lowest));
    else if (most <= FEW) uf_log(j->ctx, UF_LOG_INFO, "the peaks of '%s' were not cut off", j->in);
}

/* A pass over the recording without the network: where its band ends, and where its peaks were cut off. */
static int look_over(job *j) {
    uf_rolloff *r = NULL;
    uf_clipping *clipping = NULL;
    uf_sound_item item;
    UF_TRY(uf_sound_reader_open(&j->reader, j->ctx, j->in));
    int rate = uf_sound_reader_rate(j->reader), channels = uf_sound_reader_channels(j->reader), err = uf_rolloff_open(&r, j->ctx, rate, channels);
    clipping = uf_alloc(j->ctx, (size_t)channels, sizeof *clipping);
    j->top = uf_alloc(j->ctx, (size_t)channels, sizeof *j->top);
    if (!clipping || !j->top) err = UF_ENOMEM;
    while (err == UF_OK && (err = uf_sound_reader_next(j->reader, &item)) == UF_OK) {
        if (uf_ctx_cancelled(j->ctx)) err = uf_fail(j->ctx, UF_EINTR, "stopped; nothing was written");
        else if (!item.packet && j->o->highs) err = uf_rolloff_push(r, (const float *const *)item.x, item.n);
        for (int c = 0; err == UF_OK && !item.packet && j->o->clips && c < channels; c++) uf_clipping_look(&clipping[c], item.x[c], item.n);
    }
    if (err == UF_EOF) {
        if (j->o->highs) tell_band(j, rate, r);
        if (j->o->clips) tell_clipping(j, channels, clipping);
        err = UF_OK;
    }
    uf_rolloff_close(&r);
    free(clipping);
    uf_sound_reader_close(&j->reader);
    return err;
}

static int open_highs(job *j, int rate, int channels) {
    j->rate = j->o->highs ? uf_highs_rate(rate) : rate;
    uf_highs_options o = { .rate = rate, .rate_out = j->rate, .channels = channels, .rolloff = j->rolloff };
    return j->o->highs && (j->rate != rate || uf_highs_adds(&o)) ? uf_highs_open(&j->highs, j->ctx, &o) : UF_OK;
}

/* The recording, and the network with what stands before it. */
static int open_sound(job *j, const char *weights_dir) {
    const uf_clean_options *o = j->o;
    UF_TRY(uf_sound_reader_open(&j->reader, j->ctx, j->in));
    int channels = uf_sound_reader_channels(j->reader);
    j->y = uf_alloc(j->ctx, (size_t)channels, sizeof(*j->y));
    if (!j->y) return UF_ENOMEM;
    for (int i = 0; i < channels; i++)
        if (!(j->y[i] = uf_alloc(j->ctx, AT_ONCE, sizeof(float)))) return UF_ENOMEM;
    UF_TRY(open_highs(j, uf_sound_reader_rate(j->reader), channels));
    UF_TRY(open_mend(j, uf_sound_reader_rate(j->reader), channels));
    return uf_voice_open(&j->voice, j->ctx, &(uf_voice_options){ .weights = o->weights, .weights_dir = weights_dir,
                         .rate = uf_sound_reader_rate(j->reader), .channels = channels, .most = o->most,
                         .wet = o->wet > 0 ? o->wet : 1, .float32 = o->float32, .live = o->live, .again = true,
                         .keep_room = o->keep_room });
}

static void close_sound(job *j) {
    for (int i = 0; j->y && i < uf_sound_reader_channels(j->reader); i++) free(j->y[i]);
    free(j->y);
    j->y = NULL;
    uf_sound_filter_close(&j->last);
    uf_declip_close(&j->declip);
    uf_sound_filter_close(&j->mend);
    uf_highs_close(&j->highs);
    uf_voice_close(&j->voice);
    uf_sound_reader_close(&j->reader);
}

/* The first pass of two: what gain brings the result to the loudness that is asked for, and how far its peaks then reach. */
static int measure(job *j, const char *weights_dir, double *peak) {
    enum { SILENT = -70 }; /* what EBU R 128 calls so, LUFS */
    UF_TRY(open_sound(j, weights_dir));
    int channels = uf_sound_reader_channels(j->reader);
    UF_TRY(uf_sound_filter_open(&j->last, j->ctx, "ebur128=metadata=1:peak=true", j->rate, channels));
    j->measuring = true;
    UF_TRY(run(j));
    j->measuring = false;
    double loudness = uf_sound_filter_value(j->last, "lavfi.r128.I");
    if (loudness <= SILENT || loudness >= 0)
        return uf_log(j->ctx, UF_LOG_WARN, "'%s' is too short or too quiet for its loudness to be measured: it stays as it is", j->in), UF_OK;
    j->gain = pow(10, (j->o->loudness - loudness) / 20);
    for (int i = 0; i < channels; i++) {
        char key[48];
        snprintf(key, sizeof(key), "lavfi.r128.true_peaks_ch%d", i);
        *peak = fmax(*peak, j->gain * uf_sound_filter_value(j->last, key));
    }
    return UF_OK;
}

static int start(job *j, const char *out, const char *weights_dir) {
    const uf_clean_options *o = j->o;
    double peak = 0, most = .891; /* -1 dB */
    if (!(o->wet >= 0 && o->wet <= 1 && o->most >= 0 && o->hum >= 0 && o->hum < 1000 && o->loudness > -70 && o->loudness <= 0))
        return uf_fail(j->ctx, UF_EINVAL, "wet is a share from 0 to 1, the attenuation a number of dB, hum a number of Hz, and loudness one of LUFS, "
                       "from -70 to 0");
    UF_TRY(uf_sound_writer_open(&j->writer, j->ctx, out, o->overwrite)); /* says at once what cannot be written */
    if (o->highs || o->clips) UF_TRY(look_over(j));
    if (o->loudness < 0) UF_TRY(measure(j, weights_dir, &peak));
    close_sound(j);
    UF_TRY(open_sound(j, weights_dir));
    if (peak > most)
        UF_TRY(uf_sound_filter_open(&j->last, j->ctx, "alimiter=limit=0.891:level=disabled:latency=1", j->rate,
                                    uf_sound_reader_channels(j->reader)));
    return uf_sound_writer_start(j->writer, uf_sound_reader_format(j->reader), j->in, uf_sound_reader_stream(j->reader),
                                 uf_sound_reader_codec(j->reader), j->rate);
}

int uf_sound_clean(uf_ctx *ctx, const char *in, const char *out, const uf_clean_options *o, const char *weights_dir) {
    job j = { .ctx = ctx, .o = o, .started = uf_now(), .gain = 1, .in = in };
    int err = start(&j, out, weights_dir);
    if (err == UF_OK) err = run(&j);
    close_sound(&j);
    free(j.top);
    uf_sound_writer_close(&j.writer);
    return err;
}

int uf_clean(uf_ctx *ctx, const char *in, const char *out, const uf_clean_options *options) {
    return uf_sound_clean(ctx, in, out, options ? options : &(uf_clean_options){ 0 }, NULL);
}
