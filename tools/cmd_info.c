#include "app.h"
#include "engine.h"
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

typedef struct args {
    uf_app *app;
    const char *path;
} args;

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case ARGP_KEY_ARG: return uf_parse_one(state, &a->path, arg, "file");
    case ARGP_KEY_END:
        if (!a->path) argp_error(state, "give a film, a picture, a sound file or weights");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .parser = parse,
    .args_doc = "FILE",
    .doc = "Tell what is in a film, picture, sound file or weights file (.safetensors).\v"
           "Of weights, the whole file is checked, with its checksum.",
    .children = children,
};

/* ---- media ------------------------------------------------------------------------------------------------------------ */

static json_t *stream_json(const uf_stream_info *s) {
    json_t *v = json_pack("{s:i,s:s,s:s,s:s,s:s,s:f}", "index", s->index, "kind", s->kind, "codec", s->codec, "language",
                          s->language, "title", s->title, "seconds", s->seconds);
    json_t *more = !strcmp(s->kind, "video")
                       ? json_pack("{s:i,s:i,s:f,s:I,s:s,s:s,s:s,s:s,s:s,s:s,s:b}", "width", s->w, "height", s->h, "fps", s->fps,
                                   "frames", (json_int_t)s->n_frames, "format", s->format, "range", s->range, "matrix",
                                   s->matrix, "primaries", s->primaries, "transfer", s->transfer, "field_order",
                                   s->field_order, "cover", s->cover)
                       : json_pack("{s:i,s:i,s:s}", "rate", s->rate, "channels", s->channels, "format", s->format);
    if (v && more) json_object_update(v, more);
    json_decref(more);
    return v;
}

static void stream_print(const uf_stream_info *s) {
    printf("  %d %-10s %s", s->index, s->kind, s->codec);
    if (!strcmp(s->kind, "video")) {
        printf(", %dx%d, %s", s->w, s->h, s->format);
        if (s->fps > 0) printf(", %.3f frames/s", s->fps);
        if (s->n_frames > 0) printf(", %lld frames", (long long)s->n_frames);
        printf(", %s range, %s matrix, %s", s->range, s->matrix, s->field_order);
        if (s->cover) printf(", cover picture");
    } else if (s->rate > 0) {
        printf(", %d Hz, %d channel%s", s->rate, s->channels, s->channels == 1 ? "" : "s");
    }
    if (*s->language) printf(" (%s)", s->language);
    if (*s->title) printf(" \"%s\"", s->title);
    putchar('\n');
}

void uf_report_media(uf_app *app, const char *path, const uf_media_info *m) {
    if (app->json) {
        json_t *streams = json_array();
        for (int i = 0; i < m->n_streams; i++) json_array_append_new(streams, stream_json(&m->streams[i]));
        uf_report_event(app, "media", json_pack("{s:s,s:s,s:f,s:I,s:f,s:i,s:o}", "file", path, "container", m->container,
                                                "seconds", m->seconds, "bytes", (json_int_t)m->bytes, "bit_rate", m->bit_rate,
                                                "chapters", m->n_chapters, "streams", streams));
    } else {
        printf("%s: %s", path, m->container);
        if (m->seconds > 0) printf(", %.3f s", m->seconds);
        if (m->bytes > 0) printf(", %.1f MB", (double)m->bytes / 1e6);
        if (m->n_chapters) printf(", %d chapters", m->n_chapters);
        putchar('\n');
        for (int i = 0; i < m->n_streams; i++) stream_print(&m->streams[i]);
    }
}

static int media(uf_app *app, const char *path) {
    uf_media_info *m = NULL;
    UF_TRY(uf_media_info_open(&m, app->ctx, path));
    uf_report_media(app, path, m);
    uf_media_info_close(&m);
    return UF_OK;
}

/* ---- weights ---------------------------------------------------------------------------------------------------------- */

static int weights(uf_app *app, const char *path) {
    uf_weights *w = NULL;
    UF_TRY(uf_weights_open(&w, app->ctx, path));
    json_t *meta = json_object(), *tensors = json_array();
    size_t n = 0;
    for (int i = 0; i < uf_weights_n(w); i++) {
        uf_shape s;
        const char *dtype, *name = uf_weights_tensor(w, i, &s, &dtype);
        n += uf_count(s);
        json_array_append_new(tensors, json_pack("{s:s,s:s,s:[i,i,i,i]}", "name", name, "dtype", dtype, "shape", s.n, s.c, s.h, s.w));
    }
    if (!app->json) printf("%s: %d tensors, %.2f million values, all checks passed\n", path, uf_weights_n(w), (double)n / 1e6);
    for (int i = 0; i < uf_weights_n_meta(w); i++) {
        const char *value, *key = uf_weights_meta_at(w, i, &value);
        json_object_set_new(meta, key, json_string(value));
        if (!app->json && !strchr(value, '\n')) printf("  %-18s %s\n", key, value);
        if (!app->json && strchr(value, '\n')) printf("  %s:\n%s\n", key, value);
    }
    uf_report_event(app, "weights", json_pack("{s:s,s:I,s:o,s:o}", "file", path, "values", (json_int_t)n, "metadata",
                                              json_incref(meta), "tensors", json_incref(tensors)));
    json_decref(meta);
    json_decref(tensors);
    uf_weights_close(&w);
    return UF_OK;
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    const char *dot = strrchr(a.path, '.');
    return dot && !strcmp(dot, ".safetensors") ? weights(app, a.path) : media(app, a.path);
}

const uf_command uf_command_info = {
    .name = "info", .summary = "tell what is in a media or weights file", .argp = &argp, .run = run};
