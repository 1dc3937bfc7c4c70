#include "gate.h"

#include "motion.h"
#include "pipeline.h"
#include "zscale.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 32 }; /* of the half-size picture, for the rest of the motion */

/* How far a tile of `now` still is from its place in `past`, (dx,dy) away; false: it has too little structure to tell. */
static bool rest(const float *now, const float *past, int w, int x0, int y0, int dx, int dy, float *rx, float *ry) {
    double xx = 0, xy = 0, yy = 0, xe = 0, ye = 0;
    for (int y = y0; y < y0 + TILE; y++)
        for (int x = x0; x < x0 + TILE; x++) {
            const float *b = past + (ptrdiff_t)(y + dy) * w + x + dx;
            double gx = .5 * (double)(b[1] - b[-1]), gy = .5 * (double)(b[w] - b[-w]), e = (double)(now[(ptrdiff_t)y * w + x] - *b);
            xx += gx * gx;
            xy += gx * gy;
            yy += gy * gy;
            xe += gx * e;
            ye += gy * e;
        }
    double det = xx * yy - xy * xy, trace = xx + yy;
    if (det < .02 * trace * trace || trace < TILE * TILE * 1e-5) return false; /* flat, or an edge that slides along itself */
    *rx = (float)((yy * xe - xy * ye) / det);
    *ry = (float)((xx * ye - xy * xe) / det);
    return fabsf(*rx) < 1.5f && fabsf(*ry) < 1.5f;
}

static bool translation(const float *now, const float *past, int w, int h, uf_vector *v, float *votes, float *dx, float *dy) {
    int n_blocks = ((w + UF_BLOCK - 1) / UF_BLOCK) * ((h + UF_BLOCK - 1) / UF_BLOCK), n = 0;
    float *across = votes, *down = votes + n_blocks;
    uf_motion_follow(v, now, past, w, h, w);
    for (int i = 0; i < n_blocks; i++) across[i] = (float)v[i].x, down[i] = (float)v[i].y;
    int mx = (int)lrintf(uf_stage_median(across, n_blocks)), my = (int)lrintf(uf_stage_median(down, n_blocks));
    for (int y = 1 + UF_REACH; y + TILE + UF_REACH < h; y += TILE)
        for (int x = 1 + UF_REACH; x + TILE + UF_REACH < w; x += TILE)
            if (n < n_blocks && rest(now, past, w, x, y, mx, my, &across[n], &down[n])) n++;
    if (n < 4) return false;
    /* `now` at p looks like `past` at p + m + r: the picture has moved by the opposite */
    *dx = -2 * ((float)mx + uf_stage_median(across, n));
    *dy = -2 * ((float)my + uf_stage_median(down, n));
    return true;
}

int uf_gate_motion(uf_ctx *ctx, const uf_stage_size *size, const float *now, const float *past, float *dx, float *dy, bool *told) {
    int w = size->w / 2, h = size->h / 2;
    size_t n = (size_t)w * (size_t)h, n_blocks = (size_t)(w / UF_BLOCK + 1) * (size_t)(h / UF_BLOCK + 1);
    *told = false;
    if (w < 3 * TILE || h < 2 * TILE) return UF_OK;
    float *half = uf_alloc(ctx, 2 * n, sizeof(float)), *votes = uf_alloc(ctx, 2 * n_blocks, sizeof(float));
    uf_vector *v = uf_alloc(ctx, n_blocks, sizeof(*v));
    if (half && votes && v) {
        uf_halve(now, size->pitch, half, size->w, size->h);
        uf_halve(past, size->pitch, half + n, size->w, size->h);
        *told = translation(half, half + n, w, h, v, votes, dx, dy);
    }
    int err = half && votes && v ? UF_OK : UF_ENOMEM;
    free(half);
    free(votes);
    free(v);
    return err;
}

int uf_gate_shift(uf_ctx *ctx, const uf_stage_size *s, float *luma, float dx, float dy) {
    size_t n = (size_t)s->pitch * (size_t)(s->h + 1);
    uf_image to = { s->w, s->h, UF_GREY, 0, true, 2, 0, 0 }, from = to;
    float *copy = uf_alloc(ctx, n, sizeof(float));
    uf_zscale *z = NULL;
    int err = copy ? UF_OK : UF_ENOMEM;
    from.left = (double)-dx;
    from.top = (double)-dy;
    if (err == UF_OK) err = uf_zscale_open(&z, ctx, &from, &to, false);
    if (err == UF_OK) {
        uf_plane a = { copy, s->pitch * 4 }, b = { luma, s->pitch * 4 };
        memcpy(copy, luma, (size_t)s->pitch * (size_t)s->h * sizeof(float));
        err = uf_zscale_run(z, &a, &b);
    }
    for (int y = 0; y < s->h; y++)
        for (int x = 0; x < s->w; x++) luma[y * s->pitch + x] = fminf(fmaxf(luma[y * s->pitch + x], 0.f), 1.f);
    uf_zscale_close(&z);
    free(copy);
    return err;
}
