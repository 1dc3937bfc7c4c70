/* What reader, writer and info share: error texts, FFmpeg's log, names. */
#include "media.h"

#include <libavutil/parseutils.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *uf_av_text(int av_err, char buf[128]) {
    if (av_strerror(av_err, buf, 128) < 0) snprintf(buf, 128, "error %d", av_err);
    return buf;
}

int uf_av_code(int av_err) {
    switch (av_err) {
    case AVERROR(ENOMEM): return UF_ENOMEM;
    case AVERROR_EXIT: return UF_EINTR;
    case AVERROR_INVALIDDATA: return UF_EDATA;
    case AVERROR_EOF: return UF_EDATA;
    case AVERROR(ENOSYS):
    case AVERROR_PATCHWELCOME: return UF_EUNSUPPORTED;
    case AVERROR(EINVAL): return UF_EUNSUPPORTED;
    default: return UF_EIO;
    }
}

int uf_av_fail(uf_ctx *ctx, const char *what, const char *path, int av_err) {
    char text[128];
    if (uf_ctx_cancelled(ctx)) return uf_fail(ctx, UF_EINTR, "stopped; nothing was written");
    return uf_fail(ctx, uf_av_code(av_err), "cannot %s '%s': %s", what, path, uf_av_text(av_err, text));
}

int uf_av_filters(AVFilterGraph *g, bool sound, const char *source, const char *filters, AVFilterContext **in, AVFilterContext **out) {
    AVFilterInOut *ends = avfilter_inout_alloc(), *begins = avfilter_inout_alloc();
    int av = ends && begins ? 0 : AVERROR(ENOMEM);
    if (av >= 0) av = avfilter_graph_create_filter(in, avfilter_get_by_name(sound ? "abuffer" : "buffer"), "in", source, NULL, g);
    if (av >= 0) av = avfilter_graph_create_filter(out, avfilter_get_by_name(sound ? "abuffersink" : "buffersink"), "out", NULL, NULL, g);
    if (av >= 0) {
        *ends = (AVFilterInOut){ .name = av_strdup("in"), .filter_ctx = *in };
        *begins = (AVFilterInOut){ .name = av_strdup("out"), .filter_ctx = *out };
        av = avfilter_graph_parse_ptr(g, filters, &begins, &ends, NULL);
    }
    if (av >= 0) av = avfilter_graph_config(g, NULL);
    avfilter_inout_free(&ends);
    avfilter_inout_free(&begins);
    return av;
}

const char *uf_clock_text(double seconds, char buf[32]) {
    int64_t ms = (int64_t)(seconds * 1000 + (seconds < 0 ? -0.5 : 0.5));
    const char *sign = ms < 0 ? "-" : "";
    if (ms < 0) ms = -ms;
    snprintf(buf, 32, "%s%02d:%02d:%02d.%03d", sign, (int)(ms / 3600000 % 1000), (int)(ms / 60000 % 60),
             (int)(ms / 1000 % 60), (int)(ms % 1000));
    return buf;
}

static int interrupted(void *user) {
    return uf_ctx_cancelled(user);
}

/* Only there to be recognised: FFmpeg's log callback has no user pointer, so a context of ours is known by its
 * functions, and carries its uf_ctx. */
static enum AVPixelFormat get_format(AVCodecContext *codec, const enum AVPixelFormat *list) {
    return avcodec_default_get_format(codec, list);
}

/* *says: of a decoder or an input whose words are noted; NULL: of none. */
static uf_ctx *owner(void *object, uf_sayings **says) {
    for (int depth = 0; object && depth < 4; depth++) {
        const AVClass *class = *(AVClass **)object;
        if (!class) return NULL;
        if (class == avformat_get_class()) {
            AVFormatContext *fmt = object;
            if (fmt->interrupt_callback.callback != interrupted) return NULL;
            if (fmt->iformat) *says = fmt->opaque;
            return fmt->interrupt_callback.opaque;
        }
        if (class == avcodec_get_class()) {
            AVCodecContext *codec = object;
            if (codec->get_format != get_format) return NULL;
            if (av_codec_is_decoder(codec->codec)) *says = codec->opaque;
            return ((uf_sayings *)codec->opaque)->ctx;
        }
        if (!class->parent_log_context_offset) return NULL;
        object = *(void **)((char *)object + class->parent_log_context_offset);
    }
    return NULL;
}

static void note(uf_sayings *says, int level, const char *line) {
    static const char *const hidden[] = { "concealing", "CRC mismatch" };
    bool damage = false;
    for (int i = 0; i < UF_LEN(hidden); i++) damage |= strstr(line, hidden[i]) != NULL;
    if (!damage && level > AV_LOG_ERROR) return;
    bool first = atomic_fetch_add(damage ? &says->n_damage : &says->n_errors, 1) == 0;
    const char *end = line[0] == '[' ? strstr(line, "] ") : NULL; /* "[h264 @ 0x55...] " */
    if (first) snprintf(damage ? says->damage : says->error, sizeof(says->error), "%.*s", (int)sizeof(says->error) - 1, end ? end + 2 : line);
}

static void log_forward(void *object, int level, const char *fmt, va_list args) {
    char line[512];
    int prefix = 1;
    uf_sayings *says = NULL;
    uf_ctx *ctx = level <= AV_LOG_INFO ? owner(object, &says) : NULL;
    if (!ctx) return;
    av_log_format_line2(object, level, fmt, args, line, sizeof(line), &prefix);
    line[strcspn(line, "\r\n")] = 0;
    if (says) note(says, level, line);
    if (line[0]) uf_log(ctx, UF_LOG_DEBUG, "ffmpeg: %s", line);
}

void uf_av_adopt_format(uf_ctx *ctx, AVFormatContext *fmt) {
    av_log_set_callback(log_forward);
    fmt->interrupt_callback = (AVIOInterruptCB){ interrupted, ctx };
}

void uf_av_adopt_codec(uf_ctx *ctx, AVCodecContext *codec, uf_sayings *says) {
    av_log_set_callback(log_forward);
    codec->get_format = get_format;
    says->ctx = ctx;
    codec->opaque = says;
}

static int fail_open(uf_ctx *ctx, const char *path, int av) {
    char text[128];
    switch (av) {
    case AVERROR(ENOMEM): return uf_fail(ctx, UF_ENOMEM, "cannot open '%s': out of memory", path);
    case AVERROR(ENOENT): return uf_fail(ctx, UF_EIO, "cannot open '%s': there is no such file; check the name", path);
    case AVERROR(EACCES): return uf_fail(ctx, UF_EIO, "cannot open '%s': you may not read it; change its permissions", path);
    case AVERROR(EISDIR):
        return uf_fail(ctx, UF_EIO, "cannot open '%s': it is a folder; give a file, or numbered pictures like '%s/%%05d.png'", path, path);
    case AVERROR_INVALIDDATA:
        return uf_fail(ctx, UF_EDATA, "cannot open '%s': it is no film, picture or sound, or its start or index is damaged; "
                       "try another copy", path);
    default:
        return uf_fail(ctx, uf_av_code(av), "cannot open '%s': %s; give a film or a picture", path, uf_av_text(av, text));
    }
}

int uf_av_open(AVFormatContext **out, uf_ctx *ctx, const char *path) {
    AVDictionary *o = NULL;
    AVFormatContext *fmt = avformat_alloc_context();
    char *url = uf_av_url(ctx, path, false), text[128];
    int av, err = UF_OK;
    if (!url || !fmt) {
        err = fail_open(ctx, path, AVERROR(ENOMEM));
        goto end;
    }
    uf_av_adopt_format(ctx, fmt);
    /* A film may name other files (playlists): never let it reach beyond this machine. */
    av_dict_set(&o, "protocol_whitelist", "file,pipe", 0);
    if (av_filename_number_test(path)) av_dict_set(&o, "start_number_range", "100000", 0);
    if ((av = avformat_open_input(&fmt, url, NULL, &o)) < 0)
        err = fail_open(ctx, path, av);
    else if (strcmp(fmt->iformat->name, "tty") == 0)
        err = uf_fail(ctx, UF_EDATA, "cannot open '%s': it is text; give a film or a picture", path);
    else if ((av = avformat_find_stream_info(fmt, NULL)) < 0)
        err = uf_fail(ctx, UF_EDATA, "cannot read '%s': %s; copy it again", path, uf_av_text(av, text));
end:
    if (err < 0) avformat_close_input(&fmt);
    else *out = fmt;
    av_dict_free(&o);
    free(url);
    return err;
}

char *uf_av_url(uf_ctx *ctx, const char *path, bool output) {
    if (strcmp(path, "-") == 0) return uf_format(ctx, "pipe:%d", output ? 1 : 0);
    return uf_format(ctx, "%s%s", strchr(path, ':') ? "file:" : "", path);
}

double uf_seconds_parse(const char *text) {
    int64_t us;
    return av_parse_time(&us, text, 1) < 0 ? -1 : (double)us / AV_TIME_BASE;
}

bool uf_same_file(const char *a, const char *b) {
    struct stat x, y;
    return !strcmp(a, b) || (!stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}
