/* What a colorizer sees: its activations, its gradients, and the pictures that it colours worst. */
#include "inspect.h"
#include "losses.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PICTURES = 200, CELL = 88, WORST_CELL = 200 };

typedef struct inspect {
    uf_ctx *ctx;
    const uf_inspect_options *o;
    uf_params *params;
    uf_data *data;
    uf_decoder *decoder;
    uf_graph *graph;
    uf_plan *plan;
    uf_built built;
    uf_node *target, *loss;
    int size, n;
    float *luma, *chroma, *predicted, *values; /* of one picture; values: the largest layer's */
    uint8_t *rgb[3];
    uf_seen seen;
} inspect;

/* The convolution whose result this is. */
static const uf_node *source_of(const uf_node *n) {
    while (n->n_in && strcmp(n->op->name, "conv2d")) n = n->in[!strcmp(n->op->name, "add") ? 1 : 0];
    return n;
}

static int choose_layers(inspect *s) {
    size_t most = 0;
    for (int i = 0; i < uf_graph_n(s->graph); i++) {
        uf_node *n = uf_graph_at(s->graph, i);
        bool shown = !strcmp(n->op->name, "relu") || !strcmp(n->op->name, "attention") || n == s->built.out;
        if (!shown || s->seen.n_layers == UF_INSPECT_LAYERS) continue;
        uf_layer_seen *l = &s->seen.layer[s->seen.n_layers++];
        bool own = n == s->built.out || n->op->name[0] == 'a';
        snprintf(l->name, sizeof l->name, "%s", own ? (n == s->built.out ? "output" : "attention") : source_of(n)->name);
        l->node = uf_output(n);
        l->shape = n->shape;
        l->most = -INFINITY;
        if (!(l->channel_most = uf_alloc(s->ctx, (size_t)n->shape.c, sizeof(float)))) return UF_ENOMEM;
        for (int c = 0; c < n->shape.c; c++) l->channel_most[c] = -INFINITY;
        if (uf_count(n->shape) > most) most = uf_count(n->shape);
    }
    s->values = uf_alloc(s->ctx, most, sizeof(float));
    return s->values ? UF_OK : UF_ENOMEM;
}

static int open_network(inspect *s, bool learn) {
    uf_plan_options p = {.mode = learn ? UF_TRAIN : UF_INFER};
    s->built = (uf_built){0};
    UF_TRY(uf_graph_open(&s->graph, s->ctx, s->params));
    uf_graph_training(s->graph, false); /* as it is shipped */
    UF_TRY(uf_model_color.build(s->graph, (uf_shape){1, 1, s->size, s->size}, &s->built));
    if (learn) {
        s->target = uf_input(s->graph, "target", s->built.out->shape);
        p.loss = s->loss = uf_output(uf_l1(s->built.out, s->target));
    }
    return learn ? uf_plan_open(&s->plan, s->ctx, s->graph, &p) : UF_OK;
}

static void close_network(inspect *s) {
    uf_plan_close(&s->plan);
    uf_graph_close(&s->graph);
}

/* The middle square of picture i. */
static int load(inspect *s, int64_t i) {
    int w, h;
    UF_TRY(uf_data_decode(s->data, i, s->decoder, &w, &h));
    double side = w < h ? w : h;
    return uf_decoder_planes(s->decoder, (w - side) / 2, (h - side) / 2, side, side, s->size, s->size, s->luma, s->chroma);
}

static int predict(inspect *s, int64_t i) {
    UF_TRY(load(s, i));
    UF_TRY(uf_plan_set(s->plan, s->built.luma, s->luma));
    UF_TRY(uf_plan_run(s->plan));
    return uf_plan_get(s->plan, s->built.out, s->predicted);
}

static void look_at(uf_layer_seen *l, const float *x) {
    size_t plane = (size_t)l->shape.h * (size_t)l->shape.w;
    for (int c = 0; c < l->shape.c; c++, x += plane)
        for (size_t i = 0; i < plane; i++) {
            double v = (double)x[i];
            l->sum += v;
            l->squares += v * v;
            l->zeros += v == 0;
            l->channel_most[c] = fmaxf(l->channel_most[c], fabsf(x[i]));
        }
    l->n += (double)uf_count(l->shape);
}

static double spread(const float *x, size_t n) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    return squares - sum * sum / (double)n;
}

static int print_sheet(inspect *s, uf_sheet *sheet, char **png, size_t *n) {
    FILE *f = open_memstream(png, n);
    if (!f) return uf_fail(s->ctx, UF_ENOMEM, "out of memory for a picture; close other programs");
    int err = uf_sheet_print(sheet, f);
    return fclose(f) || err < 0 ? uf_fail(s->ctx, UF_ENOMEM, "out of memory for a picture; close other programs") : UF_OK;
}

/* A channel from black, its least, to white, its most. */
static int put_map(inspect *s, uf_sheet *sheet, int column, uf_shape shape, const float *x) {
    size_t n = (size_t)shape.h * (size_t)shape.w;
    uint8_t *rgb = uf_alloc(s->ctx, n, 3);
    float least = INFINITY, most = -INFINITY;
    if (!rgb) return UF_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        least = fminf(least, x[i]);
        most = fmaxf(most, x[i]);
    }
    for (size_t i = 0; i < n; i++) memset(rgb + 3 * i, (int)(255 * (x[i] - least) / (most - least + 1e-12f)), 3);
    uf_sheet_put(sheet, column, 0, shape.w, shape.h, rgb);
    free(rgb);
    return UF_OK;
}

/* The channels that vary most over the picture. */
static int draw_maps(inspect *s, uf_layer_seen *l, const float *x) {
    uf_shape shape = l->shape;
    size_t plane = (size_t)shape.h * (size_t)shape.w;
    int n = shape.c < UF_INSPECT_MAPS ? shape.c : UF_INSPECT_MAPS;
    uf_sheet *sheet = NULL;
    double *how = uf_alloc(s->ctx, (size_t)shape.c, sizeof *how);
    int err = how ? uf_sheet_open(&sheet, s->ctx, n, 1, CELL, CELL) : UF_ENOMEM;
    for (int c = 0; err == UF_OK && c < shape.c; c++) how[c] = spread(x + (size_t)c * plane, plane);
    for (int k = 0; err == UF_OK && k < n; k++) {
        int best = 0;
        for (int c = 1; c < shape.c; c++)
            if (how[c] > how[best]) best = c;
        how[best] = -1;
        err = put_map(s, sheet, k, shape, x + (size_t)best * plane);
    }
    if (err == UF_OK) err = print_sheet(s, sheet, &l->maps, &l->n_maps);
    uf_sheet_close(&sheet);
    free(how);
    return err;
}

static int compare(inspect *s, int64_t i) {
    uf_picture_seen *p = &s->seen.picture[i];
    UF_TRY(uf_decoder_rgb(s->decoder, s->size, s->size, s->luma, s->chroma, s->rgb[2]));
    UF_TRY(uf_decoder_rgb(s->decoder, s->size, s->size, s->luma, s->predicted, s->rgb[1]));
    uf_rgb a = {s->rgb[1], s->size, s->size, 3 * s->size}, b = {s->rgb[2], s->size, s->size, 3 * s->size};
    snprintf(p->name, sizeof p->name, "%s", uf_data_name(s->data, i));
    p->index = i;
    p->ciede2000 = uf_ciede2000(a, b);
    return UF_OK;
}

static int look(inspect *s, int64_t i) {
    UF_TRY(predict(s, i));
    size_t n = uf_count(s->built.out->shape);
    for (size_t k = 0; k < n; k++) s->seen.clipped += fabsf(s->predicted[k]) > .5f ? 1. / ((double)n * s->n) : 0;
    for (int l = 0; l < s->seen.n_layers; l++) {
        UF_TRY(uf_plan_get(s->plan, s->seen.layer[l].node, s->values));
        look_at(&s->seen.layer[l], s->values);
        if (i == 0) UF_TRY(draw_maps(s, &s->seen.layer[l], s->values));
    }
    return compare(s, i);
}

static void count_dead(uf_seen *s) {
    for (int i = 0; i < s->n_layers; i++) {
        uf_layer_seen *l = &s->layer[i];
        for (int c = 0; c < l->shape.c; c++) {
            l->n_dead += l->channel_most[c] <= 0;
            l->most = fmax(l->most, (double)l->channel_most[c]);
        }
    }
}

static int worse(const void *a, const void *b) {
    double x = ((const uf_picture_seen *)a)->ciede2000, y = ((const uf_picture_seen *)b)->ciede2000;
    return x < y ? 1 : x > y ? -1 : 0;
}

static int draw_worst(inspect *s) {
    uf_sheet *sheet = NULL;
    int n = s->n < UF_INSPECT_WORST ? s->n : UF_INSPECT_WORST;
    int err = uf_sheet_open(&sheet, s->ctx, n > 1 ? 6 : 3, (n + 1) / 2, WORST_CELL, WORST_CELL);
    for (int i = 0; err == UF_OK && i < n; i++) {
        if ((err = predict(s, s->seen.picture[i].index)) < 0) break;
        for (int k = 0; err == UF_OK && k < 3; k++) {
            if (k == 1) memset(s->values, 0, uf_count(s->built.out->shape) * sizeof(float));
            const float *chroma = k == 0 ? s->chroma : k == 1 ? s->values : s->predicted;
            static const int column[3] = {2, 0, 1};
            err = uf_decoder_rgb(s->decoder, s->size, s->size, s->luma, chroma, s->rgb[0]);
            if (err == UF_OK) uf_sheet_put(sheet, i % 2 * 3 + column[k], i / 2, s->size, s->size, s->rgb[0]);
        }
    }
    if (err == UF_OK) err = print_sheet(s, sheet, &s->seen.worst, &s->seen.n_worst);
    uf_sheet_close(&sheet);
    return err;
}

static double norm(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; x && i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* Gradients of the L1 loss, averaged over some pictures, with the norms as they are shipped. */
static int gradients(inspect *s) {
    int n = s->n < 8 ? s->n : 8;
    char name[80];
    UF_TRY(open_network(s, true));
    uf_params_zero_grad(s->params);
    for (int i = 0; i < n; i++) {
        UF_TRY(load(s, i));
        UF_TRY(uf_plan_set(s->plan, s->built.luma, s->luma));
        UF_TRY(uf_plan_set(s->plan, s->target, s->chroma));
        UF_TRY(uf_plan_run(s->plan));
        UF_TRY(uf_plan_backward(s->plan));
    }
    for (int i = 0; i < s->seen.n_layers; i++) {
        uf_layer_seen *l = &s->seen.layer[i];
        snprintf(name, sizeof name, "%s.w", strcmp(l->name, "output") ? l->name : "head");
        const uf_param *p = uf_params_find(s->params, name);
        if (!p) continue;
        l->gradient = norm(p->grad, uf_count(p->shape)) / n;
        l->length = norm(p->value, uf_count(p->shape));
    }
    return UF_OK;
}

static int open_all(inspect *s) {
    const uf_inspect_options *o = s->o;
    UF_TRY(uf_data_open_paths(&s->data, s->ctx, o->n_paths, o->paths));
    int64_t n = uf_data_n(s->data);
    s->n = n > MOST_PICTURES ? MOST_PICTURES : (int)n;
    if (n > s->n) uf_log(s->ctx, UF_LOG_WARN, "%lld pictures: only the first %d are looked at", (long long)n, s->n);
    UF_TRY(uf_decoder_open(&s->decoder, s->ctx));
    size_t plane = (size_t)s->size * (size_t)s->size;
    s->luma = uf_alloc(s->ctx, plane, sizeof(float));
    s->chroma = uf_alloc(s->ctx, plane / 2, sizeof(float));
    s->predicted = uf_alloc(s->ctx, plane / 2, sizeof(float));
    s->seen.picture = uf_alloc(s->ctx, (size_t)s->n, sizeof *s->seen.picture);
    for (int k = 0; k < 3; k++)
        if (!(s->rgb[k] = uf_alloc(s->ctx, plane, 3))) return UF_ENOMEM;
    if (!s->luma || !s->chroma || !s->predicted || !s->seen.picture) return UF_ENOMEM;
    UF_TRY(uf_params_open(&s->params, s->ctx, 0));
    uf_params_blank(s->params);
    UF_TRY(open_network(s, false));
    UF_TRY(uf_model_load_tuned(s->ctx, &uf_model_color, s->params, o->weights, o->tune));
    UF_TRY(choose_layers(s));
    return uf_plan_open(&s->plan, s->ctx, s->graph, &(uf_plan_options){.mode = UF_INFER});
}

static int run(inspect *s) {
    double start = uf_now();
    UF_TRY(open_all(s));
    for (int i = 0; i < s->n; i++) {
        UF_TRY(look(s, i));
        if (uf_ctx_cancelled(s->ctx)) return uf_fail(s->ctx, UF_EINTR, "stopped; nothing was written");
        uf_train_progress p = {.step = i + 1, .n_steps = s->n, .seconds = uf_now() - start};
        if (s->o->progress) s->o->progress(s->o->user, &p);
    }
    s->seen.n_pictures = s->n;
    count_dead(&s->seen);
    qsort(s->seen.picture, (size_t)s->n, sizeof *s->seen.picture, worse);
    UF_TRY(draw_worst(s));
    close_network(s);
    UF_TRY(gradients(s));
    return UF_OK;
}

static int write_page(inspect *s, uf_whole *page) {
    FILE *f = uf_whole_file(page);
    UF_TRY(f ? uf_inspect_page(s->ctx, f, s->o, &s->seen) : UF_EIO);
    return uf_whole_commit(page);
}

int uf_inspect(uf_ctx *ctx, const uf_inspect_options *o, uf_inspected *out) {
    inspect s = {.ctx = ctx, .o = o, .size = o->size > 0 ? o->size : 192};
    uf_whole *page = NULL;
    int err = s.size % uf_model_color.multiple
                  ? uf_fail(ctx, UF_EINVAL, "a size of %d does not fit the network; choose a multiple of %d", s.size,
                            uf_model_color.multiple)
                  : uf_whole_open(&page, ctx, o->out, o->overwrite); /* what cannot be written is told before the work */
    if (err == UF_OK) err = run(&s);
    if (err == UF_OK) err = write_page(&s, page);
    uf_whole_close(&page);
    if (err == UF_OK) {
        *out = (uf_inspected){.n_pictures = s.n, .n_layers = s.seen.n_layers, .worst_ciede2000 = s.seen.picture[0].ciede2000};
        for (int i = 0; i < s.seen.n_layers; i++) out->n_dead += s.seen.layer[i].n_dead;
    }
    close_network(&s);
    uf_data_close(&s.data);
    uf_decoder_close(&s.decoder);
    uf_params_close(&s.params);
    for (int i = 0; i < s.seen.n_layers; i++) {
        free(s.seen.layer[i].channel_most);
        free(s.seen.layer[i].maps);
    }
    for (int k = 0; k < 3; k++) free(s.rgb[k]);
    free(s.seen.picture);
    free(s.seen.worst);
    free(s.luma);
    free(s.chroma);
    free(s.predicted);
    free(s.values);
    return err;
}
