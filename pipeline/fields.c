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

const char *uf_fields_filters(const char *word)
{
    static const struct {
        const char *word, *filters;
    } known[] = {
        { "deinterlace", "bwdif=mode=send_frame:deint=all" },            /* one frame for two fields: the number of frames stays */
        { "detelecine", "fieldmatch,bwdif=mode=send_frame:deint=interlaced,decimate" }, /* 24 frames again out of 30 */
    };
    for (int i = 0; i < UF_LEN(known); i++)
        if (strcmp(known[i].word, word) == 0) return known[i].filters;
    return NULL;
}

int uf_fields_open(uf_fields **out, uf_ctx *ctx, const AVFrame *like, AVRational base, AVRational rate, const char *filters)
{
    char source[256], text[128];
    AVFilterInOut *ends = avfilter_inout_alloc(), *begins = avfilter_inout_alloc();
    uf_fields *f = uf_alloc(ctx, 1, sizeof(*f));
    int av = AVERROR(ENOMEM);
    AVRational aspect = like->sample_aspect_ratio.num > 0 ? like->sample_aspect_ratio : (AVRational){ 1, 1 };
    if (!f || !ends || !begins || !(f->graph = avfilter_graph_alloc())) goto end;
    f->ctx = ctx;
    f->base = base;
    f->graph->nb_threads = 1;
    snprintf(source, sizeof(source), "video_size=%dx%d:pix_fmt=%d:time_base=%d/%d:frame_rate=%d/%d:pixel_aspect=%d/%d", like->width, like->height,
             like->format, base.num, base.den, rate.num, rate.den, aspect.num, aspect.den);
    if ((av = avfilter_graph_create_filter(&f->in, avfilter_get_by_name("buffer"), "in", source, NULL, f->graph)) < 0) goto end;
    if ((av = avfilter_graph_create_filter(&f->out, avfilter_get_by_name("buffersink"), "out", NULL, NULL, f->graph)) < 0) goto end;
    *ends = (AVFilterInOut){ .name = av_strdup("in"), .filter_ctx = f->in };
    *begins = (AVFilterInOut){ .name = av_strdup("out"), .filter_ctx = f->out };
    if ((av = avfilter_graph_parse_ptr(f->graph, filters, &begins, &ends, NULL)) >= 0) av = avfilter_graph_config(f->graph, NULL);
end:
    avfilter_inout_free(&ends);
    avfilter_inout_free(&begins);
    if (av < 0) {
        uf_fail(ctx, av == AVERROR(ENOMEM) ? UF_ENOMEM : UF_EUNSUPPORTED, "this FFmpeg cannot filter %dx%d %s by '%s': %s", like->width,
                like->height, av_get_pix_fmt_name(like->format), filters, uf_av_text(av, text));
        uf_fields_close(&f);
        return uf_ctx_error_code(ctx);
    }
    *out = f;
    return UF_OK;
}

void uf_fields_close(uf_fields **f)
{
    if (!f || !*f) return;
    avfilter_graph_free(&(*f)->graph);
    free(*f);
    *f = NULL;
}

int uf_fields_push(uf_fields *f, AVFrame *frame)
{
    char text[128];
    int av = av_buffersrc_add_frame(f->in, frame);
    return av < 0 ? uf_fail(f->ctx, av == AVERROR(ENOMEM) ? UF_ENOMEM : UF_EUNSUPPORTED, "cannot take the fields apart: %s", uf_av_text(av, text)) : UF_OK;
}

int uf_fields_pull(uf_fields *f, AVFrame *frame)
{
    int av = av_buffersink_get_frame(f->out, frame);
    if (av < 0) return av;
    AVRational from = av_buffersink_get_time_base(f->out);
    if (frame->pts != AV_NOPTS_VALUE) frame->pts = av_rescale_q(frame->pts, from, f->base);
    frame->best_effort_timestamp = frame->pts;
    frame->pkt_duration = 0; /* of the source's frame, and that may be another */
    return 0;
}

AVRational uf_fields_rate(const uf_fields *f)
{
    return av_buffersink_get_frame_rate(f->out);
}

/* ---- which kind a film is -------------------------------------------------------------------------------------- */

/* idet's verdict on each frame of the part that was opened. */
static int count(uf_ctx *ctx, uf_reader *r, uf_field_counts *c)
{
    const AVStream *st = uf_reader_format(r)->streams[uf_reader_video(r)];
    uf_fields *f = NULL;
    AVFrame *seen = av_frame_alloc();
    int err = seen ? uf_fields_open(&f, ctx, uf_reader_first(r), st->time_base, st->avg_frame_rate, "idet") : UF_ENOMEM;
    while (err == UF_OK) {
        uf_item item = { 0 };
        err = uf_reader_next(r, &item);
        if (err == UF_OK && item.frame) err = uf_fields_push(f, item.frame);
        if (err == UF_EOF) uf_fields_push(f, NULL);
        uf_item_clear(&item);
        while (uf_fields_pull(f, seen) == 0) {
            const AVDictionaryEntry *kind = av_dict_get(seen->metadata, "lavfi.idet.multiple.current_frame", NULL, 0);
            const AVDictionaryEntry *again = av_dict_get(seen->metadata, "lavfi.idet.repeated.current_frame", NULL, 0);
            c->n++;
            c->interlaced += kind && (strcmp(kind->value, "tff") == 0 || strcmp(kind->value, "bff") == 0);
            c->progressive += kind && strcmp(kind->value, "progressive") == 0;
            c->repeated += again && strcmp(again->value, "neither") != 0;
            av_frame_unref(seen);
        }
    }
    uf_fields_close(&f);
    av_frame_free(&seen);
    return err == UF_EOF ? UF_OK : err;
}

int uf_fields_look(uf_ctx *ctx, const char *film, double from, double length, uf_field_counts *out)
{
    uf_reader *r = NULL;
    uf_field_counts c = { 0 };
    int err = uf_reader_open_with(&r, ctx, film, &(uf_reader_options){ .from = from, .length = length });
    if (err == UF_OK) err = count(ctx, r, &c);
    uf_reader_close(&r);
    if (err == UF_OK) {
        /* Of telecined film two frames in five are woven of two and repeat a field; idet remembers, and calls the ones between woven
         * too. A camera's fields do not repeat. */
        bool woven = 10 * c.interlaced > c.n, mostly = 2 * c.interlaced > c.n;
        c.verdict = !woven ? "progressive" : 10 * c.repeated > c.n ? "telecined" : mostly ? "interlaced" : "mixed";
        *out = c;
    }
    return err;
}
