#include "app.h"
#include "training.h"

enum { SHEET = 0x100, SIZE, STRENGTH, TUNE };

static const struct argp_option options[] = {
    {"sheet", SHEET, "FILE.png", 0, "Also write a picture that shows them side by side: grey, coloured, original", 0},
    {"size", SIZE, "PIXELS", 0, "The network looks at copies whose shorter side has this many pixels, 64 to 1024 (default 192)", 0},
    {"strength", STRENGTH, "X", 0, "How strong the colours are, 0.01 to 4 (default 1)", 0},
    {"tune", TUNE, "FILE", 0, "Measure the weights as 'unfade tune' has changed them", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *weights, *sheet, *tune;
    const char *paths[256];
    int n_paths, size;
    double strength;
} args;

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case TUNE: a->tune = arg; return 0;
    case SHEET: a->sheet = arg; return 0;
    case SIZE: a->size = (int)uf_parse_number(state, "--size", arg, 64, 1024); return 0;
    case STRENGTH: a->strength = uf_parse_number(state, "--strength", arg, .01, 4); return 0;
    case ARGP_KEY_ARG:
        if (!state->arg_num) a->weights = arg;
        else if (a->n_paths < UF_LEN(a->paths)) a->paths[a->n_paths++] = arg;
        else argp_error(state, "at most 256 folders or pictures; put them into one folder");
        return 0;
    case ARGP_KEY_END:
        if (!a->n_paths) argp_error(state, "give weights, and colour pictures that were not trained on");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "WEIGHTS PICTURES...",
    .doc = "Measure a colorizer on colour pictures: they are greyed, coloured again and compared with what they were.\v"
           "PICTURES are folders, .tar archives (not compressed) or single files; the network must not have seen them in "
           "training. CIEDE2000 is the distance between colours as eyes see it: smaller is better. PSNR of ab is the accuracy of "
           "the colours in dB, larger is better: of the errors of all pictures together, and the mean of theirs. "
           "Colourfulness: as the originals have it is best.",
    .children = children,
};

static json_t *score_json(const uf_score *s) {
    return json_pack("{s:f,s:f,s:f,s:f,s:f}", "ciede2000", s->ciede2000, "ab_psnr", s->ab_psnr, "ab_psnr_mean",
                     s->ab_psnr_mean, "colorfulness", s->colorfulness, "grey_share", s->grey_share);
}

static void row(const char *name, const uf_score *s) {
    printf("%-12s %9.2f %9.2f dB %9.2f dB %14.1f %9.1f %%\n", name, s->ciede2000, s->ab_psnr, s->ab_psnr_mean,
           s->colorfulness, 100 * s->grey_share);
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app};
    uf_evaluation e;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    UF_TRY(uf_evaluate(app->ctx, a.weights, a.tune, a.n_paths, a.paths, a.size, a.strength, a.sheet, &e));
    uf_report_event(app, "done", json_pack("{s:i,s:o,s:o,s:o,s:f,s:f}", "pictures", e.n, "network", score_json(&e.network),
                                           "grey", score_json(&e.grey), "mean_color", score_json(&e.mean_color),
                                           "original_colorfulness", e.original_colorfulness, "original_grey_share",
                                           e.original_grey_share));
    if (app->json) return UF_OK;
    printf("%d pictures   CIEDE2000   PSNR of ab   mean of them   colourfulness   grey pixels\n", e.n);
    row("network", &e.network);
    row("grey", &e.grey);
    row("mean colour", &e.mean_color);
    printf("%-12s %9.2f %12s %12s %14.1f %9.1f %%\n", "original", 0., "", "", e.original_colorfulness, 100 * e.original_grey_share);
    if (a.sheet) uf_report_line(app, "contact sheet: %s", a.sheet);
    return UF_OK;
}

const uf_command uf_command_eval = {
    .name = "eval", .summary = "measure how well a network colours", .argp = &argp, .run = run};
