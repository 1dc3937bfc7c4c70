/* One HTML page that shows a film beside what was made of it: no other file, no network, one small script of its own. */
#include "page.h"
#include "base.h"
#include "pipeline.h"
#include "training.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MASKS = 0x100, OVERWRITE, PAIRS = 'n', MOST_SCENES = 48 };

static const struct argp_option options[] = {
    {"count", PAIRS, "N", 0, "How many frames to show before and after (default 8)", 0},
    {"masks", MASKS, "FOLDER", 0, "Tell what was mended: the folder that 'unfade colorize --masks' wrote", 0},
    {"overwrite", OVERWRITE, 0, 0, "Replace PAGE.html when it exists", 0},
    {0},
};

typedef struct args {
    uf_app *app;
    const char *before, *after, *page;
    uf_page_options o;
    FILE *pairs, *scenes;   /* parts of the page, in memory */
    char *text[2];
    size_t size[2];
} args;

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case PAIRS: a->o.n = (int)uf_parse_number(state, "-n", arg, 1, 60); return 0;
    case MASKS: a->o.masks = arg; return 0;
    case OVERWRITE: a->o.overwrite = true; return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 2) argp_error(state, "too many names; give BEFORE, AFTER and PAGE.html");
        *(state->arg_num == 0 ? &a->before : state->arg_num == 1 ? &a->after : &a->page) = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->page) argp_error(state, "give the film, what was made of it, and the page to write: unfade report reel.mp4 reel-colour.mp4 reel.html");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "BEFORE AFTER PAGE.html",
    .doc = "Write one page to look at, to keep or to send: a film beside what was made of it, its scenes, and what was measured. Of recordings: their "
           "spectrograms, to be listened to.\v"
           "The page needs no other file and no network. AFTER is in it too (of recordings BEFORE as well), to be played, when it is smaller than 16 MiB "
           "and a browser can play it (.mp4, .webm; .wav, .mp3, .flac, .ogg, .opus, .m4a); what is larger is played from beside the page.\n\nExamples:\n"
           "  unfade report reel.mp4 reel-colour.mp4 reel.html\n  unfade report talk.wav talk-clean.wav talk.html",
    .children = children,
};

/* ---- parts ------------------------------------------------------------------------------------------------------------ */

static int picture(void *user, uf_compare_kind kind, int64_t frame, double seconds, int w, int h, const uint8_t *jpeg, size_t n) {
    args *a = user;
    char clock[32];
    FILE *f = kind == UF_COMPARE_SCENE ? a->scenes : a->pairs;
    uf_clock_text(seconds, clock);
    if (kind != UF_COMPARE_AFTER) fprintf(f, "<figure%s>", kind == UF_COMPARE_BEFORE ? " class=\"pair\"" : "");
    fprintf(f, "<img%s width=\"%d\" height=\"%d\" alt=\"%s, at %s\" src=\"data:image/jpeg;base64,", kind == UF_COMPARE_AFTER ? " class=\"after\"" : "", w, h,
            kind == UF_COMPARE_BEFORE ? "before" : kind == UF_COMPARE_AFTER ? "after" : "scene", clock);
    UF_TRY(uf_html_base64(a->app->ctx, f, jpeg, n));
    fputs("\">", f);
    if (kind == UF_COMPARE_AFTER)
        fprintf(f, "<input type=\"range\" min=\"0\" max=\"100\" value=\"50\" aria-label=\"how much of the frame at %s is as before\">", clock);
    if (kind != UF_COMPARE_BEFORE) fprintf(f, "<figcaption>%s, frame %lld</figcaption></figure>\n", clock, (long long)frame);
    return UF_OK;
}

static void row(FILE *f, const char *what, const char *format, double v) {
    fprintf(f, "<tr><td>%s</td><td>", what);
    fprintf(f, format, v);
    fputs("</td></tr>\n", f);
}

static void figures(FILE *f, const uf_comparison *c) {
    fputs("<h2>Measured</h2>\n", f);
    if (c->n_before != c->n_after)
        fprintf(f, "<p class=\"bad\">The films have not the same number of frames: %lld before, %lld after.</p>\n", (long long)c->n_before, (long long)c->n_after);
    fputs("<div class=\"wide\"><table><tr><th>what</th><th>value</th></tr>\n", f);
    row(f, "frames", "%.0f", (double)c->n_after);
    row(f, "scenes", "%.0f", (double)c->n_scenes);
    row(f, "brightness: mean difference, in steps of 255", "%.2f", c->luma_difference);
    row(f, "brightness: the same, of the frame where it is largest", "%.2f", c->luma_worst);
    row(f, "colour: mean distance from grey, in steps of 255", "%.1f", c->chroma);
    row(f, "colour: mean change from frame to frame within scenes", "%.2f", c->chroma_change);
    fputs("</table></div>\n<p>Brightness is copied; what differs is the encoder's loss, rounding, and what was mended.</p>\n", f);
}

static int streams(args *a, FILE *f, const char *path) {
    uf_media_info *m = NULL;
    UF_TRY(uf_media_info_open(&m, a->app->ctx, path));
    char clock[32];
    fputs("<h3>", f);
    uf_html_text(f, path);
    fprintf(f, "</h3>\n<p>%s, %s, %.1f MB</p>\n<div class=\"wide\"><table><tr><th>stream</th><th>kind</th><th>codec</th><th>details</th></tr>\n", m->container,
            uf_clock_text(m->seconds, clock), (double)m->bytes / 1e6);
    for (int i = 0; i < m->n_streams; i++) {
        const uf_stream_info *s = &m->streams[i];
        fprintf(f, "<tr><td>%d</td><td>%s</td><td>%s</td><td>", s->index, s->kind, s->codec);
        if (s->w) fprintf(f, "%dx%d, %s, %.3f frames/s, %s range, %s matrix", s->w, s->h, s->format, s->fps, s->range, s->matrix);
        else if (s->rate) fprintf(f, "%d Hz, %d channel%s", s->rate, s->channels, s->channels == 1 ? "" : "s");
        const char *more[] = {strcmp(s->language, "und") ? s->language : "", s->title};
        for (int k = 0; k < UF_LEN(more); k++) {
            if (*more[k]) fputs(", ", f);
            uf_html_text(f, more[k]);
        }
        fputs("</td></tr>\n", f);
    }
    fputs("</table></div>\n", f);
    uf_media_info_close(&m);
    return UF_OK;
}

/* How many frames each stage has mended, by the list that it left. */
static int mended(args *a, FILE *f) {
    if (!a->o.masks) return UF_OK;
    struct { char name[32]; int n; } stage[8] = {{"", 0}};
    char line[256], name[32], *path = uf_format(a->app->ctx, "%s/mended.csv", a->o.masks);
    FILE *list = path ? fopen(path, "r") : NULL;
    int err = list ? UF_OK : uf_fail(a->app->ctx, UF_EIO, "cannot open '%s': %s; --masks wants the folder that 'unfade colorize --masks' wrote",
                                     path ? path : a->o.masks, strerror(errno));
    while (list && fgets(line, sizeof line, list)) {
        if (sscanf(line, "%*d,%31[^,]", name) != 1) continue;
        for (int i = 0; i < UF_LEN(stage); i++) {
            if (stage[i].n && strcmp(stage[i].name, name)) continue;
            strcpy(stage[i].name, name);
            stage[i].n++;
            break;
        }
    }
    if (list) fclose(list);
    free(path);
    if (err < 0) return err;
    fputs("<h2>Mended</h2>\n<div class=\"wide\"><table><tr><th>stage</th><th>frames</th></tr>\n", f);
    for (int i = 0; i < UF_LEN(stage) && stage[i].n; i++) {
        fputs("<tr><td>", f);
        uf_html_text(f, stage[i].name);
        fprintf(f, "</td><td>%d</td></tr>\n", stage[i].n);
    }
    fputs("</table></div>\n", f);
    return UF_OK;
}

static int foot(args *a, FILE *f) {
    uf_page_notes(f, a->o.notes);
    fputs("<h2>Files</h2>\n", f);
    UF_TRY(streams(a, f, a->before));
    UF_TRY(streams(a, f, a->after));
    uf_page_foot(f);
    return UF_OK;
}

static int head(args *a, FILE *f) {
    UF_TRY(uf_page_head(a->app->ctx, f, a->after));
    fputs("<h2>Before and after</h2>\n<p>Move the sliders, with the mouse, a finger or the arrow keys.</p>\n", f);
    return UF_OK;
}

/* ---- recordings --------------------------------------------------------------------------------------------------------- */

/* No pictures but covers. */
static int is_recording(uf_ctx *ctx, const char *path, bool *yes) {
    uf_media_info *m = NULL;
    UF_TRY(uf_media_info_open(&m, ctx, path));
    *yes = true;
    for (int i = 0; i < m->n_streams; i++) *yes &= strcmp(m->streams[i].kind, "video") || m->streams[i].cover;
    uf_media_info_close(&m);
    return UF_OK;
}

static int write_sound(args *a, FILE *f) {
    uf_sound_look before, after;
    UF_TRY(head(a, f));
    fputs("<figure class=\"wave pair\">", f);
    UF_TRY(uf_page_spectrogram(a->app, f, a->before, "before", NULL, &before));
    UF_TRY(uf_page_spectrogram(a->app, f, a->after, "after", NULL, &after));
    fprintf(f, "<input type=\"range\" min=\"0\" max=\"100\" value=\"50\" aria-label=\"how much of the spectrogram is as before\">"
               "<figcaption>%.1f s to the right; up to %d Hz before and %d Hz after; brighter is louder</figcaption></figure>\n",
            after.seconds, before.rate / 2, after.rate / 2);
    UF_TRY(uf_page_player(a->app, f, a->before, "Before", a->page));
    UF_TRY(uf_page_player(a->app, f, a->after, "After", a->page));
    fputs("<h2>Measured</h2>\n<div class=\"wide\"><table><tr><th>what</th><th>before</th><th>after</th></tr>\n", f);
    fprintf(f, "<tr><td>seconds</td><td>%.3f</td><td>%.3f</td></tr>\n", before.seconds, after.seconds);
    fprintf(f, "<tr><td>level, dB below full scale</td><td>%.1f</td><td>%.1f</td></tr>\n", before.level, after.level);
    fprintf(f, "<tr><td>pauses: what a tenth of the time stays below, dB</td><td>%.1f</td><td>%.1f</td></tr>\n</table></div>\n", before.pauses, after.pauses);
    return foot(a, f);
}

/* ---- the page --------------------------------------------------------------------------------------------------------- */

static int write_page(args *a, FILE *f, const uf_comparison *c) {
    UF_TRY(head(a, f));
    fwrite(a->text[0], 1, a->size[0], f);
    UF_TRY(uf_page_player(a->app, f, a->after, "The film", a->page));
    fprintf(f, "<h2>Scenes</h2>\n%s<div class=\"strip\">\n", c->n_scenes > MOST_SCENES ? "<p>The first of them.</p>\n" : "");
    fwrite(a->text[1], 1, a->size[1], f);
    fputs("</div>\n", f);
    figures(f, c);
    UF_TRY(mended(a, f));
    return foot(a, f);
}

static void progress(void *user, const uf_progress *p) {
    const args *a = user;
    uf_report_progress(a->app, "frames", p->n_done, p->n_total, p->fps, p->seconds, NULL);
}

static int write_film(args *a, FILE *f) {
    uf_comparison c;
    int err = uf_compare(a->app->ctx, a->before, a->after,
                         &(uf_compare_options){.n_pairs = a->o.n, .most_scenes = MOST_SCENES, .picture = picture, .progress = progress, .user = a}, &c);
    uf_report_end(a->app);
    fflush(a->pairs);
    fflush(a->scenes);
    return err == UF_OK ? write_page(a, f, &c) : err;
}

static int make(args *a, uf_whole *w) {
    bool sound[2];
    UF_TRY(is_recording(a->app->ctx, a->before, &sound[0]));
    UF_TRY(is_recording(a->app->ctx, a->after, &sound[1]));
    if (sound[0] != sound[1])
        return uf_fail(a->app->ctx, UF_EINVAL, "'%s' is a film and '%s' a recording; give two of a kind", sound[0] ? a->after : a->before,
                       sound[0] ? a->before : a->after);
    FILE *f = uf_whole_file(w);
    if (!f || !a->pairs || !a->scenes) return f ? uf_fail(a->app->ctx, UF_ENOMEM, "out of memory for the page") : UF_EIO;
    int err = sound[0] ? write_sound(a, f) : write_film(a, f);
    if (err == UF_OK && ferror(f)) err = uf_fail(a->app->ctx, UF_EIO, "cannot write '%s'; is the disk full?", a->page);
    return err == UF_OK ? uf_whole_commit(w) : err;
}

int uf_page_write(uf_app *app, const char *before, const char *after, const char *page, const uf_page_options *o) {
    args a = {.app = app, .before = before, .after = after, .page = page, .o = *o};
    uf_whole *w = NULL;
    UF_TRY(uf_whole_open(&w, app->ctx, a.page, a.o.overwrite));
    a.pairs = open_memstream(&a.text[0], &a.size[0]);
    a.scenes = open_memstream(&a.text[1], &a.size[1]);
    int err = make(&a, w);
    uf_whole_close(&w);
    if (a.pairs) fclose(a.pairs);
    if (a.scenes) fclose(a.scenes);
    free(a.text[0]);
    free(a.text[1]);
    return err;
}

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app, .o = {.n = 8}};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    UF_TRY(uf_page_write(app, a.before, a.after, a.page, &a.o));
    uf_report_event(app, "done", json_pack("{s:s}", "output", a.page));
    uf_report_line(app, "%s: open it in a browser", a.page);
    return UF_OK;
}

const uf_command uf_command_report = {.name = "report", .summary = "write a page that shows a film or a recording before and after", .argp = &argp, .run = run};
