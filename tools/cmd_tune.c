#include "app.h"
#include "pipeline.h"
#include "training.h"

#include <stdlib.h>
#include <sys/stat.h>

enum { OUT = 0x100, REFERENCE, WEIGHTS, FEATURES, SHEET, STEPS, RATE, SECONDS, OVERWRITE };

static const struct argp_option options[] = {
    {"out", OUT, "FILE", 0, "The small file to write (default: FILM.tune, or film.tune without a FILM)", 0},
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
    const char *references[64], *film;
    uf_tune_options o;
} args;

static void add(struct argp_state *state, args *a, const char *folder) {
    if (a->o.n_references == UF_LEN(a->references)) argp_error(state, "at most 64 folders; put the pictures together");
    a->references[a->o.n_references++] = folder;
}

/* A folder is of references; a file is the film. */
static error_t take(struct argp_state *state, args *a, const char *name) {
    struct stat st;
    if (stat(name, &st) || !S_ISREG(st.st_mode)) {
        add(state, a, name);
    } else {
        if (a->film) argp_error(state, "give one film; references lie in folders");
        a->film = name;
    }
    return 0;
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
    case ARGP_KEY_ARG: return take(state, a, arg);
    case ARGP_KEY_END:
        if (!a->o.n_references)
            argp_error(state, "give a folder of at least 4 pictures in the film's colours%s", a->film ? ", with --reference" : "");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "[FILM] FOLDER...",
    .doc = "Teach the colorizer the colours of one film, in minutes. FOLDER holds pictures in those colours: frames that somebody "
           "coloured by hand, or colour photographs of the same places, people and clothes. Eight do well.\v"
           "Every fourth picture is held back. Learning ends when those get no nearer to their colours; how far they were before "
           "and are now is told, and when they are no nearer nothing is written. With the FILM at hand, the frames of which the network is "
           "still least sure are told too: those to paint next.\n\n"
           "Example:\n  unfade tune wedding.mp4 --reference wedding-colours\n"
           "  unfade colorize --tune wedding.mp4.tune wedding.mp4 wedding-colour.mp4",
    .children = children,
};

static void progress(void *user, const uf_train_progress *p) {
    char extra[64];
    snprintf(extra, sizeof extra, "loss %.4f  %.0f pictures/s", p->loss, p->samples_per_second);
    uf_report_progress(user, "steps", p->step, p->n_steps, p->seconds > 0 ? (double)p->step / p->seconds : 0, p->seconds, extra);
}

static int tune(uf_app *app, const args *a) {
    uf_tune_options o = a->o;
    char *color = a->o.weights ? NULL : uf_weights_find(app->ctx, "color.safetensors", UNFADE_WEIGHTS_DIR);
    char *features = a->o.features ? NULL : uf_weights_find(app->ctx, "features.safetensors", UNFADE_WEIGHTS_DIR);
    uf_tuned t;
    if (color) o.weights = color;
    if (features) o.features = features;
    o.references = a->references;
    o.progress = app->terminal || app->json ? progress : NULL;
    o.user = app;
    double start = uf_now();
    int err = o.weights && o.features ? uf_tune(app->ctx, &o, &t) : uf_ctx_error_code(app->ctx);
    free(color);
    free(features);
    if (err < 0) return err;
    uf_report_event(app, "done", json_pack("{s:s,s:i,s:i,s:i,s:f,s:f,s:f}", "output", a->o.out, "learnt", t.n_learnt, "held_back",
                                           t.n_held_back, "step", t.step, "ciede2000_before", t.before.ciede2000,
                                           "ciede2000_after", t.after.ciede2000, "seconds", uf_now() - start));
    uf_report_line(app, "%s: learnt from %d pictures in %.0f s; CIEDE2000 of the %d held back %.2f -> %.2f (smaller is better)",
                   a->o.out, t.n_learnt, uf_now() - start, t.n_held_back, t.before.ciede2000, t.after.ciede2000);
    return UF_OK;
}

/* The film as the tuned network sees it. */
static int tell_next(uf_app *app, const args *a) {
    enum { N = 3 };
    uf_suggestion s[N];
    int n = 0;
    uf_suggest_options o = {.weights = a->o.weights, .tune = a->o.out, .weights_dir = UNFADE_WEIGHTS_DIR, .n = N, .most = 60};
    UF_TRY(uf_suggest(app->ctx, a->film, &o, s, &n));
    for (int i = 0; i < n; i++) {
        char time[32];
        uf_report_duration(s[i].seconds, time, sizeof time);
        uf_report_event(app, "next", json_pack("{s:I,s:f,s:f}", "frame", (json_int_t)s[i].frame, "seconds", s[i].seconds, "disagreement",
                                               s[i].disagreement));
        uf_report_line(app, "%s frame %lld, at %s", i ? "             " : "least sure of", (long long)s[i].frame, time);
    }
    return UF_OK;
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app, .o = {.max_seconds = 300}};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    char *beside = a.film && !a.o.out ? uf_format(app->ctx, "%s.tune", a.film) : NULL;
    if (!a.o.out) a.o.out = beside ? beside : "film.tune";
    int err = tune(app, &a);
    if (err == UF_OK && a.film) err = tell_next(app, &a);
    free(beside);
    return err;
}

const uf_command uf_command_tune = {
    .name = "tune", .summary = "teach the colorizer one film's colours", .argp = &argp, .run = run};
