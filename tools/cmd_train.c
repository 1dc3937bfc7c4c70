#include "app.h"
#include "training.h"

enum { OUT = 0x100, RESUME, OVERWRITE, SECONDS, NO_FINISH };

static const struct argp_option options[] = {
    {"out", OUT, "FOLDER", 0, "Where log, checkpoint, samples, curve and weights go (default: ./run)", 0},
    {"resume", RESUME, 0, 0, "Go on where a run in FOLDER stopped; the result is the same as without the stop", 0},
    {"overwrite", OVERWRITE, 0, 0, "Begin again from the start when FOLDER holds a run already", 0},
    {"no-finish", NO_FINISH, 0, 0, "Leave out the recipe's adversarial finish", 0},
    {"max-seconds", SECONDS, "N", 0, "Stop after this many seconds; --resume goes on from there", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *recipe;
    uf_train_options o;
} args;

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case OUT: a->o.out_dir = arg; return 0;
    case RESUME: a->o.resume = true; return 0;
    case OVERWRITE: a->o.overwrite = true; return 0;
    case NO_FINISH: a->o.no_finish = true; return 0;
    case SECONDS: a->o.max_seconds = (int64_t)uf_parse_number(state, "--max-seconds", arg, 1, 1e9); return 0;
    case ARGP_KEY_ARG: return uf_parse_one(state, &a->recipe, arg, "recipe");
    case ARGP_KEY_END:
        if (!a->recipe) argp_error(state, "give a recipe; samples/recipes/ has some");
        if (a->o.resume && a->o.overwrite) argp_error(state, "--resume and --overwrite exclude each other");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "RECIPE",
    .doc = "Train a network as RECIPE (a YAML file) says. An unknown key is refused by name.\v"
           "FOLDER gets log.csv (a line a step), held_out.csv, checkpoint.safetensors, sample-*.png (held-out pictures: grey, network, "
           "original), curve.svg and, at the end, the weights. A recipe with a `finish` adds finish.csv and finish.svg: the "
           "held-out measures by which the best step was chosen.\n\n"
           "Several machines or processes: built with -DUNFADE_MPI=ON, 'mpirun -n 4 unfade train RECIPE' deals the batches that "
           "each step gathers (`accumulate`, a multiple of 4 then) to four processes, and learns what one would learn from them.",
    .children = children,
};

static void progress(void *user, const uf_train_progress *p) {
    char extra[64];
    double rate = p->seconds > 0 ? (double)p->step / p->seconds : 0;
    snprintf(extra, sizeof extra, "loss %.4f  %.0f a second", p->loss, p->samples_per_second);
    uf_report_progress(user, "steps", p->step, p->n_steps, rate, p->seconds, extra);
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app, .o.out_dir = "run"};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    a.o.progress = app->terminal || app->json ? progress : NULL; /* in a log, the run's own lines say more */
    a.o.user = app;
    UF_TRY(uf_train(app->ctx, a.recipe, &a.o));
    uf_report_event(app, "done", json_pack("{s:s}", "folder", a.o.out_dir));
    uf_report_line(app, "%s: weights, curve.svg, log.csv", a.o.out_dir);
    return UF_OK;
}

const uf_command uf_command_train = {
    .name = "train", .summary = "train a network by a recipe", .argp = &argp, .run = run};
