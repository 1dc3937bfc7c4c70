/* Batches, made ahead of the learner by worker threads and handed out in order. */
#include "array.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { AHEAD = 4, TRIES = 64 };

typedef enum slot_state { EMPTY, BUSY, READY, FAILED } slot_state;

typedef struct slot {
    uf_batch batch;
    float *memory;
    slot_state state;
    int64_t number;
} slot;

struct uf_loader {
    uf_ctx *ctx;
    const uf_data *data;
    uf_loader_options o;
    slot slot[AHEAD + 1];   /* one is with the learner */
    int64_t next_make, next_take, end;
    int taken;              /* slot with the learner, -1: none */
    bool stop;
    int code;
    pthread_mutex_t lock;
    pthread_cond_t made, freed;
    pthread_t *worker;
    int n_workers;
};

/* Random streams of one sample: numbered, so that each use draws its own. */
enum { CROP_SCALE, CROP_X, CROP_Y, FLIP, NOISE_ON, NOISE_SIGMA, GAIN, GAMMA, GREY };

typedef struct draw {
    uint64_t seed, index;
    bool plain;
} draw;

static float chance(const draw *d, int what, float middle) {
    return d->plain ? middle : uf_uniform(d->seed, uf_hash("sample", 6) + (uint64_t)what, d->index);
}

static void flip(float *x, int w, int rows) {
    for (int r = 0; r < rows; r++)
        for (int i = 0, j = w - 1; i < j; i++, j--) {
            float t = x[(size_t)r * (size_t)w + (size_t)i];
            x[(size_t)r * (size_t)w + (size_t)i] = x[(size_t)r * (size_t)w + (size_t)j];
            x[(size_t)r * (size_t)w + (size_t)j] = t;
        }
}

/* What film does to a picture: grain, and prints that are lighter or harder than the next. A colorizer that has seen it
 * does not flicker with it (the noise that made the best-known video model steady: p .8). */
static void damage(const uf_loader_options *o, const draw *d, size_t n, const float *clean, float *luma) {
    float gain = 1.f + .1f * (chance(d, GAIN, .5f) - .5f), gamma = 1.f + .3f * (chance(d, GAMMA, .5f) - .5f);
    bool noisy = !d->plain && chance(d, NOISE_ON, 1.f) < .8f && o->noise > 0;
    float sigma = noisy ? o->noise * chance(d, NOISE_SIGMA, 0.f) : 0.f;
    uint64_t stream = uf_hash("grain", 5) ^ (d->index * 0x9e3779b97f4a7c15u);
    if (d->plain) {
        memcpy(luma, clean, n * sizeof *luma);
        return;
    }
    for (size_t i = 0; i < n; i += 4) { /* sums of four bytes are normal enough, and cheap */
        uint32_t r[4] = {0};
        if (sigma > 0) uf_philox(d->seed, stream, i / 4, r);
        for (size_t k = 0; k < 4 && i + k < n; k++) {
            float g = (float)((r[k] & 255) + (r[k] >> 8 & 255) + (r[k] >> 16 & 255) + (r[k] >> 24)) - 510.f;
            float v = gain * powf(fmaxf(clean[i + k], 0.f), gamma) + sigma * g / 147.8f;
            luma[i + k] = fminf(fmaxf(v, 0.f), 1.f);
        }
    }
}

static float mean_chroma(const float *chroma, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += fabs((double)chroma[i]);
    return (float)(sum / (double)n);
}

/* Where the window lies on the source, whose sides are w and h, and how far its pair's is moved. UF_EDATA: too small. */
typedef struct window {
    double x, y, side, move_x, move_y;
    bool flip;
} window;

static int place(const uf_loader *l, const draw *d, int w, int h, window *v) {
    float small = l->o.smallest > 0 ? l->o.smallest : .35f;
    double area = (double)(small + (1.f - small) * chance(d, CROP_SCALE, 1.f)), s = l->o.size;
    double room_x = l->o.pairs ? 2 * UF_MOTION_X / s : 0, room_y = l->o.pairs ? 2 * UF_MOTION_Y / s : 0;
    v->side = (w < h ? w : h) * sqrt(area) / (1 + fmax(room_x, room_y));
    if (v->side < 8) return UF_EDATA;
    v->flip = !d->plain && chance(d, FLIP, 1.f) < .5f;
    v->move_x = v->side * room_x * (v->flip ? -1 : 1);
    v->move_y = v->side * room_y;
    v->x = (w - v->side * (1 + room_x)) * (double)chance(d, CROP_X, .5f) - fmin(v->move_x, 0);
    v->y = (h - v->side * (1 + room_y)) * (double)chance(d, CROP_Y, .5f);
    return UF_OK;
}

static int look_through(const uf_loader *l, uf_decoder *dec, const window *v, bool moved, float *clean, float *chroma) {
    int s = l->o.size;
    UF_TRY(uf_decoder_planes(dec, v->x + (moved ? v->move_x : 0), v->y + (moved ? v->move_y : 0), v->side, v->side, s, s, clean,
                             chroma));
    if (!v->flip) return UF_OK;
    flip(clean, s, s);
    flip(chroma, s / 2, s);
    return UF_OK;
}

/* UF_EDATA without a message: this picture will not do, take another. With pairs the moved one lies `pair` pictures on. */
static int make_one(uf_loader *l, uf_decoder *dec, int64_t picture, const draw *d, int pair, float *clean, float *chroma) {
    const void *data = NULL;
    size_t n = 0;
    void *owned = NULL;
    int w = 0, h = 0;
    window v;
    int err = uf_data_read(l->data, picture, &data, &n, &owned);
    if (err == UF_OK) err = uf_decoder_decode(dec, data, n, &w, &h);
    free(owned);
    if (err == UF_EIO || err == UF_EDATA) {
        uf_log(l->ctx, UF_LOG_WARN, "passed over '%s': damaged or unreadable", uf_data_name(l->data, picture));
        return UF_EDATA;
    }
    if (err < 0) return err;
    UF_TRY(place(l, d, w, h, &v));
    UF_TRY(look_through(l, dec, &v, false, clean, chroma));
    size_t n_luma = (size_t)l->o.size * (size_t)l->o.size, nc = n_luma / 2;
    if (pair) UF_TRY(look_through(l, dec, &v, true, clean + (size_t)pair * n_luma, chroma + (size_t)pair * nc));
    if (l->o.saturation_min > 0 && mean_chroma(chroma, nc) < l->o.saturation_min) return UF_EDATA;
    if (!d->plain && chance(d, GREY, 1.f) < l->o.grey)
        for (int k = 0; k < (pair ? 2 : 1); k++) memset(chroma + (size_t)(k * pair) * nc, 0, nc * sizeof *chroma);
    return UF_OK;
}

/* Number of this process's n-th batch among those of all processes. */
static int64_t among_all(const uf_loader_options *o, int64_t n) {
    int64_t share = o->share > 0 ? o->share : 1, ranks = o->ranks > 0 ? o->ranks : 1;
    return (n / share * ranks + o->rank) * share + n % share;
}

static int make(uf_loader *l, uf_decoder *dec, int64_t number, uf_batch *b) {
    size_t n = (size_t)l->o.size * (size_t)l->o.size;
    int pair = l->o.pairs ? l->o.batch / 2 : 0;
    number = among_all(&l->o, number);
    for (int i = 0; i < l->o.batch - pair; i++) {
        uint64_t index = (uint64_t)(l->o.first_sample + number * l->o.batch + i);
        int err = UF_EDATA;
        for (uint64_t t = 0; err == UF_EDATA && t < TRIES; t++) { /* damaged pictures give their place to another */
            draw d = {l->o.seed, index + (t << 40), l->o.plain};
            int64_t k = l->o.plain ? (int64_t)((index + t) % (uint64_t)uf_data_n(l->data))
                                   : uf_data_pick(l->data, l->o.seed + t, index);
            float *clean = b->clean + (size_t)i * n;
            err = make_one(l, dec, k, &d, pair, clean, b->chroma + (size_t)i * n / 2);
            if (err < 0) continue;
            for (int copy = 0; copy < (pair ? 2 : 1); copy++) {
                int j = i + copy * pair;
                draw print = {d.seed, d.index + ((uint64_t)copy << 60), d.plain};
                damage(&l->o, &print, n, b->clean + (size_t)j * n, b->luma + (size_t)j * n);
                b->label[j] = (float)uf_data_class(l->data, k);
            }
        }
        if (err == UF_EDATA)
            return uf_fail(l->ctx, UF_EDATA, "%d pictures in a row were damaged, vanished or without colour; check the "
                           "data, or lower saturation_min", TRIES);
        if (err < 0) return err;
    }
    return UF_OK;
}

static int make_sound(uf_loader *l, uf_mixing *w, int64_t number, uf_batch *b) {
    size_t n = (size_t)l->o.size;
    uint64_t seed = l->o.seed + (l->o.plain ? 1000000 : 0);
    int together = l->o.mics ? l->o.mics : 1;
    number = among_all(&l->o, number);
    for (int i = 0; i < l->o.batch; i += together) {
        uint64_t index = (uint64_t)(l->o.first_sample + number * l->o.batch + i);
        size_t at = (size_t)i * n;
        if (l->o.mics) UF_TRY(uf_array_mix(l->ctx, l->o.mixer, seed, index, l->o.mics, l->o.size, b->noisy + at, b->voice + at));
        else UF_TRY(uf_mix(w, seed, index, b->noisy + at, b->voice + at, b->room + at));
    }
    return UF_OK;
}

/* A free slot for the next batch that nobody makes yet; NULL when the worker should end. */
static slot *claim(uf_loader *l) {
    pthread_mutex_lock(&l->lock);
    slot *s = NULL;
    while (!l->stop && l->next_make < l->end && !s) {
        for (int i = 0; i < AHEAD + 1 && !s; i++)
            if (l->slot[i].state == EMPTY && i != l->taken) s = &l->slot[i];
        if (!s) pthread_cond_wait(&l->freed, &l->lock);
    }
    if (s && !l->stop) {
        s->state = BUSY;
        s->number = l->next_make++;
    } else {
        s = NULL;
    }
    pthread_mutex_unlock(&l->lock);
    return s;
}

static void *work(void *arg) {
    uf_loader *l = arg;
    uf_decoder *dec = NULL;
    uf_mixing *mixing = NULL;
    int err = l->o.mixer ? uf_mixing_open(&mixing, l->ctx, l->o.mixer, l->o.size) : uf_decoder_open(&dec, l->ctx);
    slot *s;
    while ((s = claim(l))) {
        if (err == UF_OK) err = mixing ? make_sound(l, mixing, s->number, &s->batch) : make(l, dec, s->number, &s->batch);
        pthread_mutex_lock(&l->lock);
        s->state = err == UF_OK ? READY : FAILED;
        if (err < 0) l->code = err;
        pthread_cond_broadcast(&l->made);
        pthread_mutex_unlock(&l->lock);
    }
    uf_decoder_close(&dec);
    uf_mixing_close(&mixing);
    return NULL;
}

static int slots_open(uf_loader *l) {
    size_t wave = (size_t)l->o.batch * (size_t)l->o.size;
    for (int i = 0; l->o.mixer && i < AHEAD + 1; i++) {
        float *m = l->slot[i].memory = uf_alloc(l->ctx, 3 * wave, sizeof *m);
        if (!m) return UF_ENOMEM;
        l->slot[i].batch = (uf_batch){.noisy = m, .voice = m + wave, .room = m + 2 * wave};
    }
    if (l->o.mixer) return UF_OK;
    size_t n = (size_t)l->o.batch * (size_t)l->o.size * (size_t)l->o.size;
    for (int i = 0; i < AHEAD + 1; i++) {
        float *m = l->slot[i].memory = uf_alloc(l->ctx, 5 * n / 2 + (size_t)l->o.batch, sizeof *m);
        if (!m) return UF_ENOMEM;
        l->slot[i].batch = (uf_batch){.luma = m, .clean = m + n, .chroma = m + 2 * n, .label = m + 2 * n + n / 2};
    }
    return UF_OK;
}

int uf_loader_open(uf_loader **out, uf_ctx *ctx, const uf_data *data, const uf_loader_options *o) {
    uf_loader *l = uf_alloc(ctx, 1, sizeof *l);
    if (!l) return UF_ENOMEM;
    l->ctx = ctx;
    l->data = data;
    l->o = *o;
    l->next_make = l->next_take = o->first;
    l->end = o->first + o->n;
    l->taken = -1;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->made, NULL);
    pthread_cond_init(&l->freed, NULL);
    int err = slots_open(l), n = o->workers > 0 ? o->workers : 1;
    if (err == UF_OK && !(l->worker = uf_alloc(ctx, (size_t)n, sizeof *l->worker))) err = UF_ENOMEM;
    while (err == UF_OK && l->n_workers < n) {
        if (pthread_create(&l->worker[l->n_workers], NULL, work, l))
            err = uf_fail(ctx, UF_ENOMEM, "cannot start a data thread");
        else
            l->n_workers++;
    }
    if (err < 0) uf_loader_close(&l);
    else *out = l;
    return err;
}

void uf_loader_close(uf_loader **pl) {
    uf_loader *l = *pl;
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->freed);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->n_workers; i++) pthread_join(l->worker[i], NULL);
    for (int i = 0; i < AHEAD + 1; i++) free(l->slot[i].memory);
    pthread_cond_destroy(&l->made);
    pthread_cond_destroy(&l->freed);
    pthread_mutex_destroy(&l->lock);
    free(l->worker);
    free(l);
    *pl = NULL;
}

int uf_loader_next(uf_loader *l, const uf_batch **batch) {
    if (l->next_take >= l->end) return UF_EOF;
    pthread_mutex_lock(&l->lock);
    if (l->taken >= 0) { /* the one handed out before is done with */
        l->slot[l->taken].state = EMPTY;
        l->taken = -1;
        pthread_cond_broadcast(&l->freed);
    }
    int err = UF_OK;
    while (l->taken < 0 && err == UF_OK) {
        for (int i = 0; i < AHEAD + 1; i++)
            if (l->slot[i].number == l->next_take && l->slot[i].state >= READY) l->taken = i;
        if (l->taken >= 0 && l->slot[l->taken].state == FAILED) err = l->code;
        if (l->taken < 0) pthread_cond_wait(&l->made, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    if (err < 0) return err;
    l->next_take++;
    *batch = &l->slot[l->taken].batch;
    return UF_OK;
}
