/* How often, and how finely, recordings of one event are found: by this program, and by the methods of published tools. Made-up events, in rooms of noise and
 * echoes: sync [PAIRS [SEED]]. Build: cmake --build build/release --target sync_peers
 *
 * - "samples": cross-correlation of the sound itself, one peak over all lags (as of most synchronisers of films and sound).
 * - "mfcc": cross-correlation of 13 cepstral coefficients of 26 mel bands, 512 samples a window and 128 a hop at 8 kHz, standardised (as of audio-offset-finder
 *   and its kin). */
#include "merge.h"
#include "pipeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RATE = UF_MERGE_RATE, BANDS = 26, COEFFICIENTS = 13, WINDOW = 512, HOP = 128 };

/* ---- made-up events -------------------------------------------------------------------------------------------------------------- */

/* Syllables of two resonances, driven by pulses or hiss, at RATE. */
static void event(uint64_t seed, float *x, int n) {
    uint64_t k = 0;
    memset(x, 0, (size_t)n * sizeof *x);
    for (double at = .2; at < n / (double)RATE - .6; k++) {
        double length = .08 + .22 * (double)uf_uniform(seed, 1, k), pitch = 90 + 120 * (double)uf_uniform(seed, 2, k), level = .05 + .25 * (double)uf_uniform(seed, 3, k);
        double hz[2] = {250 + 600 * (double)uf_uniform(seed, 4, k), 900 + 1700 * (double)uf_uniform(seed, 5, k)}, phase = 0, s[2][2] = {{0}};
        bool hiss = uf_uniform(seed, 7, k) < .3f;
        for (int i = 0; i < (int)(length * RATE); i++) {
            double in = hiss ? (double)uf_gaussian(seed, 100 + k, (uint64_t)i) * .5 : 0, out = 0;
            if ((phase += pitch / RATE) >= 1) phase -= 1, in += hiss ? 0 : 6;
            for (int f = 0; f < 2; f++) {
                double r = exp(-M_PI * (80 + 60 * f) / RATE), y = in + 2 * r * cos(2 * M_PI * hz[f] / RATE) * s[f][0] - r * r * s[f][1];
                s[f][1] = s[f][0];
                s[f][0] = y;
                out += y * (f ? .02 : .04);
            }
            x[(int)(at * RATE) + i] += (float)(level * out * sin(M_PI * i / (length * RATE)));
        }
        at += length + .03 + (uf_uniform(seed, 8, k) < .12f ? 1.2f * uf_uniform(seed, 9, k) : .08f * uf_uniform(seed, 10, k));
    }
}

/* A recorder hears the event and its echoes (exponential, 0.4 s to 60 dB), noise, and runs `ppm` too fast from `start` s on. */
static void record(const char *path, const float *x, int n_x, double start, double seconds, double ppm, double snr, uint64_t seed) {
    enum { ECHO = 1200 };
    static float echo[ECHO];
    int n = (int)(seconds * RATE);
    float *wet = calloc((size_t)n_x, sizeof *wet), *y = calloc((size_t)n, sizeof *y);
    int16_t *out = calloc((size_t)n, sizeof *out);
    double power = 0;
    uf_sinc s;
    uf_sinc_open(&s, NULL, 32, 1);
    for (int i = 0; i < ECHO; i++) echo[i] = (i % 7 ? 0 : .35f * uf_gaussian(seed, 1, (uint64_t)i)) * (float)exp(-6.9 * i / (.4 * RATE));
    echo[0] = 1;
    for (int k = 0; k < ECHO; k += 7)
        for (int i = k; i < n_x; i++) wet[i] += echo[k] * x[i - k];
    uf_sinc_line(&s, wet, n_x, start * RATE, 1 / (1 + ppm * 1e-6), y, n);
    for (int i = 0; i < n; i++) power += (double)y[i] * (double)y[i] / n;
    double noise = sqrt(power / pow(10, snr / 10)), most = 1e-9;
    for (int i = 0; i < n; i++) y[i] += (float)(noise * (double)uf_gaussian(seed, 2, (uint64_t)i)), most = fmax(most, fabs((double)y[i]));
    for (int i = 0; i < n; i++) out[i] = (int16_t)lrint((double)y[i] / most * 30000);
    uint32_t bytes = (uint32_t)n * 2, head[11] = {0x46464952, 36 + bytes, 0x45564157, 0x20746d66, 16, 0x00010001, RATE, 2 * RATE, 0x00100002, 0x61746164, bytes};
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(head, 4, 11, f) != 11 || fwrite(out, 2, (size_t)n, f) != (size_t)n || fclose(f)) exit(1);
    uf_sinc_close(&s);
    free(wet);
    free(y);
    free(out);
}

/* ---- what others do ----------------------------------------------------------------------------------------------------------------- */

static float *samples(uf_ctx *ctx, const uf_take *t) {
    float *x = calloc((size_t)t->n_low, sizeof *x);
    if (uf_take_read(t, ctx, 0, (int)t->n_low, x) < 0) exit(1);
    return x;
}

/* Sums of products of `rows` rows over all lags; the lag of the highest, in columns: b's time less a's. */
static int best_lag(const float *a, int n_a, const float *b, int n_b, int rows) {
    int size = 2;
    uf_fft f;
    while (size < n_a + n_b) size *= 2;
    if (!uf_fft_open(&f, size)) exit(1);
    float *sum = calloc((size_t)size, sizeof *sum), (*first)[2] = malloc(((size_t)size / 2 + 1) * sizeof *first);
    for (int r = 0; r < rows; r++) {
        memset(f.time, 0, (size_t)size * sizeof *sum);
        memcpy(f.time, a + (size_t)r * (size_t)n_a, (size_t)n_a * sizeof *a);
        uf_fft_forward(&f);
        memcpy(first, f.bins, ((size_t)size / 2 + 1) * sizeof *first);
        memset(f.time, 0, (size_t)size * sizeof *sum);
        memcpy(f.time, b + (size_t)r * (size_t)n_b, (size_t)n_b * sizeof *b);
        uf_fft_forward(&f);
        for (int k = 0; k <= size / 2; k++) {
            float re = f.bins[k][0] * first[k][0] + f.bins[k][1] * first[k][1], im = f.bins[k][1] * first[k][0] - f.bins[k][0] * first[k][1];
            f.bins[k][0] = re;
            f.bins[k][1] = im;
        }
        uf_fft_inverse(&f);
        for (int i = 0; i < size; i++) sum[i] += f.time[i];
    }
    int best = 0;
    for (int i = 0; i < size; i++)
        if (sum[i] > sum[best]) best = i;
    free(sum);
    free(first);
    uf_fft_close(&f);
    return best > n_b ? best - size : best;
}

/* (COEFFICIENTS, *n), each row of mean 0 and deviation 1. */
static float *cepstra(const float *x, int n_x, int *n) {
    uf_fft f;
    float window[WINDOW];
    *n = (n_x - WINDOW) / HOP + 1;
    float *c = calloc((size_t)COEFFICIENTS * (size_t)*n, sizeof *c);
    if (!uf_fft_open(&f, WINDOW)) exit(1);
    uf_fft_window(WINDOW, window);
    for (int i = 0; i < *n; i++) {
        double band[BANDS], top = 1127 * log(1 + RATE / 2 / 700.);
        for (int k = 0; k < WINDOW; k++) f.time[k] = x[i * HOP + k] * window[k];
        uf_fft_forward(&f);
        for (int b = 0; b < BANDS; b++) {
            band[b] = 1e-10;
            for (int k = 1; k <= WINDOW / 2; k++) {
                double mel = 1127 * log(1 + (double)k * RATE / WINDOW / 700), place = mel / top * (BANDS + 1) - (b + 1), share = 1 - fabs(place);
                if (share > 0) band[b] += share * ((double)f.bins[k][0] * (double)f.bins[k][0] + (double)f.bins[k][1] * (double)f.bins[k][1]);
            }
        }
        for (int k = 0; k < COEFFICIENTS; k++)
            for (int b = 0; b < BANDS; b++) c[k * *n + i] += (float)(log(band[b]) * cos(M_PI * k * (b + .5) / BANDS));
    }
    for (int k = 0; k < COEFFICIENTS; k++) {
        double sum = 0, square = 0;
        for (int i = 0; i < *n; i++) sum += (double)c[k * *n + i] / *n;
        for (int i = 0; i < *n; i++) c[k * *n + i] -= (float)sum, square += (double)c[k * *n + i] * (double)c[k * *n + i] / *n;
        for (int i = 0; i < *n; i++) c[k * *n + i] /= (float)sqrt(square + 1e-12);
    }
    uf_fft_close(&f);
    return c;
}

/* ---- the comparison ---------------------------------------------------------------------------------------------------------------------- */

int main(int argc, char **argv) {
    enum { MOST = 1000, METHODS = 3 };
    static const char *const names[METHODS] = {"samples", "mfcc", "unfade"};
    static double error[METHODS][MOST];
    int n = argc > 1 ? atoi(argv[1]) : 100, n_x = 150 * RATE;
    uint64_t seed = argc > 2 ? (uint64_t)atoi(argv[2]) : 1;
    float *x = calloc((size_t)n_x, sizeof *x);
    char folder[] = "/tmp/unfade-sync-XXXXXX", path[2][64];
    uf_ctx *ctx = NULL;
    if (uf_ctx_open(&ctx) < 0 || !mkdtemp(folder) || n > MOST) return 1;
    for (int k = 0; k < 2; k++) snprintf(path[k], sizeof path[k], "%s/%d.wav", folder, k);
    for (int i = 0; i < n; i++) {
        double start[2], length[2], ppm[2];
        uf_take t[2];
        event(seed * 1000 + (uint64_t)i, x, n_x);
        for (int k = 0; k < 2; k++) {
            uint64_t d = 10 * (uint64_t)i + 5 * (uint64_t)k;
            start[k] = 50 * (double)uf_uniform(seed, 20, d);
            length[k] = 30 + 60 * (double)uf_uniform(seed, 20, d + 1);
            ppm[k] = 200 * ((double)uf_uniform(seed, 20, d + 2) - .5);
            record(path[k], x, n_x, start[k], length[k], ppm[k], -8 + 18 * (double)uf_uniform(seed, 20, d + 3), seed * 100 + d);
            t[k] = (uf_take){.path = path[k]};
            if (uf_take_listen(&t[k], ctx, folder, NULL) < 0) return 1;
        }
        if (uf_place_all(ctx, t, 2, &(uf_place_options){.clock = 0}) < 0) return 1;
        double from = fmax(start[0], start[1]), to = fmin(start[0] + length[0], start[1] + length[1]), middle = .5 * (from + to);
        double own[2] = {(middle - start[0]) * (1 + ppm[0] * 1e-6), (middle - start[1]) * (1 + ppm[1] * 1e-6)}, want = own[1] - own[0];
        float *a = samples(ctx, &t[0]), *b = samples(ctx, &t[1]);
        error[0][i] = (double)best_lag(a, (int)t[0].n_low, b, (int)t[1].n_low, 1) / RATE - want;
        int n_a, n_b;
        float *ca = cepstra(a, (int)t[0].n_low, &n_a), *cb = cepstra(b, (int)t[1].n_low, &n_b);
        error[1][i] = (double)best_lag(ca, n_a, cb, n_b, COEFFICIENTS) * HOP / RATE - want;
        error[2][i] = t[1].placed ? uf_clock_read(&t[1].clock, own[0], NULL) - own[0] - want : 1e3;
        fprintf(stderr, "%d: overlap %.0f s; samples %.4f, mfcc %.4f, unfade %.6f s off\n", i, to - from, error[0][i], error[1][i], error[2][i]);
        free(a);
        free(b);
        free(ca);
        free(cb);
        for (int k = 0; k < 2; k++) uf_take_close(&t[k]);
    }
    for (int m = 0; m < METHODS; m++) {
        int failed = 0;
        for (int i = 0; i < n; i++) error[m][i] = fabs(error[m][i]), failed += error[m][i] > .05;
        uf_sort(error[m], (size_t)n);
        printf("%-8s %3d of %d failed (off by more than 50 ms); the others by %.6f s in the middle\n", names[m], failed, n, error[m][(n - failed) / 2]);
    }
    for (int k = 0; k < 2; k++) unlink(path[k]);
    rmdir(folder);
    free(x);
    uf_ctx_close(&ctx);
    return 0;
}
