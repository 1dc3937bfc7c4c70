/* The colouring job: threads that decode, predict (the caller's), paint and encode, with bounded queues between, so that the
 * network has the next frame while the last one is painted. */
#include "chain.h"
#include "colorizer.h"
#include "fields.h"
#include "job.h"
#include "models.h"

#include <libavutil/imgutils.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_FRAMES = 4, MAX_ITEMS = 512, N_RECENT = 64 };

typedef struct film {
    uf_ctx *ctx;
    const uf_film_options *o;
    const char *in, *out;
    char *identity;    /* for the job; NULL: it cannot be gone on with */
    uf_reader *reader;
    uf_writer *writer;
    uf_colorizer *colorizer;
    uf_canvas *sight, *canvas; /* of the thread that predicts, of the one that paints */
    uf_steady *steady;
    uf_table *table;     /* of scenes, or NULL */
    const char *tune;    /* of the scene that is predicted, or NULL */
    int64_t n_predicted; /* the number of the next frame to predict */
    uf_chain *chain; /* of the stages that mend; NULL: none was asked for */
    uf_queue *decoded, *mended, *predicted, *painted; /* mended is decoded where there is no chain */
    float *luma; /* (net_h,net_w) */
    int net_w, net_h;
    int64_t n_total, n_done;
    int64_t done;      /* frames that earlier runs have finished */
    int64_t skip;      /* frames that this one need not even look at */
    int64_t n_painted; /* the number of the next frame to paint */
    double began, reported, recent[N_RECENT]; /* times of the last frames written */
    int decode_err, mend_err, paint_err, encode_err;
} film;

static void stop(film *f) {
    uf_queue_abort(f->decoded);
    if (f->chain) uf_queue_abort(f->mended);
    uf_queue_abort(f->predicted);
    uf_queue_abort(f->painted);
}

static int meet_fault(const film *f, const char *thread, int64_t n) {
    return f->o->fault ? f->o->fault(f->o->fault_user, thread, n) : UF_OK;
}

static void *decode(void *user) {
    film *f = user;
    bool copies = uf_writer_copies(f->writer);
    int64_t n = 0, n_items = 0;
    int err = UF_OK;
    while (err == UF_OK) {
        uf_item item = { 0 };
        if ((err = meet_fault(f, "decode", n_items++)) < 0) break;
        err = uf_reader_next(f->reader, &item);
        if (err == UF_OK && ((item.packet && copies) || (item.frame && n++ < f->skip))) {
            uf_item_clear(&item);
        } else if (err == UF_OK || err == UF_EOF) {
            int pushed = uf_queue_push(f->decoded, &item); /* at the end: the empty item */
            if (pushed < 0) err = pushed;
        }
    }
    f->decode_err = err == UF_EOF ? UF_OK : err;
    if (f->decode_err < 0) stop(f);
    return NULL;
}

static void report(film *f, double media_seconds, bool last) {
    double now = uf_now(), since = f->recent[0];
    uf_progress p = { f->n_done, f->n_total, now - f->began, 0, media_seconds };
    int64_t made = f->n_done - f->done;
    if (made == 1 && f->done) since = f->recent[0] = now; /* what the filter had to see again tells nothing of the speed */
    int64_t n = made < N_RECENT ? made : N_RECENT - 1;
    f->recent[made % N_RECENT] = now;
    if (!f->o->colorize.progress || (!last && now - f->reported < 0.1)) return;
    if (made >= N_RECENT) since = f->recent[(made + 1) % N_RECENT];
    p.fps = now > since ? (double)n / (now - since) : 0;
    f->reported = now;
    f->o->colorize.progress(f->o->colorize.user, &p);
}

static void *encode(void *user) {
    film *f = user;
    AVRational base = uf_reader_format(f->reader)->streams[uf_reader_video(f->reader)]->time_base;
    double media_seconds = 0;
    int64_t n_items = 0;
    int err = UF_OK;
    while (err == UF_OK) {
        uf_item item = { 0 };
        bool frame;
        if ((err = meet_fault(f, "encode", n_items++)) < 0) break;
        if ((err = uf_queue_pop(f->painted, &item)) < 0) break;
        if (!item.frame && !item.packet) {
            err = uf_writer_finish(f->writer);
            if (err == UF_OK) report(f, media_seconds, true);
            break;
        }
        frame = item.frame != NULL;
        if (frame) media_seconds = (double)item.frame->pts * av_q2d(base);
        if ((err = uf_writer_write(f->writer, &item)) == UF_OK && frame) {
            f->n_done++;
            report(f, media_seconds, false);
        }
    }
    f->encode_err = err;
    if (err < 0) stop(f);
    return NULL;
}

/* ---- stages ------------------------------------------------------------------------------------------------- */

void uf_halve(const float *x, ptrdiff_t pitch, float *y, int w, int h) {
    for (int r = 0; r < h / 2; r++) {
        const float *a = x + 2 * r * pitch, *b = a + pitch;
        for (int i = 0; i < w / 2; i++) y[(ptrdiff_t)r * (w / 2) + i] = 0.25f * (a[2 * i] + a[2 * i + 1] + b[2 * i] + b[2 * i + 1]);
    }
}

/* What the table wants for this frame: its strength, and the network tuned to it. */
static int enter_scene(film *f, int64_t frame, float *strength) {
    const uf_table_scene *s = uf_table_at(f->table, frame);
    *strength *= (float)s->strength;
    if (f->tune == s->tune || !f->colorizer) return UF_OK;
    f->tune = s->tune;
    return uf_colorizer_retune(f->colorizer, s->tune);
}

/* The item gets chroma (2,net_h/2,net_w/2), then the luma of the same size. */
static int predict(film *f, uf_item *item) {
    float strength = (float)(f->o->colorize.strength > 0 ? f->o->colorize.strength : 1);
    int64_t number = f->n_predicted++;
    if (f->table) UF_TRY(enter_scene(f, number, &strength));
    size_t n = (size_t)f->net_w * (size_t)f->net_h / 2;
    if (!(item->predicted = uf_alloc(f->ctx, n + n / 2, sizeof(float)))) return UF_ENOMEM;
    UF_TRY(uf_canvas_luma(f->sight, item->frame, f->luma));
    if (f->o->paint) UF_TRY(f->o->paint(f->o->paint_user, f->luma, f->net_w, f->net_h, item->predicted));
    else UF_TRY(uf_colorizer_run(f->colorizer, f->luma, item->predicted));
    for (size_t i = 0; i < n; i++) item->predicted[i] *= strength;
    uf_halve(f->luma, f->net_w, item->predicted + n, f->net_w, f->net_h);
    return UF_OK;
}

/* The colours end in the middle: what was is seen beside what is. */
static void keep_left_grey(float *chroma, int w, int h) {
    for (int y = 0; y < 2 * h; y++) memset(chroma + (ptrdiff_t)y * w, 0, (size_t)(w / 2) * sizeof(*chroma));
}

/* Twice as wide: `left` and `right`, which are alike but for their colours. Takes both. */
static int side_by_side(uf_ctx *ctx, AVFrame *left, AVFrame *right, AVFrame **out) {
    AVFrame *f = av_frame_alloc();
    int err = f && av_frame_copy_props(f, right) >= 0 ? UF_OK : UF_ENOMEM;
    if (err == UF_OK) f->format = right->format, f->width = 2 * right->width, f->height = right->height;
    if (err == UF_OK && av_frame_get_buffer(f, 0) < 0) err = UF_ENOMEM;
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat)right->format);
    for (int p = 0; err == UF_OK && p < av_pix_fmt_count_planes((enum AVPixelFormat)right->format); p++) {
        int half = av_image_get_linesize(f->format, right->width, p), whole = av_image_get_linesize(f->format, f->width, p);
        int rows = p == 1 || p == 2 ? AV_CEIL_RSHIFT(f->height, d->log2_chroma_h) : f->height;
        for (int y = 0; y < rows; y++) {
            uint8_t *to = f->data[p] + (ptrdiff_t)y * f->linesize[p];
            memcpy(to, left->data[p] + (ptrdiff_t)y * left->linesize[p], (size_t)half);
            memcpy(to + half, right->data[p] + (ptrdiff_t)y * right->linesize[p], (size_t)(whole - half));
        }
    }
    av_frame_free(&left);
    av_frame_free(&right);
    if (err == UF_OK) *out = f;
    else av_frame_free(&f);
    return err < 0 ? uf_fail(ctx, err, "out of memory for a frame of twice the width") : UF_OK;
}

static int add_grey(film *f, const AVFrame *source, const float *small, float *chroma, AVFrame **painted) {
    AVFrame *grey = NULL, *both = NULL;
    memset(chroma, 0, (size_t)f->net_w * (size_t)f->net_h / 2 * sizeof(*chroma));
    UF_TRY(uf_canvas_paint(f->canvas, source, small, chroma, &grey));
    int err = side_by_side(f->ctx, grey, *painted, &both);
    *painted = both;
    return err;
}

static int paint(film *f, uf_item *item) {
    float *chroma = item->predicted, *small = chroma + (size_t)f->net_w * (size_t)f->net_h / 2;
    AVFrame *painted = NULL;
    int64_t number = f->n_painted++;
    if (f->steady && f->table) uf_steady_push_known(f->steady, uf_table_begins(f->table, number), small, chroma);
    else if (f->steady && uf_steady_push(f->steady, small, chroma))
        uf_log(f->ctx, UF_LOG_DEBUG, "a scene begins at timestamp %lld", (long long)item->frame->pts);
    if (f->o->colorize.compare == 1) keep_left_grey(chroma, f->net_w / 2, f->net_h / 2);
    if (number < f->done) { /* only for the filter's memory */
        uf_item_clear(item);
        return UF_OK;
    }
    int err = uf_canvas_paint(f->canvas, item->frame, small, chroma, &painted);
    if (err == UF_OK && f->o->colorize.compare == 2) err = add_grey(f, item->frame, small, chroma, &painted);
    uf_item_clear(item);
    if (err < 0) return err;
    item->frame = painted;
    return UF_OK;
}

/* Frames go through the stage, everything else passes; the empty item at the end too. */
static int work(film *f, const char *thread, uf_queue *from, uf_queue *to, int (*stage)(film *, uf_item *)) {
    int64_t n_items = 0;
    int err = UF_OK;
    bool end = false;
    while (err == UF_OK && !end) {
        uf_item item = { 0 };
        if ((err = meet_fault(f, thread, n_items++)) < 0) break;
        if ((err = uf_queue_pop(from, &item)) < 0) break;
        end = !item.frame && !item.packet;
        if (uf_ctx_cancelled(f->ctx)) err = uf_fail(f->ctx, UF_EINTR, "stopped; '%s' was not written", f->out);
        else if (item.frame) err = stage(f, &item);
        if (err == UF_OK && (end || item.frame || item.packet)) err = uf_queue_push(to, &item);
        else uf_item_clear(&item);
    }
    if (err < 0) stop(f);
    return err;
}

static int pass_on(void *user, AVFrame *frame) {
    film *f = user;
    uf_item item = { .frame = frame };
    return uf_queue_push(f->mended, &item);
}

/* Frames leave the chain later than they came; what is copied does not wait for them. */
static void *mend_all(void *user) {
    film *f = user;
    int64_t n_items = 0;
    int err = UF_OK;
    bool end = false;
    while (err == UF_OK && !end) {
        uf_item item = { 0 };
        if ((err = meet_fault(f, "mend", n_items++)) < 0) break;
        if ((err = uf_queue_pop(f->decoded, &item)) < 0) break;
        end = !item.frame && !item.packet;
        if (item.frame || end) {
            err = uf_chain_push(f->chain, item.frame, pass_on, f);
            item.frame = NULL;
        }
        if (err == UF_OK && (end || item.packet)) err = uf_queue_push(f->mended, &item);
        else uf_item_clear(&item);
    }
    f->mend_err = err;
    if (err < 0) stop(f);
    return NULL;
}

static void *paint_all(void *user) {
    film *f = user;
    f->paint_err = work(f, "paint", f->predicted, f->painted, paint);
    return NULL;
}

static int run(film *f) {
    static void *(*const job[])(void *) = { decode, paint_all, encode, mend_all };
    pthread_t thread[UF_LEN(job)];
    int n = 0, n_jobs = f->chain ? 4 : 3, err = UF_OK;
    UF_TRY(uf_queue_open(&f->decoded, f->ctx, MAX_FRAMES, MAX_ITEMS));
    UF_TRY(uf_queue_open(&f->predicted, f->ctx, MAX_FRAMES / 2, MAX_ITEMS));
    UF_TRY(uf_queue_open(&f->painted, f->ctx, MAX_FRAMES, MAX_ITEMS));
    if (f->chain) UF_TRY(uf_queue_open(&f->mended, f->ctx, MAX_FRAMES, MAX_ITEMS));
    else f->mended = f->decoded;
    f->began = f->recent[0] = uf_now();
    while (n < n_jobs && !pthread_create(&thread[n], NULL, job[n], f)) n++;
    if (n == n_jobs) {
        err = work(f, "predict", f->mended, f->predicted, predict);
    } else {
        err = uf_fail(f->ctx, UF_ENOMEM, "cannot start a thread; end other programs first");
        stop(f);
    }
    while (n > 0) pthread_join(thread[--n], NULL);
    /* An aborted queue returns UF_EINTR without a message: the code of the thread that failed tells why. */
    int all[] = { err, f->decode_err, f->mend_err, f->paint_err, f->encode_err }, first = uf_ctx_error_code(f->ctx);
    for (int i = 0; i < UF_LEN(all); i++)
        if (all[i] < 0) return first < 0 ? first : all[i];
    return UF_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

static int check_options(uf_ctx *ctx, const uf_colorize_options *o) {
    if (o->size && (o->size < 64 || o->size > 1024))
        return uf_fail(ctx, UF_EINVAL, "size '%d' is outside 64..1024; %d is the default", o->size, UF_COLOR_SIZE);
    if (!(o->strength >= 0 && o->strength <= 2))
        return uf_fail(ctx, UF_EINVAL, "strength '%g' is outside 0..2; 1 is as trained", o->strength);
    if (o->crf < 0 || o->crf > 63) return uf_fail(ctx, UF_EINVAL, "crf '%d' is outside 1..63", o->crf);
    if (!(o->from >= 0 && o->length >= 0)) return uf_fail(ctx, UF_EINVAL, "a part of a film cannot begin or last below 0 s; 0 is the default");
    if (o->scenes && o->from > 0)
        return uf_fail(ctx, UF_EINVAL, "the frames of a table of scenes count from the film's beginning; leave the beginning of the part out, or the table");
    if (o->compare < 0 || o->compare > 2) return uf_fail(ctx, UF_EINVAL, "compare '%d' is outside 0..2; 1 leaves the left half grey, 2 sets both side by side", o->compare);
    if (o->memory < 0) return uf_fail(ctx, UF_EINVAL, "memory '%lld' is negative; 0 sets no cap", (long long)o->memory);
    return UF_OK;
}

static int check_paths(uf_ctx *ctx, const char *in, const char *out) {
    if (strcmp(in, "-") != 0 && strcmp(in, out) == 0)
        return uf_fail(ctx, UF_EINVAL, "input and output are both '%s'; give the output another name", in);
    if (strcmp(in, "-") == 0 || strcmp(out, "-") == 0) return UF_OK;
    if (uf_same_file(in, out))
        return uf_fail(ctx, UF_EINVAL, "'%s' and '%s' are the same file; give the output another name", in, out);
    return UF_OK;
}

/* The program, its libraries and the weights, packed, took 142 MB beside the frames of a 360x288 film. Frames in the queues,
 * the decoder and the encoder count against the cap too; the rest is the network's. */
static int network_memory(const film *f, const AVFrame *first, int64_t *left) {
    int64_t needed = 142000000 + (int64_t)first->width * first->height * 3 * (4 * MAX_FRAMES + 64);
    *left = f->o->colorize.memory ? f->o->colorize.memory - needed : 0;
    if (f->o->colorize.memory && *left <= 0)
        return uf_fail(f->ctx, UF_ENOMEM, "a film of %dx%d needs %lld MB; raise --memory to that", first->width, first->height,
                       (long long)(needed / 1000000 + 16)); /* 16: the network at its default size */
    return UF_OK;
}

/* Decoding, painting and encoding keep one core busy. A network that shares it waits for the slower of its threads at every
 * layer: on two cores, the film took 51 s with two threads and 43 s with one. */
static int network_threads(const uf_ctx *ctx) {
    int n = uf_ctx_threads(ctx);
    return uf_ctx_threads_chosen(ctx) || n < 2 ? n : n - 1;
}

static int open_network(film *f) {
    const uf_colorize_options *o = &f->o->colorize;
    const AVFrame *first = uf_reader_first(f->reader);
    uf_colorizer_options c = { .weights = o->weights, .tune = o->tune, .weights_dir = f->o->weights_dir, .device = o->device,
                               .w = first->width, .h = first->height, .size = o->size, .float32 = o->float32,
                               .n_threads = network_threads(f->ctx) };
    size_t n;
    if (f->o->paint) {
        uf_colorizer_fit(first->width, first->height, o->size, 32, &f->net_w, &f->net_h);
    } else {
        UF_TRY(network_memory(f, first, &c.memory));
        UF_TRY(uf_colorizer_open(&f->colorizer, f->ctx, &c));
        uf_colorizer_size(f->colorizer, &f->net_w, &f->net_h);
    }
    n = (size_t)f->net_w * (size_t)f->net_h;
    f->luma = uf_alloc(f->ctx, n + 64, sizeof(float));
    if (!f->luma) return UF_ENOMEM;
    return o->no_filter ? UF_OK : uf_steady_open(&f->steady, f->ctx, f->net_w / 2, f->net_h / 2);
}

/* Asked for by name: the strengths are fields of the public options. */
static int open_chain(film *f) {
    const uf_colorize_options *o = &f->o->colorize;
    const struct { const char *stage; double strength; } asked[] = { { "splice", o->splice }, { "scratch", o->scratch }, { "deflicker", o->deflicker }, { "steady", o->steady } };
    uf_chain_options c = { .masks = o->masks, .table = f->table, .number = f->skip, .done = f->done };
    double all = 0;
    for (int i = 0; i < UF_LEN(asked); i++) {
        if (!(asked[i].strength >= 0 && asked[i].strength <= 2))
            return uf_fail(f->ctx, UF_EINVAL, "%s '%g' is outside 0..2; 1 is usual", asked[i].stage, asked[i].strength);
        for (int k = 0; uf_stages[k]; k++)
            if (strcmp(uf_stages[k]->name, asked[i].stage) == 0) c.strength[k] = asked[i].strength;
        all += asked[i].strength;
    }
    if (o->masks && all <= 0) return uf_fail(f->ctx, UF_EINVAL, "masks are of what --splice, --scratch, --deflicker and --steady do; give one of those");
    return all > 0 ? uf_chain_open(&f->chain, f->ctx, uf_reader_first(f->reader), &c) : UF_OK;
}

static void tell_mended(const film *f) {
    for (int i = 0; f->chain && uf_stages[i]; i++)
        if (uf_chain_n_changed(f->chain, i))
            uf_log(f->ctx, UF_LOG_INFO, "%s: %lld of %lld frames mended", uf_stages[i]->name, (long long)uf_chain_n_changed(f->chain, i),
                   (long long)(f->n_painted - f->skip));
}

static void note_colour(const film *f) {
    if (uf_frame_has_colour(uf_reader_first(f->reader)))
        uf_log(f->ctx, UF_LOG_INFO, "'%s' has colour already: it is replaced", f->in);
}

/* What the frames depend on: the program, the files, the settings. NULL without a failure: the input cannot be read twice. */
static int identify(const film *f, char **identity) {
    const uf_colorize_options *o = &f->o->colorize;
    const char *files[] = { f->in, o->weights, o->tune, o->scenes };
    char *mark[UF_LEN(files)] = { NULL }, *shipped = NULL;
    struct stat st;
    int err = UF_OK;
    if (strcmp(f->in, "-") == 0 || stat(f->in, &st) != 0 || !S_ISREG(st.st_mode) || o->from > 0 || o->length > 0) return UF_OK;
    if (!o->weights && !f->o->paint) {
        if (!(shipped = uf_weights_find(f->ctx, "color.safetensors", f->o->weights_dir))) return uf_ctx_error_code(f->ctx);
        files[1] = shipped;
    }
    for (int i = 0; i < UF_LEN(files) && err == UF_OK; i++)
        if (files[i] && !(mark[i] = uf_file_mark(f->ctx, files[i]))) err = uf_ctx_error_code(f->ctx);
    if (err == UF_OK)
        *identity = uf_format(f->ctx, "unfade %s, input %s, weights %s, tune %s, codec %s, crf %d, size %d, strength %g, scenes %s, fields %s, splice %g, scratch %g, deflicker %g, steady %g%s%s%s", UF_VERSION,
                              mark[0], mark[1] ? mark[1] : "none", mark[2] ? mark[2] : "none", o->codec ? o->codec : "usual", o->crf, o->size,
                              o->strength, mark[3] ? mark[3] : "as they seem", o->fields ? o->fields : "keep", o->splice, o->scratch, o->deflicker, o->steady, o->float32 ? ", float32" : "", o->no_filter ? ", no filter" : "", o->compare == 2 ? ", side by side" : o->compare ? ", compare" : "");
    for (int i = 0; *identity && o->encoder_options && o->encoder_options[i]; i++) {
        char *longer = uf_format(f->ctx, "%s, %s", *identity, o->encoder_options[i]);
        free(*identity);
        *identity = longer;
    }
    for (int i = 0; i < UF_LEN(files); i++) free(mark[i]);
    free(shipped);
    return err < 0 || *identity ? err : UF_ENOMEM;
}

/* A stretch before the first frame that is still to be made: from there on the filter knows what it would have known. */
static void resume(film *f) {
    f->done = f->n_done = uf_writer_n_done(f->writer);
    f->skip = f->done % UF_STRETCH || !f->done ? f->done : f->done - UF_STRETCH; /* a short one is the last */
    f->n_painted = f->n_predicted = f->skip;
    if (f->done)
        uf_log(f->ctx, UF_LOG_INFO, "'%s' was begun before: going on after frame %lld", f->out, (long long)f->done);
}

static int open_all(film *f) {
    const uf_colorize_options *o = &f->o->colorize;
    uf_writer_options w = { .codec = o->codec, .crf = o->crf, .overwrite = o->overwrite, .wait = f->o->wait,
                            .encoder_options = o->encoder_options, .twice = o->compare == 2 };
    uf_reader_options part = { .from = o->from, .length = o->length };
    UF_TRY(check_options(f->ctx, o));
    UF_TRY(uf_fields_filters(f->ctx, o->fields, &part.filters));
    UF_TRY(check_paths(f->ctx, f->in, f->out));
    if (o->scenes) UF_TRY(uf_table_open(&f->table, f->ctx, o->scenes));
    UF_TRY(uf_writer_open(&f->writer, f->ctx, f->out, &w));
    if (uf_writer_keeps(f->writer)) UF_TRY(identify(f, &f->identity));
    UF_TRY(uf_reader_open_with(&f->reader, f->ctx, f->in, &part));
    note_colour(f);
    UF_TRY(open_network(f));
    UF_TRY(uf_writer_start(f->writer, f->reader, f->identity));
    resume(f);
    UF_TRY(open_chain(f));
    f->n_total = uf_reader_n_frames(f->reader);
    UF_TRY(uf_canvas_open(&f->sight, f->ctx, uf_reader_first(f->reader), uf_writer_target(f->writer), f->net_w, f->net_h));
    return uf_canvas_open(&f->canvas, f->ctx, uf_reader_first(f->reader), uf_writer_target(f->writer), f->net_w, f->net_h);
}

int uf_film_colorize(uf_ctx *ctx, const char *in, const char *out, const uf_film_options *options) {
    film f = { .ctx = ctx, .o = options, .in = in, .out = out };
    int err = open_all(&f);
    if (err == UF_OK) err = run(&f);
    if (err == UF_OK) tell_mended(&f);
    if (f.chain) uf_queue_close(&f.mended);
    uf_chain_close(&f.chain);
    uf_queue_close(&f.decoded);
    uf_queue_close(&f.predicted);
    uf_queue_close(&f.painted);
    uf_canvas_close(&f.sight);
    uf_canvas_close(&f.canvas);
    uf_writer_close(&f.writer);
    uf_reader_close(&f.reader);
    uf_steady_close(&f.steady);
    uf_colorizer_close(&f.colorizer);
    uf_table_close(&f.table);
    free(f.luma);
    free(f.identity);
    return err;
}

int uf_colorize(uf_ctx *ctx, const char *in, const char *out, const uf_colorize_options *options) {
    uf_film_options o = { 0 };
    if (options) o.colorize = *options;
#ifdef UNFADE_WEIGHTS_DIR
    o.weights_dir = UNFADE_WEIGHTS_DIR;
#endif
    return uf_film_colorize(ctx, in, out, &o);
}
