/* What a job would do, told by doing a little of it: the streams that come out are looked at and not guessed, and so is the time. */
#include "app.h"
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double TRIAL = 3; /* seconds of film */

typedef struct pace {
    uf_progress first, last;
} pace;

static void keep(void *user, const uf_progress *p) {
    pace *t = user;
    if (!t->first.n_done) t->first = *p;
    t->last = *p;
}

static const uf_stream_info *film_of(const uf_media_info *m) {
    for (int i = 0; i < m->n_streams; i++)
        if (!strcmp(m->streams[i].kind, "video") && !m->streams[i].cover) return &m->streams[i];
    return NULL;
}

/* Beside the output, where there must be room for it: ".STEM.plan-PID.EXT". */
static char *trial_name(uf_ctx *ctx, const char *out) {
    const char *slash = strrchr(out, '/'), *base = slash ? slash + 1 : out, *dot = strrchr(base, '.');
    return uf_format(ctx, "%.*s.%.*s.plan-%ld%s", (int)(base - out), out, dot ? (int)(dot - base) : 0, base, (long)getpid(), dot ? dot : "");
}

static void tell(uf_app *app, const char *out, const uf_media_info *m, const pace *t, int64_t n_frames, double start) {
    int64_t measured = t->last.n_done - t->first.n_done;
    double took = t->last.seconds - t->first.seconds, fps = took > 0 && measured > 0 ? (double)measured / took : 0;
    double seconds = fps > 0 ? start + (double)n_frames / fps : 0, bytes = (double)m->bytes * (double)n_frames / (double)t->last.n_done;
    char time[32];
    uf_report_duration(seconds, time, sizeof time);
    uf_report_event(app, "plan", json_pack("{s:s,s:I,s:I,s:f,s:f,s:f}", "output", out, "frames", (json_int_t)n_frames, "frames_measured",
                                           (json_int_t)measured, "fps", fps, "seconds", seconds, "bytes", bytes));
    if (!app->json)
        printf("time: about %s for %lld frames (%.1f a second, measured on %lld frames with this machine's present load), about %.0f MB\n",
               time, (long long)n_frames, fps, (long long)measured, bytes / 1e6);
}

/* Of samples over the whole of it. */
static int tell_fields(uf_app *app, const char *in, const uf_film_options *o, double whole) {
    uf_field_counts c;
    UF_TRY(uf_fields_look(app->ctx, in, o->colorize.from, whole, &c));
    bool kept = !o->colorize.fields || !strcmp(o->colorize.fields, "keep");
    const char *hint = !kept || !strcmp(c.verdict, "progressive") ? "" : !strcmp(c.verdict, "telecined") ? "; --fields detelecine gives its whole frames back"
                     : !strcmp(c.verdict, "mixed") ? "; --fields auto makes whole frames of those"
                                                                         : "; --fields deinterlace makes whole frames of it";
    uf_report_event(app, "fields", json_pack("{s:s,s:I,s:I,s:I,s:I}", "verdict", c.verdict, "frames", (json_int_t)c.n, "interlaced",
                                             (json_int_t)c.interlaced, "progressive", (json_int_t)c.progressive, "repeated",
                                             (json_int_t)c.repeated));
    if (!app->json)
        printf("fields: it looks %s (%lld of %lld frames are woven of two)%s\n", c.verdict, (long long)c.interlaced, (long long)c.n, hint);
    return UF_OK;
}

static int try_part(uf_app *app, const char *in, const char *out, const char *trial, const uf_film_options *o, const uf_media_info *m) {
    const uf_stream_info *film = film_of(m);
    double whole = m->seconds - o->colorize.from;
    uf_film_options part = *o;
    pace t = {0};
    uf_media_info *made = NULL;
    if (o->colorize.length > 0 && o->colorize.length < whole) whole = o->colorize.length;
    if (!film || film->fps <= 0 || whole < 1)
        return uf_fail(app->ctx, UF_EINVAL, "--plan is for films of a second or more that tell their length, and '%s' is none; leave it out", in);
    UF_TRY(tell_fields(app, in, o, whole));
    part.colorize.from += whole / 3; /* titles are not what most of it looks like */
    part.colorize.length = TRIAL;
    part.colorize.overwrite = true;
    part.colorize.progress = keep;
    part.colorize.user = &t;
    double began = uf_now();
    UF_TRY(uf_film_colorize(app->ctx, in, trial, &part));
    double start = uf_now() - began - (t.last.seconds - t.first.seconds); /* opening, closing */
    UF_TRY(uf_media_info_open(&made, app->ctx, trial));
    char *name = uf_format(app->ctx, "%s, of which so much was tried", out);
    if (name) uf_report_media(app, app->json ? out : name, made);
    free(name);
    bool all = film->n_frames > 0 && !(o->colorize.from > 0) && !(o->colorize.length > 0);
    tell(app, out, made, &t, all ? film->n_frames : (int64_t)(whole * film->fps + .5), start);
    uf_media_info_close(&made);
    return UF_OK;
}

int uf_forecast(uf_app *app, const char *in, const char *out, const uf_film_options *o) {
    uf_media_info *m = NULL;
    UF_TRY(uf_whole_check(app->ctx, out, o->colorize.overwrite));
    UF_TRY(uf_media_info_open(&m, app->ctx, in));
    char *trial = trial_name(app->ctx, out);
    uf_report_media(app, in, m);
    int err = trial ? try_part(app, in, out, trial, o, m) : UF_ENOMEM;
    if (trial) unlink(trial);
    free(trial);
    uf_media_info_close(&m);
    return err;
}
