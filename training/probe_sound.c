/* Held-out measures for the adversarial finish of speech. */
#include "probe.h"
#include "sound_measure.h"

#include <math.h>
#include <stdlib.h>

enum { N_MIXTURES = 32, BATCH = 8 };
enum { SI_SDR, SEGMENTAL, LSD, N_MEASURES };

/* n[i] of measure i so far; what a mixture has no number for, for want of voice, is left out of the mean. */
static int compare(uf_run *u, const float *voice, const float *result, size_t size, uf_probe *sum, int n[N_MEASURES]) {
    int rate = uf_model_find(u->r->model)->rate;
    double v[N_MEASURES] = {[SI_SDR] = uf_si_sdr(voice, result, size), [SEGMENTAL] = uf_segmental_snr(voice, result, size, rate)};
    int err = uf_lsd(u->ctx, voice, result, size, rate, &v[LSD]);
    if (err < 0 && err != UF_EDATA) return err;
    if (err == UF_EDATA) v[LSD] = NAN;
    for (int i = 0; i < N_MEASURES; i++)
        if (isfinite(v[i])) sum->value[i] += v[i], n[i]++;
    return UF_OK;
}

static int take(uf_run *u, int size, uf_probe *out) {
    uf_network net;
    uf_loader *l = NULL;
    uf_loader_options o = {.seed = u->r->seed, .size = size, .batch = BATCH, .workers = 1, .n = N_MIXTURES / BATCH, .plain = true, .mixer = &u->valid_mix};
    int n[N_MEASURES] = {0};
    float *result = uf_alloc(u->ctx, (size_t)BATCH * (size_t)size, sizeof *result);
    if (!result) return UF_ENOMEM;
    *out = (uf_probe){{0}};
    int err = uf_network_open(&net, u->ctx, &(uf_network_options){.r = u->r, .params = u->params, .batch = BATCH, .size = size});
    if (err == UF_OK) {
        err = uf_loader_open(&l, u->ctx, NULL, &o);
        for (int i = 0; err == UF_OK && i < N_MIXTURES / BATCH; i++) {
            const uf_batch *b = NULL;
            err = uf_loader_next(l, &b);
            if (err == UF_OK) err = uf_network_set(&net, b);
            if (err == UF_OK) err = uf_plan_run(net.plan);
            if (err == UF_OK) err = uf_plan_get(net.plan, net.out, result);
            for (size_t k = 0; err == UF_OK && k < BATCH; k++)
                err = compare(u, b->voice + k * (size_t)size, result + k * (size_t)size, (size_t)size, out, n);
        }
        uf_loader_close(&l);
        uf_network_close(&net);
    }
    for (int i = 0; i < N_MEASURES; i++) out->value[i] /= n[i] > 0 ? n[i] : 1;
    free(result);
    return err;
}

static double score(const uf_probe *p, const uf_probe *start) {
    double wall = fmax(start->value[SI_SDR] - p->value[SI_SDR] - .3, 0);
    return p->value[LSD] / fmax(start->value[LSD], 1e-6) + 100 * wall;
}

static void tell(const uf_probe *p, char *to, size_t size) {
    snprintf(to, size, "SI-SDR %.2f dB, segmental SNR %.2f dB, log-spectral distance %.2f dB", p->value[SI_SDR], p->value[SEGMENTAL], p->value[LSD]);
}

const uf_prober uf_probe_sound = {
    .column = {"si_sdr", "segmental_snr", "lsd"},
    .n = N_MEASURES,
    .take = take,
    .score = score,
    .tell = tell,
};
