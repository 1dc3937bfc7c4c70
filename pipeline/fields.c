#include "fields.h"

#include <libavfilter/avfilter.h>
#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
#include <stdlib.h>
#include <string.h>

struct uf_fields {
    uf_ctx *ctx;
    AVFilterGraph *graph;
    AVFilterContext *in, *out;
    AVRational base;
};

int uf_fields_filters(uf_ctx *ctx, const char *word, const char **filters) {
    static const struct {
        const char *word, *filters;
    } known[] = {
        { "keep", NULL },
        { "deinterlace", "bwdif=mode=send_frame:deint=all" },            /* one frame for two fields: the number of frames stays */
        { "auto", "idet,bwdif=mode=send_frame:deint=interlaced" },       /* the same for woven frames alone; the others to the bit */
        { "detelecine", "fieldmatch,bwdif=mode=send_frame:deint=interlaced,decimate" }, /* 24 frames again out of 30 */
    };
    for (int i = 0; i < UF_LEN(known); i++)
        if (strcmp(known[i].word, word ? word : "keep") == 0) {
            *filters = known[i].filters;
            return UF_OK;
        }
    return uf_fail(ctx, UF_EINVAL, "there is no way '%s' to treat fields; there are keep, auto, deinterlace and detelecine", word);
}

int uf_fields_open(uf_fields **out, uf_ctx *ctx, const AVFrame *like, AVRational base, AVRational rate, const char *filters) {
    char source[256], text[128];
    uf_fields *f = uf_alloc(ctx, 1, sizeof(*f));
    int av = AVERROR(ENOMEM);
    AVRational aspect = like->sample_aspect_ratio.num > 0 ? like->sample_aspect_ratio : (AVRational){ 1, 1 };
    if (!f || !(f->graph = avfilter_graph_alloc())) goto end;
    f->ctx = ctx;
    f->base = base;
    f->graph->nb_threads = 1;
    snprintf(source, sizeof(source), "video_size=%dx%d:pix_fmt=%d:time_base=%d/%d:frame_rate=%d/%d:pixel_aspect=%d/%d", like->width, like->height,
             like->format, base.num, base.den, rate.num, rate.den, aspect.num, aspect.den);
    av = uf_av_filters(f->graph, false, source, filters, &f->in, &f->out);
end:
    if (av < 0) {
        uf_fail(ctx, av == AVERROR(ENOMEM) ? UF_ENOMEM : UF_EUNSUPPORTED, "this FFmpeg cannot filter %dx%d %s by '%s': %s", like->width,
                like->height, av_get_pix_fmt_name(like->format), filters, uf_av_text(av, text));
        uf_fields_close(&f);
        return uf_ctx_error_code(ctx);
    }
    *out = f;
    return UF_OK;
}

void uf_fields_close(uf_fields **f) {
    if (!f || !*f) return;
    avfilter_graph_free(&(*f)->graph);
    free(*f);
    *f = NULL;
}

int uf_fields_push(uf_fields *f, AVFrame *frame) {
    char text[128];
    int av = av_buffersrc_add_frame(f->in, frame);
    return av < 0 ? uf_fail(f->ctx, av == AVERROR(ENOMEM) ? UF_ENOMEM : UF_EUNSUPPORTED, "cannot take the fields apart: %s", uf_av_text(av, text)) : UF_OK;
}

int uf_fields_pull(uf_fields *f, AVFrame *frame) {
    int av = av_buffersink_get_frame(f->out, frame);
    if (av < 0) return av;
    AVRational from = av_buffersink_get_time_base(f->out);
    if (frame->pts != AV_NOPTS_VALUE) frame->pts = av_rescale_q(frame->pts, from, f->base);
    frame->best_effort_timestamp = frame->pts;
    frame->pkt_duration = 0; /* of the source's frame, and that may be another */
    return 0;
}

AVRational uf_fields_rate(const uf_fields *f) {
    return av_buffersink_get_frame_rate(f->out);
}

/* ---- which kind a film is -------------------------------------------------------------------------------------- */

enum { N_SAMPLES = 3 };
static const double SAMPLE = 3; /* seconds */

/* idet's verdict on a frame. */
static int count(void *user, const AVFrame *f, int64_t number) {
    uf_field_counts *c = user;
    const AVDictionaryEntry *kind = av_dict_get(f->metadata, "lavfi.idet.multiple.current_frame", NULL, 0);
    const AVDictionaryEntry *again = av_dict_get(f->metadata, "lavfi.idet.repeated.current_frame", NULL, 0);
    (void)number;
    c->n++;
    c->interlaced += kind && (strcmp(kind->value, "tff") == 0 || strcmp(kind->value, "bff") == 0);
    c->progressive += kind && strcmp(kind->value, "progressive") == 0;
    c->repeated += again && strcmp(again->value, "neither") != 0;
    return UF_OK;
}

static int look(uf_ctx *ctx, const char *film, double from, double length, uf_field_counts *c) {
    uf_reader *r = NULL;
    UF_TRY(uf_reader_open_with(&r, ctx, film, &(uf_reader_options){ .from = from, .length = length, .filters = "idet" }));
    int err = uf_walk(ctx, r, &(uf_walk_options){ .every = 1, .on = count, .user = c });
    uf_reader_close(&r);
    return err;
}

int uf_fields_look(uf_ctx *ctx, const char *film, double from, double length, uf_field_counts *out) {
    uf_field_counts c = { 0 };
    int err = UF_OK, n = length > 2 * N_SAMPLES * SAMPLE ? N_SAMPLES : 1;
    for (int i = 0; i < n && err == UF_OK; i++)
        err = n == 1 ? look(ctx, film, from, length, &c) : look(ctx, film, from + length * (2 * i + 1) / (2 * n), SAMPLE, &c);
    if (err < 0) return err;
    /* Of telecined film two frames in five are woven of two and repeat a field; idet remembers, and calls the ones between woven
     * too. A camera's fields do not repeat. */
    bool woven = 10 * c.interlaced > c.n, mostly = 2 * c.interlaced > c.n;
    c.verdict = !woven ? "progressive" : 10 * c.repeated > c.n ? "telecined" : mostly ? "interlaced" : "mixed";
    *out = c;
    return UF_OK;
}
