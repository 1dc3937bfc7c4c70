#include "app.h"
#include "models.h"
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

static error_t parse(int key, char *arg, struct argp_state *state) {
    (void)arg;
    if (key == ARGP_KEY_INIT) state->child_inputs[0] = state->input;
    if (key == ARGP_KEY_ARG) argp_error(state, "models takes no names");
    return key == ARGP_KEY_INIT || key == ARGP_KEY_ARG ? 0 : ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .parser = parse,
    .args_doc = "",
    .doc = "List the networks: their size, their work for a frame of 720x576 pixels or a second of sound in GMAC (thousand million "
           "multiplications and additions), and where their weights lie.",
    .children = children,
};

typedef struct card {
    size_t n_values;
    double macs; /* of a frame, or of a second */
} card;

enum { SECONDS = 10 }; /* of sound: what a chunk holds */

static int measure(uf_app *app, const uf_model *m, card *out) {
    uf_params *params = NULL;
    uf_graph *g = NULL;
    uf_plan *plan = NULL;
    uf_built b = {0};
    uf_plan_options o = {.mode = UF_INFER, .backend = "ref"};
    int err = uf_params_open(&params, app->ctx, 0);
    if (err == UF_OK) err = uf_graph_open(&g, app->ctx, params);
    uf_shape frame = {1, 1, UF_COLOR_SIZE, UF_COLOR_SIZE * 4 / 3}, sound = {1, 1, 1, SECONDS * m->rate}; /* what a 720x576 frame becomes */
    if (err == UF_OK) err = m->build(g, m->rate ? sound : frame, &b);
    if (err == UF_OK) uf_output(b.out);
    if (err == UF_OK) err = uf_plan_open(&plan, app->ctx, g, &o);
    *out = (card){0};
    for (int i = 0; err == UF_OK && i < uf_params_n(params); i++) out->n_values += uf_count(uf_params_at(params, i)->shape);
    if (err == UF_OK) out->macs = uf_plan_macs(plan) / (m->rate ? SECONDS : 1);
    uf_plan_close(&plan);
    uf_graph_close(&g);
    uf_params_close(&params);
    return err;
}

static int show(uf_app *app, const uf_model *m) {
    static const char *const keys[] = {"date", "step", "trained_at", "held_out_loss", "held_out_accuracy", "licence"};
    card c;
    UF_TRY(measure(app, m, &c));
    char *path = m->file ? uf_weights_find(app->ctx, m->file, UNFADE_WEIGHTS_DIR) : NULL;
    uf_weights *w = NULL;
    if (path) uf_weights_open(&w, app->ctx, path);
    uf_ctx_clear(app->ctx); /* no weights, or damaged ones, are an answer here */
    json_t *meta = json_object();
    if (!app->json)
        printf("%s: %s\n  %.2f M parameters, %.2f GMAC for a %s\n  weights: %s%s\n", m->name, m->summary, (double)c.n_values / 1e6, c.macs / 1e9,
               m->rate ? "second of sound" : "720x576 frame (seen as 256x192)", path ? path : m->file ? "not here" : "none are shipped: it learns beside the network that it judges", path && !w ? " (damaged)" : "");
    for (int i = 0; w && i < UF_LEN(keys); i++) {
        const char *v = uf_weights_meta(w, keys[i]);
        if (v && !app->json) printf("  %s: %s\n", keys[i], v);
        if (v) json_object_set_new(meta, keys[i], json_string(v));
    }
    json_object_set_new(meta, "file", path ? json_string(path) : json_null());
    uf_report_event(app, "model", json_pack("{s:s,s:s,s:I,s:f,s:b,s:o}", "name", m->name, "summary", m->summary, "values",
                                            (json_int_t)c.n_values, m->rate ? "macs_second" : "macs_720x576", c.macs, "weights", w != NULL, "about",
                                            json_incref(meta)));
    json_decref(meta);
    uf_weights_close(&w);
    free(path);
    return UF_OK;
}

static int run(uf_app *app, int argc, char **argv) {
    argp_parse(&argp, argc, argv, 0, NULL, app);
    for (int i = 0; uf_models[i]; i++) UF_TRY(show(app, uf_models[i]));
    return UF_OK;
}

const uf_command uf_command_models = {
    .name = "models", .summary = "list the networks and their weights", .argp = &argp, .run = run};
