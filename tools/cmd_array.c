#include "app.h"
#include "array.h"
#include "array_bench.h"

#include <string.h>

enum { MICS = 'n', OUT = 0x100, SECONDS, SEED, SNR_FROM, SNR_TO, T60_FROM, T60_TO, TALKERS, MOVING, PPM, WANDER, OFFSET, HABITS, TRAINING, BENCH, WHOLE, SCENES, OVERWRITE };

static const struct argp_option options[] = {
    {"mics", MICS, "N", 0, "How many microphones, 1 to 32 (default 4)", 0},
    {"out", OUT, "FOLDER", 0, "Where the files go (default array)", 0},
    {"seconds", SECONDS, "S", 0, "How long the scene is, 1 to 14400 (default 30)", 0},
    {"seed", SEED, "N", 0, "Another number: another scene (default 0)", 0},
    {"snr-from", SNR_FROM, "DB", 0, "Voice over noise at least, mean of the microphones, -20 to 60 dB (default -5)", 0},
    {"snr-to", SNR_TO, "DB", 0, "Voice over noise at most (default 15)", 0},
    {"t60-from", T60_FROM, "S", 0, "The room rings for so long at least, 0.1 to 2 s (default 0.2)", 0},
    {"t60-to", T60_TO, "S", 0, "The room rings for so long at most (default 0.8)", 0},
    {"talkers", TALKERS, "N", 0, "People who speak in turn, 1 to 4 (default 1)", 0},
    {"moving", MOVING, 0, 0, "They walk about", 0},
    {"ppm", PPM, "N", 0, "Clocks are off by 0, 10, 50, 100 or 400 millionths, up to this (default 400)", 0},
    {"wander", WANDER, 0, 0, "And drift to and fro by up to 20 millionths", 0},
    {"offset", OFFSET, "S", 0, "Recordings begin, and end, up to S seconds apart (default: a third of the scene, 120 at most)", 0},
    {"habits", HABITS, "LIST", 0, "What the devices do, with commas between: gain, curve, agc, clip, codec, dropout, loss, invert, rates, partial, unrelated; or "
                                  "none; or all (the default), which are those up to rates", 0},
    {"training", TRAINING, 0, 0, "Of the recordings that the network learns from, instead of the held-out ones", 0},
    {"bench", BENCH, 0, 0, "Write nothing: merge scenes that are aligned by the truth, and print how good that is beside other methods; with -n only for so many "
                           "microphones, instead of 1, 2, 4 and 8", 0},
    {"whole", WHOLE, 0, 0, "With --bench: merge recordings as they are, with their clocks, beginnings and losses, and print how good that is beside the best of them cleaned alone", 0},
    {"scenes", SCENES, "N", 0, "Of each number of microphones and SNR (default 5)", 0},
    {"overwrite", OVERWRITE, 0, 0, "Replace files in FOLDER", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *recipe;
    uf_array_options o;
    uf_array_files f;
    bool bench, whole;
    int scenes;
} args;

/* "clip,agc": their bits. */
static unsigned parse_habits(struct argp_state *state, const char *list) {
    unsigned bits = 0;
    if (!strcmp(list, "none")) return 0;
    if (!strcmp(list, "all")) return UF_ARRAY_USUAL;
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        int k = 0, n = (int)strcspn(at, ",");
        while (uf_habits[k] && ((int)strlen(uf_habits[k]) != n || strncmp(uf_habits[k], at, (size_t)n))) k++;
        if (!uf_habits[k]) argp_error(state, "--habits does not know '%.*s'; see --help for the list", n, at);
        bits |= 1U << k;
    }
    return bits;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case MICS: a->o.n_mics = (int)uf_parse_number(state, "-n", arg, 1, UF_MOST_MICS); return 0;
    case OUT: a->f.dir = arg; return 0;
    case SECONDS: a->o.seconds = uf_parse_number(state, "--seconds", arg, 1, 14400); return 0;
    case SEED: a->o.seed = (uint64_t)uf_parse_number(state, "--seed", arg, 0, 1e9); return 0;
    case SNR_FROM: a->o.snr_from = uf_parse_number(state, "--snr-from", arg, -20, 60); return 0;
    case SNR_TO: a->o.snr_to = uf_parse_number(state, "--snr-to", arg, -20, 60); return 0;
    case T60_FROM: a->o.t60_from = uf_parse_number(state, "--t60-from", arg, .1, 2); return 0;
    case T60_TO: a->o.t60_to = uf_parse_number(state, "--t60-to", arg, .1, 2); return 0;
    case TALKERS: a->o.talkers = (int)uf_parse_number(state, "--talkers", arg, 1, UF_MOST_TALKERS); return 0;
    case MOVING: a->o.moving = true; return 0;
    case PPM: a->o.ppm = uf_parse_number(state, "--ppm", arg, 0, 1000); return 0;
    case WANDER: a->o.wander = true; return 0;
    case OFFSET: a->o.offset = uf_parse_number(state, "--offset", arg, 0, 7000); return 0;
    case HABITS: a->o.habits = parse_habits(state, arg); return 0;
    case TRAINING: a->f.training = true; return 0;
    case BENCH: a->bench = true; return 0;
    case WHOLE: a->whole = true; return 0;
    case SCENES: a->scenes = (int)uf_parse_number(state, "--scenes", arg, 1, 1000); return 0;
    case OVERWRITE: a->f.overwrite = true; return 0;
    case ARGP_KEY_ARG: return uf_parse_one(state, &a->recipe, arg, "recipe");
    case ARGP_KEY_END:
        if (!a->recipe) argp_error(state, "give a recipe");
        if (a->whole && !a->bench) argp_error(state, "--whole goes with --bench");
        if (a->o.snr_from > a->o.snr_to) argp_error(state, "--snr-from is above --snr-to");
        if (a->o.t60_from > a->o.t60_to) argp_error(state, "--t60-from is above --t60-to");
        if (a->o.offset < 0) a->o.offset = a->o.seconds / 3 < 120 ? a->o.seconds / 3 : 120;
        if (2 * a->o.offset >= a->o.seconds) argp_error(state, "--offset is half of the scene or more; take a smaller one, or more --seconds");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "RECIPE",
    .doc = "Write what several unsynchronised recorders in one simulated room make of a voice: to try `unfade merge` on, or to measure it.\v"
           "FOLDER/mic-0.wav, ... are the recordings; voice-0.wav and early-0.wav the voice in them, with all of the room and with its first 50 ms, in the "
           "same clock; truth.json tells where everything stood and what each clock did: its `clock` lists [second of the scene, sample of the "
           "file]. The same recipe and options give the same files.\n\n"
           "Example:\n  unfade array speech-test.yaml -n 4 --seconds 60 --out table",
    .children = children,
};

static void progress(void *user, const uf_train_progress *p) {
    uf_report_progress(user, "microphones", p->step, p->n_steps, p->samples_per_second, p->seconds, NULL);
}

/* Scenes of -5, 5 and 15 dB, or of what was asked for; where they are not merged as they are, clocks and offsets are the alignment's matter, not measured here. */
static int bench(uf_app *app, const args *a) {
    uf_bench_options o = {.scene = a->o, .seconds = a->o.seconds, .scenes = a->scenes, .counts = {1, 2, 4, 8}, .n_counts = 4, .snrs = {-5, 5, 15}, .n_snrs = 3,
                          .training = a->f.training};
    if (a->o.n_mics) o.counts[0] = a->o.n_mics, o.n_counts = 1;
    if (a->o.snr_from == a->o.snr_to) o.snrs[0] = a->o.snr_from, o.n_snrs = 1;
    if ((o.whole = a->whole)) return uf_array_bench(app, a->recipe, &o);
    o.scene.ppm = o.scene.offset = 0;
    o.scene.wander = false;
    o.scene.habits &= UF_HABIT_gain | UF_HABIT_curve | UF_HABIT_agc | UF_HABIT_clip | UF_HABIT_codec | UF_HABIT_invert;
    return uf_array_bench(app, a->recipe, &o);
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app,
              .scenes = 5,
              .o = {.seconds = 30, .snr_from = -5, .snr_to = 15, .t60_from = .2, .t60_to = .8, .talkers = 1, .ppm = 400, .offset = -1,
                    .habits = UF_ARRAY_USUAL},
              .f = {.dir = "array", .progress = progress, .user = app}};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (a.bench) return bench(app, &a);
    if (!a.o.n_mics) a.o.n_mics = 4;
    UF_TRY(uf_array_write(app->ctx, a.recipe, &a.o, &a.f));
    uf_report_end(app);
    uf_report_event(app, "done", json_pack("{s:s,s:s,s:i}", "recipe", a.recipe, "folder", a.f.dir, "microphones", a.o.n_mics));
    if (!app->json) uf_report_line(app, "%s: %d microphones, %.0f s", a.f.dir, a.o.n_mics, a.o.seconds);
    return UF_OK;
}

const uf_command uf_command_array = {.name = "array", .summary = "write what several recorders in one room hear", .argp = &argp, .run = run};
