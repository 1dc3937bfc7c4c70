/* Held-out quality: pictures are greyed, coloured again, and compared with what they were. */
#include "losses.h"
#include "training.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHEET_ROWS = 48, CELL = 240 };

typedef struct picture {
    int w, h;           /* what the network sees, multiples of the model's */
    float *luma;        /* (h,w) */
    float *chroma;      /* (2,h/2,w/2): the truth */
    float *predicted;
    uint8_t *rgb[3];    /* grey, network, original */
} picture;

typedef struct eval {
    uf_ctx *ctx;
    const uf_data *data;
    uf_decoder *decoder;
    uf_params *params;
    uf_sheet *sheet;
    const uf_model *model;
    uf_graph *graph;
    uf_plan *plan;
    uf_built built;
    int size;
    float strength;
} eval;

static void picture_free(picture *p) {
    free(p->luma);
    free(p->chroma);
    free(p->predicted);
    for (int i = 0; i < 3; i++) free(p->rgb[i]);
}

static int load(eval *e, int64_t i, picture *p) {
    int w, h, m = e->model->multiple;
    UF_TRY(uf_data_decode(e->data, i, e->decoder, &w, &h));
    double f = (double)e->size / (w < h ? w : h);
    p->w = (int)(w * f / m + .5) * m;
    p->h = (int)(h * f / m + .5) * m;
    p->w = p->w < m ? m : p->w;
    p->h = p->h < m ? m : p->h;
    size_t plane = (size_t)p->w * (size_t)p->h;
    p->luma = uf_alloc(e->ctx, plane, sizeof(float));
    p->chroma = uf_alloc(e->ctx, plane / 2, sizeof(float));
    p->predicted = uf_alloc(e->ctx, plane / 2, sizeof(float));
    for (int k = 0; k < 3; k++) p->rgb[k] = uf_alloc(e->ctx, 3 * plane, 1);
    if (!p->luma || !p->chroma || !p->predicted || !p->rgb[0] || !p->rgb[1] || !p->rgb[2]) return UF_ENOMEM;
    return uf_decoder_planes(e->decoder, 0, 0, w, h, p->w, p->h, p->luma, p->chroma);
}

static void close_plan(eval *e) {
    uf_plan_close(&e->plan);
    uf_graph_close(&e->graph);
}

/* A plan for pictures of this size; most of a set have the size of the one before. */
static int open_plan(eval *e, int w, int h) {
    uf_plan_options o = {.mode = UF_INFER};
    if (e->plan && e->built.luma->shape.w == w && e->built.luma->shape.h == h) return UF_OK;
    close_plan(e);
    e->built = (uf_built){0};
    UF_TRY(uf_graph_open(&e->graph, e->ctx, e->params));
    UF_TRY(e->model->build(e->graph, (uf_shape){1, 1, h, w}, &e->built));
    uf_output(e->built.out);
    return uf_plan_open(&e->plan, e->ctx, e->graph, &o);
}

static int predict(eval *e, picture *p) {
    UF_TRY(open_plan(e, p->w, p->h));
    UF_TRY(uf_plan_set(e->plan, e->built.luma, p->luma));
    UF_TRY(uf_plan_run(e->plan));
    UF_TRY(uf_plan_get(e->plan, e->built.out, p->predicted));
    size_t n = (size_t)p->w * (size_t)p->h / 2;
    for (size_t i = 0; i < n; i++) p->predicted[i] *= e->strength;
    return UF_OK;
}

static void add_score(uf_score *s, const picture *p, const uint8_t *rgb) {
    uf_rgb a = {rgb, p->w, p->h, 3 * p->w}, b = {p->rgb[2], p->w, p->h, 3 * p->w};
    s->ciede2000 += uf_ciede2000(a, b);
    double psnr = uf_ab_psnr(a, b);
    s->ab_psnr_mean += psnr;
    s->ab_psnr += pow(10, -psnr / 10); /* until divide(): the squared error */
    s->colorfulness += uf_colorfulness(a);
    s->grey_share += uf_grey_share(a);
}

/* Chroma (cb, cr) everywhere. */
static void fill(const picture *p, float *chroma, float cb, float cr) {
    size_t n = (size_t)p->w * (size_t)p->h / 4;
    for (size_t i = 0; i < n; i++) {
        chroma[i] = cb;
        chroma[n + i] = cr;
    }
}

static int one(eval *e, int64_t i, const double mean[2], uf_evaluation *out) {
    picture p = {0};
    int err = load(e, i, &p);
    if (err == UF_OK) err = predict(e, &p);
    if (err == UF_OK) err = uf_decoder_rgb(e->decoder, p.w, p.h, p.luma, p.chroma, p.rgb[2]);
    if (err == UF_OK) err = uf_decoder_rgb(e->decoder, p.w, p.h, p.luma, p.predicted, p.rgb[1]);
    if (err == UF_OK) add_score(&out->network, &p, p.rgb[1]);
    if (err == UF_OK) {
        fill(&p, p.predicted, (float)mean[0], (float)mean[1]);
        err = uf_decoder_rgb(e->decoder, p.w, p.h, p.luma, p.predicted, p.rgb[0]);
        if (err == UF_OK) add_score(&out->mean_color, &p, p.rgb[0]);
    }
    if (err == UF_OK) {
        fill(&p, p.predicted, 0, 0);
        err = uf_decoder_rgb(e->decoder, p.w, p.h, p.luma, p.predicted, p.rgb[0]);
        if (err == UF_OK) add_score(&out->grey, &p, p.rgb[0]);
    }
    if (err == UF_OK) {
        uf_rgb truth = {p.rgb[2], p.w, p.h, 3 * p.w};
        out->original_colorfulness += uf_colorfulness(truth);
        out->original_grey_share += uf_grey_share(truth);
        for (int k = 0; e->sheet && k < 3; k++)
            if (i < SHEET_ROWS) uf_sheet_put(e->sheet, (int)(i % 2) * 3 + k, (int)(i / 2), p.w, p.h, p.rgb[k]);
    }
    picture_free(&p);
    return err;
}

/* The set's mean chroma: what somebody would paint who knows the set but not the picture. */
static int mean_chroma(eval *e, double mean[2]) {
    double n = 0;
    mean[0] = mean[1] = 0;
    for (int64_t i = 0; i < uf_data_n(e->data); i++) {
        picture p = {0};
        int err = load(e, i, &p);
        size_t plane = err == UF_OK ? (size_t)p.w * (size_t)p.h / 4 : 0;
        for (size_t k = 0; k < plane; k++) {
            mean[0] += (double)p.chroma[k];
            mean[1] += (double)p.chroma[plane + k];
        }
        n += (double)plane;
        picture_free(&p);
        if (err < 0) return err;
    }
    mean[0] /= n;
    mean[1] /= n;
    return UF_OK;
}

static int open_model(uf_params **params, uf_ctx *ctx, const char *path, const char *tune) {
    uf_graph *g = NULL;
    uf_built b = {0};
    int err = uf_params_open(params, ctx, 0);
    if (err == UF_OK) uf_params_blank(*params);
    if (err == UF_OK) err = uf_graph_open(&g, ctx, *params);
    if (err == UF_OK) err = uf_model_color.build(g, uf_model_small(&uf_model_color), &b);
    uf_graph_close(&g);
    return err < 0 ? err : uf_model_load_tuned(ctx, &uf_model_color, *params, path, tune);
}

static void divide(uf_score *s, double n) {
    s->ciede2000 /= n;
    s->ab_psnr = -10 * log10(s->ab_psnr / n);
    s->ab_psnr_mean /= n;
    s->colorfulness /= n;
    s->grey_share /= n;
}

static int run(eval *e, const char *sheet, uf_evaluation *out) {
    double mean[2];
    int64_t n = uf_data_n(e->data), shown = n < SHEET_ROWS ? n : SHEET_ROWS;
    UF_TRY(mean_chroma(e, mean));
    if (sheet) UF_TRY(uf_sheet_open(&e->sheet, e->ctx, n > 1 ? 6 : 3, (int)(shown + 1) / 2, CELL, CELL));
    for (int64_t i = 0; i < n; i++) {
        UF_TRY(one(e, i, mean, out));
        if (uf_ctx_cancelled(e->ctx)) return uf_fail(e->ctx, UF_EINTR, "stopped");
    }
    out->n = (int)n;
    divide(&out->network, (double)n);
    divide(&out->grey, (double)n);
    divide(&out->mean_color, (double)n);
    out->original_colorfulness /= (double)n;
    out->original_grey_share /= (double)n;
    return sheet ? uf_sheet_write(e->sheet, sheet) : UF_OK;
}

int uf_evaluate_params(uf_ctx *ctx, uf_params *params, const uf_data *data, int size, double strength, const char *sheet,
                       uf_evaluation *out) {
    eval e = {.ctx = ctx, .data = data, .params = params, .model = &uf_model_color, .size = size > 0 ? size : UF_COLOR_SIZE,
              .strength = strength > 0 ? (float)strength : 1.f};
    uf_evaluation result = {0};
    int err = uf_decoder_open(&e.decoder, ctx);
    if (err == UF_OK) err = run(&e, sheet, &result);
    if (err == UF_OK) *out = result;
    uf_sheet_close(&e.sheet);
    close_plan(&e);
    uf_decoder_close(&e.decoder);
    return err;
}

int uf_evaluate(uf_ctx *ctx, const char *weights, const char *tune, int n_paths, const char *const *paths, int size,
                double strength, const char *sheet, uf_evaluation *out) {
    uf_data *data = NULL;
    uf_params *params = NULL;
    int err = uf_data_open_paths(&data, ctx, n_paths, paths);
    if (err == UF_OK) err = open_model(&params, ctx, weights, tune);
    if (err == UF_OK) err = uf_evaluate_params(ctx, params, data, size, strength, sheet, out);
    uf_params_close(&params);
    uf_data_close(&data);
    return err;
}
