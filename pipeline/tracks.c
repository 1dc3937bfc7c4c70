/* The second pass over the recordings: each is read once more and resampled to the common clock, all in step. */
#include "declip.h"
#include "merge.h"
#include "sound_reader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct track {
    const uf_take *t;
    uf_sound_reader *reader;
    uf_declip *declip; /* NULL: nothing to mend */
    uf_drift *drift;
    float **y, *mono, *mixed; /* y: drift's channels, `most` of each; mixed: what goes into drift, when it is one channel */
    uint8_t *there;
    int channels, room, drop; /* drop: the first of the recording's dropouts that may lie ahead */
    bool ended;
} track;

struct uf_tracks {
    uf_ctx *ctx;
    uf_tracks_options o;
    track *track;
    int64_t n_out;
};

static int open_declip(uf_tracks *all, track *k, const uf_take *t) {
    double *top = uf_alloc(all->ctx, (size_t)t->channels, sizeof *top);
    for (int c = 0; top && c < t->channels; c++) top[c] = t->quality.clipped_at;
    int err = top ? uf_declip_open(&k->declip, all->ctx, t->rate, t->channels, top) : UF_ENOMEM;
    free(top);
    return err;
}

static int open_track(uf_tracks *all, track *k, const uf_take *t) {
    *k = (track){ .t = t, .channels = all->o.channels ? t->channels : 1 };
    size_t most = (size_t)all->o.most;
    k->y = uf_alloc(all->ctx, (size_t)k->channels, sizeof(*k->y));
    k->mono = uf_alloc(all->ctx, most, sizeof(float));
    k->there = uf_alloc(all->ctx, most, 1);
    if (!k->y || !k->mono || !k->there) return UF_ENOMEM;
    for (int c = 0; c < k->channels; c++)
        if (!(k->y[c] = uf_alloc(all->ctx, most, sizeof(float)))) return UF_ENOMEM;
    UF_TRY(uf_sound_reader_open(&k->reader, all->ctx, t->path));
    if (uf_sound_reader_rate(k->reader) != t->rate || uf_sound_reader_channels(k->reader) != t->channels)
        return uf_fail(all->ctx, UF_EDATA, "'%s' was changed meanwhile; let it rest and try again", t->path);
    if (all->o.declip && uf_take_clips(t)) UF_TRY(open_declip(all, k, t));
    return uf_drift_open(&k->drift, all->ctx, &(uf_drift_options){ .channels = k->channels, .from_rate = t->rate, .to_rate = all->o.rate,
                         .clock = &t->clock, .from = all->o.from });
}

int uf_tracks_open(uf_tracks **out, uf_ctx *ctx, const uf_tracks_options *o) {
    uf_tracks *t = uf_alloc(ctx, 1, sizeof(*t));
    if (!t) return UF_ENOMEM;
    *t = (uf_tracks){ .ctx = ctx, .o = *o, .track = uf_alloc(ctx, (size_t)o->n, sizeof(*t->track)) };
    int err = t->track ? UF_OK : UF_ENOMEM;
    for (int i = 0; i < o->n && err == UF_OK; i++) err = open_track(t, &t->track[i], o->take[i]);
    if (err < 0) uf_tracks_close(&t);
    else *out = t;
    return err;
}

void uf_tracks_close(uf_tracks **pt) {
    uf_tracks *t = *pt;
    if (!t) return;
    for (int i = 0; t->track && i < t->o.n; i++) {
        track *k = t->track + i;
        for (int c = 0; k->y && c < k->channels; c++) free(k->y[c]);
        free(k->y);
        free(k->mono);
        free(k->mixed);
        free(k->there);
        uf_sound_reader_close(&k->reader);
        uf_declip_close(&k->declip);
        uf_drift_close(&k->drift);
    }
    free(t->track);
    free(t);
    *pt = NULL;
}

/* n samples to where they are resampled. */
static int give(uf_tracks *all, track *k, float *const *x, int n) {
    if (all->o.channels) return uf_drift_push(k->drift, (const float *const *)x, n);
    if (n > k->room) {
        free(k->mixed);
        if (!(k->mixed = uf_alloc(all->ctx, (size_t)n, sizeof(float)))) return UF_ENOMEM;
        k->room = n;
    }
    uf_take_mono(k->t, x, n, k->mixed);
    return uf_drift_push(k->drift, (const float *const *)&k->mixed, n);
}

/* x NULL: the end. */
static int give_declipped(uf_tracks *all, track *k, float *const *x, int n) {
    const float *const *y;
    UF_TRY(uf_declip_push(k->declip, (const float *const *)x, n));
    do {
        UF_TRY(uf_declip_pull(k->declip, &y, &n));
        if (n) UF_TRY(give(all, k, (float *const *)(uintptr_t)y, n));
    } while (n);
    return UF_OK;
}

/* One more piece of the recording. */
static int feed(uf_tracks *all, track *k) {
    uf_sound_item item;
    int err;
    do err = uf_sound_reader_next(k->reader, &item);
    while (err == UF_OK && (item.packet || !item.n));
    if (err == UF_EOF) {
        k->ended = true;
        if (k->declip) UF_TRY(give_declipped(all, k, NULL, 0));
        return uf_drift_push(k->drift, NULL, 0);
    }
    UF_TRY(err);
    return k->declip ? give_declipped(all, k, item.x, item.n) : give(all, k, item.x, item.n);
}

/* Where samples are silence for lost ones, or repeat the last, the recording has none. */
static void mark_drops(const uf_tracks *all, track *k, int n) {
    const uf_quality *q = &k->t->quality;
    double step = 1. / all->o.rate, from = all->o.from + (double)all->n_out * step;
    double to = uf_clock_read(&k->t->clock, from + n * step, NULL) * k->t->rate;
    from = uf_clock_read(&k->t->clock, from, NULL) * k->t->rate;
    while (k->drop < q->n_drops && (double)k->t->drop[k->drop].to < from) k->drop++;
    for (int d = k->drop; d < q->n_drops && (double)k->t->drop[d].from < to && to > from; d++) {
        double first = ((double)k->t->drop[d].from - from) / (to - from) * n, last = ((double)k->t->drop[d].to - from) / (to - from) * n;
        for (int i = first > 0 ? (int)first : 0; i < n && i < last; i++) k->there[i] = 0;
    }
}

static int next(uf_tracks *all, track *k, int n) {
    float *to[64], **y = k->channels <= UF_LEN(to) ? to : uf_alloc(all->ctx, (size_t)k->channels, sizeof(*y));
    int done = 0, err = y ? UF_OK : UF_ENOMEM;
    while (err == UF_OK && done < n) {
        for (int c = 0; c < k->channels; c++) y[c] = k->y[c] + done;
        int got = uf_drift_pull(k->drift, y, k->there + done, n - done);
        done += got;
        if (!got) err = feed(all, k);
    }
    if (y != to) free(y);
    UF_TRY(err);
    float sign = (float)k->t->polarity;
    for (int c = 0; c < k->channels && sign < 0; c++)
        for (int i = 0; i < n; i++) k->y[c][i] *= sign;
    if (all->o.channels) uf_take_mono(k->t, k->y, n, k->mono);
    else
        for (int i = 0; i < n; i++) k->mono[i] = isfinite(k->y[0][i]) ? k->y[0][i] : 0.f;
    mark_drops(all, k, n);
    return UF_OK;
}

int uf_tracks_next(uf_tracks *t, int n) {
    int failed = UF_OK;
#pragma omp parallel for schedule(dynamic) num_threads(uf_ctx_threads(t->ctx))
    for (int i = 0; i < t->o.n; i++) {
        int err = next(t, &t->track[i], n);
        if (err < 0) {
#pragma omp critical
            failed = err;
        }
    }
    t->n_out += n;
    return failed;
}

float *const *uf_tracks_channels(const uf_tracks *t, int i) { return t->track[i].y; }
const float *uf_tracks_mono(const uf_tracks *t, int i) { return t->track[i].mono; }
const uint8_t *uf_tracks_there(const uf_tracks *t, int i) { return t->track[i].there; }
