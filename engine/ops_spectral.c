/* Short-time Fourier transform and its inverse by FFTW; spectral norm.
 *
 * x (N,C,1,T) <-> (N,2C,F,L): for channel c the real parts are channel 2c, the imaginary parts 2c+1; F = fft/2+1,
 * L = 1 + T/hop. Periodic Hann window, centred frames, reflected ends: PyTorch's torch.stft(center=True). */
#include "ops.h"

#include <fftw3.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* FFTW's planner is the one part that is not thread-safe. */
static pthread_mutex_t planner = PTHREAD_MUTEX_INITIALIZER;

typedef struct frames {
    int fft, hop, bins, length;
    float *time, *window;
    fftwf_complex *spectrum;
    fftwf_plan plan;
} frames;

static void frames_close(frames *f) {
    pthread_mutex_lock(&planner);
    if (f->plan) fftwf_destroy_plan(f->plan);
    pthread_mutex_unlock(&planner);
    fftwf_free(f->time);
    fftwf_free(f->spectrum);
    free(f->window);
}

static bool frames_open(frames *f, int fft, int hop, int length, bool inverse) {
    *f = (frames){.fft = fft, .hop = hop, .bins = fft / 2 + 1, .length = length};
    f->time = fftwf_alloc_real((size_t)fft);
    f->spectrum = fftwf_alloc_complex((size_t)f->bins);
    f->window = malloc((size_t)fft * sizeof(float));
    if (!f->time || !f->spectrum || !f->window) return false;
    for (int i = 0; i < fft; i++) f->window[i] = (float)(.5 - .5 * cos(2 * 3.14159265358979323846 * i / fft));
    pthread_mutex_lock(&planner);
    f->plan = inverse ? fftwf_plan_dft_c2r_1d(fft, f->spectrum, f->time, FFTW_ESTIMATE)
                      : fftwf_plan_dft_r2c_1d(fft, f->time, f->spectrum, FFTW_ESTIMATE);
    pthread_mutex_unlock(&planner);
    return f->plan != NULL;
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

/* One frame to its bins, or (adjoint) the bins' gradients back to the frame's samples. */
static void analyse(frames *f, const float *x, int l) {
    for (int i = 0; i < f->fft; i++) f->time[i] = f->window[i] * x[reflect(l * f->hop + i - f->fft / 2, f->length)];
    fftwf_execute(f->plan);
}

static void stft_fwd(const uf_call *k) {
    uf_shape s = k->y->shape, xs = k->y->in[0]->shape;
    frames f;
    bool ok = frames_open(&f, k->y->attr.fft, k->y->attr.hop, xs.w, false);
    for (int n = 0; ok && n < s.n; n++)
        for (int c = 0; c < xs.c; c++)
            for (int l = 0; l < s.w; l++) {
                analyse(&f, k->x[0] + uf_at(xs, n, c, 0, 0), l);
                for (int b = 0; b < s.h; b++) {
                    k->out[uf_at(s, n, 2 * c, b, l)] = f.spectrum[b][0];
                    k->out[uf_at(s, n, 2 * c + 1, b, l)] = f.spectrum[b][1];
                }
            }
    frames_close(&f);
}

/* The transform is linear: its adjoint is an unnormalised inverse whose inner bins count half, because the c2r
 * transform counts each of them twice. */
static void stft_bwd(const uf_call *k) {
    uf_shape s = k->y->shape, xs = k->y->in[0]->shape;
    frames f;
    bool ok = k->dx[0] && frames_open(&f, k->y->attr.fft, k->y->attr.hop, xs.w, true);
    for (int n = 0; ok && n < s.n; n++)
        for (int c = 0; c < xs.c; c++)
            for (int l = 0; l < s.w; l++) {
                for (int b = 0; b < s.h; b++) {
                    float half = b == 0 || b == s.h - 1 ? 1.f : .5f;
                    f.spectrum[b][0] = half * k->dy[uf_at(s, n, 2 * c, b, l)];
                    f.spectrum[b][1] = b == 0 || b == s.h - 1 ? 0.f : half * k->dy[uf_at(s, n, 2 * c + 1, b, l)];
                }
                fftwf_execute(f.plan);
                float *dx = k->dx[0] + uf_at(xs, n, c, 0, 0);
                for (int i = 0; i < f.fft; i++)
                    dx[reflect(l * f.hop + i - f.fft / 2, f.length)] += f.window[i] * f.time[i];
            }
    if (k->dx[0]) frames_close(&f);
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
    frames f;
    bool ok = frames_open(&f, k->y->attr.fft, k->y->attr.hop, s.w, true);
    memset(k->out, 0, uf_count(s) * sizeof(float));
    if (ok) envelope(&f, xs.w, k->aux);
    for (int n = 0; ok && n < s.n; n++)
        for (int c = 0; c < s.c; c++) {
            float *y = k->out + uf_at(s, n, c, 0, 0);
            for (int l = 0; l < xs.w; l++) {
                for (int b = 0; b < xs.h; b++) {
                    f.spectrum[b][0] = k->x[0][uf_at(xs, n, 2 * c, b, l)];
                    f.spectrum[b][1] = b == 0 || b == xs.h - 1 ? 0.f : k->x[0][uf_at(xs, n, 2 * c + 1, b, l)];
                }
                fftwf_execute(f.plan);
                for (int i = 0; i < f.fft; i++) {
                    int at = l * f.hop + i - f.fft / 2;
                    if (at >= 0 && at < s.w) y[at] += f.window[i] * f.time[i] / (float)f.fft;
                }
            }
            for (int i = 0; i < s.w; i++) y[i] /= k->aux[i];
        }
    frames_close(&f);
}

static void istft_bwd(const uf_call *k) {
    if (!k->dx[0]) return;
    uf_shape s = k->y->shape, xs = k->y->in[0]->shape;
    frames f;
    bool ok = frames_open(&f, k->y->attr.fft, k->y->attr.hop, s.w, false);
    for (int n = 0; ok && n < s.n; n++)
        for (int c = 0; c < s.c; c++) {
            const float *dy = k->dy + uf_at(s, n, c, 0, 0);
            for (int l = 0; l < xs.w; l++) {
                for (int i = 0; i < f.fft; i++) {
                    int at = l * f.hop + i - f.fft / 2;
                    f.time[i] = at >= 0 && at < s.w ? f.window[i] * dy[at] / k->aux[at] / (float)f.fft : 0.f;
                }
                fftwf_execute(f.plan);
                for (int b = 0; b < xs.h; b++) { /* inner bins stand for two */
                    bool end = b == 0 || b == xs.h - 1;
                    k->dx[0][uf_at(xs, n, 2 * c, b, l)] += (end ? 1.f : 2.f) * f.spectrum[b][0];
                    if (!end) k->dx[0][uf_at(xs, n, 2 * c + 1, b, l)] += 2.f * f.spectrum[b][1];
                }
            }
        }
    frames_close(&f);
}

const uf_op uf_op_istft = {
    .name = "istft", .n_in = 1, .infer = infer_istft, .fwd = istft_fwd, .bwd = istft_bwd, .n_aux = istft_aux};

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
