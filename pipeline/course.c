/* The likeliest course of a lag through evidence that changes from moment to moment: it stays, creeps as clocks do, or jumps, which costs what evidence must
 * outweigh (Viterbi 1967, IEEE Trans. IT 13). Moments without evidence decide nothing, and what both sides of them say holds. */
#include "merge.h"

#include <math.h>
#include <stdlib.h>

enum { STAYS, COMES_UP, COMES_DOWN, LEAPS, JUMPS }; /* JUMPS + 0..2: from the block before, this one, the next */

typedef struct search {
    const uf_course *c;
    int n_blocks;          /* of c->near places each */
    uint8_t *how;          /* (n, n_states) */
    int *best, *all;       /* (n, n_blocks): the best state of each block a moment before, -1: none; (n): of all */
    float *was, *is;       /* n_states */
} search;

/* Gaussian noise of deviation 1 around `strength` at the right place and around 0 elsewhere; in every other moment perhaps nothing is heard at all. */
double uf_course_worth(double z, double strength) {
    double more = strength * z - .5 * strength * strength;
    return more > 30 ? more : log1p(exp(more));
}

static int block_of(const uf_course *c, int state) { return (c->place[state] - c->place[0]) / c->near; }

static void find_best(search *s, int k) {
    int *best = s->best + (size_t)k * (size_t)s->n_blocks, all = 0;
    for (int b = 0; b < s->n_blocks; b++) best[b] = -1;
    for (int i = 0; i < s->c->n_states; i++) {
        int *b = best + block_of(s->c, i);
        if (*b < 0 || s->was[i] > s->was[*b]) *b = i;
        if (s->was[i] > s->was[all]) all = i;
    }
    s->all[k] = all;
}

/* From where state i is reached best at moment k. */
static float reach(const search *s, int k, int i, uint8_t *how) {
    const uf_course *c = s->c;
    const int *best = s->best + (size_t)k * (size_t)s->n_blocks;
    float most = s->was[i];
    int block = block_of(c, i);
    *how = STAYS;
    if (i > 0 && c->place[i] - c->place[i - 1] == 1 && s->was[i - 1] - c->creep > most) most = s->was[i - 1] - c->creep, *how = COMES_UP;
    if (i + 1 < c->n_states && c->place[i + 1] - c->place[i] == 1 && s->was[i + 1] - c->creep > most) most = s->was[i + 1] - c->creep, *how = COMES_DOWN;
    if (s->was[s->all[k]] - c->leap > most) most = s->was[s->all[k]] - c->leap, *how = LEAPS;
    for (int b = block - 1; b <= block + 1; b++) {
        int from = b >= 0 && b < s->n_blocks ? best[b] : -1;
        if (from >= 0 && s->was[from] - c->jump > most && abs(c->place[i] - c->place[from]) >= c->least) most = s->was[from] - c->jump, *how = (uint8_t)(JUMPS + b - block + 1);
    }
    return most;
}

static int came_from(const search *s, int k, int i) {
    uint8_t how = s->how[(size_t)k * (size_t)s->c->n_states + (size_t)i];
    if (how >= JUMPS) return s->best[(size_t)k * (size_t)s->n_blocks + (size_t)(block_of(s->c, i) + how - JUMPS - 1)];
    return how == LEAPS ? s->all[k] : how == COMES_UP ? i - 1 : how == COMES_DOWN ? i + 1 : i;
}

static void go(search *s, const float *score, int n, int *state) {
    int n_states = s->c->n_states, last = 0;
    for (int k = 0; k < n; k++) {
        const float *now = score + (size_t)k * (size_t)n_states;
        find_best(s, k);
        for (int i = 0; i < n_states; i++) s->is[i] = now[i] + reach(s, k, i, s->how + (size_t)k * (size_t)n_states + (size_t)i);
        float *swap = s->was;
        s->was = s->is;
        s->is = swap;
    }
    for (int i = 1; i < n_states; i++)
        if (s->was[i] > s->was[last]) last = i;
    for (int k = n - 1; k >= 0; k--) {
        state[k] = last;
        last = came_from(s, k, last);
    }
}

int uf_course_find(uf_ctx *ctx, const uf_course *c, const float *score, int n, int *state) {
    search s = { .c = c, .n_blocks = block_of(c, c->n_states - 1) + 1 };
    size_t n_all = (size_t)n + 1;
    float *room = uf_alloc(ctx, 2 * (size_t)c->n_states, sizeof(*room));
    s.how = uf_alloc(ctx, n_all * (size_t)c->n_states, 1);
    s.best = uf_alloc(ctx, n_all * (size_t)s.n_blocks, sizeof(*s.best));
    s.all = uf_alloc(ctx, n_all, sizeof(*s.all));
    s.was = room;
    s.is = room ? room + c->n_states : NULL;
    bool ok = s.how && s.best && s.all && room;
    if (ok) go(&s, score, n, state);
    free(s.how);
    free(s.best);
    free(s.all);
    free(room);
    return ok ? UF_OK : UF_ENOMEM;
}
