/* Products of a few rows by one matrix, in registers: small ones, for which calling the library would take longer than the sums. Internal to engine/. */
#ifndef UF_PRODUCTS_H
#define UF_PRODUCTS_H

#include "engine.h"

/* m (rows, 16*n_vectors) = or += v by u, summed over k. Leading dimensions in elements, of a step of `group` in k (v, u) and
 * of a row (m); next_row: from one row of v to the next. */
typedef struct uf_product {
    int rows, n_vectors, k;
    const void *v, *u;
    float *m;
    size_t next_row, ldv, ldu, ldm;
    bool add;
} uf_product;

/* A matrix laid out for them. Its columns are filled up to sixteens with zeros; results are as wide. */
typedef struct uf_packed {
    int k, n, wide;     /* summed over; columns; columns with those that fill them up, a row of the result */
    uf_dtype dtype;     /* of the matrix and what it multiplies; sums are float32 */
    const struct uf_wino_kernels *kernels; /* NULL: plain loops */
    void *u;            /* 64 columns at a time: (k, up to 64), bf16 in pairs along k */
} uf_packed;

/* Whether this processor multiplies that type so, k numbers a sum. float32 always. */
bool uf_packed_fits(uf_dtype dtype, int k);
int uf_packed_open(uf_packed *p, uf_ctx *ctx, uf_dtype dtype, int k, int n); /* it must fit */
void uf_packed_close(uf_packed *p);
void uf_packed_set(uf_packed *p, const float *w, bool turned); /* w (n, k), turned: (k, n); copied */
/* m (rows, wide), on a border of 64 bytes, = v (rows, k) by the matrix; ldv: from one row of v to the next. In one thread. A row's bits do not depend on the others. */
void uf_packed_multiply(const uf_packed *p, int rows, const void *v, size_t ldv, float *m);

/* Sums over rows of the products of each element of v by each of u: what a matrix's gradient is. Rows wait until there are enough to be worth it. */
typedef struct uf_outer {
    int n, k, wide;     /* columns of v; of u; of u with those that fill them up */
    int rows;           /* that wait */
    const struct uf_wino_kernels *kernels; /* of the type of v and u; NULL: plain loops of float32 */
    void *v, *u;        /* bf16: rows in pairs */
    void *zeros;        /* a row of v */
    float *sum;         /* (n, wide) */
} uf_outer;

int uf_outer_open(uf_outer *o, uf_ctx *ctx, uf_dtype dtype, int n, int k); /* uf_packed_fits(dtype, 2) */
void uf_outer_close(uf_outer *o);
void uf_outer_add(uf_outer *o, int rows, const void *v, size_t ldv, const void *u, size_t ldu); /* v (rows, n), u (rows, k), rows ldv and ldu apart */
void uf_outer_take(uf_outer *o, float *w); /* w (n, k) += the sums, which begin anew */

#endif
