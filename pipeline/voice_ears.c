#include "voice_ears.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

int uf_voice_ears_open(uf_voice_ears *e, uf_ctx *ctx, const char *weights, bool float32, int most, int size) {
    int n = uf_ctx_threads(ctx) < most ? uf_ctx_threads(ctx) : most;
    *e = (uf_voice_ears){.ctx = ctx, .room = size};
    e->net = uf_alloc(ctx, (size_t)n, sizeof *e->net);
    e->in = uf_alloc(ctx, (size_t)n, sizeof *e->in);
    if (!e->net || !e->in) return UF_ENOMEM;
    for (e->n = 0; e->n < n;) {
        char *own = uf_strdup(ctx, weights);
        float *in = uf_alloc(ctx, (size_t)size, sizeof *in);
        e->in[e->n] = in;
        uf_voice_net *net = &e->net[e->n++];
        if (!own || !in) return free(own), UF_ENOMEM;
        UF_TRY(uf_voice_net_open(net, ctx, own, &(uf_voice_net_options){.model = &uf_model_speech, .float32 = float32, .n_threads = 1}));
    }
    return UF_OK;
}

void uf_voice_ears_close(uf_voice_ears *e) {
    for (int i = 0; i < e->n; i++) {
        uf_voice_net_close(&e->net[i]);
        free(e->in[i]);
    }
    free(e->net);
    free(e->in);
    *e = (uf_voice_ears){0};
}

int uf_voice_ears_hear(uf_voice_ears *e, int n, int size, const float *const *x, float *const *y) {
    int failed = UF_OK;
    for (int i = 0; i < e->n; i++) UF_TRY(uf_voice_net_resize(&e->net[i], size));
#pragma omp parallel for schedule(dynamic) num_threads(e->n)
    for (int i = 0; i < n; i++) {
        int me = omp_get_thread_num(), err = UF_OK;
        if (x[i]) {
            memcpy(e->in[me], x[i], (size_t)size * sizeof(float));
            err = uf_voice_net_hear(&e->net[me], e->in[me], y[i]);
        }
        if (err < 0) {
#pragma omp critical
            failed = err;
        }
    }
    return failed;
}
