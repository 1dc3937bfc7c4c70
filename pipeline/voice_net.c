#include "voice_net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 64, LEAST = 16 }; /* frames: short recordings need no more */

int uf_voice_net_open(uf_voice_net *v, uf_ctx *ctx, char *weights, const uf_voice_net_options *o) {
    *v = (uf_voice_net){ .ctx = ctx, .o = *o, .weights = weights };
    UF_TRY(uf_params_open(&v->params, ctx, 0));
    uf_params_blank(v->params);
    return uf_voice_net_resize(v, LEAST * o->model->multiple); /* tells whether the weights fit */
}

void uf_voice_net_close(uf_voice_net *v) {
    uf_plan_close(&v->plan);
    uf_graph_close(&v->graph);
    uf_params_close(&v->params);
    uf_voice_dry_close(&v->dry);
    free(v->weights);
    free(v->later);
    v->weights = NULL;
    v->later = NULL;
}

static int n_together(const uf_voice_net *v) { return v->o.together ? v->o.together : 1; }

int uf_voice_net_resize(uf_voice_net *v, int size) {
    uf_plan_options plan = { .mode = UF_INFER, .dtype = v->o.float32 ? UF_F32 : UF_AUTO, .n_threads = v->o.n_threads };
    if (v->plan && v->size == size) return UF_OK;
    uf_plan_close(&v->plan);
    uf_graph_close(&v->graph);
    bool first = uf_params_n(v->params) == 0;
    v->net = (uf_built){ .keep_room = v->o.keep_room };
    v->size = size;
    free(v->later);
    v->later = NULL;
    uf_voice_dry_close(&v->dry);
    if (v->o.again) {
        v->later = uf_alloc(v->ctx, (size_t)(2 * size + v->o.model->multiple), sizeof(*v->later));
        if (!v->later) return UF_ENOMEM;
        UF_TRY(uf_voice_dry_open(&v->dry, v->ctx, size, v->o.model->rate / uf_model_speech.rate, v->o.n_threads));
    }
    UF_TRY(uf_graph_open(&v->graph, v->ctx, v->params));
    uf_graph_training(v->graph, false);
    UF_TRY(v->o.model->build(v->graph, (uf_shape){ n_together(v), 1, 1, size }, &v->net));
    v->voice = uf_output(v->o.keep_room ? v->net.room : v->net.out); /* the other one is then not computed */
    if (first) UF_TRY(uf_model_load(v->ctx, v->o.model, v->params, v->weights));
    return uf_plan_open(&v->plan, v->ctx, v->graph, &plan);
}

static int pass(uf_voice_net *v, const float *in, float *out) {
    UF_TRY(uf_plan_set(v->plan, v->net.sound, in));
    UF_TRY(uf_plan_run(v->plan));
    return uf_plan_get(v->plan, v->voice, out);
}

/* By what sound takes a level as the network has learnt; 0: it is silence. */
static double gain_of(const float *x, int n) {
    double level = 0;
    for (int i = 0; i < n; i++) level += (double)x[i] * (double)x[i];
    level = sqrt(level / n);
    return level < 1e-6 ? 0 : level < .01 ? .01 / level : level > .15 ? .15 / level : 1;
}

static void scale(float *x, int n, double gain) {
    for (int i = 0; i < n; i++) x[i] *= (float)gain;
}

int uf_voice_net_hear(uf_voice_net *v, float *in, float *out) {
    size_t size = (size_t)v->size;
    double gain[MOST], loudest = 0;
    int n = n_together(v);
    for (int i = 0; i < n; i++) loudest = fmax(loudest, gain[i] = gain_of(in + (size_t)i * size, v->size));
    memset(out, 0, (size_t)n * size * sizeof(*out));
    if (loudest <= 0) return UF_OK;
    for (int i = 0; i < n; i++) scale(in + (size_t)i * size, v->size, gain[i] > 0 ? gain[i] : 1);
    UF_TRY(pass(v, in, out));
    for (int i = 0; i < n; i++) {
        scale(in + (size_t)i * size, v->size, gain[i] > 0 ? 1 / gain[i] : 1);
        scale(out + (size_t)i * size, v->size, gain[i] > 0 ? 1 / gain[i] : 0);
    }
    return UF_OK;
}

/* Its frames begin in the middles of the first hearing's, so that half of what either gets wrong is its own, and the second, which gets less wrong, counts for
 * more. The last half of a hop, which it does not hear, stays as it is. */
int uf_voice_net_hear_again(uf_voice_net *v, float *in, float *out) {
    const float second = .75f;
    double gain = gain_of(in, v->size);
    int late = v->o.model->multiple / 2, n = v->size - late;
    float *made = v->later + late + v->size;
    if (gain <= 0) return UF_OK;
    memset(v->later, 0, (size_t)late * sizeof(*in));
    uf_voice_dry_run(v->dry, in, out, v->later + late);
    scale(v->later + late, v->size, gain);
    UF_TRY(pass(v, v->later, made));
    for (int i = 0; i < n; i++) out[i] += second * (made[i + late] / (float)gain - out[i]);
    return UF_OK;
}

double uf_voice_ratio(const float *heard, const float *made, int n, double *voice) {
    double kept = 1e-12, rest = 1e-12;
    for (int i = 0; i < n; i++) {
        double d = (double)heard[i] - (double)made[i];
        kept += (double)made[i] * (double)made[i];
        rest += d * d;
    }
    if (voice) *voice = kept;
    return kept / rest;
}

/* Energy of sixth differences, which at 16 kHz weigh 6 kHz four hundred times as much as 3 kHz: how strong words are
 * down there says nothing of the noise above. */
static double upper(const float *x, int from, int to) {
    double sum = 1e-12;
    for (int i = from < 6 ? 6 : from; i < to; i++) {
        double d = (double)x[i] - 6 * ((double)x[i - 1] + (double)x[i - 5]) + 15 * ((double)x[i - 2] + (double)x[i - 4]) - 20 * (double)x[i - 3] + (double)x[i - 6];
        sum += d * d;
    }
    return sum;
}

float uf_voice_gain_above(const float *heard, const float *made, int from, int to) { return (float)sqrt(upper(made, from, to) / upper(heard, from, to)); }
