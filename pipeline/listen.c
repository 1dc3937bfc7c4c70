/* The first pass over a recording: what it is worth, and the little that is kept of it. */
#include "clipping.h"
#include "highs.h"
#include "merge.h"
#include "sound_reader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BACK = 8192, STRIDE = 32, LEVELS = 240, PIECE = 4096 };
static const int repeats[] = { 128, 160, 192, 240, 256, 320, 441, 480, 512, 640, 882, 960, 1024, 1920, 2048, 4096 }; /* buffers of recorders, samples */
static const uf_knot same_knots[] = { { 0, 0, true }, { 1, 1, false } };
static const uf_clock same_clock = { .knot = (uf_knot *)(uintptr_t)same_knots, .n = 2 };

typedef struct listener {
    uf_ctx *ctx;
    uf_take *t;
    uf_drift *down;
    double *energy, *cross;  /* a channel; cross: with the first that sounds */
    float *mono;
    int room;
    uf_clipping clipping;    /* of the first channel */
    /* dropouts */
    int64_t silent;          /* samples of exact silence so far */
    float loudest;           /* of the mono sound so far */
    float back[BACK];        /* the last samples of the mono sound, a ring */
    int64_t run[UF_LEN(repeats)];
    uf_span *repeat;
    int n_repeat, room_repeat, room_drop;
    /* what lies where */
    uf_rolloff *rolloff;
    int64_t level[LEVELS];   /* half decibels */
    double frame_energy, all_energy, peak;
    int n_frame;
    uf_envelope *envelope;
} listener;

static int grow(uf_ctx *ctx, void **at, size_t n, size_t size) {
    void *more = realloc(*at, n * size);
    if (!more) return uf_fail(ctx, UF_ENOMEM, "out of memory for %zu measurements; give shorter recordings", n);
    *at = more;
    return UF_OK;
}

/* ---- channels -------------------------------------------------------------------------------------------------------------- */

/* A channel that is another's negative would extinguish it, and one without sound has nothing to say. */
static void judge_channels(listener *l) {
    uf_take *t = l->t;
    double most = 0;
    int first = -1;
    t->quality.n_dead = t->quality.n_flipped = 0;
    for (int c = 0; c < t->channels; c++) most = fmax(most, l->energy[c]);
    for (int c = 0; c < t->channels; c++) {
        bool dead = l->energy[c] <= 1e-5 * most;
        if (!dead && first < 0) first = c;
        bool flipped = !dead && c != first && l->cross[c] < -.5 * sqrt(l->energy[c] * l->energy[first]);
        t->gain[c] = dead && most > 0 ? 0.f : flipped ? -1.f : 1.f;
        t->quality.n_dead += dead && most > 0;
        t->quality.n_flipped += flipped;
    }
    for (int c = 0; c < t->channels; c++) t->gain[c] /= (float)(t->channels - t->quality.n_dead);
}

static void measure_channels(listener *l, float *const *x, int n) {
    int first = 0;
    for (int c = 1; c < l->t->channels; c++)
        if (l->energy[first] <= 1e-5 * l->energy[c]) first = c;
    for (int c = 0; c < l->t->channels; c++) {
        double e = 0, d = 0;
        for (int i = 0; i < n; i++) {
            double v = isfinite(x[c][i]) ? (double)x[c][i] : 0, w = isfinite(x[first][i]) ? (double)x[first][i] : 0;
            e += v * v;
            d += v * w;
            l->peak = fmax(l->peak, fabs(v));
        }
        l->energy[c] += e;
        l->cross[c] += d;
    }
}

void uf_take_mono(const uf_take *t, float *const *x, int n, float *y) {
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int c = 0; c < t->channels; c++) sum += t->gain[c] * x[c][i];
        y[i] = isfinite(sum) ? sum : 0.f;
    }
}

/* ---- dropouts -------------------------------------------------------------------------------------------------------------- */

/* Neighbours become one. */
static int add_span(listener *l, uf_span **list, int *n, int *room, int64_t from, int64_t to) {
    if (*n && from <= (*list)[*n - 1].to + l->t->rate / 50) {
        if (to > (*list)[*n - 1].to) (*list)[*n - 1].to = to;
        return UF_OK;
    }
    if (*n == *room) {
        *room = 2 * *room + 64;
        UF_TRY(grow(l->ctx, (void **)list, (size_t)*room, sizeof(**list)));
    }
    (*list)[(*n)++] = (uf_span){ from, to };
    return UF_OK;
}

/* Recorders that lose a buffer write silence for it, or the last one again. */
static int look_for_drops(listener *l, const float *y, int n) {
    uf_take *t = l->t;
    for (int i = 0; i < n; i++) {
        int64_t at = t->n + i;
        if (y[i] == 0.f) {
            l->silent++;
        } else {
            if (l->silent >= t->rate / 100 && l->silent < at)
                UF_TRY(add_span(l, &t->drop, &t->quality.n_drops, &l->room_drop, at - l->silent, at));
            l->silent = 0;
        }
        l->back[at % BACK] = y[i];
        l->loudest = fmaxf(l->loudest, fabsf(y[i]));
        if (at % STRIDE) continue;
        bool cut = fabsf(y[i]) >= .99f * l->loudest; /* cut-off peaks are all alike: neither for nor against */
        for (int k = 0; k < UF_LEN(repeats); k++) {
            bool equal = at > repeats[k] && fabsf(y[i]) > 1e-4f && y[i] == l->back[(at - repeats[k]) % BACK];
            if (cut) {
                if (l->run[k]) l->run[k] += STRIDE;
                continue;
            }
            int64_t run = equal ? l->run[k] + STRIDE : 0;
            if (!equal && l->run[k] >= repeats[k] - STRIDE && l->run[k] >= 4 * STRIDE)
                UF_TRY(add_span(l, &l->repeat, &l->n_repeat, &l->room_repeat, at - l->run[k] - STRIDE, at));
            l->run[k] = run;
        }
    }
    return UF_OK;
}

static int by_start(const void *a, const void *b) {
    const uf_span *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

static int sum_up_drops(listener *l) {
    uf_take *t = l->t;
    double repeated = 0;
    for (int i = 0; i < l->n_repeat; i++) repeated += (double)(l->repeat[i].to - l->repeat[i].from);
    if (repeated < .05 * (double)t->n) { /* more than that is a tone, not an accident */
        for (int i = 0; i < l->n_repeat; i++) {
            uf_span *s = l->repeat + i;
            if (s->to - s->from < t->rate / 200) continue;
            if (t->quality.n_drops == l->room_drop) {
                l->room_drop = 2 * l->room_drop + 64;
                UF_TRY(grow(l->ctx, (void **)&t->drop, (size_t)l->room_drop, sizeof(*t->drop)));
            }
            t->drop[t->quality.n_drops++] = *s;
        }
        if (t->quality.n_drops) qsort(t->drop, (size_t)t->quality.n_drops, sizeof(*t->drop), by_start);
    }
    for (int i = 0; i < t->quality.n_drops; i++) t->quality.dropped += (double)(t->drop[i].to - t->drop[i].from) / t->rate;
    return UF_OK;
}

/* ---- levels ---------------------------------------------------------------------------------------------------------------- */

static void look_at_level(listener *l, float y) {
    enum { FRAME = UF_MERGE_RATE / 20 };
    l->frame_energy += (double)y * (double)y;
    l->all_energy += (double)y * (double)y;
    if (++l->n_frame < FRAME) return;
    int half = (int)(-20 * log10(l->frame_energy / FRAME + 1e-12));
    l->level[half < 0 ? 0 : half >= LEVELS ? LEVELS - 1 : half]++;
    l->frame_energy = 0;
    l->n_frame = 0;
}

static void sum_up_levels(listener *l) {
    uf_quality *q = &l->t->quality;
    int64_t n = 0, quiet = 0;
    for (int i = 0; i < LEVELS; i++) n += l->level[i];
    q->floor = -LEVELS / 2.;
    for (int i = LEVELS - 1; i >= 0; i--)
        if ((quiet += l->level[i]) * 10 >= n) {
            q->floor = -i / 2.;
            break;
        }
    q->level = 10 * log10(l->all_energy / (double)(l->t->n_low ? l->t->n_low : 1) + 1e-12);
    q->peak = 20 * log10(l->peak + 1e-6);
    q->rolloff = uf_rolloff_below(l->rolloff, .95);
    q->band = uf_rolloff_hertz(l->rolloff);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------- */

static int keep(listener *l, const float *y, int n) {
    int16_t low[PIECE];
    for (int i = 0; i < n; i++) {
        look_at_level(l, y[i]);
        float v = y[i] * 32767;
        low[i] = (int16_t)lrintf(v > 32767 ? 32767 : v < -32768 ? -32768 : v);
    }
    if (fwrite(low, sizeof(*low), (size_t)n, l->t->low) != (size_t)n)
        return uf_fail(l->ctx, UF_EIO, "no room for what is remembered of '%s' (60 MB an hour) beside the result; make room there", l->t->path);
    l->t->n_low += n;
    return uf_envelope_push(l->envelope, y, n);
}

static int drain(listener *l) {
    float low[PIECE], *to[1] = { low };
    uint8_t there[PIECE];
    int n;
    while ((n = uf_drift_pull(l->down, to, there, PIECE)) > 0) {
        int sound = 0;
        while (sound < n && (there[sound] || !sound)) sound++;
        if (sound) UF_TRY(keep(l, low, sound));
        if (sound < n) break; /* behind the end */
    }
    return UF_OK;
}

static int take_piece(listener *l, float *const *x, int n) {
    if (n > l->room) {
        UF_TRY(grow(l->ctx, (void **)&l->mono, (size_t)n, sizeof(float)));
        l->room = n;
    }
    measure_channels(l, x, n);
    uf_clipping_look(&l->clipping, x[0], n);
    judge_channels(l);
    uf_take_mono(l->t, x, n, l->mono);
    UF_TRY(look_for_drops(l, l->mono, n));
    UF_TRY(uf_rolloff_push(l->rolloff, (const float *const *)&l->mono, n));
    l->t->n += n;
    UF_TRY(uf_drift_push(l->down, (const float *const *)&l->mono, n));
    return drain(l);
}

FILE *uf_nameless_file(uf_ctx *ctx, const char *folder) {
    FILE *f = NULL;
    char *name = uf_format(ctx, "%s/.unfade-XXXXXX", folder);
    int fd = name ? mkstemp(name) : -1;
    if (fd >= 0) {
        unlink(name);
        f = fdopen(fd, "w+b");
    }
    free(name);
    if (!f) uf_fail(ctx, UF_EIO, "cannot write in '%s', where the result is to be; give another place", folder);
    return f;
}

static int listener_open(listener *l, const char *folder) {
    uf_take *t = l->t;
    l->energy = uf_alloc(l->ctx, (size_t)t->channels, sizeof(double));
    l->cross = uf_alloc(l->ctx, (size_t)t->channels, sizeof(double));
    t->gain = uf_alloc(l->ctx, (size_t)t->channels, sizeof(float));
    if (!l->energy || !l->cross || !t->gain) return UF_ENOMEM;
    UF_TRY(uf_rolloff_open(&l->rolloff, l->ctx, t->rate, 1));
    UF_TRY(uf_envelope_open(&l->envelope, l->ctx));
    if (!(t->low = uf_nameless_file(l->ctx, folder))) return UF_EIO;
    return uf_drift_open(&l->down, l->ctx, &(uf_drift_options){ .channels = 1, .from_rate = t->rate, .to_rate = UF_MERGE_RATE, .clock = &same_clock, .half = 16 });
}

static int hash_of(uf_take *t) {
    int16_t piece[PIECE];
    for (int64_t at = 0; at < t->n_low; at += PIECE) {
        size_t n = (size_t)(t->n_low - at < PIECE ? t->n_low - at : PIECE) * sizeof(*piece);
        if (pread(fileno(t->low), piece, n, (off_t)(at * 2)) != (ssize_t)n) return UF_EIO;
        t->hash = t->hash * 31 + uf_hash(piece, n);
    }
    return UF_OK;
}

static int run(listener *l, uf_sound_reader *r, const uf_merge_watch *watch) {
    uf_sound_item item;
    int err;
    int64_t told = 0;
    while ((err = uf_sound_reader_next(r, &item)) == UF_OK) {
        if (uf_ctx_cancelled(l->ctx)) return uf_fail(l->ctx, UF_EINTR, "stopped; nothing was written");
        if (item.packet || !item.n) continue;
        UF_TRY(take_piece(l, item.x, item.n));
        if (watch && l->t->n - told > l->t->rate) {
            watch->tell(watch->user, (double)(l->t->n - told) / l->t->rate);
            told = l->t->n;
        }
    }
    if (err != UF_EOF) return err;
    UF_TRY(uf_drift_push(l->down, NULL, 0));
    UF_TRY(drain(l));
    l->t->start = uf_sound_reader_start(r);
    if (fflush(l->t->low) || hash_of(l->t) < 0) return uf_fail(l->ctx, UF_EIO, "no room for what is remembered of '%s' beside the result; make room there", l->t->path);
    sum_up_levels(l);
    l->t->quality.n_clipped = uf_clipping_found(&l->clipping, &l->t->quality.clipped_at);
    UF_TRY(sum_up_drops(l));
    return uf_envelope_finish(l->envelope, &l->t->flux, &l->t->n_flux, &l->t->bands, &l->t->n_bands);
}

int uf_take_listen(uf_take *t, uf_ctx *ctx, const char *folder, const uf_merge_watch *watch) {
    uf_sound_reader *r = NULL;
    listener *l = uf_alloc(ctx, 1, sizeof(*l));
    if (!l) return UF_ENOMEM;
    *l = (listener){ .ctx = ctx, .t = t };
    int err = uf_sound_reader_open(&r, ctx, t->path);
    if (err == UF_OK) {
        t->rate = uf_sound_reader_rate(r);
        t->channels = uf_sound_reader_channels(r);
        err = listener_open(l, folder);
    }
    if (err == UF_OK) err = run(l, r, watch);
    uf_sound_reader_close(&r);
    uf_drift_close(&l->down);
    uf_rolloff_close(&l->rolloff);
    uf_envelope_close(&l->envelope);
    free(l->energy);
    free(l->cross);
    free(l->mono);
    free(l->repeat);
    free(l);
    return err;
}

bool uf_take_clips(const uf_take *t) { return t->quality.n_clipped > 20 * ((double)t->n / t->rate / 60) + 5; }

void uf_take_close(uf_take *t) {
    if (t->low) fclose(t->low);
    free(t->gain);
    free(t->drop);
    free(t->flux);
    free(t->bands);
    free(t->clock.knot);
    *t = (uf_take){ 0 };
}

int uf_take_read(const uf_take *t, uf_ctx *ctx, int64_t from, int n, float *to) {
    int16_t piece[PIECE];
    for (int at = 0; at < n;) {
        int some = n - at < PIECE ? n - at : PIECE;
        int64_t place = from + at, skip = place < 0 ? -place : 0;
        int64_t have = place + some > t->n_low ? t->n_low - place : some;
        for (int i = 0; i < some; i++) to[at + i] = 0;
        if (skip < have) {
            ssize_t want = (ssize_t)((have - skip) * 2);
            if (pread(fileno(t->low), piece, (size_t)want, (off_t)((place + skip) * 2)) != want)
                return uf_fail(ctx, UF_EIO, "cannot read what is remembered of '%s'; is the disk in order?", t->path);
            for (int64_t i = skip; i < have; i++) to[at + i] = piece[i - skip] / 32768.f;
        }
        at += some;
    }
    return UF_OK;
}
