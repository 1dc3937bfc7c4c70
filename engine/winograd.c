/* Winograd convolution: which shapes, packed weights, and the walk over tiles. */
#include "winograd.h"
#include "onednn.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { P = UF_WINO_POINTS, WIDE = UF_WINO_WIDE, MOST_TILES = 48, ROW = 6 };

struct uf_wino {
    uf_wino_spec spec;
    const uf_wino_kernels *k;
    int tiles_y, tiles_x, n_tiles, n_wide;
    int per_job;        /* tiles of a job */
    int n_jobs, n_split; /* jobs along the tiles; shares of the output channels */
    int n_threads;
    void *u;            /* packed weights: (n_wide, P, x.c, up to WIDE) */
    void *zero;         /* a pixel of the border */
};

static bool side_fits(int x, int y, int before) {
    int after = y + 2 - x - before;
    return before >= 0 && before <= 2 && after >= 0 && after <= 2;
}

const uf_wino_kernels *uf_product_kernels_of(uf_dtype t) {
    if (t == UF_BF16) return uf_cpu_has_bf16() ? &uf_wino_bf16 : NULL;
    return uf_cpu_has_avx512() ? &uf_wino_f32_avx512 : uf_cpu_has_avx2() ? &uf_wino_f32_avx2 : NULL;
}

bool uf_wino_fits(const uf_wino_spec *s) {
    if (s->dtype == UF_BF16 && uf_cpu_has_amx()) return false; /* the direct convolution has many times this processor's dot products */
    return uf_product_kernels_of(s->dtype) && s->x.c % 16 == 0 && s->y.c % 16 == 0 && side_fits(s->x.h, s->y.h, s->top) && side_fits(s->x.w, s->y.w, s->left);
}

static int ceil_div(int a, int b) { return (a + b - 1) / b; }

/* A job's transformed input should stay in the second cache, and every thread should have a job. */
static void share(uf_wino *w) {
    int n_threads = w->n_threads;
    size_t room = 320u << 10, tile = (size_t)(P * w->spec.x.c) * w->k->size;
    int most = (int)(room / tile) / ROW * ROW;
    most = most < 2 * ROW ? 2 * ROW : most > MOST_TILES ? MOST_TILES : most;
    w->n_jobs = ceil_div(w->n_tiles, most);
    w->n_split = 1;
    if (w->n_tiles >= 2 * ROW * n_threads) w->n_jobs = ceil_div(w->n_jobs, n_threads) * n_threads;
    else if (w->n_jobs < n_threads) w->n_split = n_threads < w->n_wide ? n_threads : w->n_wide;
    w->per_job = ceil_div(w->n_tiles, w->n_jobs);
}

int uf_wino_open(uf_wino **out, uf_ctx *ctx, const uf_wino_spec *s) {
    uf_wino *w = uf_alloc(ctx, 1, sizeof *w);
    if (!w) return UF_ENOMEM;
    w->spec = *s;
    w->k = uf_product_kernels_of(s->dtype);
    w->tiles_y = ceil_div(s->y.h, 2);
    w->tiles_x = ceil_div(s->y.w, 2);
    w->n_tiles = s->x.n * w->tiles_y * w->tiles_x;
    w->n_wide = ceil_div(s->y.c, WIDE);
    w->n_threads = s->n_threads;
    share(w);
    w->u = uf_alloc(ctx, (size_t)P * (size_t)s->x.c * (size_t)s->y.c, w->k->size);
    w->zero = uf_alloc(ctx, (size_t)s->x.c, w->k->size);
    if (!w->u || !w->zero) {
        uf_wino_close(&w);
        return UF_ENOMEM;
    }
    *out = w;
    return UF_OK;
}

void uf_wino_close(uf_wino **pw) {
    uf_wino *w = *pw;
    if (!w) return;
    free(w->u);
    free(w->zero);
    free(w);
    *pw = NULL;
}

static size_t v_bytes(const uf_wino *w) { return (size_t)(P * w->per_job) * (size_t)w->spec.x.c * w->k->size; }
static size_t m_bytes(const uf_wino *w) { return (size_t)(P * w->per_job * WIDE) * sizeof(float); }
static size_t thread_bytes(const uf_wino *w) { return (v_bytes(w) + m_bytes(w) + 127) / 64 * 64; }

size_t uf_wino_scratch(const uf_wino *w) { return (size_t)w->n_threads * thread_bytes(w); }

static int width_of(const uf_wino *w, int wide) {
    int left = w->spec.y.c - wide * WIDE;
    return left < WIDE ? left : WIDE;
}

/* u = G g G' of n filters at once; g[tap][filter]. */
static void transform_filters(int n, float g[9][WIDE], float u[P][WIDE]) {
    float t[12][WIDE]; /* G g: 4 rows of 3 */
    for (int j = 0; j < 3; j++)
        for (int i = 0; i < n; i++) {
            float a = g[j][i], b = g[3 + j][i], c = g[6 + j][i];
            t[j][i] = a;
            t[3 + j][i] = .5f * (a + b + c);
            t[6 + j][i] = .5f * (a - b + c);
            t[9 + j][i] = c;
        }
    for (int r = 0; r < 4; r++)
        for (int i = 0; i < n; i++) {
            float a = t[3 * r][i], b = t[3 * r + 1][i], c = t[3 * r + 2][i];
            u[4 * r][i] = a;
            u[4 * r + 1][i] = .5f * (a + b + c);
            u[4 * r + 2][i] = .5f * (a - b + c);
            u[4 * r + 3][i] = c;
        }
}

static void gather(const uf_wino *w, const float *weights, const float *scale, int wide, int n, int c, float g[9][WIDE]) {
    const uf_wino_spec *s = &w->spec;
    for (int i = 0; i < n; i++) {
        int o = wide * WIDE + i;
        const float *f = weights + 9 * (s->to_data ? (size_t)c * (size_t)s->y.c + (size_t)o
                                                   : (size_t)o * (size_t)s->x.c + (size_t)c);
        float factor = scale ? scale[s->to_data ? c : o] : 1.f;
        for (int t = 0; t < 9; t++) g[t][i] = factor * f[s->to_data ? 8 - t : t];
    }
}

void uf_wino_pack(uf_wino *w, const float *weights, const float *scale) {
    int c = w->spec.x.c, per = w->k->group;
#pragma omp parallel for collapse(2)
    for (int wide = 0; wide < w->n_wide; wide++)
        for (int position = 0; position < c; position++) {
            float g[9][WIDE], u[P][WIDE];
            int n = width_of(w, wide);
            gather(w, weights, scale, wide, n, w->k->channel(position, c), g);
            transform_filters(n, g, u);
            for (int p = 0; p < P; p++) {
                size_t at = (size_t)(wide * WIDE * P) * (size_t)c + (size_t)p * (size_t)c * (size_t)n +
                            (size_t)(position / per * per) * (size_t)n + (size_t)(position % per);
                w->k->store(n, u[p], (char *)w->u + at * w->k->size);
            }
        }
}

typedef struct place { /* a tile's corner in y */
    int n, y, x;
} place;

static place place_of(const uf_wino *w, int tile) {
    int x = tile % w->tiles_x, rest = tile / w->tiles_x;
    return (place){rest / w->tiles_y, rest % w->tiles_y * 2, x * 2};
}

static void read_tile(const uf_wino *w, const char *x, place at, char *v, size_t step) {
    uf_shape s = w->spec.x;
    const void *px[P];
    size_t pixel = (size_t)s.c * w->k->size;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int h = at.y - w->spec.top + i, v_ = at.x - w->spec.left + j;
            bool inside = h >= 0 && h < s.h && v_ >= 0 && v_ < s.w;
            px[4 * i + j] = inside ? x + (((size_t)at.n * (size_t)s.h + (size_t)h) * (size_t)s.w + (size_t)v_) * pixel
                                   : (const char *)w->zero;
        }
    w->k->in(px, s.c, v, step);
}

static void write_tile(const uf_wino *w, const float *m, size_t step, int wide, place at, const float *bias,
                       const char *residual, bool relu, char *y) {
    uf_shape s = w->spec.y;
    const void *r[4] = {0};
    void *to[4] = {0};
    for (int i = 0; i < 4; i++) {
        int h = at.y + i / 2, v = at.x + i % 2;
        if (h >= s.h || v >= s.w) continue;
        size_t pixel = (((size_t)at.n * (size_t)s.h + (size_t)h) * (size_t)s.w + (size_t)v) * (size_t)s.c;
        size_t byte = (pixel + (size_t)(wide * WIDE)) * w->k->size;
        to[i] = y + byte;
        r[i] = residual ? residual + byte : NULL;
    }
    w->k->out(m, step, width_of(w, wide) / 16, bias ? bias + wide * WIDE : NULL, relu, r, to);
}

void uf_wino_run(const uf_wino *w, const void *x, const float *bias, const void *residual, bool relu, void *y,
                 void *scratch) {
    size_t c = (size_t)w->spec.x.c, size = w->k->size;
#pragma omp parallel for schedule(dynamic) collapse(2) num_threads(w->n_threads)
    for (int job = 0; job < w->n_jobs; job++)
        for (int split = 0; split < w->n_split; split++) {
            int first = job * w->per_job, n = w->n_tiles - first < w->per_job ? w->n_tiles - first : w->per_job;
            if (n <= 0) continue;
            char *v = (char *)scratch + (size_t)omp_get_thread_num() * thread_bytes(w);
            float *m = (float *)(void *)(v + (v_bytes(w) + 63) / 64 * 64);
            size_t v_step = (size_t)w->per_job * c, m_step = (size_t)(w->per_job * WIDE);
            for (int t = 0; t < n; t++) read_tile(w, x, place_of(w, first + t), v + (size_t)t * c * size, v_step);
            for (int wide = split * w->n_wide / w->n_split; wide < (split + 1) * w->n_wide / w->n_split; wide++) {
                int width = width_of(w, wide);
                for (int p = 0; p < P; p++) {
                    size_t u = (size_t)(wide * WIDE * P) * c + (size_t)p * c * (size_t)width;
                    uf_product a = {.rows = n, .n_vectors = width / 16, .k = (int)c, .v = v + (size_t)p * v_step * size,
                                    .u = (char *)w->u + u * size, .m = m + (size_t)p * m_step, .next_row = c, .ldv = c,
                                    .ldu = (size_t)(width * w->k->group), .ldm = WIDE};
                    w->k->product(&a);
                }
                for (int t = 0; t < n; t++)
                    write_tile(w, m + t * WIDE, m_step, wide, place_of(w, first + t), bias, residual, relu, y);
            }
        }
}
