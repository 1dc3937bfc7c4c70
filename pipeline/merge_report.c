/* What the merge found out, as JSON. */
#include "merge.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

static double rounded(double x, double unit) { return isfinite(x) ? round(x / unit) * unit : 0; }

static json_t *quality(const uf_take *t) {
    const uf_quality *q = &t->quality;
    return json_pack("{s:f,s:f,s:f,s:f,s:f,s:i,s:i,s:i,s:i,s:f}", "level_db", rounded(q->level, .1), "noise_floor_db", rounded(q->floor, .1), "peak_db",
                     rounded(q->peak, .1), "rolloff_hz", rounded(q->rolloff, 1), "band_hz", rounded(q->band, 1), "clipped_runs", q->n_clipped, "dead_channels", q->n_dead, "inverted_channels",
                     q->n_flipped, "dropouts", q->n_drops, "dropped_seconds", rounded(q->dropped, 1e-3));
}

/* Where the recorder lost something (seconds below 0), or the others did. */
static json_t *steps(const uf_take *t, double from) {
    json_t *all = json_array();
    const uf_clock *c = &t->clock;
    for (int i = 1; i < c->n; i++)
        if (c->knot[i].opens)
            json_array_append_new(all, json_pack("{s:f,s:f}", "at", rounded(c->knot[i - 1].at - from, 1e-3), "seconds",
                                                 rounded((c->knot[i].is - c->knot[i - 1].is) - (c->knot[i].at - c->knot[i - 1].at), 1e-6)));
    return all;
}

/* Where it has no sound for a while, or repeats itself: from, to. */
static json_t *drops(const uf_take *t, double from) {
    json_t *all = json_array();
    for (int i = 0; i < t->quality.n_drops; i++)
        json_array_append_new(all, json_pack("[f,f]", rounded(uf_clock_inverse(&t->clock, (double)t->drop[i].from / t->rate) - from, 1e-3),
                                             rounded(uf_clock_inverse(&t->clock, (double)t->drop[i].to / t->rate) - from, 1e-3)));
    return all;
}

/* By how much its time is more than the result's: for each stretch between steps, places between which lines hold. */
static json_t *lags(const uf_take *t, double from) {
    json_t *all = json_array(), *stretch = NULL;
    const uf_clock *c = &t->clock;
    for (int i = 0; i < c->n; i++) {
        if (c->knot[i].opens || !stretch) json_array_append_new(all, stretch = json_array());
        json_array_append_new(stretch, json_pack("[f,f]", rounded(c->knot[i].at - from, 1e-6), rounded(c->knot[i].is - (c->knot[i].at - from), 1e-7)));
    }
    return all;
}

static json_t *weights(const float *w, int n) {
    json_t *all = json_array();
    for (int i = 0; w && i < n; i++) json_array_append_new(all, json_real(rounded((double)w[i], 1e-3)));
    return all;
}

static json_t *describe(const uf_merge_report *r, int i) {
    const uf_take *t = r->take + i;
    json_t *o = json_pack("{s:s,s:i,s:i,s:f,s:o,s:b,s:f}", "path", t->path, "rate", t->rate, "channels", t->channels, "seconds", (double)t->n / t->rate, "quality",
                          quality(t), "used", t->placed, "score", rounded(t->score, .01));
    if (!t->placed) {
        json_object_set_new(o, "refused", json_string(t->refused));
        return o;
    }
    json_object_set_new(o, "offset", json_real(rounded(uf_clock_inverse(&t->clock, 0) - r->from, 1e-6)));
    json_object_set_new(o, "end", json_real(rounded(uf_clock_inverse(&t->clock, (double)t->n / t->rate) - r->from, 1e-6)));
    json_object_set_new(o, "drops", drops(t, r->from));
    json_object_set_new(o, "ppm", json_real(rounded(uf_clock_ppm(&t->clock), 1e-3)));
    json_object_set_new(o, "ppm_error", json_real(rounded(t->error_ppm, 1e-3)));
    json_object_set_new(o, "scatter_us", json_real(rounded(1e6 * t->scatter, .1)));
    json_object_set_new(o, "agree", json_real(rounded(t->agree, 1e-3)));
    json_object_set_new(o, "inverted", json_boolean(t->polarity < 0));
    json_object_set_new(o, "placed_by", t->parent < 0 ? json_null() : json_string(r->take[t->parent].path));
    json_object_set_new(o, "steps", steps(t, r->from));
    json_object_set_new(o, "lags", lags(t, r->from));
    if (r->weight) json_object_set_new(o, "weights", weights(r->weight[i], (int)ceil(r->seconds)));
    return o;
}

char *uf_merge_report_text(const uf_merge_report *r) {
    json_t *all = json_pack("{s:s?,s:f,s:i,s:s?,s:[]}", "output", r->out, "seconds", rounded(r->seconds, 1e-6), "rate", r->rate, "reference", r->reference, "inputs");
    for (int i = 0; i < r->n; i++) json_array_append_new(json_object_get(all, "inputs"), describe(r, i));
    char *text = json_dumps(all, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
    json_decref(all);
    return text;
}

int uf_merge_report_write(uf_ctx *ctx, const char *path, bool overwrite, const char *text) {
    uf_whole *w = NULL;
    int err = uf_whole_open(&w, ctx, path, overwrite);
    FILE *f = err == UF_OK ? uf_whole_file(w) : NULL;
    if (err == UF_OK && !f) err = UF_EIO;
    if (f && fprintf(f, "%s\n", text) < 0) err = uf_fail(ctx, UF_EIO, "cannot write '%s': is the disk full?", path);
    if (err == UF_OK) err = uf_whole_commit(w);
    uf_whole_close(&w);
    return err;
}
