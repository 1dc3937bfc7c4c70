/* zimg graphs: colour matrix, range, depth and size of planes. Internal to the pipeline room. */
#ifndef UF_ZSCALE_H
#define UF_ZSCALE_H

#include "base.h"

typedef enum uf_family { UF_GREY, UF_YUV444, UF_RGB_PLANAR } uf_family;

typedef struct uf_image {
    int w, h;
    uf_family family;
    int depth;  /* 8..16 bits, or 0 for float32 */
    bool full;  /* range of integer samples */
    int matrix; /* ITU-T H.273 number; grey: 2 (unspecified) unless it is made from RGB */
    double left, top; /* source only: crop offset in pixels of the sampled region */
} uf_image;

typedef struct uf_plane {
    void *data; /* 64-byte aligned, as is the stride */
    ptrdiff_t stride; /* bytes */
} uf_plane;

typedef struct uf_zscale uf_zscale;
int uf_zscale_open(uf_zscale **out, uf_ctx *ctx, const uf_image *src, const uf_image *dst, bool dither);
void uf_zscale_close(uf_zscale **z);
/* One plane for grey, three otherwise. */
int uf_zscale_run(uf_zscale *z, const uf_plane *src, const uf_plane *dst);

#endif
