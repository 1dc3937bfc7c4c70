/* Several recordings to one good track: listen to each, place all, then read them side by side. */
#include "merge.h"

#include "beam.h"
#include "sound_filter.h"
#include "sound_reader.h"
#include "sound_writer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { AT_ONCE = 32768, PIECE = 256, TOP_RATE = 48000 };

typedef struct job {
    uf_ctx *ctx;
    const uf_merge_options *o;
    const char *out, *weights_dir;
    char **found;
    uf_take take[UF_MERGE_MOST];
    int n;
    const uf_take *placed[UF_MERGE_MOST]; /* n_placed of them */
    int n_placed, film, reference;        /* takes; -1: none */
    int rate;
    double from;                          /* s, common time of the result's beginning */
    int64_t length;                       /* its samples */
    float *weight[UF_MERGE_MOST];         /* a take, a second: its share of the mix */
    uf_sound_writer *writer, *stem[UF_MERGE_MOST];
    uf_beam *beam;
    FILE *mixed;                          /* float samples, in a file without a name: what waits for its loudness, or for the film's pictures; NULL: nothing waits */
    uf_sound_filter *last;                /* the meter of loudness, then a limiter; NULL: none */
    double gain;
    float y[AT_ONCE];
    /* progress */
    double started, shown, done, total;
} job;

/* ---- what is said on the way ----------------------------------------------------------------------------------------------------- */

static void tell(job *j, bool last) {
    double now = uf_now(), took = now - j->started;
    if (!j->o->progress || (!last && now - j->shown < .2)) return;
    j->shown = now;
    uf_progress p = { .n_done = (int64_t)j->done, .n_total = (int64_t)fmax(j->total, j->done), .seconds = took, .fps = took > 0 ? j->done / took : 0,
                      .media_seconds = j->done };
    j->o->progress(j->o->user, &p);
}

static void heard(void *user, double seconds) {
    job *j = user;
#pragma omp critical
    {
        j->done += seconds;
        tell(j, false);
    }
}

static void say_quality(const job *j, const uf_take *t) {
    const uf_quality *q = &t->quality;
    if (q->n_dead) uf_log(j->ctx, UF_LOG_WARN, "%d of the %d channels of '%s' hold nothing: they are left out", q->n_dead, t->channels, t->path);
    if (q->n_flipped) uf_log(j->ctx, UF_LOG_WARN, "%d of the %d channels of '%s' are upside down: they are turned", q->n_flipped, t->channels, t->path);
    if (uf_take_clips(t))
        uf_log(j->ctx, UF_LOG_WARN, "'%s' is too loud for its recorder in %d places%s", t->path, q->n_clipped, j->o->align_only ? "" : ": its peaks are made anew");
    if (q->n_drops) uf_log(j->ctx, UF_LOG_INFO, "'%s' has %d hole%s, %.2f s in all: the others fill %s", t->path, q->n_drops,
                           q->n_drops == 1 ? "" : "s", q->dropped, q->n_drops == 1 ? "it" : "them");
}

static void say_places(const job *j) {
    char at[32];
    for (int i = 0; i < j->n; i++) {
        const uf_take *t = j->take + i;
        if (!t->placed) {
            uf_log(j->ctx, UF_LOG_WARN, "'%s' is left out: %s", t->path, t->refused);
            continue;
        }
        uf_log(j->ctx, UF_LOG_INFO, "'%s' begins at %s, clock %+.2f ppm%s%s", t->path, uf_clock_text(uf_clock_inverse(&t->clock, 0) - j->from, at), uf_clock_ppm(&t->clock),
               t->n_steps ? ", with steps" : "", t->polarity < 0 ? ", upside down (turned)" : "");
    }
}

/* ---- first pass -------------------------------------------------------------------------------------------------------------------- */

static char *folder_of(uf_ctx *ctx, const char *path) {
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash ? uf_format(ctx, "%.*s", slash == path ? 1 : (int)(slash - path), path) : uf_strdup(ctx, ".");
}

/* Nobody's recording is replaced, not even on --overwrite. */
static int spare_inputs(const job *j, const char *path) {
    for (int i = 0; i < j->n; i++)
        if (uf_same_file(path, j->take[i].path))
            return uf_fail(j->ctx, UF_EINVAL, "'%s' is one of the recordings, and would be replaced; give another name or folder", path);
    return UF_OK;
}

/* Inputs by name, each once; the film may be one more. */
static int gather(job *j, const char *const *in, int n) {
    for (int i = 0; i < n; i++) {
        bool again = false;
        for (int k = 0; k < j->n; k++)
            if (uf_same_file(in[i], j->take[k].path)) {
                uf_log(j->ctx, UF_LOG_WARN, "'%s' is given twice: once is enough", in[i]);
                again = true;
            }
        if (again) continue;
        if (j->n == UF_MERGE_MOST) return uf_fail(j->ctx, UF_EINVAL, "more than %d recordings; merge some of them first", UF_MERGE_MOST);
        j->take[j->n++].path = in[i];
    }
    for (int i = 0; i < j->n; i++) {
        if (j->o->into && uf_same_file(j->o->into, j->take[i].path)) j->film = i;
        if (j->o->reference && uf_same_file(j->o->reference, j->take[i].path)) j->reference = i;
    }
    if (j->o->into && j->film < 0) {
        if (j->n == UF_MERGE_MOST) return uf_fail(j->ctx, UF_EINVAL, "more than %d recordings with the film; merge some of them first", UF_MERGE_MOST);
        j->film = j->n;
        j->take[j->n++].path = j->o->into;
    }
    if (j->o->reference && j->reference < 0)
        return uf_fail(j->ctx, UF_EINVAL, "the reference '%s' is none of the recordings; give it among them", j->o->reference);
    return UF_OK;
}

static int listen_to_all(job *j) {
    int failed = UF_OK;
    char *folder = folder_of(j->ctx, j->out ? j->out : j->o->stems ? j->o->stems : j->o->report);
    uf_merge_watch watch = { .tell = heard, .user = j };
    if (!folder) return UF_ENOMEM;
    for (int i = 0; i < j->n; i++) { /* says at once what cannot be opened */
        uf_sound_reader *r = NULL;
        int err = uf_sound_reader_open(&r, j->ctx, j->take[i].path);
        if (err < 0) {
            free(folder);
            return err;
        }
        j->total += 2 * uf_sound_reader_seconds(r); /* the result is as long as they together at most */
        uf_sound_reader_close(&r);
    }
#pragma omp parallel for schedule(dynamic) num_threads(uf_ctx_threads(j->ctx))
    for (int i = 0; i < j->n; i++) {
        int err = failed < 0 ? UF_OK : uf_take_listen(j->take + i, j->ctx, folder, &watch);
        if (err < 0) {
#pragma omp critical
            failed = err;
        }
    }
    free(folder);
    return failed;
}

static int place_all(job *j) {
    int clock = j->film >= 0 ? j->film : j->reference;
    UF_TRY(uf_place_all(j->ctx, j->take, j->n, &(uf_place_options){ .clock = clock }));
    for (int i = 0; i < j->n; i++)
        if (j->take[i].placed) j->placed[j->n_placed++] = j->take + i;
    int n_same = 0;
    for (int i = 0; i < j->n; i++) n_same += j->take[i].same_as >= 0;
    if (j->n_placed == 1 && j->n - n_same > 1)
        return uf_fail(j->ctx, UF_EDATA, "nothing that is in '%s' is heard in the other%s; give recordings of the same event", j->placed[0]->path,
                       j->n > 2 ? "s" : "");
    return UF_OK;
}

/* The highest rate of all, and the time from the first beginning to the last end. */
static void choose_span(job *j) {
    double to = -INFINITY;
    j->from = INFINITY;
    for (int i = 0; i < j->n_placed; i++) {
        const uf_take *t = j->placed[i];
        int rate = t->rate < TOP_RATE ? t->rate : TOP_RATE;
        if (rate > j->rate) j->rate = rate;
        j->from = fmin(j->from, uf_clock_inverse(&t->clock, 0));
        to = fmax(to, uf_clock_inverse(&t->clock, (double)t->n / t->rate));
    }
    if (j->film >= 0) {
        const uf_take *t = j->take + j->film;
        j->from = 0;
        to = (double)t->n / t->rate;
    }
    j->length = llround((to - j->from) * j->rate);
    j->total = j->done + (double)j->length / j->rate;
}

/* ---- second pass --------------------------------------------------------------------------------------------------------------------- */

/* What the writer is told to write: a sound of its own kind; beyond: it may go beyond full scale. NULL: out of memory. */
static AVCodecContext *kind(int rate, int channels, bool beyond) {
    AVCodecContext *c = avcodec_alloc_context3(NULL);
    if (!c) return NULL;
    c->codec_id = beyond ? AV_CODEC_ID_PCM_F32LE : AV_CODEC_ID_PCM_S24LE;
    c->sample_rate = rate;
    c->bits_per_raw_sample = 24;
    c->ch_layout = (AVChannelLayout){ .order = AV_CHANNEL_ORDER_UNSPEC, .nb_channels = channels };
    if (channels <= 2) av_channel_layout_default(&c->ch_layout, channels);
    return c;
}

static int start_writer(job *j, uf_sound_writer *w, int channels, bool beyond) {
    AVCodecContext *c = kind(j->rate, channels, beyond);
    if (!c) return UF_ENOMEM;
    int err = uf_sound_writer_start(w, NULL, NULL, -1, c, j->rate);
    avcodec_free_context(&c);
    return err;
}

/* "DIR/NAME.wav", and a number where two inputs have one name. */
static char *stem_path(const job *j, const uf_take *t) {
    int same = 0;
    const char *slash = strrchr(t->path, '/'), *name = slash ? slash + 1 : t->path, *dot = strrchr(name, '.');
    int length = dot > name ? (int)(dot - name) : (int)strlen(name);
    for (const uf_take *o = j->take; o < t; o++) {
        const char *s = strrchr(o->path, '/'), *other = s ? s + 1 : o->path, *d = strrchr(other, '.');
        same += (d > other ? (int)(d - other) : (int)strlen(other)) == length && !strncmp(other, name, (size_t)length);
    }
    return same ? uf_format(j->ctx, "%s/%.*s-%d.wav", j->o->stems, length, name, same + 1) : uf_format(j->ctx, "%s/%.*s.wav", j->o->stems, length, name);
}

static int open_stems(job *j) {
    if (!j->o->stems) return UF_OK;
    UF_TRY(uf_make_folder(j->ctx, j->o->stems));
    for (int i = 0; i < j->n_placed; i++) {
        char *path = stem_path(j, j->placed[i]);
        if (!path) return UF_ENOMEM;
        int err = spare_inputs(j, path);
        if (err == UF_OK) err = uf_sound_writer_open(&j->stem[i], j->ctx, path, j->o->overwrite);
        free(path);
        if (err == UF_OK) err = start_writer(j, j->stem[i], j->placed[i]->channels, true);
        UF_TRY(err);
    }
    return UF_OK;
}

/* ---- the result ------------------------------------------------------------------------------------------------------------------------ */

/* n samples of the mix to where they belong. */
static int give(job *j, const float *y, int n) {
    const float *const *x;
    if (!j->mixed) return uf_sound_writer_write(j->writer, &y, n, 0);
    if (fwrite(y, sizeof(*y), (size_t)n, j->mixed) != (size_t)n)
        return uf_fail(j->ctx, UF_EIO, "no room for the mix beside '%s' (700 MB an hour); make room there", j->out);
    if (!j->last || !n) return UF_OK;
    UF_TRY(uf_sound_filter_push(j->last, &y, n));
    do UF_TRY(uf_sound_filter_pull(j->last, &x, &n));
    while (n);
    return UF_OK;
}

static int give_ready(job *j) {
    int n;
    while ((n = uf_beam_pull(j->beam, j->y, AT_ONCE)) > 0) UF_TRY(give(j, j->y, n));
    return n;
}

static int mix_part(job *j, const uf_tracks *t, int from, int to, const float *weight) {
    const float *x[UF_MERGE_MOST];
    for (int i = 0; i < j->n_placed; i++) x[i] = uf_tracks_mono(t, i) + from;
    return to > from ? uf_beam_push(j->beam, x, weight, to - from) : UF_OK;
}

/* The recordings to the beam, cut where one of them stops having sound or has it again. */
static int mix(job *j, const uf_tracks *t, int n) {
    float weight[UF_MERGE_MOST] = { 0 }, was[UF_MERGE_MOST] = { 0 };
    int from = 0;
    for (int at = 0; at < n; at += PIECE) {
        int piece = n - at < PIECE ? n - at : PIECE;
        for (int i = 0; i < j->n_placed; i++) weight[i] = memchr(uf_tracks_there(t, i) + at, 0, (size_t)piece) ? 0.f : 1.f;
        if (at && memcmp(weight, was, (size_t)j->n_placed * sizeof(*was))) {
            UF_TRY(mix_part(j, t, from, at, was));
            from = at;
        }
        memcpy(was, weight, sizeof(was));
    }
    UF_TRY(mix_part(j, t, from, n, was));
    return give_ready(j);
}

static int write_aligned(job *j, const uf_tracks *t, int n) {
    const float *x[UF_MERGE_MOST];
    for (int i = 0; i < j->n_placed; i++) {
        x[i] = uf_tracks_mono(t, i);
        if (j->stem[i]) UF_TRY(uf_sound_writer_write(j->stem[i], (const float *const *)uf_tracks_channels(t, i), n, 0));
    }
    if (j->beam) return mix(j, t, n);
    return j->writer ? uf_sound_writer_write(j->writer, x, n, 0) : UF_OK;
}

static int run(job *j) {
    uf_tracks *t = NULL;
    UF_TRY(uf_tracks_open(&t, j->ctx, &(uf_tracks_options){ .take = j->placed, .n = j->n_placed, .rate = j->rate, .from = j->from,
                          .channels = j->o->stems != NULL, .declip = !j->o->align_only, .most = AT_ONCE }));
    int err = UF_OK;
    for (int64_t at = 0; at < j->length && err == UF_OK; at += AT_ONCE) {
        int n = j->length - at < AT_ONCE ? (int)(j->length - at) : AT_ONCE;
        if (uf_ctx_cancelled(j->ctx)) err = uf_fail(j->ctx, UF_EINTR, "stopped; nothing was written");
        else if ((err = uf_tracks_next(t, n)) == UF_OK) err = write_aligned(j, t, n);
        if (err < 0) break;
        j->done += (double)n / j->rate;
        tell(j, false);
    }
    uf_tracks_close(&t);
    if (err == UF_OK && j->beam) err = uf_beam_push(j->beam, NULL, NULL, 0);
    return err == UF_OK && j->beam ? give_ready(j) : err;
}

static int open_beam(job *j) {
    int reference = -1, home = -1;
    double band[UF_MERGE_MOST];
    for (int i = 0; i < j->n_placed; i++) {
        band[i] = j->placed[i]->quality.band;
        if (j->reference >= 0 && j->placed[i] == j->take + j->reference) reference = i;
    }
    if (reference < 0 && !j->o->music)
        UF_TRY(uf_reference_of_takes(j->ctx, j->placed, j->n_placed, j->from, (double)j->length / j->rate, j->o, j->weights_dir, &home));
    UF_TRY(uf_beam_open(&j->beam, j->ctx, &(uf_beam_options){ .weights = j->o->weights, .weights_dir = j->weights_dir, .n_mics = j->n_placed, .rate = j->rate,
                        .reference = reference, .home = home, .band = band, .keep_room = j->o->keep_room, .mix_only = j->o->music, .most = j->o->most, .float32 = j->o->float32 }));
    j->gain = 1;
    if (j->o->loudness < 0) UF_TRY(uf_sound_filter_open(&j->last, j->ctx, "ebur128=metadata=1:peak=true", j->rate, 1));
    if (j->o->loudness >= 0 && j->film < 0) return start_writer(j, j->writer, 1, false);
    char *folder = folder_of(j->ctx, j->out);
    j->mixed = folder ? uf_nameless_file(j->ctx, folder) : NULL;
    free(folder);
    return j->mixed ? UF_OK : UF_EIO;
}

/* What gain brings the mix to the loudness that is asked for, and a limiter where peaks would go over the top. */
static int choose_gain(job *j) {
    enum { SILENT = -70 }; /* what EBU R 128 calls so, LUFS */
    if (!j->last) return UF_OK;
    double loudness = uf_sound_filter_value(j->last, "lavfi.r128.I"), peak = uf_sound_filter_value(j->last, "lavfi.r128.true_peaks_ch0");
    uf_sound_filter_close(&j->last);
    if (loudness <= SILENT || loudness >= 0)
        return uf_log(j->ctx, UF_LOG_WARN, "the mix is too short or too quiet for its loudness to be measured: it stays as it is"), UF_OK;
    j->gain = pow(10, (j->o->loudness - loudness) / 20);
    return j->gain * peak > .891 ? uf_sound_filter_open(&j->last, j->ctx, "alimiter=limit=0.891:level=disabled:latency=1", j->rate, 1) : UF_OK;
}

/* Up to n samples of what waits to the writer; n 0: the end. They begin at `start`. */
static int write_mixed(job *j, int64_t n, double start) {
    bool end = !n;
    while (n > 0 || end) {
        size_t got = end ? 0 : fread(j->y, sizeof(*j->y), (size_t)(n < AT_ONCE ? n : AT_ONCE), j->mixed);
        int ready = (int)got;
        const float *y = j->y, *const *x = &y;
        if (!got && !end) return UF_OK;
        for (size_t i = 0; i < got; i++) j->y[i] *= (float)j->gain;
        if (!j->last && got) UF_TRY(uf_sound_writer_write(j->writer, x, ready, start));
        if (j->last) UF_TRY(uf_sound_filter_push(j->last, x, ready));
        while (j->last) {
            UF_TRY(uf_sound_filter_pull(j->last, &x, &ready));
            if (!ready) break;
            UF_TRY(uf_sound_writer_write(j->writer, x, ready, start));
        }
        if (end) return UF_OK;
        n -= (int64_t)got;
    }
    return UF_OK;
}

/* The film once more: its pictures as they are, and the mix where its sound was. */
static int write_film(job *j, uf_sound_reader *r) {
    uf_sound_item item;
    int64_t n_in = 0, n_out = 0;
    int err;
    while ((err = uf_sound_reader_next(r, &item)) == UF_OK) {
        if (uf_ctx_cancelled(j->ctx)) return uf_fail(j->ctx, UF_EINTR, "stopped; nothing was written");
        if (item.packet) {
            UF_TRY(uf_sound_writer_copy(j->writer, item.packet));
            continue;
        }
        n_in += item.n;
        int64_t upto = (int64_t)((double)n_in * j->rate / j->take[j->film].rate);
        if (upto > n_out) UF_TRY(write_mixed(j, upto - n_out, uf_sound_reader_start(r)));
        n_out = upto > n_out ? upto : n_out;
    }
    if (err != UF_EOF) return err;
    UF_TRY(write_mixed(j, AT_ONCE, uf_sound_reader_start(r)));
    return write_mixed(j, 0, uf_sound_reader_start(r));
}

static int write_waiting(job *j) {
    uf_sound_reader *r = NULL;
    if (!j->mixed) return UF_OK;
    if (fflush(j->mixed)) return uf_fail(j->ctx, UF_EIO, "no room for the mix beside '%s' (700 MB an hour); make room there", j->out);
    rewind(j->mixed);
    UF_TRY(choose_gain(j));
    if (j->film < 0) {
        UF_TRY(start_writer(j, j->writer, 1, false));
        UF_TRY(write_mixed(j, j->length, 0));
        return write_mixed(j, 0, 0);
    }
    UF_TRY(uf_sound_reader_open(&r, j->ctx, j->take[j->film].path));
    AVCodecContext *c = kind(j->rate, 1, false);
    int err = c ? UF_OK : UF_ENOMEM;
    if (c) c->codec_id = uf_sound_reader_codec(r)->codec_id;
    if (err == UF_OK)
        err = uf_sound_writer_start(j->writer, uf_sound_reader_format(r), j->take[j->film].path, uf_sound_reader_stream(r), c, j->rate);
    avcodec_free_context(&c);
    if (err == UF_OK) err = write_film(j, r);
    if (err == UF_OK) err = uf_sound_writer_finish(j->writer); /* while the film is open */
    uf_sound_writer_close(&j->writer);
    uf_sound_reader_close(&r);
    return err;
}

static int finish(job *j) {
    UF_TRY(write_waiting(j));
    if (j->writer) UF_TRY(uf_sound_writer_finish(j->writer));
    for (int i = 0; i < j->n_placed; i++)
        if (j->stem[i]) UF_TRY(uf_sound_writer_finish(j->stem[i]));
    return UF_OK;
}

/* One recording alone, or nothing but copies of it: there is nothing to merge. */
static int clean_one(job *j) {
    const uf_merge_options *o = j->o;
    if (o->align_only || o->music) return uf_fail(j->ctx, UF_EINVAL, "'%s' alone cannot be aligned or mixed; give two recordings or more", j->placed[0]->path);
    uf_log(j->ctx, UF_LOG_INFO, "only one recording: it is cleaned, as by 'unfade clean'");
    uf_sound_writer_close(&j->writer);
    return uf_sound_clean(j->ctx, j->placed[0]->path, j->out, &(uf_clean_options){ .weights = o->weights, .most = o->most, .keep_room = o->keep_room, .loudness = o->loudness,
                          .overwrite = o->overwrite, .float32 = o->float32, .progress = o->progress, .user = o->user }, j->weights_dir);
}

static int tell_found(job *j) {
    bool mixed = j->beam != NULL;
    const uf_take *leader = mixed ? j->placed[uf_beam_leader(j->beam)] : j->n_placed == 1 ? j->placed[0] : NULL;
    int seconds = (int)((j->length + j->rate - 1) / j->rate);
    for (int i = 0; mixed && i < j->n; i++)
        if (!(j->weight[i] = uf_alloc(j->ctx, (size_t)seconds + 1, sizeof(float)))) return UF_ENOMEM;
    for (int i = 0; mixed && i < j->n_placed; i++)
        for (int s = 0; s < seconds; s++) j->weight[j->placed[i] - j->take][s] = uf_beam_weight(j->beam, i, s);
    char *text = uf_merge_report_text(&(uf_merge_report){ .take = j->take, .n = j->n, .rate = j->rate, .from = j->from, .seconds = (double)j->length / j->rate,
                                      .out = j->out, .reference = leader ? leader->path : NULL, .weight = mixed ? j->weight : NULL });
    if (!text) return uf_fail(j->ctx, UF_ENOMEM, "out of memory for the report");
    int err = j->o->report ? uf_merge_report_write(j->ctx, j->o->report, j->o->overwrite, text) : UF_OK;
    if (err == UF_OK && j->found) *j->found = text;
    else free(text);
    return err;
}

static int merge(job *j) {
    const uf_merge_options *o = j->o;
    if (!(o->most >= 0 && o->loudness > -70 && o->loudness <= 0))
        return uf_fail(j->ctx, UF_EINVAL, "the attenuation is a number of dB, and loudness one of LUFS, from -70 to 0");
    if (!j->out && !(o->align_only && (o->stems || o->report || j->found))) return uf_fail(j->ctx, UF_EINVAL, "there is no place for the result; give a name for it");
    if (!j->n) return uf_fail(j->ctx, UF_EINVAL, "there are no recordings; give some");
    if (j->out) UF_TRY(spare_inputs(j, j->out));
    if (j->out) UF_TRY(uf_sound_writer_open(&j->writer, j->ctx, j->out, o->overwrite)); /* says at once what cannot be written */
    if (o->report) UF_TRY(spare_inputs(j, o->report));
    if (o->report) UF_TRY(uf_whole_check(j->ctx, o->report, o->overwrite));
    UF_TRY(listen_to_all(j));
    for (int i = 0; i < j->n; i++) say_quality(j, j->take + i);
    UF_TRY(place_all(j));
    choose_span(j);
    say_places(j);
    if (j->n_placed == 1) {
        UF_TRY(clean_one(j));
    } else {
        UF_TRY(open_stems(j));
        if (!o->align_only) UF_TRY(open_beam(j));
        else if (j->writer) UF_TRY(start_writer(j, j->writer, j->n_placed, true)); /* between samples waves reach higher than at them */
        UF_TRY(run(j));
        UF_TRY(finish(j));
        tell(j, true);
    }
    return o->report || j->found ? tell_found(j) : UF_OK;
}

int uf_sound_merge(uf_ctx *ctx, const char *const *in, int n, const char *out, const uf_merge_options *o, const char *weights_dir, char **found) {
    job *j = uf_alloc(ctx, 1, sizeof(*j));
    if (!j) return UF_ENOMEM;
    *j = (job){ .ctx = ctx, .o = o, .out = out, .weights_dir = weights_dir, .found = found, .film = -1, .reference = -1, .started = uf_now() };
    int err = gather(j, in, n);
    if (err == UF_OK) err = merge(j);
    for (int i = 0; i < j->n; i++) {
        uf_take_close(j->take + i);
        free(j->weight[i]);
        uf_sound_writer_close(&j->stem[i]);
    }
    if (j->mixed) fclose(j->mixed);
    uf_sound_filter_close(&j->last);
    uf_beam_close(&j->beam);
    uf_sound_writer_close(&j->writer);
    free(j);
    return err;
}

int uf_merge(uf_ctx *ctx, const char *const *in, int n, const char *out, const uf_merge_options *options) {
    return uf_sound_merge(ctx, in, n, out, options ? options : &(uf_merge_options){ 0 }, NULL, NULL);
}
