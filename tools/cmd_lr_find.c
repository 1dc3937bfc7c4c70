/* Which learning rate a recipe can take. */
#include "app.h"
#include "training.h"

#include <math.h>
#include <string.h>

enum { STAGE = 0x100, STEPS, FROM, TO, PLOT, OVERWRITE };

static const struct argp_option options[] = {
    {"stage", STAGE, "N", 0, "Stage of the recipe, from 1 (default: 1)", 0},
    {"steps", STEPS, "N", 0, "Steps of the sweep, 20 to 10000 (default: 100)", 0},
    {"from", FROM, "RATE", 0, "Lowest rate (default: 1e-6)", 0},
    {"to", TO, "RATE", 0, "Highest rate (default: 1)", 0},
    {"plot", PLOT, "FILE", 0, "Draw the curve into this SVG file", 0},
    {"overwrite", OVERWRITE, 0, 0, "Replace FILE when it exists", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *recipe;
    uf_lr_find_options o;
} args;

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case STAGE: a->o.stage = (int)uf_parse_number(state, "--stage", arg, 1, 64) - 1; return 0;
    case STEPS: a->o.steps = (int)uf_parse_number(state, "--steps", arg, 20, 10000); return 0;
    case FROM: a->o.from = uf_parse_number(state, "--from", arg, 1e-12, 10); return 0;
    case TO: a->o.to = uf_parse_number(state, "--to", arg, 1e-12, 100); return 0;
    case PLOT: a->o.plot = arg; return 0;
    case OVERWRITE: a->o.overwrite = true; return 0;
    case ARGP_KEY_ARG: return uf_parse_one(state, &a->recipe, arg, "recipe");
    case ARGP_KEY_END:
        if (!a->recipe) argp_error(state, "give a recipe; samples/recipes/ has some");
        if (a->o.to <= a->o.from) argp_error(state, "--to must be above --from");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "RECIPE",
    .doc = "Find the learning rate for RECIPE: a short run whose rate grows with every step, until the loss is 4 times its "
           "best.\v"
           "Two rates come out. `valley` lies well inside the longest fall of the loss: write it as the stage's `rate`, which is "
           "the peak of its one-cycle. `steepest`, where the loss falls fastest, is often bolder. The recipe's weights, "
           "checkpoints and logs are not touched.",
    .children = children,
};

static void progress(void *user, const uf_train_progress *p) {
    char extra[64];
    snprintf(extra, sizeof extra, "rate %.1e  loss %.4f", p->rate, p->loss);
    uf_report_progress(user, "steps", p->step, p->n_steps, p->seconds > 0 ? (double)p->step / p->seconds : 0, p->seconds, extra);
}

enum { COLUMNS = 64, ROWS = 14 };

static void put(char canvas[ROWS][COLUMNS + 1], const uf_lr_found *f, double rate, char with) {
    double span = log(f->rate[f->n - 1] / f->rate[0]);
    int x = (int)(log(rate / f->rate[0]) / span * (COLUMNS - 1) + .5);
    for (int y = 0; y < ROWS; y++)
        if (x >= 0 && x < COLUMNS && canvas[y][x] == ' ') canvas[y][x] = with;
}

/* The curve in characters; what rises above the start is cut off. */
static void draw(const uf_lr_found *f) {
    char canvas[ROWS][COLUMNS + 1];
    double least = f->loss[0], most = f->loss[0];
    for (int i = 0; i < f->n; i++) least = fmin(least, f->loss[i]);
    most += .3 * (most - least) + 1e-9;
    for (int y = 0; y < ROWS; y++) {
        memset(canvas[y], ' ', COLUMNS);
        canvas[y][COLUMNS] = 0;
    }
    for (int i = 0; i < f->n; i++) {
        int x = i * (COLUMNS - 1) / (f->n - 1), y = (int)((most - f->loss[i]) / (most - least) * (ROWS - 1) + .5);
        if (y >= 0 && y < ROWS) canvas[y][x] = '*';
    }
    put(canvas, f, f->valley, '|');
    put(canvas, f, f->steepest, ':');
    for (int y = 0; y < ROWS; y++) {
        if (y == 0 || y == ROWS - 1) printf("%9.4g  %s\n", y ? least : most, canvas[y]);
        else printf("%9s  %s\n", "", canvas[y]);
    }
    printf("%9s  %-*.1e%8.1e\n", "rate", COLUMNS - 8, f->rate[0], f->rate[f->n - 1]);
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app, .o = {.steps = 100, .from = 1e-6, .to = 1}};
    uf_lr_found f = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    a.o.progress = progress;
    a.o.user = app;
    UF_TRY(uf_lr_find(app->ctx, a.recipe, &a.o, &f));
    uf_report_end(app);
    if (!app->json && !app->quiet) draw(&f);
    if (!app->json) printf("valley   %.1e  (|)\nsteepest %.1e  (:)\n", f.valley, f.steepest);
    json_t *rates = json_array(), *losses = json_array();
    for (int i = 0; i < f.n; i++) {
        json_array_append_new(rates, json_real(f.rate[i]));
        json_array_append_new(losses, json_real(f.loss[i]));
    }
    uf_report_event(app, "lr-find", json_pack("{s:f,s:f,s:o,s:o}", "valley", f.valley, "steepest", f.steepest, "rates", rates,
                                              "losses", losses));
    if (a.o.plot) uf_report_line(app, "%s: the curve", a.o.plot);
    uf_lr_found_free(&f);
    return UF_OK;
}

const uf_command uf_command_lr_find = {
    .name = "lr-find", .summary = "find the learning rate for a recipe", .argp = &argp, .run = run};
