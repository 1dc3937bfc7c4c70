/* Sound through pipes, as it comes: nothing waits for a whole block. Internal to the pipeline room. */
#ifndef UF_SOUND_PIPE_H
#define UF_SOUND_PIPE_H

#include "media.h"

/* When the job is cancelled, a source has ended; a sink still takes what is left, unless nobody reads it for UF_PIPE_PATIENCE seconds. */
enum { UF_PIPE_PATIENCE = 2 };

typedef struct uf_sound_source uf_sound_source;
/* WAV is recognised by its header, whose length of the sound may be unknown; other kinds are raw samples of p's rate and channels. UF_EDATA:
 * no such header. fd: borrowed. */
int uf_sound_source_open(uf_sound_source **out, uf_ctx *ctx, int fd, const uf_pipe_sound *p);
void uf_sound_source_close(uf_sound_source **s);
/* What has come, at least a sample: *n of each channel, borrowed until the next call. UF_EOF at the end; UF_EIO. */
int uf_sound_source_next(uf_sound_source *s, float *const **x, int *n);
const AVCodecContext *uf_sound_source_codec(const uf_sound_source *s);

typedef struct uf_sound_sink uf_sound_sink;
/* The same kind of sound as the source's, as deep, dithered on the way to 16 bit; a WAV header does not tell the length. fd: borrowed. */
int uf_sound_sink_open(uf_sound_sink **out, uf_ctx *ctx, int fd, uf_pipe_format format, const AVCodecContext *like);
void uf_sound_sink_close(uf_sound_sink **s);
/* n samples of each channel; they are in the pipe when it returns. UF_EIO; UF_EINTR. UF_EOF: nobody reads any more. */
int uf_sound_sink_write(uf_sound_sink *s, const float *const *x, int n);

#endif
