#include "app.h"
#include "pipeline.h"
#include "training.h"

#include <stdlib.h>

enum { OUT = 0x100, REFERENCE, WEIGHTS, FEATURES, SHEET, STEPS, RATE, SECONDS, OVERWRITE };

static const struct argp_option options[] = {
    {"out", OUT, "FILE", 0, "The small file to write (default: film.tune)", 0},
    {"reference", REFERENCE, "FOLDER", 0, "Pictures in the film's true colours; may be given several times", 0},
    {"sheet", SHEET, "FILE.png", 0, "Draw the held-back references: grey, as tuned, as they are", 0},
    {"max-seconds", SECONDS, "N", 0, "Learn no longer than this (default 300)", 0},
    {"steps", STEPS, "N", 0, "Learn no more steps than this (default 300)", 0},
    {"rate", RATE, "X", 0, "Peak of the learning rate (default 0.001)", 0},
    {"weights", WEIGHTS, "FILE", 0, "Weights to begin from (default: the shipped ones)", 0},
    {"features", FEATURES, "FILE", 0, "Weights of the network that judges (default: the shipped ones)", 0},
    {"overwrite", OVERWRITE, 0, 0, "Replace FILE when it exists", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *references[64];
    uf_tune_options o;
} args;

static void add(struct argp_state *state, args *a, const char *folder) {
    if (a->o.n_references == UF_LEN(a->references)) argp_error(state, "at most 64 folders; put the pictures together");
    a->references[a->o.n_references++] = folder;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case OUT: a->o.out = arg; return 0;
    case REFERENCE: add(state, a, arg); return 0;
    case SHEET: a->o.sheet = arg; return 0;
    case WEIGHTS: a->o.weights = arg; return 0;
    case FEATURES: a->o.features = arg; return 0;
    case SECONDS: a->o.max_seconds = (int64_t)uf_parse_number(state, "--max-seconds", arg, 1, 1e9); return 0;
    case STEPS: a->o.steps = (int)uf_parse_number(state, "--steps", arg, 1, 1e6); return 0;
    case RATE: a->o.rate = (float)uf_parse_number(state, "--rate", arg, 1e-6, .1); return 0;
    case OVERWRITE: a->o.overwrite = true; return 0;
    case ARGP_KEY_ARG: add(state, a, arg); return 0;
    case ARGP_KEY_END:
        if (!a->o.n_references) argp_error(state, "give a folder of at least 4 pictures in the film's colours");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "FOLDER...",
    .doc = "Teach the colorizer the colours of one film, in minutes. FOLDER holds pictures in those colours: frames that somebody "
           "coloured by hand, or colour photographs of the same places, people and clothes. Eight do well.\v"
           "Every fourth picture is held back. Learning ends when those get no nearer to their colours; how far they were before "
           "and are now is told, and when they are no nearer nothing is written.\n\n"
           "Example:\n  unfade tune wedding-colours --out wedding.tune\n"
           "  unfade colorize --tune wedding.tune wedding.mp4 wedding-colour.mp4",
    .children = children,
};

static void progress(void *user, const uf_train_progress *p) {
    char extra[64];
    snprintf(extra, sizeof extra, "loss %.4f  %.0f pictures/s", p->loss, p->samples_per_second);
    uf_report_progress(user, "steps", p->step, p->n_steps, p->seconds > 0 ? (double)p->step / p->seconds : 0, p->seconds, extra);
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app, .o = {.out = "film.tune", .max_seconds = 300}};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    char *color = a.o.weights ? NULL : uf_weights_find(app->ctx, "color.safetensors", UNFADE_WEIGHTS_DIR);
    char *features = a.o.features ? NULL : uf_weights_find(app->ctx, "features.safetensors", UNFADE_WEIGHTS_DIR);
    uf_tuned t;
    if (color) a.o.weights = color;
    if (features) a.o.features = features;
    a.o.references = a.references;
    a.o.progress = app->terminal || app->json ? progress : NULL;
    a.o.user = app;
    double start = uf_now();
    int err = a.o.weights && a.o.features ? uf_tune(app->ctx, &a.o, &t) : uf_ctx_error_code(app->ctx);
    free(color);
    free(features);
    if (err < 0) return err;
    uf_report_event(app, "done", json_pack("{s:s,s:i,s:i,s:i,s:f,s:f,s:f}", "output", a.o.out, "learnt", t.n_learnt, "held_back",
                                           t.n_held_back, "step", t.step, "ciede2000_before", t.before.ciede2000,
                                           "ciede2000_after", t.after.ciede2000, "seconds", uf_now() - start));
    uf_report_line(app, "%s: learnt from %d pictures in %.0f s; CIEDE2000 of the %d held back %.2f -> %.2f (smaller is better)",
                   a.o.out, t.n_learnt, uf_now() - start, t.n_held_back, t.before.ciede2000, t.after.ciede2000);
    return UF_OK;
}

const uf_command uf_command_tune = {
    .name = "tune", .summary = "teach the colorizer one film's colours", .argp = &argp, .run = run};
