/* What a network sees, as a page. */
#include "app.h"
#include "training.h"

enum { OUT = 0x100, RUN, SIZE, TUNE, OVERWRITE };

static const struct argp_option options[] = {
    {"out", OUT, "FILE.html", 0, "The page (default: inspect.html)", 0},
    {"run", RUN, "FOLDER", 0, "Draw the curves of this training run too", 0},
    {"size", SIZE, "PIXELS", 0, "Side of the square that the network sees, a multiple of 32 (default 192)", 0},
    {"tune", TUNE, "FILE", 0, "Look at the weights as 'unfade tune' has changed them", 0},
    {"overwrite", OVERWRITE, 0, 0, "Replace the page when it exists", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *paths[256];
    uf_inspect_options o;
} args;

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case OUT: a->o.out = arg; return 0;
    case RUN: a->o.run = arg; return 0;
    case SIZE: a->o.size = (int)uf_parse_number(state, "--size", arg, 32, 1024); return 0;
    case TUNE: a->o.tune = arg; return 0;
    case OVERWRITE: a->o.overwrite = true; return 0;
    case ARGP_KEY_ARG:
        if (!state->arg_num) a->o.weights = arg;
        else if (a->o.n_paths < UF_LEN(a->paths)) a->paths[a->o.n_paths++] = arg;
        else argp_error(state, "at most 256 folders or pictures; put them into one folder");
        return 0;
    case ARGP_KEY_END:
        if (!a->o.n_paths) argp_error(state, "give weights, and colour pictures to look at");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "WEIGHTS PICTURES...",
    .doc = "Show what a colorizer sees, as one page that any browser opens without a network: the pictures that it colours worst, "
           "every layer's activations as figures and as pictures, dead channels, gradients, and the curves of its training.\v"
           "PICTURES are colour pictures: folders, .tar archives (not compressed) or single files, 200 at the most.",
    .children = children,
};

static void progress(void *user, const uf_train_progress *p) {
    uf_report_progress(user, "pictures", p->step, p->n_steps, p->seconds > 0 ? (double)p->step / p->seconds : 0, p->seconds, "");
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app, .o.out = "inspect.html"};
    uf_inspected i;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    a.o.paths = a.paths;
    a.o.progress = progress;
    a.o.user = app;
    UF_TRY(uf_inspect(app->ctx, &a.o, &i));
    uf_report_end(app);
    uf_report_event(app, "done", json_pack("{s:s,s:i,s:i,s:i,s:f}", "page", a.o.out, "pictures", i.n_pictures, "layers", i.n_layers,
                                           "dead_channels", i.n_dead, "worst_ciede2000", i.worst_ciede2000));
    uf_report_line(app, "%s: %d pictures, %d layers, %d dead channels; open it in a browser", a.o.out, i.n_pictures, i.n_layers,
                   i.n_dead);
    return UF_OK;
}

const uf_command uf_command_inspect = {
    .name = "inspect", .summary = "show what a network sees, as a page", .argp = &argp, .run = run};
