/* Colours of a scene from a hand-coloured still: the network is tuned to the stills of each scene, and the scene's line in the table asks for
 * that tuning. The tunings and the table lie beside the output and are used again when the command is given again. */
#include "app.h"
#include "base.h"
#include "pipeline.h"
#include "training.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct job {
    uf_app *app;
    const char *film, *out;
    const uf_film_options *o;
    const uf_reference *refs;
    int n_refs;
    uf_scene *scenes;
    int n, room, err;
    int64_t n_frames;
} job;

static void add_scene(void *user, const uf_scene *s) {
    job *j = user;
    if (j->n == j->room) {
        j->room = j->room ? 2 * j->room : 64;
        uf_scene *more = realloc(j->scenes, (size_t)j->room * sizeof *more);
        if (!more) {
            if (j->err == UF_OK) j->err = uf_fail(j->app->ctx, UF_ENOMEM, "out of memory for %d scenes", j->room);
            return;
        }
        j->scenes = more;
    }
    j->scenes[j->n++] = *s;
    j->n_frames = s->frame + s->n_frames;
}

static void look_progress(void *user, const uf_progress *p) {
    job *j = user;
    uf_report_progress(j->app, "frames looked at", p->n_done, p->n_total, p->fps, p->seconds, NULL);
}

static void tune_progress(void *user, const uf_train_progress *p) {
    job *j = user;
    uf_report_progress(j->app, "steps", p->step, p->n_steps, p->seconds > 0 ? (double)p->step / p->seconds : 0, p->seconds, "learning a scene's colours");
}

static bool is_of(const uf_scene *s, const uf_reference *r) {
    return r->frame >= s->frame && r->frame < s->frame + s->n_frames;
}

/* Made already, after the pictures it was made of? */
static bool is_fresh(const char *tune, const char *const *pictures, int n) {
    struct stat t, p;
    if (stat(tune, &t) != 0) return false;
    for (int i = 0; i < n; i++)
        if (stat(pictures[i], &p) != 0 || p.st_mtime >= t.st_mtime) return false;
    return true;
}

static int learn_scene(job *j, const uf_scene *s, char *tune, int *n_pictures) {
    const char *pictures[UF_MOST_REFERENCES];
    int n = 0;
    for (int i = 0; i < j->n_refs; i++)
        if (is_of(s, &j->refs[i])) pictures[n++] = j->refs[i].picture;
    *n_pictures = n;
    if (n == 0 || is_fresh(tune, pictures, n)) return UF_OK;
    uf_ctx *ctx = j->app->ctx;
    const char *given = j->o->colorize.weights;
    char *color = given ? uf_strdup(ctx, given) : uf_weights_find(ctx, "color.safetensors", UNFADE_WEIGHTS_DIR);
    char *features = uf_weights_find(ctx, "features.safetensors", UNFADE_WEIGHTS_DIR);
    uf_tuned t;
    int err = color && features ? uf_tune(ctx, &(uf_tune_options){.weights = color, .features = features, .out = tune, .references = pictures,
                                                                  .n_references = n, .steps = 80, .few = true, .overwrite = true,
                                                                  .progress = tune_progress, .user = j}, &t)
                                : uf_ctx_error_code(ctx);
    uf_report_end(j->app);
    if (err == UF_OK)
        uf_report_line(j->app, "scene %d: learnt from %d picture%s, whose CIEDE2000 went from %.1f to %.1f", s->number, n, n == 1 ? "" : "s",
                       t.before.ciede2000, t.after.ciede2000);
    free(color);
    free(features);
    return err;
}

static int write_table(job *j, const char *table) {
    uf_whole *w = NULL;
    UF_TRY(uf_whole_open(&w, j->app->ctx, table, true));
    FILE *f = uf_whole_file(w);
    int err = f ? UF_OK : UF_EIO;
    if (f) fprintf(f, "# for 'unfade colorize --scenes': written for %s\n", j->out);
    for (int i = 0; err == UF_OK && i < j->n; i++) {
        const uf_scene *s = &j->scenes[i];
        char *tune = uf_format(j->app->ctx, "%s.scene-%d.tune", j->out, s->number), clock[32];
        int n = 0;
        err = tune ? learn_scene(j, s, tune, &n) : UF_ENOMEM;
        fprintf(f, "scene %4d  frame %7lld  %6lld frames  %s", s->number, (long long)s->frame, (long long)s->n_frames, uf_clock_text(s->seconds, clock));
        if (n) fprintf(f, "  tune %s", tune);
        fputc('\n', f);
        free(tune);
    }
    if (err == UF_OK) err = uf_whole_commit(w);
    uf_whole_close(&w);
    return err;
}

int uf_references_learn(uf_app *app, const char *film, const char *out, const uf_film_options *o, const uf_reference *refs, int n, char **table) {
    job j = {.app = app, .film = film, .out = out, .o = o, .refs = refs, .n_refs = n};
    if (!strcmp(film, "-") || !strcmp(out, "-"))
        return uf_fail(app->ctx, UF_EINVAL, "references want a film in a file, to be looked at twice, and a name for the result; do not give -");
    UF_TRY(uf_whole_check(app->ctx, out, o->colorize.overwrite)); /* before minutes are spent */
    int err = uf_scenes(app->ctx, film, &(uf_scenes_options){.size = o->colorize.size, .scene = add_scene, .progress = look_progress, .user = &j});
    uf_report_end(app);
    if (err == UF_OK) err = j.err;
    for (int i = 0; err == UF_OK && i < n; i++)
        if (refs[i].frame >= j.n_frames)
            err = uf_fail(app->ctx, UF_EINVAL, "'%s' has %lld frames, so '%s' cannot be of frame %lld; the first is 0", film, (long long)j.n_frames,
                          refs[i].picture, (long long)refs[i].frame);
    char *path = err == UF_OK ? uf_format(app->ctx, "%s.scenes", out) : NULL;
    if (err == UF_OK) err = path ? write_table(&j, path) : UF_ENOMEM;
    free(j.scenes);
    if (err == UF_OK) *table = path;
    else free(path);
    return err;
}
