/* Short-time Fourier transform and its inverse by FFTW; spectral norm.
 *
 * x (N,C,1,T) <-> (N,2C,F,L): for channel c the real parts are channel 2c, the imaginary parts 2c+1; F = fft/2+1,
 * L = 1 + T/hop. Periodic Hann window, centred frames, reflected ends: PyTorch's torch.stft(center=True). */
#include "cpu_kernels.h"
#include "fft.h"
#include "ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16 }; /* frames that are turned at once: a transform has its bins in a row, a tensor its frames */

typedef struct frames {
    uf_fft t;
    int fft, hop, bins, length;
    float *window;
    float *block; /* (2,bins,BLOCK) */
} frames;

static void frames_close(frames *f) {
    uf_fft_close(&f->t);
    free(f->window);
    free(f->block);
}

static bool frames_open(frames *f, int fft, int hop, int length) {
    *f = (frames){.fft = fft, .hop = hop, .bins = fft / 2 + 1, .length = length};
    f->window = malloc((size_t)fft * sizeof(float));
    f->block = malloc((size_t)f->bins * 2 * BLOCK * sizeof(float));
    if (!uf_fft_open(&f->t, fft) || !f->window || !f->block) return false;
    uf_fft_window(fft, f->window);
    return true;
}

/* Sample index of frame l's element i, with both ends reflected. */
static int reflect(int at, int length) {
    if (length == 1) return 0;
    int period = 2 * (length - 1);
    at = ((at % period) + period) % period;
    return at < length ? at : period - at;
}

static int infer_stft(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape;
    uf_attr a = y->attr;
    if (x.h != 1 || a.fft < 2 || a.fft % 2 || a.hop < 1 || x.w <= a.fft / 2)
        return uf_shape_error(ctx, y, "the signal is (N,C,1,T) with T over half of an even FFT size");
    y->shape = (uf_shape){x.n, 2 * x.c, a.fft / 2 + 1, 1 + x.w / a.hop};
    return UF_OK;
}

/* One frame to its bins. */
static void analyse(frames *f, const float *x, int l) {
    int from = l * f->hop - f->fft / 2;
    if (from >= 0 && from + f->fft <= f->length)
        for (int i = 0; i < f->fft; i++) f->t.time[i] = f->window[i] * x[from + i];
    else
        for (int i = 0; i < f->fft; i++) f->t.time[i] = f->window[i] * x[reflect(from + i, f->length)];
    uf_fft_forward(&f->t);
}

/* The samples of frame l, windowed, added to x: the adjoint of analyse(). */
static void synthesise(const frames *f, float *x, int l) {
    int from = l * f->hop - f->fft / 2;
    if (from >= 0 && from + f->fft <= f->length)
        for (int i = 0; i < f->fft; i++) x[from + i] += f->window[i] * f->t.time[i];
    else
        for (int i = 0; i < f->fft; i++) x[reflect(from + i, f->length)] += f->window[i] * f->t.time[i];
}

/* Element (b, j) of the block's real or imaginary parts. */
static float *in_block(const frames *f, int imaginary, int b, int j) { return f->block + ((size_t)imaginary * (size_t)f->bins + (size_t)b) * BLOCK + j; }

/* Frames [l, l + n) of a plane of real or imaginary parts (bins,frames) to the block, or from it. */
static void read_block(const frames *f, int imaginary, const float *plane, int n_frames, int l, int n) {
    for (int b = 0; b < f->bins; b++) memcpy(in_block(f, imaginary, b, 0), plane + (size_t)b * (size_t)n_frames + l, (size_t)n * sizeof *plane);
}

static void write_block(const frames *f, int imaginary, float *plane, int n_frames, int l, int n) {
    for (int b = 0; b < f->bins; b++) memcpy(plane + (size_t)b * (size_t)n_frames + l, in_block(f, imaginary, b, 0), (size_t)n * sizeof *plane);
}

static void stft_fwd(const uf_call *k) {
    uf_shape s = k->y->shape, xs = k->y->in[0]->shape;
#pragma omp parallel for
    for (int n = 0; n < s.n; n++) {
        frames f;
        bool ok = frames_open(&f, k->y->attr.fft, k->y->attr.hop, xs.w);
        for (int c = 0; ok && c < xs.c; c++)
            for (int l = 0, m; l < s.w; l += m) {
                m = s.w - l < BLOCK ? s.w - l : BLOCK;
                for (int j = 0; j < m; j++) {
                    analyse(&f, k->x[0] + uf_at(xs, n, c, 0, 0), l + j);
                    for (int i = 0; i < 2; i++)
                        for (int b = 0; b < s.h; b++) *in_block(&f, i, b, j) = f.t.bins[b][i];
                }
                for (int i = 0; i < 2; i++) write_block(&f, i, k->out + uf_at(s, n, 2 * c + i, 0, 0), s.w, l, m);
            }
        frames_close(&f);
    }
}

/* The transform is linear: its adjoint is an unnormalised inverse whose inner bins count half, because the c2r
 * transform counts each of them twice. */
static void stft_bwd(const uf_call *k) {
    uf_shape s = k->y->shape, xs = k->y->in[0]->shape;
    if (!k->dx[0]) return;
#pragma omp parallel for
    for (int n = 0; n < s.n; n++) {
        frames f;
        bool ok = frames_open(&f, k->y->attr.fft, k->y->attr.hop, xs.w);
        for (int c = 0; ok && c < xs.c; c++)
            for (int l = 0, m; l < s.w; l += m) {
                m = s.w - l < BLOCK ? s.w - l : BLOCK;
                for (int i = 0; i < 2; i++) read_block(&f, i, k->dy + uf_at(s, n, 2 * c + i, 0, 0), s.w, l, m);
                for (int j = 0; j < m; j++) {
                    for (int b = 0; b < s.h; b++) {
                        bool end = b == 0 || b == s.h - 1;
                        f.t.bins[b][0] = *in_block(&f, 0, b, j) * (end ? 1.f : .5f);
                        f.t.bins[b][1] = end ? 0.f : *in_block(&f, 1, b, j) * .5f;
                    }
                    uf_fft_inverse(&f.t);
                    synthesise(&f, k->dx[0] + uf_at(xs, n, c, 0, 0), l + j);
                }
            }
        frames_close(&f);
    }
}

const uf_op uf_op_stft = {.name = "stft", .n_in = 1, .infer = infer_stft, .fwd = stft_fwd, .bwd = stft_bwd};

static int infer_istft(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape;
    uf_attr a = y->attr;
    if (x.c % 2 || a.fft < 2 || a.fft % 2 || a.hop < 1 || x.h != a.fft / 2 + 1)
        return uf_shape_error(ctx, y, "the spectrum is (N,2C,fft/2+1,frames)");
    if (a.to < 1 || a.to > (x.w - 1) * a.hop + a.fft / 2) return uf_shape_error(ctx, y, "the length is out of reach");
    y->shape = (uf_shape){x.n, x.c / 2, 1, a.to};
    return UF_OK;
}

/* Sum of squared windows over each sample: overlap-add divides by it. */
static void envelope(const frames *f, int n_frames, float *e) {
    memset(e, 0, (size_t)f->length * sizeof *e);
    for (int l = 0; l < n_frames; l++)
        for (int i = 0; i < f->fft; i++) {
            int at = l * f->hop + i - f->fft / 2;
            if (at >= 0 && at < f->length) e[at] += f->window[i] * f->window[i];
        }
    for (int i = 0; i < f->length; i++)
        if (e[i] < 1e-8f) e[i] = 1.f;
}

static size_t istft_aux(const uf_node *y) { return (size_t)y->shape.w; }

static void istft_fwd(const uf_call *k) {
    uf_shape s = k->y->shape, xs = k->y->in[0]->shape;
    frames one;
    memset(k->out, 0, uf_count(s) * sizeof(float));
    if (frames_open(&one, k->y->attr.fft, k->y->attr.hop, s.w)) envelope(&one, xs.w, k->aux);
    frames_close(&one);
#pragma omp parallel for
    for (int n = 0; n < s.n; n++) {
        frames f;
        bool ok = frames_open(&f, k->y->attr.fft, k->y->attr.hop, s.w);
        for (int c = 0; ok && c < s.c; c++) {
            float *y = k->out + uf_at(s, n, c, 0, 0);
            for (int l = 0; l < xs.w; l++) {
                for (int b = 0; b < xs.h; b++) {
                    f.t.bins[b][0] = k->x[0][uf_at(xs, n, 2 * c, b, l)];
                    f.t.bins[b][1] = b == 0 || b == xs.h - 1 ? 0.f : k->x[0][uf_at(xs, n, 2 * c + 1, b, l)];
                }
                uf_fft_inverse(&f.t);
                for (int i = 0; i < f.fft; i++) {
                    int at = l * f.hop + i - f.fft / 2;
                    if (at >= 0 && at < s.w) y[at] += f.window[i] * f.t.time[i] / (float)f.fft;
                }
            }
            for (int i = 0; i < s.w; i++) y[i] /= k->aux[i];
        }
        frames_close(&f);
    }
}

static void istft_bwd(const uf_call *k) {
    if (!k->dx[0]) return;
    uf_shape s = k->y->shape, xs = k->y->in[0]->shape;
#pragma omp parallel for
    for (int n = 0; n < s.n; n++) {
        frames f;
        bool ok = frames_open(&f, k->y->attr.fft, k->y->attr.hop, s.w);
        for (int c = 0; ok && c < s.c; c++) {
            const float *dy = k->dy + uf_at(s, n, c, 0, 0);
            for (int l = 0; l < xs.w; l++) {
                for (int i = 0; i < f.fft; i++) {
                    int at = l * f.hop + i - f.fft / 2;
                    f.t.time[i] = at >= 0 && at < s.w ? f.window[i] * dy[at] / k->aux[at] / (float)f.fft : 0.f;
                }
                uf_fft_forward(&f.t);
                for (int b = 0; b < xs.h; b++) { /* inner bins stand for two */
                    bool end = b == 0 || b == xs.h - 1;
                    k->dx[0][uf_at(xs, n, 2 * c, b, l)] += (end ? 1.f : 2.f) * f.t.bins[b][0];
                    if (!end) k->dx[0][uf_at(xs, n, 2 * c + 1, b, l)] += 2.f * f.t.bins[b][1];
                }
            }
        }
        frames_close(&f);
    }
}

const uf_op uf_op_istft = {
    .name = "istft", .n_in = 1, .infer = infer_istft, .fwd = istft_fwd, .bwd = istft_bwd, .n_aux = istft_aux};

/* ---- what is done to spectra: channel 2c is real, 2c+1 imaginary --------------------------------------------------------- */

static int infer_complex(uf_ctx *ctx, uf_node *y) {
    if (y->in[0]->shape.c % 2) return uf_shape_error(ctx, y, "a spectrum is (N,2C,F,L)");
    if (y->n_in > 1 && !uf_same(y->in[0]->shape, y->in[1]->shape)) return uf_shape_error(ctx, y, "the two shapes must be equal");
    return uf_infer_same(ctx, y);
}

/* Walks the complex pairs: at + i is a real part, at + plane + i its imaginary part. */
typedef struct pairs {
    size_t n, plane; /* of planes of real parts; elements a plane */
} pairs;

static pairs pairs_of(uf_shape x) { return (pairs){(size_t)x.n * (size_t)x.c / 2, (size_t)x.h * (size_t)x.w}; }

enum { AT_ONCE = 256 };

/* s = (|x|^2 + eps)^((p-1)/2) of n pairs, AT_ONCE at most */
static void weigh(size_t n, const float *re, const float *im, const uf_attr *a, float *s) { uf_powers(n, re, im, a->eps, .5f * (a->p - 1.f), s); }

static void compress_fwd(const uf_call *k) {
    pairs q = pairs_of(k->y->shape);
#pragma omp parallel for
    for (size_t c = 0; c < q.n; c++) {
        float s[AT_ONCE];
        for (size_t from = 0; from < q.plane; from += AT_ONCE) {
            size_t n = q.plane - from < AT_ONCE ? q.plane - from : AT_ONCE;
            const float *re = k->x[0] + 2 * c * q.plane + from, *im = re + q.plane;
            float *y = k->out + 2 * c * q.plane + from;
            weigh(n, re, im, &k->y->attr, s);
            for (size_t i = 0; i < n; i++) y[i] = s[i] * re[i];
            for (size_t i = 0; i < n; i++) y[q.plane + i] = s[i] * im[i];
        }
    }
}

static void compress_bwd(const uf_call *k) {
    if (!k->dx[0]) return;
    pairs q = pairs_of(k->y->shape);
    const uf_attr *a = &k->y->attr;
#pragma omp parallel for
    for (size_t c = 0; c < q.n; c++) {
        float s[AT_ONCE];
        for (size_t from = 0; from < q.plane; from += AT_ONCE) {
            size_t n = q.plane - from < AT_ONCE ? q.plane - from : AT_ONCE;
            const float *re = k->x[0] + 2 * c * q.plane + from, *im = re + q.plane, *dre = k->dy + 2 * c * q.plane + from, *dim = dre + q.plane;
            float *dx = k->dx[0] + 2 * c * q.plane + from;
            weigh(n, re, im, a, s);
            for (size_t i = 0; i < n; i++) {
                float m = re[i] * re[i] + im[i] * im[i] + a->eps, along = (a->p - 1.f) * s[i] / m * (dre[i] * re[i] + dim[i] * im[i]);
                dx[i] += s[i] * dre[i] + along * re[i];
                dx[q.plane + i] += s[i] * dim[i] + along * im[i];
            }
        }
    }
}

const uf_op uf_op_compress = {.name = "compress", .n_in = 1, .infer = infer_complex, .fwd = compress_fwd, .bwd = compress_bwd};

static int infer_magnitude(uf_ctx *ctx, uf_node *y) {
    UF_TRY(infer_complex(ctx, y));
    y->shape.c /= 2;
    return UF_OK;
}

static void magnitude_fwd(const uf_call *k) {
    pairs q = pairs_of(k->y->in[0]->shape);
#pragma omp parallel for
    for (size_t c = 0; c < q.n; c++) {
        for (size_t from = 0; from < q.plane; from += AT_ONCE) {
            size_t n = q.plane - from < AT_ONCE ? q.plane - from : AT_ONCE;
            const float *re = k->x[0] + 2 * c * q.plane + from, *im = re + q.plane;
            uf_powers(n, re, im, k->y->attr.eps, .5f * k->y->attr.p, k->out + c * q.plane + from);
        }
    }
}

/* d m^(p/2) = p m^(p/2-1) x dx, m = |x|^2 + eps */
static void magnitude_bwd(const uf_call *k) {
    if (!k->dx[0]) return;
    pairs q = pairs_of(k->y->in[0]->shape);
    const uf_attr *a = &k->y->attr;
#pragma omp parallel for
    for (size_t c = 0; c < q.n; c++) {
        const float *re = k->x[0] + 2 * c * q.plane, *im = re + q.plane, *dy = k->dy + c * q.plane, *y = k->out + c * q.plane;
        float *dx = k->dx[0] + 2 * c * q.plane;
        for (size_t i = 0; i < q.plane; i++) {
            float d = a->p * y[i] / (re[i] * re[i] + im[i] * im[i] + a->eps) * dy[i];
            dx[i] += d * re[i];
            dx[q.plane + i] += d * im[i];
        }
    }
}

const uf_op uf_op_magnitude = {.name = "magnitude", .n_in = 1, .infer = infer_magnitude, .fwd = magnitude_fwd, .bwd = magnitude_bwd};

static void rotate_fwd(const uf_call *k) {
    pairs q = pairs_of(k->y->shape);
    for (size_t c = 0; c < q.n; c++) {
        size_t at = 2 * c * q.plane;
        const float *a = k->x[0] + at, *b = k->x[1] + at;
        for (size_t i = 0, j = q.plane; i < q.plane; i++, j++) {
            k->out[at + i] = a[i] * b[i] - a[j] * b[j];
            k->out[at + j] = a[i] * b[j] + a[j] * b[i];
        }
    }
}

/* Times the other factor's conjugate. */
static void rotate_bwd(const uf_call *k) {
    pairs q = pairs_of(k->y->shape);
    for (size_t c = 0; c < q.n; c++) {
        size_t at = 2 * c * q.plane;
        const float *dy = k->dy + at;
        for (int side = 0; side < 2; side++) {
            const float *o = k->x[1 - side] + at;
            float *dx = k->dx[side] ? k->dx[side] + at : NULL;
            for (size_t i = 0, j = q.plane; dx && i < q.plane; i++, j++) {
                dx[i] += dy[i] * o[i] + dy[j] * o[j];
                dx[j] += dy[j] * o[i] - dy[i] * o[j];
            }
        }
    }
}

const uf_op uf_op_rotate = {.name = "rotate", .n_in = 2, .infer = infer_complex, .fwd = rotate_fwd, .bwd = rotate_bwd};

/* ---- spectral norm: w / sigma, sigma by power iteration (Miyato et al., arXiv:1802.05957) ------------------------------ */

static int infer_spectral(uf_ctx *ctx, uf_node *y) {
    if (uf_count(y->in[1]->shape) != (size_t)y->in[0]->shape.n)
        return uf_shape_error(ctx, y, "the vector needs one value a row");
    return uf_infer_same(ctx, y);
}

/* aux: sigma, then v (columns), then u as used (rows). */
static size_t spectral_aux(const uf_node *y) {
    return 1 + uf_count(y->shape) / (size_t)y->shape.n + (size_t)y->shape.n;
}

static void normalise(float *x, size_t n, float eps) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    float f = 1.f / ((float)sqrt(sum) + eps);
    for (size_t i = 0; i < n; i++) x[i] *= f;
}

static void spectral_fwd(const uf_call *k) {
    size_t rows = (size_t)k->y->shape.n, cols = uf_count(k->y->shape) / rows;
    float *sigma = k->aux, *v = k->aux + 1, *u = v + cols;
    const float *w = k->x[0];
    memset(v, 0, cols * sizeof *v);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) v[j] += w[i * cols + j] * k->x[1][i];
    normalise(v, cols, k->y->attr.eps);
    double s = 0;
    for (size_t i = 0; i < rows; i++) {
        double sum = 0;
        for (size_t j = 0; j < cols; j++) sum += (double)w[i * cols + j] * (double)v[j];
        u[i] = (float)sum;
    }
    if (k->train && k->y->attr.mode) { /* the iteration goes on from step to step; otherwise the vector stays as trained */
        normalise(u, rows, k->y->attr.eps);
        memcpy((float *)(uintptr_t)k->x[1], u, rows * sizeof *u);
    } else {
        memcpy(u, k->x[1], rows * sizeof *u);
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) s += (double)u[i] * (double)w[i * cols + j] * (double)v[j];
    *sigma = (float)s;
    for (size_t i = 0; i < rows * cols; i++) k->out[i] = w[i] / *sigma;
}

/* u and v count as constants: d sigma / d w = u v'. */
static void spectral_bwd(const uf_call *k) {
    if (!k->dx[0]) return;
    size_t rows = (size_t)k->y->shape.n, cols = uf_count(k->y->shape) / rows;
    const float *v = k->aux + 1, *u = v + cols, sigma = k->aux[0];
    double dot = 0;
    for (size_t i = 0; i < rows * cols; i++) dot += (double)k->dy[i] * (double)k->out[i];
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            k->dx[0][i * cols + j] += (k->dy[i * cols + j] - (float)dot * u[i] * v[j]) / sigma;
}

const uf_op uf_op_spectral_norm = {.name = "spectral_norm", .n_in = 2, .infer = infer_spectral, .fwd = spectral_fwd,
                                   .bwd = spectral_bwd, .n_aux = spectral_aux, .no_grad = {false, true}};
