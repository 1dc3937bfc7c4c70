#include "voice_net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST = 16 }; /* frames: short recordings need no more */

static void forget(uf_voice_hearing *h) {
    uf_plan_close(&h->plan);
    uf_graph_close(&h->graph);
}

static int load(const uf_voice_net *v, const uf_voice_hearing *h, const char *weights) {
    if (h->model == &uf_model_speech_wide_again) return uf_speech_wide_again_load(v->ctx, h->params, v->o.again_weights, weights);
    return uf_model_load(v->ctx, h->model, h->params, h == &v->again ? v->o.again_weights : weights);
}

/* Plan for stretches of this length; weights: of the first hearing, when the parameters, which are then there, are to be read; else NULL. */
static int tune(const uf_voice_net *v, uf_voice_hearing *h, int size, const char *weights) {
    uf_plan_options plan = { .mode = UF_INFER, .dtype = v->o.float32 ? UF_F32 : UF_AUTO, .n_threads = v->o.n_threads };
    forget(h);
    h->net = (uf_built){ .keep_room = v->o.keep_room };
    UF_TRY(uf_graph_open(&h->graph, v->ctx, h->params));
    uf_graph_training(h->graph, false);
    UF_TRY(h->model->build(h->graph, (uf_shape){ 1, 1, 1, size }, &h->net));
    h->voice = uf_output(v->o.keep_room ? h->net.room : h->net.out); /* the other one is then not computed */
    if (weights) UF_TRY(load(v, h, weights));
    return uf_plan_open(&h->plan, v->ctx, h->graph, &plan);
}

static int hearing_open(const uf_voice_net *v, uf_voice_hearing *h, const uf_model *model, const char *weights) {
    UF_TRY(uf_params_open(&h->params, v->ctx, 0));
    uf_params_blank(h->params);
    h->model = model;
    return tune(v, h, LEAST * model->multiple, weights); /* tells whether the weights fit */
}

int uf_voice_net_open(uf_voice_net *v, uf_ctx *ctx, const char *weights, const uf_voice_net_options *o) {
    *v = (uf_voice_net){ .ctx = ctx, .o = *o };
    UF_TRY(hearing_open(v, &v->once, o->model, weights));
    if (!o->again_weights) return UF_OK;
    UF_TRY(hearing_open(v, &v->again, o->model == &uf_model_speech_wide ? &uf_model_speech_wide_again : &uf_model_speech_again, weights));
    v->o.again_weights = NULL; /* borrowed */
    return UF_OK;
}

void uf_voice_net_close(uf_voice_net *v) {
    uf_voice_hearing *all[] = { &v->once, &v->again };
    for (int i = 0; i < UF_LEN(all); i++) {
        forget(all[i]);
        uf_params_close(&all[i]->params);
    }
    uf_voice_dry_close(&v->dry);
    free(v->later);
    v->later = NULL;
}

int uf_voice_net_resize(uf_voice_net *v, int size) {
    if (v->size == size) return UF_OK;
    v->size = 0;
    UF_TRY(tune(v, &v->once, size, NULL));
    if (v->again.model) UF_TRY(tune(v, &v->again, size, NULL));
    free(v->later);
    v->later = NULL;
    uf_voice_dry_close(&v->dry);
    if (v->o.again) {
        v->later = uf_alloc(v->ctx, 4 * (size_t)(size + v->o.model->multiple), sizeof(*v->later));
        if (!v->later) return UF_ENOMEM;
        UF_TRY(uf_voice_dry_open(&v->dry, v->ctx, size, v->o.model->rate / uf_model_speech.rate, v->o.n_threads));
    }
    v->size = size;
    return UF_OK;
}

static int pass(const uf_voice_hearing *h, const float *in, float *out) {
    UF_TRY(uf_plan_set(h->plan, h->net.sound, in));
    UF_TRY(uf_plan_run(h->plan));
    return uf_plan_get(h->plan, h->voice, out);
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
    double gain = gain_of(in, v->size);
    memset(out, 0, (size_t)v->size * sizeof(*out));
    if (gain <= 0) return UF_OK;
    scale(in, v->size, gain);
    UF_TRY(pass(&v->once, in, out));
    scale(in, v->size, 1 / gain);
    scale(out, v->size, 1 / gain);
    return UF_OK;
}

/* Its frames begin in the middles of the first hearing's, so that half of what either gets wrong is its own. Where it is the same network, it knows nothing
 * of the first, and counts for more than that, as it gets less wrong. The last half of a hop, which it does not hear, stays as it is. */
int uf_voice_net_hear_again(uf_voice_net *v, float *in, float *out) {
    double gain = gain_of(in, v->size);
    int late = v->o.model->multiple / 2, n = v->size - late, stretch = v->size + late;
    float *left = v->later, *first = left + stretch, *whole = first + stretch, *made = whole + stretch;
    if (gain <= 0) return UF_OK;
    for (int i = 0; i < 3; i++) memset(v->later + i * stretch, 0, (size_t)late * sizeof(*in));
    uf_voice_dry_run(v->dry, in, out, left + late);
    memcpy(first + late, out, (size_t)n * sizeof(*out));
    memcpy(whole + late, in, (size_t)n * sizeof(*in));
    for (int i = 0; i < 3; i++) scale(v->later + i * stretch, v->size, gain);
    float share = .75f;
    if (v->again.model) {
        share = 1;
        UF_TRY(uf_plan_set(v->again.plan, v->again.net.first, first));
        UF_TRY(uf_plan_set(v->again.plan, v->again.net.whole, whole));
    }
    UF_TRY(pass(v->again.model ? &v->again : &v->once, left, made));
    for (int i = 0; i < n; i++) out[i] += share * (made[i + late] / (float)gain - out[i]);
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
