/* Which frames a person should colour by hand next: active learning by disagreement (Freund et al., Machine Learning 28,
 * 1997; for test-time changes of the input: Ayhan & Berens, MIDL 2018). Where the network paints a frame otherwise when the
 * frame is mirrored or grainy, or where another training of it does, it does not know; a hand-coloured frame teaches most there. Frames that look alike
 * teach the same, so the choice is spread over the film. */
#include "colorizer.h"
#include "media.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { THUMB = 16, MOST = 240 }; /* side of the picture that likeness is judged by; frames that are looked at by default */
static const float grain = .04f;  /* deviation of the noise */

typedef struct look { /* what is remembered of a frame */
    uf_suggestion s;
    float thumb[THUMB * THUMB]; /* luma, mean 0, length 1 */
    double nearest;             /* distance to the nearest chosen one, 0..2 */
    bool chosen;
} look;

typedef struct suggest {
    uf_ctx *ctx;
    const uf_suggest_options *o;
    const char *path;
    uf_reader *reader;
    uf_canvas *canvas;
    uf_colorizer *colorizer, *also[UF_SUGGEST_ALSO];
    int n_also;
    int w, h;
    float *luma, *changed, *plain, *other;
    look *looks;
    int n_looks;
    int64_t stride;
} suggest;

/* ---- one frame ----------------------------------------------------------------------------------------------------------- */

static void thumbnail(const suggest *s, float *to) {
    double mean = 0, length = 0;
    memset(to, 0, THUMB * THUMB * sizeof *to);
    for (int y = 0; y < s->h; y++)
        for (int x = 0; x < s->w; x++) to[y * THUMB / s->h * THUMB + x * THUMB / s->w] += s->luma[(ptrdiff_t)y * s->w + x];
    for (int i = 0; i < THUMB * THUMB; i++) mean += (double)to[i] / (THUMB * THUMB);
    for (int i = 0; i < THUMB * THUMB; i++) {
        to[i] -= (float)mean;
        length += (double)to[i] * (double)to[i];
    }
    for (int i = 0; i < THUMB * THUMB; i++) to[i] /= (float)sqrt(length + 1e-9);
}

static void mirror(const float *from, float *to, int w, int rows) {
    for (ptrdiff_t y = 0; y < rows; y++)
        for (int x = 0; x < w; x++) to[y * w + x] = from[y * w + w - 1 - x];
}

static double difference(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += fabs((double)(a[i] - b[i]));
    return sum / (double)n;
}

static int judge(suggest *s, look *l) {
    size_t n = (size_t)s->w * (size_t)s->h;
    thumbnail(s, l->thumb);
    UF_TRY(uf_colorizer_run(s->colorizer, s->luma, s->plain));
    mirror(s->luma, s->changed, s->w, s->h);
    UF_TRY(uf_colorizer_run(s->colorizer, s->changed, s->other));
    mirror(s->other, s->changed, s->w / 2, s->h);
    l->s.disagreement = difference(s->plain, s->changed, n / 2);
    for (size_t i = 0; i < n; i++)
        s->changed[i] = fminf(fmaxf(s->luma[i] + grain * uf_gaussian(1, uf_hash("suggest", 7), i), 0.f), 1.f);
    UF_TRY(uf_colorizer_run(s->colorizer, s->changed, s->other));
    l->s.disagreement += difference(s->plain, s->other, n / 2);
    for (int i = 0; i < s->n_also; i++) {
        UF_TRY(uf_colorizer_run(s->also[i], s->luma, s->other));
        l->s.disagreement += difference(s->plain, s->other, n / 2);
    }
    l->nearest = 2;
    return UF_OK;
}

/* ---- the film -------------------------------------------------------------------------------------------------------------- */

static int open_film(suggest *s) {
    UF_TRY(uf_reader_open(&s->reader, s->ctx, s->path));
    return uf_canvas_open_png(&s->canvas, s->ctx, uf_reader_first(s->reader), s->w, s->h);
}

static void close_film(suggest *s) {
    uf_canvas_close(&s->canvas);
    uf_reader_close(&s->reader);
}

static int open_all(suggest *s) {
    uf_colorizer_options c = {.weights = s->o->weights, .tune = s->o->tune, .weights_dir = s->o->weights_dir};
    UF_TRY(uf_reader_open(&s->reader, s->ctx, s->path));
    c.w = uf_reader_first(s->reader)->width;
    c.h = uf_reader_first(s->reader)->height;
    int64_t n_frames = uf_reader_n_frames(s->reader);
    int most = s->o->most > 0 ? s->o->most : MOST;
    s->stride = n_frames > most ? (n_frames + most - 1) / most : n_frames > 0 ? 1 : 25;
    uf_reader_close(&s->reader);
    UF_TRY(uf_colorizer_open(&s->colorizer, s->ctx, &c));
    uf_colorizer_size(s->colorizer, &s->w, &s->h);
    c.tune = NULL; /* it fits only the weights that it was made of */
    for (; s->o->also && s->o->also[s->n_also]; s->n_also++) {
        if (s->n_also == UF_SUGGEST_ALSO)
            return uf_fail(s->ctx, UF_EINVAL, "more than %d other networks to ask; leave some out", UF_SUGGEST_ALSO);
        c.weights = s->o->also[s->n_also];
        UF_TRY(uf_colorizer_open(&s->also[s->n_also], s->ctx, &c));
    }
    size_t n = (size_t)s->w * (size_t)s->h;
    s->luma = uf_alloc(s->ctx, n + 64, sizeof(float));
    s->changed = uf_alloc(s->ctx, n + 64, sizeof(float));
    s->plain = uf_alloc(s->ctx, n / 2, sizeof(float));
    s->other = uf_alloc(s->ctx, n / 2, sizeof(float));
    if (!s->luma || !s->changed || !s->plain || !s->other) return UF_ENOMEM;
    return open_film(s);
}

static int add(void *user, const AVFrame *f, int64_t number) {
    suggest *s = user;
    if (s->n_looks && !(s->n_looks & (s->n_looks - 1)) && s->n_looks >= 64) { /* room doubles at powers of two */
        look *more = realloc(s->looks, 2 * (size_t)s->n_looks * sizeof *more);
        if (!more) return uf_fail(s->ctx, UF_ENOMEM, "out of memory for the frames of '%s'", s->path);
        s->looks = more;
    }
    look *l = &s->looks[s->n_looks];
    AVRational base = uf_reader_format(s->reader)->streams[uf_reader_video(s->reader)]->time_base;
    *l = (look){.s = {.frame = number, .seconds = f->pts == AV_NOPTS_VALUE ? 0 : (double)f->pts * av_q2d(base)}};
    UF_TRY(uf_canvas_luma(s->canvas, f, s->luma));
    UF_TRY(judge(s, l));
    s->n_looks++;
    return UF_OK;
}

static int walk(suggest *s, int (*on)(void *user, const AVFrame *f, int64_t number), bool progress) {
    return uf_walk(s->ctx, s->reader, &(uf_walk_options){.every = s->stride, .on = on, .user = s,
                                                         .progress = progress ? s->o->progress : NULL, .progress_user = s->o->user});
}

/* ---- the choice ------------------------------------------------------------------------------------------------------------ */

static double unlike(const look *a, const look *b) {
    double dot = 0;
    for (int i = 0; i < THUMB * THUMB; i++) dot += (double)a->thumb[i] * (double)b->thumb[i];
    return 1 - dot;
}

/* How much doubt a frame would answer for: that of all frames, as far as they look more like it than like those that are chosen
 * already (greedy facility location: Nemhauser et al., Mathematical Programming 14, 1978). An odd frame that nothing else looks
 * like answers for itself alone. */
static double answers(const suggest *s, const look *c) {
    double sum = 0;
    for (int i = 0; i < s->n_looks; i++)
        sum += s->looks[i].s.disagreement * fmax(s->looks[i].nearest - unlike(&s->looks[i], c), 0);
    return sum;
}

static int choose(suggest *s, int wanted, uf_suggestion *out) {
    int n = 0;
    for (; n < wanted && n < s->n_looks; n++) {
        look *best = NULL;
        double most = -1;
        for (int i = 0; i < s->n_looks; i++) {
            look *l = &s->looks[i];
            double a = l->chosen ? -1 : answers(s, l);
            if (a <= most) continue;
            most = a;
            best = l;
        }
        if (!best) break;
        best->chosen = true;
        for (int i = 0; i < s->n_looks; i++) s->looks[i].nearest = fmin(s->looks[i].nearest, unlike(&s->looks[i], best));
        out[n] = best->s;
    }
    return n;
}

static const look *find(const suggest *s, int64_t number) {
    for (int i = 0; i < s->n_looks; i++)
        if (s->looks[i].s.frame == number) return &s->looks[i];
    return NULL;
}

/* The chosen frames as grey pictures of the film's size, ready to be painted. */
static int write_frame(void *user, const AVFrame *f, int64_t number) {
    suggest *s = user;
    const look *l = find(s, number);
    if (!l || !l->chosen) return UF_OK;
    size_t n = (size_t)s->w * (size_t)s->h;
    uf_writer *w = NULL;
    uf_writer_options o = {.overwrite = s->o->overwrite, .still = true};
    AVFrame *grey = NULL;
    char *path = uf_format(s->ctx, "%s/frame-%08lld.png", s->o->folder, (long long)number);
    int err = path ? uf_writer_open(&w, s->ctx, path, &o) : UF_ENOMEM;
    if (err == UF_OK) err = uf_writer_start(w, s->reader, NULL);
    if (err == UF_OK) err = uf_canvas_luma(s->canvas, f, s->luma);
    memset(s->plain, 0, n / 2 * sizeof *s->plain);
    memset(s->other, 0, n / 4 * sizeof *s->other);
    if (err == UF_OK) err = uf_canvas_paint(s->canvas, f, s->other, s->plain, &grey);
    uf_item item = {.frame = grey};
    if (err == UF_OK) err = uf_writer_write(w, &item);
    if (err == UF_OK) err = uf_writer_finish(w);
    uf_writer_close(&w);
    free(path);
    return err;
}

int uf_suggest(uf_ctx *ctx, const char *film, const uf_suggest_options *o, uf_suggestion *out, int *n_out) {
    suggest s = {.ctx = ctx, .o = o, .path = film};
    s.looks = uf_alloc(ctx, 64, sizeof *s.looks);
    int err = s.looks ? open_all(&s) : UF_ENOMEM, n = 0;
    if (err == UF_OK) err = walk(&s, add, true);
    if (err == UF_OK && !s.n_looks) err = uf_fail(ctx, UF_EDATA, "'%s' has no frames", film);
    if (err == UF_OK) n = choose(&s, o->n, out);
    close_film(&s);
    if (err == UF_OK && o->folder) {
        err = open_film(&s);
        if (err == UF_OK) err = walk(&s, write_frame, false);
    }
    if (err == UF_OK) *n_out = n;
    close_film(&s);
    uf_colorizer_close(&s.colorizer);
    for (int i = 0; i < s.n_also; i++) uf_colorizer_close(&s.also[i]);
    free(s.looks);
    free(s.luma);
    free(s.changed);
    free(s.plain);
    free(s.other);
    return err;
}
