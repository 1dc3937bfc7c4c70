/* Reading the sound of a file or film, as planar float at its own rate. Internal to the pipeline room. */
#ifndef UF_SOUND_READER_H
#define UF_SOUND_READER_H

#include "media.h"

#include <libswresample/swresample.h>
#include <math.h>

typedef struct uf_sound_reader uf_sound_reader;
typedef struct uf_sound_item { /* a piece of the sound, or a packet of another stream */
    AVPacket *packet;          /* borrowed until the next call, or NULL */
    float *const *x;           /* n samples of each channel, borrowed until the next call */
    int n;
} uf_sound_item;
/* UF_EDATA: there is no sound in it. */
int uf_sound_reader_open(uf_sound_reader **out, uf_ctx *ctx, const char *path);
void uf_sound_reader_close(uf_sound_reader **r);
/* UF_EOF at the end; UF_EDATA: damage, with its place. Where timestamps leave a gap, silence fills it. */
int uf_sound_reader_next(uf_sound_reader *r, uf_sound_item *item);
AVFormatContext *uf_sound_reader_format(const uf_sound_reader *r);
const AVCodecContext *uf_sound_reader_codec(const uf_sound_reader *r);
int uf_sound_reader_stream(const uf_sound_reader *r);
int uf_sound_reader_rate(const uf_sound_reader *r);
int uf_sound_reader_channels(const uf_sound_reader *r);
double uf_sound_reader_start(const uf_sound_reader *r);   /* s; known after the first piece */
double uf_sound_reader_seconds(const uf_sound_reader *r); /* as promised; 0: unknown */
/* Sample i as the mean of the channels; what is no number is silence. */
static inline float uf_sound_mean(float *const *x, int channels, int i) {
    float sum = 0;
    for (int c = 0; c < channels; c++) sum += x[c][i];
    return isfinite(sum) ? sum / (float)channels : 0.f;
}
typedef struct uf_sound { /* all of a recording: n samples of one channel */
    float *x;
    size_t n;
    int rate;
} uf_sound;
int uf_sound_read_all(uf_ctx *ctx, const char *path, uf_sound *out); /* the mean of its channels; free(out->x) */
int uf_sound_at_rate(uf_ctx *ctx, const uf_sound *s, int rate, uf_sound *out); /* a copy; free(out->x) */
/* Planar float between rates: by soxr, where FFmpeg has it. precision: of soxr, bits; 0: its default. swr_free(). */
int uf_sound_rates_open(uf_ctx *ctx, SwrContext **s, int channels, int from, int to, double precision);
/* The same by FFmpeg's own short filters: what goes in comes out after uf_sound_rates_delay() seconds, in blocks of any size. Content next
 * to the lower rate's half is folded by them: for sound of which only differences are wanted. */
int uf_sound_rates_open_quick(uf_ctx *ctx, SwrContext **s, int channels, int from, int to);
double uf_sound_rates_delay(int from, int to);

#endif
