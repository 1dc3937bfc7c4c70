#include "app.h"

#include <string.h>
#include <unistd.h>

enum { MOST = 0x100, WET, WEIGHTS, OVERWRITE, FLOAT32, HUM, CLICKS, CLIPS, LOUDNESS, LIVE, KEEP_ROOM, HIGHS, FORMAT, RATE, CHANNELS };

static const struct argp_option options[] = {
    {"max-atten", MOST, "DB", 0, "Make noise quieter by so much at most, 1 to 100: 12 keeps the place that one hears (default: all that is found)", 0},
    {"keep-room", KEEP_ROOM, 0, 0, "Take the noise alone: the room's echo stays (default: the voice as from close by)", 0},
    {"wet", WET, "X", 0, "Share of the cleaned sound in the result, above 0 to 1; the rest is the recording (default 1)", 0},
    {"hum", HUM, "HZ", 0, "First take out the mains' hum: 50 or 60 Hz, and its harmonics", 0},
    {"clicks", CLICKS, 0, 0, "First bridge clicks and crackle, as of records", 0},
    {"clips", CLIPS, 0, 0, "First mend peaks that were cut off, at full scale or, if it was made quieter after that, below", 0},
    {"highs", HIGHS, 0, 0, "Make up the highs that a telephone, a messenger or an old recorder has cut off; a recording of less than 32,000 samples a second "
     "becomes one of 48,000 (without cue points). Nothing happens where there are highs", 0},
    {"loudness", LOUDNESS, "LUFS", 0, "Bring the result to this loudness, -40 to -5, peaks under -1 dB: -16 is usual for podcasts, -23 for broadcasting (default: as it comes)", 0},
    {"live", LIVE, 0, 0, "Take the network that hears nothing later, and without IN and OUT (or with - for both) clean from standard input to standard output "
     "while the sound is being made: WAV, or raw samples with --format", 0},
    {"format", FORMAT, "KIND", 0, "What comes through standard input, and leaves by standard output: wav (default), s16le or f32le", 0},
    {"rate", RATE, "HZ", 0, "Samples a second of s16le or f32le", 0},
    {"channels", CHANNELS, "N", 0, "Channels of s16le or f32le (default 1)", 0},
    {"weights", WEIGHTS, "FILE", 0, "Weights of the network (default: the shipped speech.safetensors, above 16 kHz speech-wide.safetensors, with --live speech-live.safetensors)", 0},
    {"float32", FLOAT32, 0, 0, "Compute in float32 even where bf16 is faster", 0},
    {"overwrite", OVERWRITE, 0, 0, "Replace OUT when it is there already", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *in, *out;
    uf_clean_options o;
    uf_pipe_sound pipe;
} args;

static uf_pipe_format parse_format(struct argp_state *state, const char *arg) {
    static const char *const names[] = {[UF_PIPE_WAV] = "wav", [UF_PIPE_S16] = "s16le", [UF_PIPE_F32] = "f32le"};
    for (int i = 0; i < UF_LEN(names); i++)
        if (!strcmp(arg, names[i])) return (uf_pipe_format)i;
    argp_error(state, "--format takes wav, s16le or f32le, not '%s'", arg);
    return UF_PIPE_WAV;
}

static bool is_pipe(const char *name) { return name && !strcmp(name, "-"); }

/* What is asked of names and of what comes through a pipe, together. */
static void check(args *a, struct argp_state *state) {
    const uf_pipe_sound *p = &a->pipe;
    if (a->o.live && !a->in) a->in = a->out = "-";
    if (!a->out) argp_error(state, "give a recording and a name for the result");
    if (is_pipe(a->in) != is_pipe(a->out)) argp_error(state, "what comes through a pipe leaves by one: give - for both, and let the shell do the rest");
    if (is_pipe(a->in) && !a->o.live) argp_error(state, "what comes through a pipe is cleaned while it comes: add --live");
    if (!is_pipe(a->in) && (p->format || p->rate || p->channels)) argp_error(state, "files tell their format, rate and channels themselves; those options are for pipes");
    if (!p->format && (p->rate || p->channels)) argp_error(state, "a WAV tells its rate and channels itself; for raw samples say --format s16le or f32le");
    if (p->format && !p->rate) argp_error(state, "raw samples do not tell how many there are a second: add --rate, such as --rate 48000");
    if (!a->pipe.channels) a->pipe.channels = 1;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case MOST: a->o.most = uf_parse_number(state, "--max-atten", arg, 1, 100); return 0;
    case WET: a->o.wet = uf_parse_number(state, "--wet", arg, .001, 1); return 0;
    case HUM: a->o.hum = uf_parse_number(state, "--hum", arg, 15, 500); return 0;
    case LOUDNESS: a->o.loudness = uf_parse_number(state, "--loudness", arg, -40, -5); return 0;
    case CLICKS: a->o.clicks = true; return 0;
    case CLIPS: a->o.clips = true; return 0;
    case HIGHS: a->o.highs = true; return 0;
    case KEEP_ROOM: a->o.keep_room = true; return 0;
    case LIVE: a->o.live = true; return 0;
    case FORMAT: a->pipe.format = parse_format(state, arg); return 0;
    case RATE: a->pipe.rate = (int)uf_parse_number(state, "--rate", arg, 1000, 768000); return 0;
    case CHANNELS: a->pipe.channels = (int)uf_parse_number(state, "--channels", arg, 1, 64); return 0;
    case WEIGHTS: a->o.weights = arg; return 0;
    case FLOAT32: a->o.float32 = true; return 0;
    case OVERWRITE: a->o.overwrite = true; return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 1) argp_error(state, "give one recording and one name for the result");
        *(state->arg_num ? &a->out : &a->in) = arg;
        return 0;
    case ARGP_KEY_END:
        check(a, state);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "[IN OUT]",
    .doc = "Take noise and the room out of speech.\v"
           "IN is a recording or a film; of a film the pictures and all else are copied, and its sound stays in step to the sample. OUT's ending "
           "chooses the kind of file: .wav, .flac, .mp3, .opus, .m4a, .mkv, .mp4 and others. Rate, channels and length stay. The network for "
           "recordings of more than 16,000 samples a second hears up to 24 kHz, the others up to 8; what is above follows what is below. It has learnt speech: music is noise to it.\n\n"
           "With --live a sample leaves 32 ms after it came at 16 kHz, 36 ms at higher rates and 40 ms at 8 kHz, computing apart; it is told when it begins, and nothing but sound goes to standard output. "
           "It ends when its input does, when nobody reads its output any more, or by Ctrl-C.\n\n"
           "Examples:\n  unfade clean interview.wav interview-clean.wav\n  unfade clean wedding.mp4 wedding-clean.mp4 --max-atten 15\n"
           "  arecord -f S16_LE -r 48000 -t wav | unfade clean --live | aplay\n"
           "  ffmpeg -i call.opus -f s16le -ar 48000 -ac 1 - | unfade clean --live --format s16le --rate 48000 >call.raw",
    .children = children,
};

static void progress(void *user, const uf_progress *p) {
    uf_report_progress(user, "seconds", p->n_done, p->n_total, p->fps, p->seconds, NULL);
}

static int run_pipe(uf_app *app, const args *a) {
    app->stdout_busy = true;
    if (isatty(STDIN_FILENO) || isatty(STDOUT_FILENO))
        return uf_fail(app->ctx, UF_EINVAL, "sound is not for a terminal; pipe it in and out, or give files: 'unfade clean --help' shows how");
    double start = uf_now();
    UF_TRY(uf_sound_clean_pipe(app->ctx, STDIN_FILENO, STDOUT_FILENO, &a->pipe, &a->o, UNFADE_WEIGHTS_DIR));
    uf_report_event(app, "done", json_pack("{s:s,s:s,s:f}", "input", a->in, "output", a->out, "seconds", uf_now() - start));
    return UF_OK;
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (is_pipe(a.in)) return run_pipe(app, &a);
    a.o.progress = progress;
    a.o.user = app;
    double start = uf_now();
    UF_TRY(uf_sound_clean(app->ctx, a.in, a.out, &a.o, UNFADE_WEIGHTS_DIR));
    uf_report_end(app);
    uf_report_event(app, "done", json_pack("{s:s,s:s,s:f}", "input", a.in, "output", a.out, "seconds", uf_now() - start));
    if (!app->json) uf_report_line(app, "%s", a.out);
    return UF_OK;
}

const uf_command uf_command_clean = {.name = "clean", .summary = "take noise and the room out of speech", .argp = &argp, .run = run};
