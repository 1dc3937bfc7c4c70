#include "app.h"

static const struct argp_option options[] = {
    {"size", 's', "PIXELS", 0, "As for colorize, whose cuts these are (default 192)", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *film;
    uf_scenes_options o;
    int n;
} args;

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case 's': a->o.size = (int)uf_parse_number(state, "--size", arg, 64, 1024); return 0;
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
    .doc = "Tell where FILM cuts: the scenes that colorize keeps apart.\v"
           "A line a scene: its number, its first frame, how many frames, when it begins, how long it lasts.\n\n"
           "The lines can be corrected and given back: cuts that were missed added, false ones taken out, and for a scene its own strength or tuning.\n\n"
           "Examples:\n  unfade scenes reel.mp4 >reel.scenes\n  unfade colorize --scenes reel.scenes reel.mp4 reel-colour.mp4",
    .children = children,
};

static void progress(void *user, const uf_progress *p) {
    const args *a = user;
    uf_report_progress(a->app, "frames", p->n_done, p->n_total, p->fps, p->seconds, NULL);
}

static void scene(void *user, const uf_scene *s) {
    args *a = user;
    char clock[32];
    a->n++;
    uf_report_end(a->app);
    uf_report_event(a->app, "scene", json_pack("{s:i,s:I,s:I,s:f,s:f}", "scene", s->number, "frame", (json_int_t)s->frame, "frames",
                                               (json_int_t)s->n_frames, "seconds", s->seconds, "length", s->length));
    if (!a->app->json)
        printf("scene %4d  frame %7lld  %6lld frames  %s  %8.3f s\n", s->number, (long long)s->frame,
               (long long)s->n_frames, uf_clock_text(s->seconds, clock), s->length);
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    a.o.scene = scene;
    a.o.progress = progress;
    a.o.user = &a;
    UF_TRY(uf_scenes(app->ctx, a.film, &a.o));
    uf_report_end(app);
    uf_report_event(app, "done", json_pack("{s:s,s:i}", "input", a.film, "scenes", a.n));
    return UF_OK;
}

const uf_command uf_command_scenes = {
    .name = "scenes", .summary = "tell where a film cuts", .argp = &argp, .run = run};
