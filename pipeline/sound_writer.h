/* Writing sound, and what is copied beside it. Internal to the pipeline room. */
#ifndef UF_SOUND_WRITER_H
#define UF_SOUND_WRITER_H

#include "media.h"

typedef struct uf_sound_writer uf_sound_writer;
/* Refuses an existing output and unknown extensions; writes nothing yet. */
int uf_sound_writer_open(uf_sound_writer **out, uf_ctx *ctx, const char *path, bool overwrite);
/* Maps the streams of `in`, whose stream `sound` is to be written anew, of `rate` samples a second; everything else that the container holds is
 * copied. in: borrowed until finish; NULL: there is nothing but the sound. decoder: channels, codec and depth of what is written instead. */
int uf_sound_writer_start(uf_sound_writer *w, AVFormatContext *in, const char *in_path, int sound, const AVCodecContext *decoder,
                          int rate);
/* n samples of each channel, float; they begin at `start` (seconds, of the input) and follow each other. */
int uf_sound_writer_write(uf_sound_writer *w, const float *const *x, int n, double start);
int uf_sound_writer_copy(uf_sound_writer *w, AVPacket *p); /* takes the packet; timestamps are the input's */
int uf_sound_writer_finish(uf_sound_writer *w);
void uf_sound_writer_close(uf_sound_writer **w); /* without finish: removes what was written */

/* PCM as deep as the source's; what was lossy becomes 16 bit. */
enum AVCodecID uf_sound_pcm_for(const AVCodecContext *dec);
/* Where x is silent, so is what a dithered encoder takes of it. out: n samples in the encoder's format. */
void uf_sound_keep_silence(const AVCodecContext *enc, const float *const *x, int n, uint8_t **out);

#endif
