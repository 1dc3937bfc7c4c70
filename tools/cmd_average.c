#include "app.h"
#include "models.h"

#include <stdlib.h>
#include <string.h>

enum { SHARES = 0x100, GAIN, OVERWRITE, MOST = 32 };

static const struct argp_option options[] = {
    {"shares", SHARES, "A,B,...", 0, "How much of each file, in their order (default: as much of each)", 0},
    {"gain", GAIN, "X", 0, "Make the colours so many times as strong, for good (only 'color')", 0},
    {"overwrite", OVERWRITE, 0, 0, "Replace OUT when it exists", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *out, *files[MOST], *shares;
    double share[MOST], gain;
    int n;
    bool overwrite;
} args;

static void parse_shares(struct argp_state *state, args *a) {
    char *copy = strdup(a->shares), *rest = copy, *word;
    int n = 0;
    for (; copy && (word = strsep(&rest, ",")); n++)
        if (n < a->n) a->share[n] = uf_parse_number(state, "--shares", word, 1e-6, 1e6);
    free(copy);
    if (n != a->n) argp_error(state, "--shares has %d numbers for %d files; give one for each", n, a->n);
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case SHARES: a->shares = arg; return 0;
    case GAIN: a->gain = uf_parse_number(state, "--gain", arg, .01, 4); return 0;
    case OVERWRITE: a->overwrite = true; return 0;
    case ARGP_KEY_ARG:
        if (!state->arg_num) a->out = arg;
        else if (a->n < MOST) a->files[a->n++] = arg;
        else argp_error(state, "at most %d files; average some of them first", MOST);
        return 0;
    case ARGP_KEY_END:
        if (!a->n) argp_error(state, "give the name of the result, then the weights: unfade average out.safetensors a.safetensors b.safetensors");
        if (a->shares) parse_shares(state, a);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "OUT WEIGHTS...",
    .doc = "Average weights of one network that were trained from the same beginnings. The mean is often better than each of them; "
           "'unfade eval' tells. OUT remembers the recipes and licences of all.",
    .children = children,
};

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    char *note = uf_format(app->ctx, "unfade average%s%s, gain %g", a.shares ? " --shares " : "", a.shares ? a.shares : "", a.gain > 0 ? a.gain : 1);
    if (!note) return UF_ENOMEM;
    int err = uf_model_average(app->ctx, a.out, &(uf_average_options){.n = a.n, .files = a.files, .shares = a.shares ? a.share : NULL,
                                                                     .gain = a.gain, .note = note, .overwrite = a.overwrite});
    free(note);
    if (err < 0) return err;
    uf_report_event(app, "done", json_pack("{s:s,s:i}", "output", a.out, "files", a.n));
    uf_report_line(app, "%s: the mean of %d weights", a.out, a.n);
    return UF_OK;
}

const uf_command uf_command_average = {.name = "average", .summary = "average weights of one network", .argp = &argp, .run = run};
