#include "sound_filter.h"

#include "media.h"

#include <libavutil/channel_layout.h>
#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
#include <stdlib.h>
#include <string.h>

struct uf_sound_filter {
    uf_ctx *ctx;
    AVFilterGraph *graph;
    AVFilterContext *in, *out;
    AVFrame *frame;
    AVDictionary *values;
    AVChannelLayout layout;
    int rate, channels;
    int64_t n_in, n_out;
};

static int failed(uf_sound_filter *f, int av_err) {
    char text[128];
    return uf_fail(f->ctx, av_err == AVERROR(ENOMEM) ? UF_ENOMEM : UF_EUNSUPPORTED, "FFmpeg's filters here cannot mend this sound (%s); leave the option out",
                   uf_av_text(av_err, text));
}

static int configure(uf_sound_filter *f, const char *filters) {
    char source[256], layout[64];
    av_channel_layout_default(&f->layout, f->channels); /* which speaker is which does not matter here */
    av_channel_layout_describe(&f->layout, layout, sizeof(layout));
    bool named = f->layout.order != AV_CHANNEL_ORDER_UNSPEC;
    snprintf(source, sizeof(source), "sample_rate=%d:sample_fmt=fltp:time_base=1/%d:%s=%s", f->rate, f->rate, named ? "channel_layout" : "channels",
             named ? layout : strtok(layout, " "));
    char *whole = uf_format(f->ctx, "%s,aformat=sample_fmts=fltp:sample_rates=%d", filters, f->rate);
    int err = whole ? uf_av_filters(f->graph, true, source, whole, &f->in, &f->out) : AVERROR(ENOMEM);
    free(whole);
    return err < 0 ? failed(f, err) : UF_OK;
}

int uf_sound_filter_open(uf_sound_filter **out, uf_ctx *ctx, const char *filters, int rate, int channels) {
    uf_sound_filter *f = uf_alloc(ctx, 1, sizeof(*f));
    if (!f) return UF_ENOMEM;
    *f = (uf_sound_filter){ .ctx = ctx, .graph = avfilter_graph_alloc(), .frame = av_frame_alloc(), .rate = rate, .channels = channels };
    int err = f->graph && f->frame ? configure(f, filters) : UF_ENOMEM;
    if (err < 0) uf_sound_filter_close(&f);
    else *out = f;
    return err;
}

void uf_sound_filter_close(uf_sound_filter **pf) {
    uf_sound_filter *f = *pf;
    if (!f) return;
    avfilter_graph_free(&f->graph);
    av_frame_free(&f->frame);
    av_dict_free(&f->values);
    free(f);
    *pf = NULL;
}

int uf_sound_filter_push(uf_sound_filter *f, const float *const *x, int n) {
    if (!n) {
        int err = av_buffersrc_add_frame(f->in, NULL);
        return err < 0 && err != AVERROR_EOF ? failed(f, err) : UF_OK;
    }
    AVFrame *a = av_frame_alloc();
    if (!a) return UF_ENOMEM;
    a->format = AV_SAMPLE_FMT_FLTP;
    a->sample_rate = f->rate;
    a->nb_samples = n;
    a->pts = f->n_in;
    int err = av_channel_layout_copy(&a->ch_layout, &f->layout);
    if (err >= 0) err = av_frame_get_buffer(a, 0);
    for (int i = 0; err >= 0 && i < f->channels; i++) memcpy(a->extended_data[i], x[i], (size_t)n * sizeof(float));
    if (err >= 0) err = av_buffersrc_add_frame(f->in, a);
    av_frame_free(&a);
    f->n_in += n;
    return err < 0 ? failed(f, err) : UF_OK;
}

double uf_sound_filter_value(const uf_sound_filter *f, const char *key) {
    const AVDictionaryEntry *e = av_dict_get(f->values, key, NULL, 0);
    return e ? atof(e->value) : 0;
}

int uf_sound_filter_pull(uf_sound_filter *f, const float *const **x, int *n) {
    av_frame_unref(f->frame);
    *n = 0;
    int err = av_buffersink_get_frame(f->out, f->frame);
    if (err == AVERROR(EAGAIN) || err == AVERROR_EOF) return UF_OK;
    if (err < 0) return failed(f, err);
    int64_t left = f->n_in - f->n_out; /* some filters end with silence that was not there */
    if (f->frame->metadata) { /* the last word of filters that measure */
        av_dict_free(&f->values);
        if (av_dict_copy(&f->values, f->frame->metadata, 0) < 0) return UF_ENOMEM;
    }
    *n = f->frame->nb_samples > left ? (int)left : f->frame->nb_samples;
    *x = (const float *const *)(uintptr_t)f->frame->extended_data;
    f->n_out += *n;
    return UF_OK;
}
