#include "voice_ears.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Samples at 16 kHz: a piece at most, so that one recording alone, 17 s of it, has work for four threads; what two neighbours have in common at
 * least, to hear from both sides of their seam; half a seam, in which one fades into the other. */
enum { LONGEST = 10 * 8192, COMMON = 4096, FADE = 800 };

typedef struct pieces {
    int n, length, size; /* of one recording: pieces, samples of each, of all */
} pieces;

static pieces divide(int size, int multiple) {
    pieces p = {.n = 1, .length = size, .size = size};
    if (size <= LONGEST) return p;
    p.n = (size - COMMON + LONGEST - COMMON - 1) / (LONGEST - COMMON);
    p.length = ((size - COMMON + p.n - 1) / p.n + COMMON + multiple - 1) / multiple * multiple;
    return p;
}

static int start_of(const pieces *p, int i) { return p->n > 1 ? (int)((int64_t)i * (p->size - p->length) / (p->n - 1)) : 0; }

/* The middle of what piece i and the next one have in common; around it lies their seam. */
static int seam_of(const pieces *p, int i) { return i < 0 ? -FADE : i + 1 >= p->n ? p->size + FADE : (start_of(p, i + 1) + start_of(p, i) + p->length) / 2; }

int uf_voice_ears_open(uf_voice_ears *e, uf_ctx *ctx, const char *weights, int most, bool float32, bool keep_room, bool again) {
    int n = uf_ctx_threads(ctx), pieces_most = 4 * most; /* a stretch of the merge is four pieces */
    if (n > pieces_most) n = pieces_most;
    *e = (uf_voice_ears){.ctx = ctx};
    e->net = uf_alloc(ctx, (size_t)n, sizeof *e->net);
    e->in = uf_alloc(ctx, (size_t)n, sizeof *e->in);
    e->out = uf_alloc(ctx, (size_t)n, sizeof *e->out);
    if (!e->net || !e->in || !e->out) return UF_ENOMEM;
    while (e->n < n) {
        char *own = uf_strdup(ctx, weights);
        int i = e->n++;
        e->in[i] = uf_alloc(ctx, LONGEST, sizeof(float));
        e->out[i] = uf_alloc(ctx, LONGEST, sizeof(float));
        if (!own || !e->in[i] || !e->out[i]) return free(own), UF_ENOMEM;
        UF_TRY(uf_voice_net_open(&e->net[i], ctx, own, &(uf_voice_net_options){.model = &uf_model_speech, .float32 = float32, .keep_room = keep_room, .again = again, .n_threads = 1}));
    }
    return UF_OK;
}

void uf_voice_ears_close(uf_voice_ears *e) {
    for (int i = 0; i < e->n; i++) {
        uf_voice_net_close(&e->net[i]);
        free(e->in[i]);
        free(e->out[i]);
    }
    free(e->net);
    free(e->in);
    free(e->out);
    free(e->edge);
    *e = (uf_voice_ears){0};
}

/* Piece i of x: what is its alone to y, its side of the seams before and behind it to edge (2 * FADE each). before: NULL: this is the first hearing. */
static int hear_piece(uf_voice_ears *e, int me, const pieces *p, int i, const float *x, const float *before, float *y, float *edge) {
    int first = start_of(p, i), from = seam_of(p, i - 1) + FADE, to = seam_of(p, i) - FADE;
    memcpy(e->in[me], x + first, (size_t)p->length * sizeof *x);
    if (before) memcpy(e->out[me], before + first, (size_t)p->length * sizeof *before);
    UF_TRY((before ? uf_voice_net_hear_again : uf_voice_net_hear)(&e->net[me], e->in[me], e->out[me]));
    memcpy(y + from, e->out[me] + (from - first), (size_t)(to - from) * sizeof *y);
    if (i > 0) memcpy(edge, e->out[me] + (from - first - 2 * FADE), 2 * FADE * sizeof *edge);
    if (i + 1 < p->n) memcpy(edge + 2 * FADE, e->out[me] + (to - first), 2 * FADE * sizeof *edge);
    return UF_OK;
}

static void join(const pieces *p, const float *edge, float *y) {
    for (int i = 0; i + 1 < p->n; i++) {
        const float *before = edge + (4 * i + 2) * FADE, *after = edge + 4 * (i + 1) * FADE;
        float *to = y + seam_of(p, i) - FADE;
        for (int k = 0; k < 2 * FADE; k++) {
            float t = ((float)k + .5f) / (2 * FADE);
            to[k] = t * after[k] + (1.f - t) * before[k];
        }
    }
}

static int hear(uf_voice_ears *e, int n, int size, const float *const *x, const float *const *before, float *const *y) {
    pieces p = divide(size, uf_model_speech.multiple);
    size_t edges = 4 * FADE * (size_t)p.n, wanted = edges * (size_t)n;
    int failed = UF_OK;
    if (wanted > e->room) {
        free(e->edge);
        e->room = 0;
        if (!(e->edge = uf_alloc(e->ctx, wanted, sizeof *e->edge))) return UF_ENOMEM;
        e->room = wanted;
    }
    for (int i = 0; i < e->n; i++) UF_TRY(uf_voice_net_resize(&e->net[i], p.length));
#pragma omp parallel for schedule(dynamic) num_threads(e->n)
    for (int k = 0; k < n * p.n; k++) {
        int which = k / p.n, i = k % p.n;
        int err = x[which] ? hear_piece(e, omp_get_thread_num(), &p, i, x[which], before ? before[which] : NULL, y[which], e->edge + edges * (size_t)which + (size_t)(4 * FADE * i)) : UF_OK;
        if (err < 0) {
#pragma omp critical
            failed = err;
        }
    }
    for (int i = 0; failed == UF_OK && i < n; i++)
        if (x[i]) join(&p, e->edge + edges * (size_t)i, y[i]);
    return failed;
}

int uf_voice_ears_hear(uf_voice_ears *e, int n, int size, const float *const *x, float *const *y) { return hear(e, n, size, x, NULL, y); }

int uf_voice_ears_hear_again(uf_voice_ears *e, int n, int size, const float *const *x, const float *const *before, float *const *y) {
    return hear(e, n, size, x, before, y);
}
