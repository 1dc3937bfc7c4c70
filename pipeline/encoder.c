/* Encoder settings, one row a codec. */
#include "media.h"

#include <libavutil/cpu.h>
#include <libavutil/opt.h>
#include <string.h>

typedef struct setup {
    const char *codec;
    int crf;           /* default quality; 0: the codec has none */
    int qscale;        /* default of codecs with a fixed quantiser, 1..31; 0: not one of those */
    const char *options; /* key=value:... */
} setup;

/* Presets leave the processor to the network: a restored film is watched often, but coloured once. */
static const setup setups[] = {
    { "libx264", 18, 0, "preset=faster" },
    { "libx264rgb", 18, 0, "preset=faster" },
    { "libx265", 20, 0, "preset=veryfast" },
    { "libvpx-vp9", 26, 0, "deadline=good:cpu-used=5:row-mt=1:b=0" },
    { "libvpx", 10, 0, "deadline=good:cpu-used=5:b=4000000" },
    { "libaom-av1", 26, 0, "cpu-used=8:row-mt=1:b=0" },
    { "libsvtav1", 26, 0, "preset=10" },
    { "ffv1", 0, 0, "level=3:slicecrc=1:g=1" },
    { "mpeg4", 0, 2, "" },
    { "mpeg2video", 0, 2, "" },
    { "mjpeg", 0, 2, "" },
    { "libwebp", 0, 0, "quality=90" },
};

/* Beside what the user gives under the same key. */
static void add_own(AVDictionary **o, const char *key, const char *value) {
    if (av_dict_get(*o, key, NULL, 0)) av_dict_set(o, key, ":", AV_DICT_APPEND);
    av_dict_set(o, key, value, AV_DICT_APPEND);
}

/* Options of the encoders' own: x264's macroblock tree reads memory that nobody wrote where it computes with AVX-512 (build 164), and
 * then no two runs give the same bits; x265 talks to the terminal past everybody. */
static void set_own(const char *codec, AVDictionary **o) {
    if (strncmp(codec, "libx264", 7) == 0 && (av_get_cpu_flags() & AV_CPU_FLAG_AVX512)) add_own(o, "x264-params", "asm=avx2");
    if (strcmp(codec, "libx265") == 0) add_own(o, "x265-params", "log-level=error");
}

/* The user chose a quality by another key than crf, which would win over it or be refused beside it. */
static bool chose_quality(const char *const *more) {
    static const char *const keys[] = { "qp", "lossless", "b" };
    for (int i = 0; more && more[i] && more[i + 1]; i += 2)
        for (int k = 0; k < UF_LEN(keys); k++)
            if (strcmp(more[i], keys[k]) == 0) return true;
    return false;
}

int uf_encoder_setup(uf_ctx *ctx, AVCodecContext *enc, int crf, const char *const *more, AVDictionary **o) {
    const char *name = enc->codec->name;
    static const setup none = { "", 0, 0, "" };
    const setup *s = &none;
    for (int i = 0; i < UF_LEN(setups); i++)
        if (strcmp(setups[i].codec, name) == 0) s = &setups[i];
    if (crf && !s->qscale && !(enc->priv_data && av_opt_find(enc->priv_data, "crf", NULL, 0, 0)))
        return uf_fail(ctx, UF_EINVAL, "encoder '%s' has no quality setting; leave --crf out", name);
    if (s->qscale) {
        enc->flags |= AV_CODEC_FLAG_QSCALE;
        enc->global_quality = FF_QP2LAMBDA * (crf ? (crf > 31 ? 31 : crf) : s->qscale);
    } else if (crf || (s->crf && !chose_quality(more))) {
        av_dict_set_int(o, "crf", crf ? crf : s->crf, 0);
    }
    if (av_dict_parse_string(o, s->options, "=", ":", 0) < 0)
        return uf_fail(ctx, UF_ENOMEM, "cannot open encoder '%s': out of memory", name);
    for (int i = 0; more && more[i] && more[i + 1]; i += 2) av_dict_set(o, more[i], more[i + 1], 0);
    set_own(name, o);
    return UF_OK;
}
