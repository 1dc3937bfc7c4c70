/* Filters of libavfilter on planar float sound. Internal to the pipeline room. */
#ifndef UF_SOUND_FILTER_H
#define UF_SOUND_FILTER_H

#include "pipeline.h"

typedef struct uf_sound_filter uf_sound_filter;
int uf_sound_filter_open(uf_sound_filter **out, uf_ctx *ctx, const char *filters, int rate, int channels);
void uf_sound_filter_close(uf_sound_filter **f);
/* n more samples of each channel; n 0: the sound has ended. */
int uf_sound_filter_push(uf_sound_filter *f, const float *const *x, int n);
/* What is ready: *n samples of each channel (0: nothing), borrowed until the next call. In all as many as were pushed. */
int uf_sound_filter_pull(uf_sound_filter *f, const float *const **x, int *n);
/* What a filter that measures has said last under `key` in the metadata of its frames; 0: nothing. */
double uf_sound_filter_value(const uf_sound_filter *f, const char *key);

#endif
