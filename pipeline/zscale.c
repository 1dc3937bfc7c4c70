#include "zscale.h"

#include <stdlib.h>
#include <zimg.h>

struct uf_zscale {
    uf_ctx *ctx;
    zimg_filter_graph *graph;
    void *scratch;
    int n_src, n_dst;
};

static int fail(uf_ctx *ctx) {
    char text[256] = "";
    zimg_get_last_error(text, sizeof(text));
    zimg_clear_last_error();
    return uf_fail(ctx, UF_EUNSUPPORTED, "zimg cannot convert this picture: '%s'; convert the input to yuv420p first", text);
}

static zimg_image_format describe(const uf_image *i) {
    zimg_image_format f;
    zimg_image_format_default(&f, ZIMG_API_VERSION);
    f.width = (unsigned)i->w;
    f.height = (unsigned)i->h;
    f.pixel_type = i->depth == 0 ? ZIMG_PIXEL_FLOAT : i->depth <= 8 ? ZIMG_PIXEL_BYTE : ZIMG_PIXEL_WORD;
    f.depth = i->depth ? (unsigned)i->depth : 32;
    f.color_family = i->family == UF_GREY ? ZIMG_COLOR_GREY : i->family == UF_RGB_PLANAR ? ZIMG_COLOR_RGB : ZIMG_COLOR_YUV;
    f.matrix_coefficients = i->family == UF_RGB_PLANAR ? ZIMG_MATRIX_RGB : (zimg_matrix_coefficients_e)i->matrix;
    f.pixel_range = i->full ? ZIMG_RANGE_FULL : ZIMG_RANGE_LIMITED;
    if (i->left != 0 || i->top != 0) {
        f.active_region.left = i->left;
        f.active_region.top = i->top;
        f.active_region.width = i->w;
        f.active_region.height = i->h;
    }
    return f;
}

int uf_zscale_open(uf_zscale **out, uf_ctx *ctx, const uf_image *src, const uf_image *dst, bool dither) {
    zimg_graph_builder_params params;
    zimg_image_format from = describe(src), to = describe(dst);
    size_t size = 0;
    uf_zscale *z = uf_alloc(ctx, 1, sizeof(*z));
    if (!z) return UF_ENOMEM;
    z->ctx = ctx;
    z->n_src = src->family == UF_GREY ? 1 : 3;
    z->n_dst = dst->family == UF_GREY ? 1 : 3;
    zimg_graph_builder_params_default(&params, ZIMG_API_VERSION);
    params.dither_type = dither ? ZIMG_DITHER_ERROR_DIFFUSION : ZIMG_DITHER_NONE;
    z->graph = zimg_filter_graph_build(&from, &to, &params);
    if (!z->graph || zimg_filter_graph_get_tmp_size(z->graph, &size)) {
        uf_zscale_close(&z);
        return fail(ctx);
    }
    z->scratch = uf_alloc(ctx, 1, size + 64);
    if (!z->scratch) {
        uf_zscale_close(&z);
        return UF_ENOMEM;
    }
    *out = z;
    return UF_OK;
}

void uf_zscale_close(uf_zscale **z) {
    if (!z || !*z) return;
    zimg_filter_graph_free((*z)->graph);
    free((*z)->scratch);
    free(*z);
    *z = NULL;
}

int uf_zscale_run(uf_zscale *z, const uf_plane *src, const uf_plane *dst) {
    zimg_image_buffer_const from = { .version = ZIMG_API_VERSION };
    zimg_image_buffer to = { .version = ZIMG_API_VERSION };
    for (int i = 0; i < z->n_src; i++) {
        from.plane[i].data = src[i].data;
        from.plane[i].stride = src[i].stride;
        from.plane[i].mask = ZIMG_BUFFER_MAX;
    }
    for (int i = 0; i < z->n_dst; i++) {
        to.plane[i].data = dst[i].data;
        to.plane[i].stride = dst[i].stride;
        to.plane[i].mask = ZIMG_BUFFER_MAX;
    }
    if (zimg_filter_graph_process(z->graph, &from, &to, z->scratch, NULL, NULL, NULL, NULL)) return fail(z->ctx);
    return UF_OK;
}
