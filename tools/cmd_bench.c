/* How fast this machine is: each convolution of the colorizer alone, then the whole network beside their sum. */
#include "app.h"
#include "models.h"

#include <stdlib.h>
#include <string.h>

enum { SIZE = 0x100, ROUNDS, MAX_SHAPES = 64 };

static const struct argp_option options[] = {
    {"size", SIZE, "PIXELS", 0, "Size of the network's picture: its shorter side in pixels, 64 to 1024 (default 256); the longer one is 5/4 of it", 0},
    {"rounds", ROUNDS, "N", 0, "Measure this many times and keep the best (default 5)", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    int size, rounds;
} args;

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case SIZE: a->size = (int)uf_parse_number(state, "--size", arg, 64, 1024); return 0;
    case ROUNDS: a->rounds = (int)uf_parse_number(state, "--rounds", arg, 1, 100); return 0;
    case ARGP_KEY_ARG: argp_error(state, "bench takes no names"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "",
    .doc = "Measure this machine: every convolution of the colorizer alone, then the whole network, in float32 and, where the "
           "processor has it, bf16.\v"
           "Convolutions are most of the work. The share at the end says how much of their own speed the whole network keeps: "
           "the rest of the time goes to everything around them.",
    .children = children,
};

typedef struct shape {
    uf_shape x, y;
    uf_attr attr;
    int count;
    double gflop, ms;
} shape;

static bool equal(const shape *a, const shape *b) { return !memcmp(&a->x, &b->x, sizeof a->x) && !memcmp(&a->y, &b->y, sizeof a->y) && a->attr.kh == b->attr.kh && a->attr.stride == b->attr.stride; }

static int list(const uf_graph *g, shape *at) {
    int n = 0;
    for (int i = 0; i < uf_graph_n(g); i++) {
        const uf_node *v = uf_graph_at(g, i);
        if (strcmp(v->op->name, "conv2d") || n == MAX_SHAPES) continue;
        shape s = {.x = v->in[0]->shape, .y = v->shape, .attr = v->attr, .count = 1};
        s.gflop = 2e-9 * (double)uf_count(v->shape) * v->in[1]->shape.c * v->attr.kh * v->attr.kw;
        int k = 0;
        while (k < n && !equal(&at[k], &s)) k++;
        if (k < n) at[k].count++;
        else at[n++] = s;
    }
    return n;
}

/* Best milliseconds of the whole plan, or of one node's own steps, over bursts. */
static int best_ms(uf_plan *p, const uf_node *node, int rounds, double *out) {
    *out = 1e9;
    UF_TRY(uf_plan_run(p)); /* packs the weights, warms the caches */
    for (int r = 0; r < rounds; r++) {
        for (double spent = 0; spent < .03;) {
            double seconds = 0;
            UF_TRY(uf_plan_time(p, node, &seconds));
            spent += seconds;
            if (seconds * 1e3 < *out) *out = seconds * 1e3;
        }
    }
    return UF_OK;
}

static int time_conv(uf_app *app, shape *s, uf_dtype dtype, int rounds) {
    uf_params *params = NULL;
    uf_graph *g = NULL;
    uf_plan *plan = NULL;
    uf_conv o = {.out = s->y.c, .k = s->attr.kh, .stride = s->attr.stride};
    uf_plan_options po = {.mode = UF_INFER, .dtype = dtype};
    int err = uf_params_open(&params, app->ctx, 1);
    if (err == UF_OK) err = uf_graph_open(&g, app->ctx, params);
    uf_node *y = err == UF_OK ? uf_output(uf_conv2d(uf_input(g, "x", s->x), "c", o)) : NULL;
    if (err == UF_OK) err = uf_plan_open(&plan, app->ctx, g, &po);
    if (err == UF_OK) err = best_ms(plan, y, rounds, &s->ms);
    uf_plan_close(&plan);
    uf_graph_close(&g);
    uf_params_close(&params);
    return err;
}

static int bench(uf_app *app, const args *a, uf_dtype dtype) {
    uf_params *params = NULL;
    uf_graph *g = NULL;
    uf_plan *plan = NULL;
    uf_built b = {0};
    shape *at = uf_alloc(app->ctx, MAX_SHAPES, sizeof *at);
    int h = (a->size + 16) / 32 * 32, w = (a->size * 5 / 4 + 16) / 32 * 32, n = 0;
    uf_plan_options po = {.mode = UF_INFER, .dtype = dtype};
    double ms = 0, sum = 0, gflop = 0;
    int err = at ? uf_params_open(&params, app->ctx, 1) : UF_ENOMEM;
    if (err == UF_OK) err = uf_graph_open(&g, app->ctx, params);
    if (err == UF_OK) err = uf_model_color.build(g, (uf_shape){1, 1, h, w}, &b);
    if (err == UF_OK) {
        uf_output(b.out);
        n = list(g, at);
        err = uf_plan_open(&plan, app->ctx, g, &po);
    }
    const char *type = dtype == UF_BF16 ? "bf16" : "float32";
    if (!app->json && err == UF_OK) printf("%s, %d threads\n", type, uf_ctx_threads(app->ctx));
    for (int i = 0; err == UF_OK && i < n && !uf_ctx_cancelled(app->ctx); i++) {
        if ((err = time_conv(app, &at[i], dtype, a->rounds)) < 0) break;
        sum += at[i].ms * at[i].count;
        gflop += at[i].gflop * at[i].count;
        if (!app->json)
            printf("  %dx%d/%d %4d -> %4d at %3dx%-3d  %d times  %8.3f ms  %7.0f GFLOP/s\n", at[i].attr.kh, at[i].attr.kw,
                   at[i].attr.stride, at[i].x.c, at[i].y.c, at[i].x.w, at[i].x.h, at[i].count, at[i].ms, at[i].gflop / at[i].ms * 1e3);
    }
    if (err == UF_OK) err = best_ms(plan, NULL, a->rounds, &ms);
    if (err == UF_OK && !app->json)
        printf("  network %dx%d: %.2f ms, %.0f GFLOP/s; its convolutions alone %.2f ms, %.0f GFLOP/s: the network keeps %.0f %%\n"
               "  a 720x576 film: the network alone would do %.1f frames/s; decoding, upsampling and encoding share the cores\n",
               w, h, ms, 2e-6 * uf_plan_macs(plan) / ms, sum, gflop / sum * 1e3, 100 * sum / ms, 1e3 / ms);
    if (err == UF_OK)
        uf_report_event(app, "bench", json_pack("{s:s,s:i,s:i,s:f,s:f,s:f}", "type", type, "width", w, "height", h, "network_ms", ms,
                                                "convolutions_ms", sum, "gflop", gflop));
    uf_plan_close(&plan);
    uf_graph_close(&g);
    uf_params_close(&params);
    free(at);
    return err;
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app, .size = 256, .rounds = 5};
    char name[160];
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (!app->json) printf("%s\n", uf_cpu_name(name, sizeof name));
    if (uf_cpu_has_bf16()) UF_TRY(bench(app, &a, UF_BF16));
    else if (!app->json) printf("no bf16 units here: films are computed in float32\n");
    return bench(app, &a, UF_F32);
}

const uf_command uf_command_bench = {
    .name = "bench", .summary = "measure how fast this machine is", .argp = &argp, .run = run};
