/* What wave files hold beside sound and FFmpeg does not write: cue points and their names, loops, scene sheets. Internal to the pipeline room. */
#ifndef UF_WAVE_CHUNKS_H
#define UF_WAVE_CHUNKS_H

#include "unfade.h"

/* Appends those chunks of `from` to the finished wave file at `to`, whose samples stand where they stood; `name`: how errors call it. Files
 * of another kind, or beyond 4 GB, stay as they are. UF_EIO. */
int uf_wave_chunks_copy(uf_ctx *ctx, const char *from, const char *to, const char *name);

#endif
