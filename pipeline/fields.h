/* Interlaced and telecined film through libavfilter. Internal to the pipeline room. */
#ifndef UF_FIELDS_H
#define UF_FIELDS_H

#include "media.h"

typedef struct uf_fields uf_fields;
/* filters: FFmpeg's words. For frames like `like`, whose timestamps count `base`; timestamps that come out count it too. */
int uf_fields_open(uf_fields **out, uf_ctx *ctx, const AVFrame *like, AVRational base, AVRational rate, const char *filters);
void uf_fields_close(uf_fields **f);
int uf_fields_push(uf_fields *f, AVFrame *frame); /* takes its content; NULL: the end */
int uf_fields_pull(uf_fields *f, AVFrame *frame); /* FFmpeg's codes: 0, AVERROR(EAGAIN), AVERROR_EOF, ... */
AVRational uf_fields_rate(const uf_fields *f);    /* frames a second that come out */

/* FFmpeg's filters, or NULL for none, for the user's word: "keep" (NULL), "deinterlace", "detelecine". UF_EINVAL: another. */
int uf_fields_filters(uf_ctx *ctx, const char *word, const char **filters);

#endif
