#include "app.h"
#include "pipeline.h"
#include "training.h"

#include <string.h>

enum { COUNT = 'n', WEIGHTS = 0x100, TUNE, CELL = 320 };

static const struct argp_option options[] = {
    {"count", COUNT, "N", 0, "How many frames (default 6)", 0},
    {"tune", TUNE, "FILE", 0, "What 'unfade tune' has learnt of this film's colours", 0},
    {"weights", WEIGHTS, "FILE", 0, "Network weights (.safetensors; default: the shipped ones)", 0},
    {0},
};

static const struct {
    uf_preview_setting setting;
    const char *label;
} columns[] = {
    {{0, 0}, "grey"},
    {{0, 1}, "as it is by default"},
    {{0, .7}, "--strength 0.7"},
    {{0, 1.3}, "--strength 1.3"},
    {{128, 1}, "--size 128"},
    {{288, 1}, "--size 288"},
};

typedef struct args {
    uf_app *app;
    const char *film, *out;
    uf_preview_options o;
    uf_sheet *sheet;
} args;

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case COUNT: a->o.n = (int)uf_parse_number(state, "-n", arg, 1, 40); return 0;
    case WEIGHTS: a->o.weights = arg; return 0;
    case TUNE: a->o.tune = arg; return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 1) argp_error(state, "too many names; give one FILM and one picture to write");
        *(state->arg_num ? &a->out : &a->film) = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->out) argp_error(state, "give a film, and the name of the picture to write: unfade preview reel.mp4 look.png");
        if (strlen(a->out) < 5 || strcmp(a->out + strlen(a->out) - 4, ".png")) argp_error(state, "the contact sheet is a PNG picture; let its name end in .png");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "FILM OUT.png",
    .doc = "Show some frames of FILM under several settings of 'unfade colorize', side by side.\v"
           "A row a frame, a column a setting: grey, the default, weaker and stronger colours, and the network looking at smaller and "
           "larger copies. The filter that steadies colours over time is not in it. OUT.png is replaced when it exists.\n\n"
           "Example:\n  unfade preview reel.mp4 look.png",
    .children = children,
};

static int cell(void *user, int column, int row, double seconds, int w, int h, const uint8_t *rgb) {
    args *a = user;
    char clock[32];
    if (!a->sheet) UF_TRY(uf_sheet_open(&a->sheet, a->app->ctx, UF_LEN(columns), a->o.n, CELL, CELL * h / w > 0 ? CELL * h / w : 1));
    uf_sheet_put(a->sheet, column, row, w, h, rgb);
    if (row == 0) uf_sheet_label(a->sheet, column, row, columns[column].label);
    else if (column == 0) uf_sheet_label(a->sheet, column, row, uf_clock_text(seconds, clock));
    return UF_OK;
}

static void progress(void *user, const uf_progress *p) {
    const args *a = user;
    uf_report_progress(a->app, "frames", p->n_done, p->n_total, p->fps, p->seconds, NULL);
}

static int run(uf_app *app, int argc, char **argv) {
    uf_preview_setting settings[UF_LEN(columns)];
    args a = {.app = app, .o = {.n = 6, .weights_dir = UNFADE_WEIGHTS_DIR, .settings = settings, .n_settings = UF_LEN(columns)}};
    int n_rows = 0;
    for (int i = 0; i < UF_LEN(columns); i++) settings[i] = columns[i].setting;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    a.o.cell = cell;
    a.o.progress = progress;
    a.o.user = &a;
    int err = uf_preview(app->ctx, a.film, &a.o, &n_rows);
    uf_report_end(app);
    if (err == UF_OK) err = uf_sheet_write(a.sheet, a.out);
    uf_sheet_close(&a.sheet);
    if (err < 0) return err;
    uf_report_event(app, "done", json_pack("{s:s,s:i,s:i}", "output", a.out, "frames", n_rows, "settings", UF_LEN(columns)));
    uf_report_line(app, "%s: %d frames; columns: grey, default, --strength 0.7 and 1.3, --size 128 and 288", a.out, n_rows);
    return UF_OK;
}

const uf_command uf_command_preview = {.name = "preview", .summary = "show some frames under several settings", .argp = &argp, .run = run};
