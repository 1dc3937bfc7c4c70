/* Held-out loss and pictures of a run. */
#include "run.h"
#include "sound_measure.h"

#include <stdlib.h>

enum { VALID_PICTURES = 512, VALID_MIXTURES = 128, SAMPLES = 8 }; /* at most, whatever the batch: figures of small batches are as firm */

/* The averaged weights are what will be shipped: held-out losses and pictures are theirs. */
static void swap_average(uf_params *set) {
    for (int i = 0; i < uf_params_n(set); i++) {
        uf_param *p = uf_params_at(set, i);
        if (!p->average) continue;
        float *t = p->value;
        p->value = p->average;
        p->average = t;
    }
}

static int draw_samples(uf_run *u, const uf_network *n, const uf_batch *b, int size, const float *out, const char *name) {
    uf_sheet *sheet = NULL;
    uf_decoder *d = NULL;
    size_t plane = (size_t)size * (size_t)size;
    int count = n->luma->shape.n < SAMPLES ? n->luma->shape.n : SAMPLES, cell = size < 128 ? 128 : size;
    float *zero = uf_alloc(u->ctx, plane / 2, sizeof *zero);
    uint8_t *rgb = uf_alloc(u->ctx, 3 * plane, 1);
    char *path = uf_run_path(u, name);
    int err = zero && rgb && path ? uf_decoder_open(&d, u->ctx) : UF_ENOMEM;
    if (err == UF_OK) err = uf_sheet_open(&sheet, u->ctx, count, 3, cell, cell);
    for (int i = 0; err == UF_OK && i < count; i++) {
        const float *chroma[3] = {zero, out + (size_t)i * plane / 2, b->chroma + (size_t)i * plane / 2};
        for (int row = 0; err == UF_OK && row < 3; row++) {
            err = uf_decoder_rgb(d, size, size, b->clean + (size_t)i * plane, chroma[row], rgb);
            if (err == UF_OK) uf_sheet_put(sheet, i, row, size, size, rgb);
        }
    }
    if (err == UF_OK) err = uf_sheet_write(sheet, path);
    uf_sheet_close(&sheet);
    uf_decoder_close(&d);
    free(zero);
    free(rgb);
    free(path);
    return err;
}

static int count_right(const uf_network *n, const uf_batch *b, const float *logits) {
    int right = 0, classes = n->out->shape.c;
    for (int i = 0; i < n->out->shape.n; i++) {
        int best = 0;
        for (int c = 1; c < classes; c++)
            if (logits[i * classes + c] > logits[i * classes + best]) best = c;
        right += best == (int)b->label[i];
    }
    return right;
}

/* Mean of what the network adds to the SI-SDR of the recordings, dB. */
static double gain_of(const uf_network *n, const uf_batch *b, const float *out) {
    double sum = 0;
    size_t length = (size_t)n->out->shape.w;
    for (size_t i = 0; i < (size_t)n->out->shape.n; i++)
        sum += uf_si_sdr(b->voice + i * length, out + i * length, length) - uf_si_sdr(b->voice + i * length, b->noisy + i * length, length);
    return sum / n->out->shape.n;
}

static int measure(uf_run *u, uf_network *n, const uf_stage *s, bool pictures) {
    uf_loader *l = NULL;
    uf_loader_options o = {.seed = u->r->seed, .size = s->size, .batch = n->out->shape.n, .workers = 1,
                           .n = (n->noisy ? VALID_MIXTURES : VALID_PICTURES) / n->out->shape.n, .plain = true, .smallest = 1.f,
                           .pairs = uf_losses_pair(u->r->losses), .mixer = n->noisy ? &u->valid_mix : NULL, .mics = u->r->mics};
    int64_t whole = n->noisy ? o.n : uf_data_n(u->valid) / o.batch;
    if (whole < o.n) o.n = whole;
    if (o.n < 1) o.n = 1;
    const uf_batch *b;
    double loss = 0, n_right = 0, gain = 0;
    float *out = uf_alloc(u->ctx, uf_count(n->out->shape), sizeof *out), v = 0;
    int err = out ? uf_loader_open(&l, u->ctx, u->valid, &o) : UF_ENOMEM;
    for (int64_t i = 0; err == UF_OK && i < o.n; i++) {
        if ((err = uf_loader_next(l, &b)) == UF_OK) err = uf_network_set(n, b);
        if (err == UF_OK) err = uf_plan_run(n->plan);
        if (err == UF_OK) err = uf_plan_get(n->plan, n->loss, &v);
        if (err == UF_OK) err = uf_plan_get(n->plan, n->out, out);
        loss += (double)v / (double)o.n;
        if (err == UF_OK && n->label) n_right += count_right(n, b, out);
        if (err == UF_OK && n->noisy) gain += gain_of(n, b, out) / (double)o.n;
        if (err == UF_OK && pictures && n->chroma && !n->label && i == 0) {
            char name[64];
            snprintf(name, sizeof name, "sample-%07lld.png", (long long)u->step);
            err = draw_samples(u, n, b, s->size, out, name);
        }
    }
    uf_loader_close(&l);
    free(out);
    if (err < 0) return err;
    u->valid_step[u->n_valid] = (double)u->step;
    u->valid_loss[u->n_valid++] = loss;
    u->accuracy = n->label ? n_right / (double)(o.n * o.batch) : 0;
    UF_TRY(uf_run_log_held_out(u, loss, n->label ? u->accuracy : gain));
    if (n->label) uf_log(u->ctx, UF_LOG_INFO, "step %lld held-out loss %.4f, right %.1f %%", (long long)u->step, loss, 100 * u->accuracy);
    else if (n->noisy) uf_log(u->ctx, UF_LOG_INFO, "step %lld held-out loss %.4f, SI-SDR %+.2f dB", (long long)u->step, loss, gain);
    else uf_log(u->ctx, UF_LOG_INFO, "step %lld held-out loss %.4f", (long long)u->step, loss);
    return UF_OK;
}

int uf_run_held_out(uf_run *u, const uf_stage *s, bool pictures) {
    uf_network n;
    int batch = s->batch < 64 ? s->batch : u->r->mics ? 64 / u->r->mics * u->r->mics : 64;
    swap_average(u->params);
    int err = uf_network_open(&n, u->ctx, &(uf_network_options){.r = u->r, .params = u->params, .judge = u->judge,
                                                                .batch = batch, .size = s->size});
    if (err == UF_OK) {
        err = measure(u, &n, s, pictures);
        uf_network_close(&n);
    }
    swap_average(u->params);
    return err;
}
