#include "voice_ears.h"

#include "pipeline.h"

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

static int members(const uf_voice_ears *e) { return e->o.together ? e->o.most : 1; }

int uf_voice_ears_open(uf_voice_ears *e, uf_ctx *ctx, const char *weights, const uf_voice_ears_options *o) {
    int n = uf_ctx_threads(ctx), pieces_most = 4 * (o->together ? 1 : o->most), all; /* a stretch of the merge is four pieces */
    if (n > pieces_most) n = pieces_most;
    *e = (uf_voice_ears){.ctx = ctx, .o = *o};
    e->net = uf_alloc(ctx, (size_t)n, sizeof *e->net);
    e->in = uf_alloc(ctx, (size_t)n, sizeof *e->in);
    e->out = uf_alloc(ctx, (size_t)n, sizeof *e->out);
    if (!e->net || !e->in || !e->out) return UF_ENOMEM;
    all = members(e);
    uf_voice_net_options net = {.model = o->together ? &uf_model_speech_array : &uf_model_speech, .float32 = o->float32, .keep_room = o->keep_room, .again = o->again,
                                .n_threads = 1, .together = o->together ? all : 0};
    while (e->n < n) {
        char *own = uf_strdup(ctx, weights);
        int i = e->n++;
        e->in[i] = uf_alloc(ctx, (size_t)all * LONGEST, sizeof(float));
        e->out[i] = uf_alloc(ctx, (size_t)all * LONGEST, sizeof(float));
        if (!own || !e->in[i] || !e->out[i]) return free(own), UF_ENOMEM;
        UF_TRY(uf_voice_net_open(&e->net[i], ctx, own, &net));
    }
    return UF_OK;
}

int uf_voice_ears_weights(uf_ctx *ctx, const char *wish, const char *weights_dir, char **each, char **together) {
    const uf_model *wished = NULL;
    *each = NULL;
    if (together) *together = NULL;
    if (wish) UF_TRY(uf_speech_kind(ctx, wish, &wished));
    bool others = wished == &uf_model_speech_array;
    int err = uf_weights_choose(ctx, others ? NULL : wish, uf_model_speech.file, weights_dir, each);
    if (err == UF_OK && together && (!wish || others)) err = uf_weights_choose(ctx, wish, uf_model_speech_array.file, weights_dir, together);
    if (err == UF_OK) return UF_OK;
    free(*each);
    *each = NULL;
    return err;
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

/* What is the piece's alone, of what the network makes of it, to y, its side of the seams before and behind it to edge (2 * FADE each). */
static void give_piece(const pieces *p, int i, const float *out, float *y, float *edge) {
    int first = start_of(p, i), from = seam_of(p, i - 1) + FADE, to = seam_of(p, i) - FADE;
    for (int k = from; k < to; k++) y[k] = out[k - first];
    if (i > 0) memcpy(edge, out + (from - first - 2 * FADE), 2 * FADE * sizeof *edge);
    if (i + 1 < p->n) memcpy(edge + 2 * FADE, out + (to - first), 2 * FADE * sizeof *edge);
}

typedef struct hearing {
    pieces p;
    size_t edges;             /* of a recording */
    const float *const *x;
    const float *const *before; /* NULL: this is the first hearing; else of single recordings */
    float *const *y;
} hearing;

/* Piece i of the recordings from `first` on that one network hears; those that are away have another in their place. */
static int hear_piece(uf_voice_ears *e, int me, const hearing *h, int first, int i) {
    int n = members(e), start = start_of(&h->p, i), there = first;
    size_t length = (size_t)h->p.length;
    while (there < first + n && !h->x[there]) there++;
    if (there == first + n) return UF_OK;
    for (int m = 0; m < n; m++) memcpy(e->in[me] + (size_t)m * length, h->x[h->x[first + m] ? first + m : there] + start, length * sizeof(float));
    if (h->before) memcpy(e->out[me], h->before[first] + start, length * sizeof(float));
    UF_TRY((h->before ? uf_voice_net_hear_again : uf_voice_net_hear)(&e->net[me], e->in[me], e->out[me]));
    for (int m = first; m < first + n; m++)
        if (h->x[m]) give_piece(&h->p, i, e->out[me] + (size_t)(m - first) * length, h->y[m], e->edge + h->edges * (size_t)m + (size_t)(4 * FADE * i));
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
    hearing h = {.p = divide(size, uf_model_speech.multiple), .x = x, .before = before, .y = y};
    h.edges = 4 * FADE * (size_t)h.p.n;
    size_t wanted = h.edges * (size_t)n;
    int failed = UF_OK, all = members(e);
    if (wanted > e->room) {
        free(e->edge);
        e->room = 0;
        if (!(e->edge = uf_alloc(e->ctx, wanted, sizeof *e->edge))) return UF_ENOMEM;
        e->room = wanted;
    }
    for (int i = 0; i < e->n; i++) UF_TRY(uf_voice_net_resize(&e->net[i], h.p.length));
#pragma omp parallel for schedule(dynamic) num_threads(e->n)
    for (int k = 0; k < n / all * h.p.n; k++) {
        int err = hear_piece(e, omp_get_thread_num(), &h, k / h.p.n * all, k % h.p.n);
        if (err < 0) {
#pragma omp critical
            failed = err;
        }
    }
    for (int i = 0; failed == UF_OK && i < n; i++)
        if (x[i]) join(&h.p, e->edge + h.edges * (size_t)i, y[i]);
    return failed;
}

int uf_voice_ears_hear(uf_voice_ears *e, int n, int size, const float *const *x, float *const *y) { return hear(e, n, size, x, NULL, y); }

int uf_voice_ears_hear_again(uf_voice_ears *e, int n, int size, const float *const *x, const float *const *before, float *const *y) {
    return hear(e, n, size, x, before, y);
}
