/* The benchmark of whole merges: simulated recordings as files, whenever they began and whatever they lost, through all of `unfade merge`, against the
 * voice that its own report says each recording has at that moment, and beside the best of the recordings cleaned alone. */
#include "array_bench.h"

#include "drift.h"
#include "sound_measure.h"
#include "sound_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RATE = 16000, PIECE = RATE / 2 };

typedef struct target { /* the voice, with the first 50 ms of the room, as one recording should have it */
    float *x;
    uint8_t *there;
} target;

typedef struct whole {
    uf_ctx *ctx;
    char folder[32];
    int n_mics;
    uf_sound early[UF_MOST_MICS]; /* in the recordings' own clocks */
    target want[UF_MOST_MICS];    /* in the result's */
    uf_sound merged;
    json_t *found;
} whole;

/* ---- files -------------------------------------------------------------------------------------------------------------------------- */

static char *file_of(const whole *w, const char *kind, int mic) { return uf_format(w->ctx, "%s/%s-%d.wav", w->folder, kind, mic); }

static void forget(whole *w) {
    static const char *const kinds[] = {"mic", "clean", "merged"};
    for (int i = 0; i < w->n_mics * UF_LEN(kinds); i++) {
        char *path = file_of(w, kinds[i / w->n_mics], i % w->n_mics);
        if (path) unlink(path);
        free(path);
    }
    if (w->folder[0]) rmdir(w->folder);
    for (int i = 0; i < w->n_mics; i++) {
        free(w->early[i].x);
        free(w->want[i].x);
        free(w->want[i].there);
    }
    free(w->merged.x);
    json_decref(w->found);
}

static int write_mic(whole *w, uf_array *a, int i) {
    size_t scene = (size_t)uf_array_n(a), n = 0;
    int rate = uf_array_mic(a, i)->clock.rate;
    float *both = uf_alloc(w->ctx, 2 * scene, sizeof *both), *y = NULL;
    char *path = file_of(w, "mic", i);
    int err = both && path ? uf_array_hear(a, i, both, NULL, both + scene) : UF_ENOMEM;
    if (err == UF_OK) err = uf_array_device(a, i, both);
    if (err == UF_OK) err = uf_array_sample(a, i, both, &y, &n);
    if (err == UF_OK) err = uf_wave_write(w->ctx, path, y, n, rate, true);
    free(y);
    w->early[i].rate = rate;
    if (err == UF_OK) err = uf_array_sample(a, i, both + scene, &w->early[i].x, &w->early[i].n);
    free(path);
    free(both);
    return err;
}

static int read_at_rate(uf_ctx *ctx, const char *path, uf_sound *out) {
    uf_sound own = {0};
    int err = path ? uf_sound_read_all(ctx, path, &own) : UF_ENOMEM;
    if (err == UF_OK) err = uf_sound_at_rate(ctx, &own, RATE, out);
    free(own.x);
    return err;
}

/* ---- what would be right ------------------------------------------------------------------------------------------------------------ */

/* "lags" of the report: stretches of [time of the result, how much more its own is]. */
static int clock_of(uf_ctx *ctx, const json_t *lags, uf_clock *c) {
    size_t i, k;
    json_t *stretch, *knot;
    json_array_foreach(lags, i, stretch) c->n += (int)json_array_size(stretch);
    if (c->n < 2) return uf_fail(ctx, UF_EDATA, "the merge reported no clock of a recording that it used");
    if (!(c->knot = uf_alloc(ctx, (size_t)c->n, sizeof *c->knot))) return UF_ENOMEM;
    c->n = 0;
    json_array_foreach(lags, i, stretch) json_array_foreach(stretch, k, knot) {
        double at = json_real_value(json_array_get(knot, 0)), late = json_real_value(json_array_get(knot, 1));
        c->knot[c->n++] = (uf_knot){.at = at, .is = at + late, .opens = k == 0};
    }
    return UF_OK;
}

/* Recording i's early voice on the result's clock. */
static int aim(whole *w, const json_t *input, int i) {
    target *t = &w->want[i];
    uf_clock c = {0};
    uf_drift *d = NULL;
    const float *x = w->early[i].x;
    t->x = uf_alloc(w->ctx, w->merged.n, sizeof *t->x);
    t->there = uf_alloc(w->ctx, w->merged.n, sizeof *t->there);
    int err = t->x && t->there ? UF_OK : UF_ENOMEM;
    if (err < 0 || !json_is_true(json_object_get(input, "used"))) return err;
    err = clock_of(w->ctx, json_object_get(input, "lags"), &c);
    if (err == UF_OK) err = uf_drift_open(&d, w->ctx, &(uf_drift_options){.channels = 1, .from_rate = w->early[i].rate, .to_rate = RATE, .clock = &c});
    if (err == UF_OK) err = uf_drift_push(d, &x, (int)w->early[i].n);
    if (err == UF_OK) err = uf_drift_push(d, NULL, 0);
    for (int at = 0, n = (int)w->merged.n, got; err == UF_OK && at < n; at += got) {
        float *y = t->x + at;
        got = uf_drift_pull(d, &y, t->there + at, n - at);
        if (got <= 0) break;
    }
    uf_drift_close(&d);
    free(c.knot);
    return err;
}

/* ---- how near it comes -------------------------------------------------------------------------------------------------------------- */

typedef struct sums {
    double voice, rest;
} sums;

static double dot(const float *a, const float *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* The part of y along s, and what is left. How loud the voice is in y is free, from `least` up: who says nothing says nothing wrong, and would
 * otherwise be right about a word that was lost. */
static sums part(const float *s, const float *y, int n, double least) {
    double ss = dot(s, s, n), sy = dot(s, y, n), a = sy / (ss + 1e-12);
    if (fabs(a) < least) a = copysign(least, a);
    return (sums){a * a * ss, fmax(dot(y, y, n) - 2 * a * sy + a * a * ss, 0)};
}

static double db(sums s) { return 10 * log10((s.voice + 1e-12) / (s.rest + 1e-12)); }

static bool is_there(const target *t, int at, int n) {
    int some = 0;
    for (int i = at; i < at + n; i++) some += t->there[i] != 0;
    return some > n * 95 / 100;
}

/* The result along recording i's voice, and that voice's own energy, while it is there. */
static void project(const whole *w, int i, double *along, double *all) {
    *along = 0;
    *all = 1e-12;
    for (int at = 0; at + PIECE <= (int)w->merged.n; at += PIECE) {
        if (!is_there(&w->want[i], at, PIECE)) continue;
        *along += dot(w->want[i].x + at, w->merged.x + at, PIECE);
        *all += dot(w->want[i].x + at, w->want[i].x + at, PIECE);
    }
}

/* How loud each recording's voice is in the result, by what it has of the one that is clearest in it, and by how loud both are where both are there. */
static void find_scales(const whole *w, double *scale) {
    int of = 0;
    double most = -1, level = 0;
    for (int i = 0; i < w->n_mics; i++) {
        double along, all;
        project(w, i, &along, &all);
        if (along * along / all > most) most = along * along / all, level = fabs(along) / all, of = i;
    }
    for (int i = 0; i < w->n_mics; i++) {
        double own = 0, his = 0;
        for (int at = 0; at + PIECE <= (int)w->merged.n; at += PIECE) {
            if (!is_there(&w->want[of], at, PIECE) || !is_there(&w->want[i], at, PIECE)) continue;
            his += dot(w->want[of].x + at, w->want[of].x + at, PIECE);
            own += dot(w->want[i].x + at, w->want[i].x + at, PIECE);
        }
        scale[i] = own > 0 ? level * sqrt(his / own) : 0;
    }
}

/* SDR, dB, of pieces of half a second, each against the recording's voice that it is nearest to, and as loud as that should be, or louder, or half as
 * loud (scale: of each recording); recording `within` is there in all of them. *n: pieces. */
static double nearness(const whole *w, const double *scale, int within, int *n) {
    sums all = {0, 0};
    *n = 0;
    for (int at = 0; at + PIECE <= (int)w->merged.n; at += PIECE) {
        sums best = {0, 0};
        bool known = false;
        if (!is_there(&w->want[within], at, PIECE)) continue;
        for (int i = 0; i < w->n_mics; i++) {
            if (!is_there(&w->want[i], at, PIECE)) continue;
            sums s = part(w->want[i].x + at, w->merged.x + at, PIECE, .5 * scale[i]);
            if (!known || db(s) > db(best)) best = s;
            known = true;
        }
        all.voice += best.voice;
        all.rest += best.rest;
        ++*n;
    }
    return db(all);
}

/* The same of recording i, cleaned alone: in its own time, against its own voice. */
static int alone(whole *w, int i, double *is) {
    char *in = file_of(w, "mic", i), *out = file_of(w, "clean", i);
    uf_sound y = {0}, s = {0};
    sums all = {0, 0};
    int err = in && out ? uf_sound_clean(w->ctx, in, out, &(uf_clean_options){.overwrite = true}, UNFADE_WEIGHTS_DIR) : UF_ENOMEM;
    if (err == UF_OK) err = read_at_rate(w->ctx, out, &y);
    if (err == UF_OK) err = uf_sound_at_rate(w->ctx, &w->early[i], RATE, &s);
    int n = (int)(y.n < s.n ? y.n : s.n);
    double scale = err == UF_OK ? fabs(dot(s.x, y.x, n)) / (dot(s.x, s.x, n) + 1e-12) : 0;
    for (int at = 0; err == UF_OK && at + PIECE <= n; at += PIECE) {
        sums one = part(s.x + at, y.x + at, PIECE, .5 * scale);
        all.voice += one.voice;
        all.rest += one.rest;
    }
    *is = db(all);
    free(y.x);
    free(s.x);
    free(in);
    free(out);
    return err;
}

/* ---- one scene ---------------------------------------------------------------------------------------------------------------------- */

static int merge(whole *w) {
    char *in[UF_MOST_MICS] = {0}, *out = file_of(w, "merged", 0), *found = NULL;
    int err = out ? UF_OK : UF_ENOMEM;
    for (int i = 0; i < w->n_mics; i++)
        if (!(in[i] = file_of(w, "mic", i))) err = UF_ENOMEM;
    if (err == UF_OK) err = uf_sound_merge(w->ctx, (const char *const *)in, w->n_mics, out, &(uf_merge_options){.overwrite = true}, UNFADE_WEIGHTS_DIR, &found);
    if (err == UF_OK) err = read_at_rate(w->ctx, out, &w->merged);
    if (err == UF_OK && !(w->found = json_loads(found, 0, NULL))) err = UF_ENOMEM;
    for (int i = 0; err == UF_OK && i < w->n_mics; i++) err = aim(w, json_array_get(json_object_get(w->found, "inputs"), (size_t)i), i);
    for (int i = 0; i < w->n_mics; i++) free(in[i]);
    free(found);
    free(out);
    return err;
}

static int measure(whole *w, uf_whole_score *s) {
    double scale[UF_MOST_MICS];
    s->alone = -INFINITY;
    find_scales(w, scale);
    for (int i = 0; i < w->n_mics; i++) {
        double is;
        int n;
        UF_TRY(alone(w, i, &is));
        const json_t *input = json_array_get(json_object_get(w->found, "inputs"), (size_t)i);
        s->n_used += json_is_true(json_object_get(input, "used"));
        double ours = nearness(w, scale, i, &n);
        if (!n || is <= s->alone) continue;
        s->alone = is;
        s->merged = ours;
        s->best = i;
    }
    return UF_OK;
}

int uf_array_whole(uf_ctx *ctx, const uf_mixer *m, const uf_array_options *o, uf_whole_score *s) {
    whole w = {.ctx = ctx, .n_mics = o->n_mics};
    uf_array *a = NULL;
    *s = (uf_whole_score){0};
    snprintf(w.folder, sizeof w.folder, "/tmp/unfade-whole-XXXXXX");
    if (!mkdtemp(w.folder)) return uf_fail(ctx, UF_EIO, "cannot make a folder in /tmp: %s", strerror(errno));
    int err = uf_array_open(&a, ctx, m, o);
    for (int i = 0; err == UF_OK && i < o->n_mics; i++) err = write_mic(&w, a, i);
    uf_array_close(&a);
    double started = uf_now();
    if (err == UF_OK) err = merge(&w);
    s->seconds = uf_now() - started;
    if (err == UF_OK) err = measure(&w, s);
    forget(&w);
    return err;
}
