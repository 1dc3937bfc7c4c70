/* Held-out measures for the adversarial finish of colours: what people stop it by, by eye, as numbers. */
#include "probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_PICTURES = 64, BATCH = 16, BINS = 64 };
enum { CIEDE2000, FEATURE, HISTOGRAM, COLORFULNESS, FLICKER, N_MEASURES };
static const float grain = .04f; /* deviation of the flicker probe's noise: a grainy print */

typedef struct sums {
    double histogram[2][BINS * BINS]; /* of the result, of the photographs */
    double colorfulness[2], ciede, feature, flicker, chroma;
    int n;
} sums;

/* Bins of 1/128 over [-.25,.25): nearly all chroma; the rest counts in the outer bins. */
static void count(double *h, const float *chroma, size_t plane) {
    for (size_t i = 0; i < plane; i++) {
        int a = (int)floorf((chroma[i] + .25f) * 2 * BINS), b = (int)floorf((chroma[plane + i] + .25f) * 2 * BINS);
        a = a < 0 ? 0 : a >= BINS ? BINS - 1 : a;
        b = b < 0 ? 0 : b >= BINS ? BINS - 1 : b;
        h[a * BINS + b]++;
    }
}

/* sqrt(1 - sum sqrt(p q)): Hellinger 1909. */
static double hellinger(const double *p, const double *q) {
    double sp = 0, sq = 0, both = 0;
    for (int i = 0; i < BINS * BINS; i++) {
        sp += p[i];
        sq += q[i];
        both += sqrt(p[i] * q[i]);
    }
    return sqrt(fmax(1 - both / sqrt(sp * sq), 0));
}

static int compare(uf_decoder *d, int size, const float *luma, const float *result, const float *truth, uint8_t *rgb[2],
                   sums *s) {
    UF_TRY(uf_decoder_rgb(d, size, size, luma, result, rgb[0]));
    UF_TRY(uf_decoder_rgb(d, size, size, luma, truth, rgb[1]));
    uf_rgb a = {rgb[0], size, size, 3 * size}, b = {rgb[1], size, size, 3 * size};
    s->ciede += uf_ciede2000(a, b);
    s->colorfulness[0] += uf_colorfulness(a);
    s->colorfulness[1] += uf_colorfulness(b);
    return UF_OK;
}

static void add_grain(const float *clean, size_t n, uint64_t seed, float *luma) {
    for (size_t i = 0; i < n; i++)
        luma[i] = fminf(fmaxf(clean[i] + grain * uf_gaussian(seed, uf_hash("flicker", 7), i), 0.f), 1.f);
}

typedef struct bench { /* what one measurement works with */
    uf_network net;
    uf_decoder *decoder;
    float *luma, *out[2];
    uint8_t *rgb[2];
} bench;

static void bench_close(bench *b) {
    uf_network_close(&b->net);
    uf_decoder_close(&b->decoder);
    free(b->luma);
    for (int i = 0; i < 2; i++) {
        free(b->out[i]);
        free(b->rgb[i]);
    }
}

static int bench_open(bench *b, uf_run *u, int size) {
    float losses[UF_MAX_LOSSES] = {0};
    losses[uf_loss_index("feature")] = 1;
    size_t n = (size_t)BATCH * (size_t)size * (size_t)size;
    uf_network_options o = {.r = u->r, .losses = losses, .params = u->params, .judge = u->judge, .batch = BATCH, .size = size};
    UF_TRY(uf_decoder_open(&b->decoder, u->ctx));
    b->luma = uf_alloc(u->ctx, n, sizeof(float));
    for (int i = 0; i < 2; i++) {
        b->out[i] = uf_alloc(u->ctx, n / 2, sizeof(float));
        b->rgb[i] = uf_alloc(u->ctx, 3 * n / BATCH, 1);
        if (!b->out[i] || !b->rgb[i] || !b->luma) return UF_ENOMEM;
    }
    return uf_network_open(&b->net, u->ctx, &o);
}

static int run(bench *b, const uf_batch *batch, float *out) {
    UF_TRY(uf_network_set(&b->net, batch));
    UF_TRY(uf_plan_run(b->net.plan));
    return uf_plan_get(b->net.plan, b->net.out, out);
}

static int flicker(bench *b, const uf_batch *clean, size_t n, sums *s) {
    uf_batch noisy = *clean;
    noisy.luma = b->luma;
    for (int i = 0; i < 2; i++) {
        add_grain(clean->clean, n, 1 + (uint64_t)i, b->luma);
        UF_TRY(run(b, &noisy, b->out[i]));
    }
    for (size_t i = 0; i < n / 2; i++) {
        s->flicker += fabs((double)(b->out[0][i] - b->out[1][i]));
        s->chroma += .5 * (fabs((double)b->out[0][i]) + fabs((double)b->out[1][i]));
    }
    return UF_OK;
}

static int one_batch(bench *b, int size, const uf_batch *batch, sums *s) {
    size_t plane = (size_t)size * (size_t)size;
    float feature = 0;
    UF_TRY(run(b, batch, b->out[0]));
    UF_TRY(uf_plan_get(b->net.plan, b->net.loss, &feature));
    s->feature += (double)feature;
    for (size_t i = 0; i < BATCH; i++) {
        const float *result = b->out[0] + i * plane / 2, *truth = batch->chroma + i * plane / 2;
        count(s->histogram[0], result, plane / 4);
        count(s->histogram[1], truth, plane / 4);
        UF_TRY(compare(b->decoder, size, batch->clean + i * plane, result, truth, b->rgb, s));
    }
    s->n++;
    return flicker(b, batch, BATCH * plane, s);
}

static int take(uf_run *u, int size, uf_probe *out) {
    bench b = {0};
    uf_loader *l = NULL;
    uf_loader_options o = {.seed = u->r->seed, .size = size, .batch = BATCH, .workers = 1, .n = N_PICTURES / BATCH,
                           .plain = true, .smallest = 1.f};
    sums *s = uf_alloc(u->ctx, 1, sizeof *s);
    int err = s ? bench_open(&b, u, size) : UF_ENOMEM;
    if (err == UF_OK) err = uf_loader_open(&l, u->ctx, u->valid, &o);
    for (int i = 0; err == UF_OK && i < N_PICTURES / BATCH; i++) {
        const uf_batch *batch = NULL;
        err = uf_loader_next(l, &batch);
        if (err == UF_OK) err = one_batch(&b, size, batch, s);
    }
    if (err == UF_OK)
        *out = (uf_probe){{[CIEDE2000] = s->ciede / (s->n * BATCH), [FEATURE] = s->feature / s->n, [HISTOGRAM] = hellinger(s->histogram[0], s->histogram[1]),
                           [COLORFULNESS] = s->colorfulness[0] / fmax(s->colorfulness[1], 1e-9), [FLICKER] = s->flicker / fmax(s->chroma, 1e-9)}};
    uf_loader_close(&l);
    bench_close(&b);
    free(s);
    return err;
}

static double share(const uf_probe *now, const uf_probe *start, int what) { return now->value[what] / fmax(start->value[what], 1e-6); }

static double distance(const uf_probe *p) { return fmax(fabs(log(fmax(p->value[COLORFULNESS], 1e-3))), .02); }

static double score(const uf_probe *p, const uf_probe *start) {
    double wall = fmax(share(p, start, CIEDE2000) - 1.03, 0) + fmax(share(p, start, FLICKER) - 1.1, 0);
    return share(p, start, HISTOGRAM) + share(p, start, FEATURE) + distance(p) / distance(start) + 100 * wall;
}

static void tell(const uf_probe *p, char *to, size_t size) {
    snprintf(to, size, "CIEDE2000 %.2f, feature loss %.4f, histogram %.3f away from the photographs', colourfulness %.0f %% of theirs, flicker %.1f %%",
             p->value[CIEDE2000], p->value[FEATURE], p->value[HISTOGRAM], 100 * p->value[COLORFULNESS], 100 * p->value[FLICKER]);
}

const uf_prober uf_probe_color = {
    .column = {"ciede2000", "feature", "histogram", "colorfulness", "flicker"},
    .n = N_MEASURES,
    .take = take,
    .score = score,
    .tell = tell,
};
