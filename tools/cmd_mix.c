#include "app.h"
#include "training.h"

enum { COUNT = 'n', OUT = 0x100, SECONDS, SEED, TRAINING, SNR_FROM, SNR_TO, OVERWRITE };

static const struct argp_option options[] = {
    {"count", COUNT, "N", 0, "How many mixtures (default 10)", 0},
    {"out", OUT, "FOLDER", 0, "Where they go (default mixtures): FOLDER/noisy/0000.wav, its voice with the first 50 ms of the room, FOLDER/voice/0000.wav, and its voice in the whole room, FOLDER/room/0000.wav, ...", 0},
    {"seconds", SECONDS, "S", 0, "How long each is, 1 to 60 (default 5)", 0},
    {"seed", SEED, "N", 0, "Another number: other mixtures (default 0)", 0},
    {"snr-from", SNR_FROM, "DB", 0, "Voice over noise at least, -20 to 40 dB (default -5)", 0},
    {"snr-to", SNR_TO, "DB", 0, "Voice over noise at most (default 20)", 0},
    {"training", TRAINING, 0, 0, "Of the recordings that the network learns from, instead of the held-out ones", 0},
    {"overwrite", OVERWRITE, 0, 0, "Replace files in FOLDER", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *recipe;
    uf_mixtures_options o;
} args;

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case COUNT: a->o.n = (int64_t)uf_parse_number(state, "-n", arg, 1, 1e6); return 0;
    case OUT: a->o.out_dir = arg; return 0;
    case SECONDS: a->o.seconds = uf_parse_number(state, "--seconds", arg, 1, 60); return 0;
    case SEED: a->o.seed = (uint64_t)uf_parse_number(state, "--seed", arg, 0, 1e9); return 0;
    case SNR_FROM: a->o.snr_from = uf_parse_number(state, "--snr-from", arg, -20, 40); return 0;
    case SNR_TO: a->o.snr_to = uf_parse_number(state, "--snr-to", arg, -20, 40); return 0;
    case TRAINING: a->o.training = true; return 0;
    case OVERWRITE: a->o.overwrite = true; return 0;
    case ARGP_KEY_ARG: return uf_parse_one(state, &a->recipe, arg, "recipe");
    case ARGP_KEY_END:
        if (!a->recipe) argp_error(state, "give a recipe");
        if (a->o.snr_from > a->o.snr_to) argp_error(state, "--snr-from is above --snr-to");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "RECIPE",
    .doc = "Write noisy recordings and the voices in them, as a recipe for speech mixes them while it trains: to hear what the network learns from, or to "
           "measure networks on.\v"
           "The same recipe, seed and numbers give the same files.\n\nExample:\n  unfade mix speech.yaml -n 200 --out test --snr-to 15",
    .children = children,
};

static void progress(void *user, const uf_train_progress *p) {
    uf_report_progress(user, "mixtures", p->step, p->n_steps, p->samples_per_second, p->seconds, NULL);
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app, .o = {.n = 10, .out_dir = "mixtures", .seconds = 5, .snr_from = -5, .snr_to = 20}};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    a.o.progress = progress;
    a.o.user = app;
    UF_TRY(uf_mixtures(app->ctx, a.recipe, &a.o));
    uf_report_end(app);
    uf_report_event(app, "done", json_pack("{s:s,s:s,s:I}", "recipe", a.recipe, "folder", a.o.out_dir, "mixtures", (json_int_t)a.o.n));
    if (!app->json) uf_report_line(app, "%s: %lld mixtures", a.o.out_dir, (long long)a.o.n);
    return UF_OK;
}

const uf_command uf_command_mix = {.name = "mix", .summary = "write noisy recordings as a recipe mixes them", .argp = &argp, .run = run};
