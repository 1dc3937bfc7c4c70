/* The network `speech-live` on sound that is still being made, at 16 kHz: a hop in, a hop out. Internal to the pipeline room. */
#ifndef UF_LIVE_H
#define UF_LIVE_H

#include "models.h"

/* A sample comes out when those of a window from it on are in: 32 ms. Frame by frame it is what the network makes of the whole recording,
 * up to rounding. */
enum { UF_LIVE_RATE = 16000, UF_LIVE_HOP = UF_SPEECH_HOP, UF_LIVE_LATENCY = UF_SPEECH_FFT };

typedef struct uf_live uf_live;
/* keep_room: only what is no voice goes. UF_EDATA: damaged weights, or another network's. It computes in float32 with one thread: a frame is too little work to share. */
int uf_live_open(uf_live **out, uf_ctx *ctx, const char *weights, int channels, bool keep_room);
void uf_live_close(uf_live **l);
/* The next UF_LIVE_HOP samples of each channel, about [-1,1]; NULL: the sound has ended. */
int uf_live_push(uf_live *l, const float *const *x);
/* The voice in the hop before the last one that was pushed (after the end: in the last one), once. Returns how many samples of each
 * channel there are: UF_LIVE_HOP, or 0 after the first push and a second pull. */
int uf_live_pull(uf_live *l, float *const *y);

#endif
