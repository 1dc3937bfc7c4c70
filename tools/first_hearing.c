/* A first hearing for those who train the second: what the pipeline makes of a recording before `speech-again` hears it. */
#include "app.h"
#include "training.h"
#include "voice_net.h"

#include <stdlib.h>
#include <string.h>

enum { LATE = UF_SPEECH_HOP / 2 };

typedef struct hearing {
    uf_voice_net net;
    int n;
    float *in, *out; /* n + a hop */
} hearing;

static void hearing_close(void **state) {
    hearing *h = *state;
    if (!h) return;
    uf_voice_net_close(&h->net);
    free(h->in);
    free(h->out);
    free(h);
    *state = NULL;
}

static int hearing_open(void **state, uf_ctx *ctx, const char *weights, int n) {
    hearing *h = uf_alloc(ctx, 1, sizeof *h);
    if (!h) return UF_ENOMEM;
    h->n = n;
    h->in = uf_alloc(ctx, (size_t)(n + UF_SPEECH_HOP), sizeof(float));
    h->out = uf_alloc(ctx, (size_t)(n + UF_SPEECH_HOP), sizeof(float));
    int err = uf_voice_net_open(&h->net, ctx, weights, &(uf_voice_net_options){.model = &uf_model_speech, .again = true, .n_threads = 1});
    if (err == UF_OK && !(h->in && h->out)) err = UF_ENOMEM;
    if (err == UF_OK) err = uf_voice_net_resize(&h->net, n + UF_SPEECH_HOP);
    *state = h;
    if (err < 0) hearing_close(state);
    return err;
}

/* Its frames begin half a hop off those of the second hearing, as in uf_voice_net_hear_again(). */
static int hearing_run(void *state, const float *recording, float *left, float *first) {
    hearing *h = state;
    size_t n = (size_t)h->n;
    memset(h->in, 0, LATE * sizeof *h->in);
    memcpy(h->in + LATE, recording, n * sizeof *recording);
    memset(h->in + LATE + n, 0, LATE * sizeof *h->in);
    UF_TRY(uf_voice_net_hear(&h->net, h->in, h->out));
    memcpy(first, h->out + LATE, n * sizeof *first);
    uf_voice_dry_run(h->net.dry, h->in, h->out, h->out);
    memcpy(left, h->out + LATE, n * sizeof *left);
    return UF_OK;
}

const uf_first_hearing uf_first_hearing_of_speech = {.open = hearing_open, .run = hearing_run, .close = hearing_close};
