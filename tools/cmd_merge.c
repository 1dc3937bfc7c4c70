#include "page.h"

#include <stdlib.h>
#include <string.h>

enum { REFERENCE = 0x100, INTO, STEMS, ALIGN_ONLY, ROOM, MUSIC, PAGE, REPORT, MOST, LOUDNESS, WEIGHTS, OVERWRITE, FLOAT32 };

static const struct argp_option options[] = {
    {"output", 'o', "OUT", 0, "The merged sound; its ending chooses the kind of file: .wav, .flac, .mp3, .opus, .m4a, and with --into .mp4, .mkv and others", 0},
    {"reference", REFERENCE, "IN", 0, "The recording whose clock, timbre and level the result gets (default: the one that serves best)", 0},
    {"into", INTO, "FILM", 0, "The result is this film with the merged sound, its pictures copied; FILM's own sound is one of the recordings", 0},
    {"stems", STEMS, "DIR", 0, "Also write every recording there as a wave file of its own, aligned and on one clock, to mix by hand", 0},
    {"align-only", ALIGN_ONLY, 0, 0, "Mix nothing: OUT, which may be left out then, gets a channel for every recording", 0},
    {"room", ROOM, "KIND", 0, "keep: the noise goes and the room stays in the voice; dry: both go (default)", 0},
    {"music", MUSIC, 0, 0, "Match levels and timbres and mix; take nothing for noise", 0},
    {"report", PAGE, "PAGE.html", 0, "Write a page too that shows when each recorded, who is heard in the result, and how the clocks ran, with the result and the best "
                                     "recording to be looked at and listened to", 0},
    {"report-json", REPORT, "FILE", 0, "Write what was found: places, clocks, steps, scores, what was left out and why, and every second's share of each recording", 0},
    {"max-atten", MOST, "DB", 0, "Make noise quieter by so much at most, 1 to 100 (default: all that is found)", 0},
    {"loudness", LOUDNESS, "LUFS", 0, "Bring the result to this loudness, -40 to -5, peaks under -1 dB (default: as it comes)", 0},
    {"weights", WEIGHTS, "FILE", 0, "Weights of the network, of speech-array, which hears all recordings together, or of speech, which hears each for itself (default: the shipped speech-array.safetensors)", 0},
    {"float32", FLOAT32, 0, 0, "Compute in float32 even where bf16 is faster", 0},
    {"overwrite", OVERWRITE, 0, 0, "Replace what is there already", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *in[UF_MERGE_INPUTS + 1], *out, *page;
    int n;
    uf_merge_options o;
} args;

static void check(const args *a, struct argp_state *state) {
    if (!a->n && !a->o.into) argp_error(state, "give the recordings");
    if (!a->out && !(a->o.align_only && (a->o.stems || a->o.report || a->page))) argp_error(state, "give a name for the result with -o");
    if (a->o.align_only && a->o.into) argp_error(state, "--align-only mixes nothing that could go into a film; leave one of the two out");
    for (int i = 0; i < a->n; i++)
        if (!strcmp(a->in[i], "-")) argp_error(state, "pipes are not read or written here; give files");
    if (a->out && !strcmp(a->out, "-")) argp_error(state, "pipes are not read or written here; give files");
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case 'o': a->out = arg; return 0;
    case REFERENCE: a->o.reference = arg; return 0;
    case INTO: a->o.into = arg; return 0;
    case STEMS: a->o.stems = arg; return 0;
    case ALIGN_ONLY: a->o.align_only = true; return 0;
    case ROOM:
        if (strcmp(arg, "keep") && strcmp(arg, "dry")) argp_error(state, "--room takes keep or dry, not '%s'", arg);
        a->o.keep_room = !strcmp(arg, "keep");
        return 0;
    case MUSIC: a->o.music = true; return 0;
    case PAGE: a->page = arg; return 0;
    case REPORT: a->o.report = arg; return 0;
    case MOST: a->o.most = uf_parse_number(state, "--max-atten", arg, 1, 100); return 0;
    case LOUDNESS: a->o.loudness = uf_parse_number(state, "--loudness", arg, -40, -5); return 0;
    case WEIGHTS: a->o.weights = arg; return 0;
    case FLOAT32: a->o.float32 = true; return 0;
    case OVERWRITE: a->o.overwrite = true; return 0;
    case ARGP_KEY_ARG:
        if (a->n == UF_MERGE_INPUTS) argp_error(state, "more than %d recordings; merge some of them first", UF_MERGE_INPUTS);
        a->in[a->n++] = arg;
        return 0;
    case ARGP_KEY_END: check(a, state); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "IN... -o OUT",
    .doc = "Merge several recordings of the same event into one good track.\v"
           "IN are sound files or films, of any rates and channels, by recorders that know nothing of each other: telephones on a table, cameras, a "
           "laptop. When each was started does not matter, nor how its clock runs, nor whether it lost something on the way: all that is found out "
           "from what they heard. A recording of something else is left out, by name. The result is mono, from the first beginning to the last end.\n\n"
           "The page of --report needs no network and no other file: what is to be played is in it up to 16 MiB, and beyond that is played from beside it. The share of a recording, there and in the "
           "report, is the energy that it brings into the sum, over that of all of them, frequency by frequency from 200 to 4000 Hz: 0 to 1, 1 together, 0 where it is "
           "away.\n\n"
           "Examples:\n  unfade merge phone.m4a laptop.wav camera.mp4 -o talk.wav\n  unfade merge *.wav -o talk.mp4 --into camera.mp4\n"
           "  unfade merge *.m4a --align-only --stems aligned",
    .children = children,
};

static void progress(void *user, const uf_progress *p) {
    uf_report_progress(user, "seconds", p->n_done, p->n_total, p->fps, p->seconds, NULL);
}

/* Nobody's recording is replaced by the page, nor is anything else that is to be written. */
static int check_page(const args *a) {
    const char *taken[] = {a->o.into, a->out, a->o.report};
    for (int i = 0; i < a->n + UF_LEN(taken); i++) {
        const char *other = i < a->n ? a->in[i] : taken[i - a->n];
        if (other && uf_same_file(a->page, other)) return uf_fail(a->app->ctx, UF_EINVAL, "the page '%s' would replace another file of this merge; give it a name of its own", a->page);
    }
    return UF_OK;
}

static int merge(const args *a, int argc, char **argv) {
    char *found = NULL, *said = NULL;
    size_t n_said = 0;
    uf_app *app = a->app;
    if (a->page) UF_TRY(check_page(a));
    if (a->page) UF_TRY(uf_page_listen(app, argc, argv, a->page, a->o.overwrite, &said, &n_said));
    int err = uf_sound_merge(app->ctx, a->in, a->n, a->out, &a->o, UNFADE_WEIGHTS_DIR, a->page ? &found : NULL);
    uf_report_end(app);
    if (app->notes) fclose(app->notes);
    app->notes = NULL;
    if (err == UF_OK && a->page) err = uf_merge_page_write(app, &(uf_merge_page){.found = found, .notes = said, .path = a->page, .overwrite = a->o.overwrite});
    free(found);
    free(said);
    return err;
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    a.o.progress = progress;
    a.o.user = app;
    double start = uf_now();
    UF_TRY(merge(&a, argc, argv));
    uf_report_event(app, "done", json_pack("{s:i,s:s?,s:s?,s:s?,s:f,s:i}", "inputs", a.n, "output", a.out, "stems", a.o.stems, "page", a.page, "seconds", uf_now() - start, "warnings",
                                           app->n_warnings));
    if (!app->json) uf_report_line(app, "%s", a.out ? a.out : a.o.stems ? a.o.stems : a.o.report ? a.o.report : a.page);
    return UF_OK;
}

const uf_command uf_command_merge = {.name = "merge", .summary = "several recordings of one event to one good track", .argp = &argp, .run = run};
