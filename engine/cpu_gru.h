/* What the recurrent units' two directions share (cpu_gru.c, cpu_gru_grad.c). Internal to engine/. */
#ifndef UF_CPU_GRU_H
#define UF_CPU_GRU_H

#include "plan.h"

enum { UF_GRU_ROWS = 16 }; /* sequences together at most */

typedef struct uf_gru_sizes {
    int sequences, steps, in, out;
    int across;          /* neighbouring sequences whose places are equally far apart ... */
    size_t apart;        /* ... so many */
    bool rows, reverse;
    size_t w, hw;
} uf_gru_sizes;
uf_gru_sizes uf_gru_sizes_of(const uf_node *n);

/* Place of step i of sequence q. */
static inline size_t uf_gru_place(const uf_gru_sizes *s, int q, int i) {
    size_t t = (size_t)(s->reverse ? s->steps - 1 - i : i), k = (size_t)q;
    return s->rows ? k / s->w * s->hw + t * s->w + k % s->w : k * s->w + t;
}

/* Sequences are taken in groups of neighbours, `rows` of them at most: how many groups; group i begins at sequence *from and has so many. */
static inline int uf_gru_groups(const uf_gru_sizes *s, int rows) { return s->sequences / s->across * ((s->across + rows - 1) / rows); }
static inline int uf_gru_group(const uf_gru_sizes *s, int rows, int i, int *from) {
    int parts = (s->across + rows - 1) / rows, first = i % parts * rows;
    *from = i / parts * s->across + first;
    return s->across - first < rows ? s->across - first : rows;
}

/* n arrays of count[i] floats out of `from`, each on a border of 64 bytes; from NULL: only how many floats they take together. */
size_t uf_carve(float *from, int n, const size_t *count, float **const *to);

#endif
