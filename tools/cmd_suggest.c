#include "app.h"
#include "pipeline.h"


enum { COUNT = 'n', OUT = 0x100, WEIGHTS, TUNE, ALSO, OVERWRITE, MOST = 200 };

static const struct argp_option options[] = {
    {"count", COUNT, "N", 0, "How many frames (default 8)", 0},
    {"out", OUT, "FOLDER", 0, "Write the frames there as grey PNG files, ready to be painted", 0},
    {"tune", TUNE, "FILE", 0, "Ask the network as 'unfade tune' has changed it: what should come next?", 0},
    {"also", ALSO, "FILE", 0, "Ask these weights too, for example a checkpoint or another training: where they paint otherwise, a reference helps. May be "
     "given several times", 0},
    {"weights", WEIGHTS, "FILE", 0, "Network weights (.safetensors; default: the shipped ones)", 0},
    {"overwrite", OVERWRITE, 0, 0, "Replace files in FOLDER", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *film;
    uf_suggest_options o;
    const char *also[UF_SUGGEST_ALSO + 1];
    int n_also;
} args;

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case COUNT: a->o.n = (int)uf_parse_number(state, "-n", arg, 1, MOST); return 0;
    case OUT: a->o.folder = arg; return 0;
    case WEIGHTS: a->o.weights = arg; return 0;
    case TUNE: a->o.tune = arg; return 0;
    case ALSO:
        if (a->n_also == UF_SUGGEST_ALSO) argp_error(state, "--also is given more than %d times", UF_SUGGEST_ALSO);
        a->also[a->n_also++] = arg;
        a->o.also = a->also;
        return 0;
    case OVERWRITE: a->o.overwrite = true; return 0;
    case ARGP_KEY_ARG: return uf_parse_one(state, &a->film, arg, "film");
    case ARGP_KEY_END:
        if (!a->film) argp_error(state, "give a film");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "FILM",
    .doc = "Say which frames of FILM to colour by hand, so that 'unfade tune' learns most from them: frames about which the "
           "network is not sure, spread over the film.\v"
           "It is not sure where it paints a frame otherwise when the frame is mirrored or grainy, or where the networks of --also do. Up to 240 frames are looked at.\n\n"
           "Example:\n  unfade suggest wedding.mp4 -n 8 --out to-paint\n  (paint them, in any program, into the same files)\n"
           "  unfade tune to-paint --out wedding.tune",
    .children = children,
};

static void progress(void *user, const uf_progress *p) {
    uf_report_progress(user, "frames", p->n_done, p->n_total, p->fps, p->seconds, NULL);
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app, .o = {.n = 8, .weights_dir = UNFADE_WEIGHTS_DIR}};
    uf_suggestion s[MOST];
    int n = 0;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    a.o.progress = progress;
    a.o.user = app;
    if (a.o.folder) UF_TRY(uf_make_folder(app->ctx, a.o.folder));
    UF_TRY(uf_suggest(app->ctx, a.film, &a.o, s, &n));
    uf_report_end(app);
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        char clock[32];
        json_array_append_new(list, json_pack("{s:I,s:f,s:f}", "frame", (json_int_t)s[i].frame, "seconds", s[i].seconds,
                                              "disagreement", s[i].disagreement));
        if (!app->json)
            printf("frame %7lld  %s  disagreement %.4f\n", (long long)s[i].frame, uf_clock_text(s[i].seconds, clock), s[i].disagreement);
    }
    uf_report_event(app, "done", json_pack("{s:s,s:o}", "input", a.film, "frames", list));
    if (!app->json && a.o.folder) uf_report_line(app, "%s: %d grey frames; paint them, then 'unfade tune %s'", a.o.folder, n, a.o.folder);
    return UF_OK;
}

const uf_command uf_command_suggest = {
    .name = "suggest", .summary = "say which frames to colour by hand for 'tune'", .argp = &argp, .run = run};
