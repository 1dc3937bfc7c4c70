#include "page.h"
#include "base.h"
#include "engine.h"
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

enum { CODEC = 0x100, CRF, SIZE, STRENGTH, DEVICE, MEMORY, WEIGHTS, OVERWRITE, FLOAT32, NO_FILTER, TUNE, PRESET, FROM, FOR, COMPARE, PLAN, FIELDS, SPLICE, SCRATCH, DEFLICKER, STEADY, MASKS, SCENES, REFERENCE, REPORT };

enum { MOST_OPTIONS = 64 };

static const struct argp_option options[] = {
    {"codec", CODEC, "NAME", 0, "What the film is coded with: h264, h265, av1, vp9, prores (for editing), ffv1 (for archives: nothing is lost), or any encoder by FFmpeg's name (default: "
     "h264; vp9 in .webm, mpeg4 in .avi)", 0},
    {"crf", CRF, "N", 0, "Quality of a film: 1 is the best and the largest file, 51 the worst (default: good for the encoder, 18 for libx264)", 0},
    {"preset", PRESET, "NAME", 0, "How long the encoder may take: veryfast, medium, slow, ... with libx264 (default: faster)", 0},
    {"from", FROM, "TIME", 0, "Begin there: 80, 1:20 or 1:02:03.5; to try settings on a part of a film", 0},
    {"for", FOR, "TIME", 0, "Stop after so long: 10s, 2:00", 0},
    {"compare", COMPARE, "HOW", OPTION_ARG_OPTIONAL, "wipe (the default): leave the left half grey; side: twice as wide, grey beside coloured", 0},
    {"plan", PLAN, 0, 0, "Say what would be written and how long it would take, measured on a few seconds of the film; write nothing", 0},
    {"fields", FIELDS, "HOW", 0, "keep (the default): frames as they are; auto: one whole frame for two fields where a frame is woven of them, the others to the bit; deinterlace: "
     "so for all frames; detelecine: the 24 frames of a film out of 30. --plan says what a film looks like. All but keep change brightness, as they must", 0},
    {"scenes", SCENES, "FILE", 0, "Scenes begin where FILE says: what 'unfade scenes IN >FILE' wrote, corrected. A line may end in 'strength 0.7' or "
     "'tune FILE.tune', for that scene alone", 0},
    {"reference", REFERENCE, "FRAME=PICTURE", 0, "PICTURE is that frame of IN, coloured by hand: its scene gets those colours, which takes a minute to "
     "learn. Give it as often as you like. Frames count from 0; 'unfade suggest' names and writes some", 0},
    {"splice", SPLICE, "X", OPTION_ARG_OPTIONAL, "Cover the bars, jumps and flashes where pieces of film were joined; X from 0.1, careful, to 2, bold (default 1). No "
     "frame is taken out", 0},
    {"scratch", SCRATCH, "X", OPTION_ARG_OPTIONAL, "Remove dust, hairs and vertical scratches first; X from 0.1, careful, to 2, bold (default 1). Frames where "
     "nothing is found stay as they are", 0},
    {"deflicker", DEFLICKER, "X", OPTION_ARG_OPTIONAL, "Even brightness that jumps from frame to frame; X: how much of it, 0.1 to 1 (default 1)", 0},
    {"steady", STEADY, "X", OPTION_ARG_OPTIONAL, "Take out the sway of a worn projector gate; X: how much of it, 0.1 to 1 (default 1)", 0},
    {"masks", MASKS, "FOLDER", 0, "Write there what --splice, --scratch, --deflicker and --steady changed: a list, and a picture for each frame with bars, dust or scratches", 0},
    {"report", REPORT, "PAGE.html", 0, "Write a page too that shows the film before and after, what was done and what was measured (see unfade report)", 0},
    {"size", SIZE, "PIXELS", 0, "The network looks at a copy of the picture whose shorter side has this many pixels, 64 to 1024; larger is slower and "
     "not always better (default 192). OUT has the size of IN", 0},
    {"strength", STRENGTH, "X", 0, "How strong the colours are, 0.01 to 2 (default 1, as trained)", 0},
    {"device", DEVICE, "NAME", 0, "What computes: auto or cpu, which mean the same, as there is no GPU support yet", 0},
    {"memory", MEMORY, "SIZE", 0, "Do not begin when more memory than this is needed: 512M, 2G", 0},
    {"weights", WEIGHTS, "FILE", 0, "Weights of the network (default: color.safetensors in the folder that "
     "UNFADE_WEIGHTS names; without that variable in ../share/unfade beside the program, or where it was built)", 0},
    {"tune", TUNE, "FILE", 0, "What 'unfade tune' has learnt of this film's colours", 0},
    {"overwrite", OVERWRITE, 0, 0, "Replace OUT when it exists", 0},
    {"float32", FLOAT32, 0, 0, "Compute with 32-bit numbers even where the processor is faster with 16 bits (bf16)", 0},
    {"no-filter", NO_FILTER, 0, 0, "Leave out the filter that keeps colours steady from frame to frame", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *in, *out;
    uf_colorize_options o;
    const char *encoder[2 * MOST_OPTIONS + 1]; /* names and values in turn */
    int n_encoder;
    bool plan;
    const char *page;
    uf_reference refs[UF_MOST_REFERENCES];
    int n_refs;
} args;

static error_t parse_device(struct argp_state *state, const char *arg) {
    if (!strcmp(arg, "cuda")) argp_error(state, "this build has no CUDA; use --device cpu");
    if (strcmp(arg, "auto") && strcmp(arg, "cpu")) argp_error(state, "--device takes auto or cpu, not '%s'", arg);
    return 0;
}

static double seconds(struct argp_state *state, const char *option, const char *arg) {
    double s = uf_seconds_parse(arg);
    if (s < 0) argp_error(state, "%s takes a time like 80, 1:20 or 10s, not '%s'", option, arg);
    return s;
}

static void add_encoder(struct argp_state *state, args *a, const char *word) {
    bool name = a->n_encoder % 2 == 0;
    if (a->n_encoder == 2 * MOST_OPTIONS) argp_error(state, "at most %d options for the encoder", MOST_OPTIONS);
    if (name && (word[0] != '-' || !word[1])) argp_error(state, "after -- come names and values for the encoder: -- -tune film -g 50");
    a->encoder[a->n_encoder++] = name ? word + 1 : word;
}

static void add_reference(struct argp_state *state, args *a, const char *arg) {
    char *end;
    long long frame = strtoll(arg, &end, 10);
    if (end == arg || *end != '=' || !end[1] || frame < 0) argp_error(state, "--reference takes FRAME=PICTURE, as in 120=bride.png, not '%s'", arg);
    if (a->n_refs == UF_MOST_REFERENCES) argp_error(state, "at most %d references; 'unfade tune' learns from whole folders", UF_MOST_REFERENCES);
    a->refs[a->n_refs++] = (uf_reference){frame, end + 1};
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case CODEC: a->o.codec = arg; return 0;
    case CRF: a->o.crf = (int)uf_parse_number(state, "--crf", arg, 1, 51); return 0;
    case PRESET:
        add_encoder(state, a, "-preset");
        add_encoder(state, a, arg);
        return 0;
    case FROM: a->o.from = seconds(state, "--from", arg); return 0;
    case FOR: a->o.length = seconds(state, "--for", arg); return 0;
    case COMPARE:
        if (arg && strcmp(arg, "wipe") && strcmp(arg, "side")) argp_error(state, "--compare takes wipe or side, not '%s'", arg);
        a->o.compare = arg && !strcmp(arg, "side") ? 2 : 1;
        return 0;
    case PLAN: a->plan = true; return 0;
    case FIELDS: a->o.fields = arg; return 0;
    case SPLICE: a->o.splice = arg ? uf_parse_number(state, "--splice", arg, .1, 2) : 1; return 0;
    case SCRATCH: a->o.scratch = arg ? uf_parse_number(state, "--scratch", arg, .1, 2) : 1; return 0;
    case DEFLICKER: a->o.deflicker = arg ? uf_parse_number(state, "--deflicker", arg, .1, 1) : 1; return 0;
    case STEADY: a->o.steady = arg ? uf_parse_number(state, "--steady", arg, .1, 1) : 1; return 0;
    case REPORT: a->page = arg; return 0;
    case REFERENCE: add_reference(state, a, arg); return 0;
    case SCENES: a->o.scenes = arg; return 0;
    case MASKS: a->o.masks = arg; return 0;
    case SIZE: a->o.size = (int)uf_parse_number(state, "--size", arg, 64, 1024); return 0;
    case STRENGTH: a->o.strength = uf_parse_number(state, "--strength", arg, .01, 2); return 0;
    case DEVICE: a->o.device = arg; return parse_device(state, arg);
    case MEMORY:
        if ((a->o.memory = uf_parse_size(arg)) < 1) argp_error(state, "--memory takes a size like 512M or 2G, not '%s'", arg);
        return 0;
    case WEIGHTS: a->o.weights = arg; return 0;
    case TUNE: a->o.tune = arg; return 0;
    case OVERWRITE: a->o.overwrite = true; return 0;
    case FLOAT32: a->o.float32 = true; return 0;
    case NO_FILTER: a->o.no_filter = true; return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 1 && state->quoted) { /* there is a --: what comes after the names comes after it */
            add_encoder(state, a, arg);
            return 0;
        }
        if (state->arg_num > 1) argp_error(state, "too many names; give one IN and one OUT");
        *(state->arg_num ? &a->out : &a->in) = arg;
        return 0;
    case ARGP_KEY_END:
        if (a->n_encoder % 2) argp_error(state, "option '-%s' for the encoder has no value", a->encoder[a->n_encoder - 1]);
        if (a->page && (!strcmp(a->in, "-") || !strcmp(a->out, "-"))) argp_error(state, "--report looks at both films again; give them as files, not -");
        if (a->page && a->o.compare == 2) argp_error(state, "--report sets both beside each other by itself; leave --compare=side out");
        if (a->n_refs && a->o.from > 0) argp_error(state, "frames of --reference count from the film's beginning; leave --from out");
        if (a->n_refs && a->o.scenes) argp_error(state, "--reference makes a table of scenes of its own; leave --scenes out, or put 'tune FILE' into its lines");
        if (a->n_encoder) a->o.encoder_options = a->encoder;
        if (!a->out) argp_error(state, "give the film or picture to colour, and the name of the result: unfade colorize old.mp4 new.mp4");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "IN OUT [-- ENCODER-OPTIONS]",
    .doc = "Colour the black-and-white film, picture or numbered picture sequence IN and write OUT. Brightness is copied sample "
           "for sample, but where old damage is mended on demand; sound, subtitles, chapters and timestamps are kept, and of pictures EXIF, XMP and colour profile.\v"
           "The end of a name chooses the format: .mp4, .mkv, .mov, .avi, .webm, .y4m; .jpg, .png, .tif, .webp. A sequence of "
           "numbered pictures, 00001.png, 00002.png and so on, is written %05d.png. The name - stands for standard input or "
           "output, as a stream of yuv4mpeg. OUT appears only when it is complete.\n\n"
           "A film that was stopped, killed or met a full disk goes on where it was when the same command is given again: what is "
           "finished waits in a folder, OUT.unfade-job. Delete that folder to give up.\n\n"
           "Examples:\n  unfade colorize reel.mp4 reel-colour.mp4\n  unfade colorize --codec ffv1 reel.avi reel.mkv\n"
           "  unfade colorize grandma.jpg grandma-colour.jpg\n  unfade colorize --from 1:20 --for 10s --compare reel.mp4 look.mp4\n"
           "  unfade colorize reel.mp4 reel-colour.mp4 -- -tune film -g 50",
    .children = children,
};

typedef struct tally {
    uf_app *app;
    uf_progress last;
    bool slow; /* and nobody has been told */
} tally;

static void keep(void *user, const uf_progress *p) {
    tally *t = user;
    t->last = *p;
    if (t->slow) /* not before there is work: what cannot be done at all is said in one line */
        uf_log(t->app->ctx, UF_LOG_INFO, "this processor has no bf16 units: computing in float32, about half as fast or less; "
               "'unfade bench' tells how fast");
    t->slow = false;
    uf_report_progress(t->app, "frames", p->n_done, p->n_total, p->fps, p->seconds, NULL);
}

/* err: how the job ended; only of a finished one there is a page. */
static int close_notes(uf_app *app, const args *a, int err, char **said) {
    fclose(app->notes);
    app->notes = NULL;
    if (err == UF_OK)
        err = uf_page_write(app, a->in, a->out, a->page, &(uf_page_options){.n = 8, .masks = a->o.masks, .notes = *said, .overwrite = a->o.overwrite});
    free(*said);
    return err;
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    tally t = {.app = app, .slow = !uf_cpu_has_bf16() && !a.o.float32};
    app->stdout_busy = !strcmp(a.out, "-");
    a.o.progress = keep;
    a.o.user = &t;
    uf_film_options film = {.colorize = a.o, .weights_dir = UNFADE_WEIGHTS_DIR, .wait = app->terminal};
    if (a.plan) return uf_forecast(app, a.in, a.out, &film);
    uf_report_event(app, "start", json_pack("{s:s,s:s}", "input", a.in, "output", a.out));
    double start = uf_now();
    char *table = NULL, *said = NULL;
    size_t n_said = 0;
    if (a.page) UF_TRY(uf_page_listen(app, argc, argv, a.page, a.o.overwrite, &said, &n_said));
    int err = a.n_refs ? uf_references_learn(app, a.in, a.out, &film, a.refs, a.n_refs, &table) : UF_OK;
    if (table) film.colorize.scenes = table;
    if (err == UF_OK) err = uf_film_colorize(app->ctx, a.in, a.out, &film);
    free(table);
    if (a.page) err = close_notes(app, &a, err, &said);
    if (err < 0) return err;
    double seconds = uf_now() - start;
    double fps = (double)t.last.n_done / (seconds > 0 ? seconds : 1);
    uf_report_event(app, "done", json_pack("{s:s,s:I,s:f,s:f,s:i}", "output", a.out, "frames", (json_int_t)t.last.n_done, "seconds",
                                           seconds, "fps", fps, "warnings", app->n_warnings));
    if (!app->stdout_busy)
        uf_report_line(app, "%s: %lld frame%s in %.1f s (%.1f a second)", a.out, (long long)t.last.n_done,
                       t.last.n_done == 1 ? "" : "s", seconds, fps);
    return UF_OK;
}

const uf_command uf_command_colorize = {
    .name = "colorize", .summary = "colour a black-and-white film or picture", .argp = &argp, .run = run};
