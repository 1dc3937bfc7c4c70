/* A delay line a stage. See chain.h. */
#include "chain.h"
#include "motion.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct entry { /* a frame that waits, or that others still look at */
    AVFrame *frame;    /* NULL: it has gone on */
    float *luma;       /* as it came; only for a stage with planes */
    bool begins;       /* a scene */
    int64_t number;
    float note[UF_STAGE_NOTES];
} entry;

typedef struct line {
    const uf_stage *stage;
    int index;          /* in uf_stages[] */
    float strength;
    entry window[UF_STAGE_WINDOW + 1];
    int n, next;        /* entries; the first that has not gone on */
    float *room;        /* the stage's own */
    float *last, *now;  /* luma of the newest frame and of the one before */
    int64_t n_changed;
} line;

struct uf_chain {
    uf_ctx *ctx;
    uf_chain_options o;
    uf_stage_size size;
    const AVPixFmtDescriptor *format;
    int depth;
    bool plain; /* see lies_plainly() */
    float *spare[UF_STAGE_WINDOW]; /* planes that wait for the next frame: fresh memory costs a page fault for every 1024 samples */
    int n_spare;
    line lines[UF_CHAIN_MOST];
    int n_lines;
    uf_cuts cuts;
    float *out;
    uint8_t *mask;
    uint16_t *row;
    int64_t number;
    FILE *list;
    uf_chain_emit *emit;
    void *user;
};

static size_t plane_size(const uf_chain *c) {
    return (size_t)c->size.pitch * (size_t)(c->size.h + 1);
}

/* One sample of luma follows the other, in whole bytes of this machine's order: what nearly all films have. */
static bool lies_plainly(const uf_chain *c) {
    const AVComponentDescriptor *d = &c->format->comp[0];
    bool big = (c->format->flags & AV_PIX_FMT_FLAG_BE) != 0;
    return d->offset == 0 && d->shift == 0 && (d->depth <= 8 ? d->step == 1 : d->step == 2 && big == (AV_HAVE_BIGENDIAN != 0));
}

UF_CLONES static void read_bytes(const uint8_t *from, float *to, int n, float one) {
    for (int i = 0; i < n; i++) to[i] = (float)from[i] * one;
}

UF_CLONES static void read_words(const uint16_t *from, float *to, int n, float one) {
    for (int i = 0; i < n; i++) to[i] = (float)from[i] * one;
}

static void read_luma(uf_chain *c, const AVFrame *f, float *luma) {
    float one = 1.f / (float)((1 << c->depth) - 1);
    for (int y = 0; y < c->size.h; y++, luma += c->size.pitch) {
        const uint8_t *row = f->data[0] + (ptrdiff_t)y * f->linesize[0];
        if (!c->plain) av_read_image_line2(c->row, (const uint8_t **)f->data, f->linesize, c->format, 0, y, 0, c->size.w, 0, 2);
        if (c->plain && c->depth <= 8) read_bytes(row, luma, c->size.w, one);
        else read_words(c->plain ? (const uint16_t *)(const void *)row : c->row, luma, c->size.w, one);
    }
}

/* FFmpeg sets bits and clears none, since other components may share the bytes. */
static void clear_luma(const uf_chain *c, AVFrame *f, int y) {
    const AVComponentDescriptor *d = &c->format->comp[0];
    uint8_t *p = f->data[d->plane] + (ptrdiff_t)y * f->linesize[d->plane] + d->offset;
    for (int x = 0; x < c->size.w; x++, p += d->step) memset(p, 0, (size_t)(d->depth + d->shift + 7) / 8);
}

static int write_luma(uf_chain *c, AVFrame *f, const float *luma) {
    float most = (float)((1 << c->depth) - 1);
    if (av_frame_make_writable(f) < 0) return uf_fail(c->ctx, UF_ENOMEM, "out of memory for a frame of %dx%d", c->size.w, c->size.h);
    for (int y = 0; y < c->size.h; y++, luma += c->size.pitch) {
        for (int x = 0; x < c->size.w; x++) c->row[x] = (uint16_t)lrintf(luma[x] * most);
        clear_luma(c, f, y);
        av_write_image_line2(c->row, f->data, f->linesize, c->format, 0, y, 0, c->size.w, 2);
    }
    return UF_OK;
}

/* ---- telling ------------------------------------------------------------------------------------------------------ */

static bool any(const uint8_t *mask, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (mask[i]) return true;
    return false;
}

static int tell(uf_chain *c, const line *l, const entry *e, const char *said) {
    uf_log(c->ctx, UF_LOG_DEBUG, "frame %" PRId64 ": %s: %s", e->number, l->stage->name, said);
    if (!c->list || e->number < c->o.done) return UF_OK;
    if (fprintf(c->list, "%" PRId64 ",%s,\"%s\"\n", e->number, l->stage->name, said) < 0)
        return uf_fail(c->ctx, UF_EIO, "cannot write to '%s': %s; free some space", c->o.masks, strerror(errno));
    if (!any(c->mask, (size_t)c->size.w * (size_t)c->size.h)) return UF_OK;
    char *path = uf_format(c->ctx, "%s/%s-%08" PRId64 ".png", c->o.masks, l->stage->name, e->number);
    int err = path ? uf_png_write(c->ctx, path, c->mask, c->size.w, c->size.h) : UF_ENOMEM;
    free(path);
    return err;
}

static int open_list(uf_chain *c) {
    if (!c->o.masks) return UF_OK;
    if (mkdir(c->o.masks, 0777) != 0 && errno != EEXIST)
        return uf_fail(c->ctx, UF_EIO, "cannot make the folder '%s': %s; give another one", c->o.masks, strerror(errno));
    char *path = uf_format(c->ctx, "%s/mended.csv", c->o.masks);
    if (!path) return UF_ENOMEM;
    c->list = fopen(path, c->o.done ? "a" : "w");
    int err = c->list ? UF_OK : uf_fail(c->ctx, UF_EIO, "cannot write '%s': %s; give another folder", path, strerror(errno));
    if (c->list && !c->o.done) fprintf(c->list, "frame,stage,what\n");
    free(path);
    return err;
}

/* ---- lines -------------------------------------------------------------------------------------------------------- */

static int into(uf_chain *c, int i, AVFrame *f, bool begins, int64_t number);

/* The frames around entry `at` that are of its scene. */
static void gather(const line *l, int at, uf_stage_work *k) {
    for (int i = at; i >= 0 && i >= at - l->stage->reach; i--) {
        k->luma[UF_STAGE_REACH + i - at] = l->window[i].luma;
        k->notes[UF_STAGE_REACH + i - at] = l->window[i].note;
        if (l->window[i].begins) break;
    }
    for (int i = at + 1; i < l->n && i <= at + l->stage->reach && !l->window[i].begins; i++) {
        k->luma[UF_STAGE_REACH + i - at] = l->window[i].luma;
        k->notes[UF_STAGE_REACH + i - at] = l->window[i].note;
    }
}

static int leave(uf_chain *c, int i) {
    line *l = &c->lines[i];
    entry *e = &l->window[l->next];
    uf_stage_work k = { .size = c->size, .strength = l->strength, .out = c->out, .mask = c->mask, .room = l->room };
    AVFrame *f = e->frame;
    gather(l, l->next, &k);
    if (e->luma) memcpy(c->out, e->luma, plane_size(c) * sizeof(float));
    else read_luma(c, f, c->out);
    memset(c->mask, 0, (size_t)c->size.w * (size_t)c->size.h);
    int changed = l->stage->mend(c->ctx, &k), err = changed < 0 ? changed : UF_OK;
    l->n_changed += changed > 0;
    if (changed > 0) err = write_luma(c, f, c->out);
    if (err == UF_OK && changed > 0) err = tell(c, l, e, k.said);
    e->frame = NULL;
    l->next++;
    if (err < 0) av_frame_free(&f);
    return err < 0 ? err : into(c, i + 1, f, e->begins, e->number);
}

static float *take_plane(uf_chain *c) {
    return c->n_spare ? c->spare[--c->n_spare] : uf_alloc(c->ctx, plane_size(c), sizeof(float));
}

static void give_plane(uf_chain *c, float *plane) {
    if (plane && c->n_spare < UF_LEN(c->spare)) c->spare[c->n_spare++] = plane;
    else free(plane);
}

static void forget(uf_chain *c, line *l, int n) {
    for (int i = 0; i < n; i++) {
        give_plane(c, l->window[i].luma);
        av_frame_free(&l->window[i].frame);
    }
    memmove(l->window, l->window + n, (size_t)(l->n - n) * sizeof(entry));
    l->n -= n;
    l->next -= n;
}

static int note(uf_chain *c, line *l, entry *e) {
    if (l->stage->planes && !(e->luma = take_plane(c))) return UF_ENOMEM;
    if (e->luma) read_luma(c, e->frame, e->luma);
    if (!l->stage->look) return UF_OK;
    float *swap = l->last;
    l->last = l->now;
    l->now = swap;
    if (e->luma) memcpy(l->now, e->luma, plane_size(c) * sizeof(float));
    else read_luma(c, e->frame, l->now);
    return l->stage->look(c->ctx, &c->size, e->begins ? NULL : l->last, l->now, e->note);
}

/* A frame comes to line i, or, after the last, out of the chain. */
static int into(uf_chain *c, int i, AVFrame *f, bool begins, int64_t number) {
    if (i == c->n_lines) return c->emit(c->user, f);
    line *l = &c->lines[i];
    if (l->n == 0) begins = true; /* nothing before it is known */
    entry *e = &l->window[l->n++];
    *e = (entry){ .frame = f, .begins = begins, .number = number };
    UF_TRY(note(c, l, e));
    if (l->n - 1 - l->next >= l->stage->reach) UF_TRY(leave(c, i));
    if (l->next > l->stage->reach) forget(c, l, l->next - l->stage->reach);
    return UF_OK;
}

static int flush(uf_chain *c) {
    for (int i = 0; i < c->n_lines; i++) {
        while (c->lines[i].next < c->lines[i].n) UF_TRY(leave(c, i));
        forget(c, &c->lines[i], c->lines[i].n);
    }
    if (c->list && fflush(c->list) != 0) return uf_fail(c->ctx, UF_EIO, "cannot write to '%s': %s; free some space", c->o.masks, strerror(errno));
    return UF_OK;
}

int uf_chain_push(uf_chain *c, AVFrame *f, uf_chain_emit *emit, void *user) {
    c->emit = emit;
    c->user = user;
    if (!f) return flush(c);
    int64_t number = c->number++;
    if (c->o.table) return into(c, 0, f, uf_table_begins(c->o.table, number), number);
    read_luma(c, f, c->out);
    return into(c, 0, f, uf_cuts_push(&c->cuts, c->out, c->size.w, c->size.h, c->size.pitch), number);
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static int open_all(uf_chain *c, const AVFrame *first) {
    if (uf_format_is_rgb(first->format) || (c->format->flags & (AV_PIX_FMT_FLAG_FLOAT | AV_PIX_FMT_FLAG_BITSTREAM)) || c->format->comp[0].depth > 16)
        return uf_fail(c->ctx, UF_EUNSUPPORTED, "pixel format '%s' has no plane of brightness to mend; convert the film to yuv444p first", c->format->name);
    for (int i = 0; uf_stages[i]; i++) {
        if (c->o.strength[i] <= 0) continue;
        line *l = &c->lines[c->n_lines++];
        *l = (line){ .stage = uf_stages[i], .index = i, .strength = (float)c->o.strength[i] };
        if (l->stage->room && !(l->room = uf_alloc(c->ctx, plane_size(c) * (size_t)l->stage->room, sizeof(float)))) return UF_ENOMEM;
        if (!l->stage->look) continue;
        l->last = uf_alloc(c->ctx, plane_size(c), sizeof(float));
        l->now = uf_alloc(c->ctx, plane_size(c), sizeof(float));
        if (!l->last || !l->now) return UF_ENOMEM;
    }
    c->out = uf_alloc(c->ctx, plane_size(c), sizeof(float));
    c->mask = uf_alloc(c->ctx, (size_t)c->size.w * (size_t)c->size.h, 1);
    c->row = uf_alloc(c->ctx, (size_t)c->size.w, sizeof(*c->row));
    return c->out && c->mask && c->row ? open_list(c) : UF_ENOMEM;
}

int uf_chain_open(uf_chain **out, uf_ctx *ctx, const AVFrame *first, const uf_chain_options *o) {
    uf_chain *c = uf_alloc(ctx, 1, sizeof(*c));
    if (!c) return UF_ENOMEM;
    c->ctx = ctx;
    c->o = *o;
    c->number = o->number;
    c->format = av_pix_fmt_desc_get(first->format);
    c->depth = c->format->comp[0].depth;
    c->plain = lies_plainly(c);
    c->size = (uf_stage_size){ first->width, first->height, (first->width + 15) / 16 * 16 };
    int err = open_all(c, first);
    if (err < 0) uf_chain_close(&c);
    else *out = c;
    return err;
}

void uf_chain_close(uf_chain **chain) {
    uf_chain *c = chain ? *chain : NULL;
    if (!c) return;
    for (int i = 0; i < c->n_lines; i++) {
        forget(c, &c->lines[i], c->lines[i].n);
        free(c->lines[i].room);
        free(c->lines[i].last);
        free(c->lines[i].now);
    }
    while (c->n_spare) free(c->spare[--c->n_spare]);
    if (c->list) fclose(c->list);
    free(c->out);
    free(c->mask);
    free(c->row);
    free(c);
    *chain = NULL;
}

int64_t uf_chain_n_changed(const uf_chain *c, int i) {
    for (int k = 0; k < c->n_lines; k++)
        if (c->lines[k].index == i) return c->lines[k].n_changed;
    return 0;
}
