/* What a picture file says about its picture, beside its samples: FFmpeg's encoders write no EXIF, no XMP and no density, so
 * these are taken from the file that was read and put into the file that was encoded. Internal to the pipeline room. */
#ifndef UF_TAGS_H
#define UF_TAGS_H

#include "exif.h"

#include <libavcodec/avcodec.h>

typedef struct uf_tags {
    uf_bytes exif, xmp;
    uf_bytes own;          /* blocks that only files of codec `of` hold: IPTC, comments, text; as they stand in the file */
    enum AVCodecID of;
    double dpi[2];         /* across, down; 0: not told */
} uf_tags;

/* New buffer that holds a uf_tags; left NULL when the file (JPEG, PNG, TIFF or WebP) has none. What is damaged is passed
 * over: the samples are what counts. UF_ENOMEM. */
int uf_tags_read(AVBufferRef **out, uf_ctx *ctx, enum AVCodecID id, const uint8_t *file, size_t n);
/* Puts tags (NULL: none) and, where FFmpeg's encoder does not, icc (NULL: none) into an encoded file of w x h pixels.
 * lost: names what such a file cannot hold, "" when nothing. */
int uf_tags_write(uf_bytes *file, uf_ctx *ctx, enum AVCodecID id, int w, int h, const uf_tags *tags, const uf_bytes *icc,
                  char *lost, size_t n_lost);

#endif
