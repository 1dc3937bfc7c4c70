/* EXIF: a block built like a TIFF file, of tables of tags (TIFF 6.0; CIPA DC-008). FFmpeg reads it into text and writes none.
 * Internal to the pipeline room. */
#ifndef UF_EXIF_H
#define UF_EXIF_H

#include "base.h"

typedef struct uf_bytes { /* owned; free(data) */
    uint8_t *data;
    size_t n;
} uf_bytes;
int uf_bytes_add(uf_bytes *b, uf_ctx *ctx, const void *data, size_t n);

/* 1..8 as the tag has it, 0: not told. */
int uf_exif_orientation(const uint8_t *block, size_t n);
/* Dots per inch; false: not told. */
bool uf_exif_density(const uint8_t *block, size_t n, double dpi[2]);
/* Cuts the small picture out of the block, which shows the photograph as it was before. In place. */
void uf_exif_drop_thumbnail(uint8_t *block, size_t n);
/* Adds to `file` (a TIFF file, or empty: then a block is begun) the tags of `from` that tell about the picture and not how
 * its samples are stored; from's word goes before file's. icc: a colour profile to add, NULL: none. What is damaged in
 * `from` is left out. */
int uf_exif_merge(uf_bytes *file, uf_ctx *ctx, const uint8_t *from, size_t n_from, const uf_bytes *icc);

#endif
