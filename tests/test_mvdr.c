/* The algebra of beams: Cholesky's factors, filters that let one source through, and the late room. */
#include "models.h"
#include "mvdr.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uf_complex any(uint64_t stream, uint64_t i) { return (double)uf_gaussian(7, stream, 2 * i) + I * (double)uf_gaussian(7, stream, 2 * i + 1); }

/* cov += power * v v^H */
static void add_source(int n, uf_complex *cov, const uf_complex *v, double power) {
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) cov[i * n + k] += power * v[i] * conj(v[k]);
}

static void test_cholesky(void **state) {
    (void)state;
    for (int n = 1; n <= 32; n += n < 5 ? 1 : 9) {
        uf_complex a[32 * 32] = {0}, l[32 * 32], b[32], x[32], v[32];
        for (int k = 0; k < n + 2; k++) {
            for (int i = 0; i < n; i++) v[i] = any((uint64_t)(100 + k), (uint64_t)i);
            add_source(n, a, v, 1);
        }
        for (int i = 0; i < n; i++) x[i] = any(1, (uint64_t)i);
        for (int i = 0; i < n; i++) {
            b[i] = 0;
            for (int k = 0; k < n; k++) b[i] += a[i * n + k] * x[k];
        }
        memcpy(l, a, sizeof l);
        assert_true(uf_cholesky(n, l));
        uf_cholesky_solve(n, l, b);
        for (int i = 0; i < n; i++) assert_true(cabs(b[i] - x[i]) < 1e-6);
        a[0] = -1;
        assert_false(uf_cholesky(n, a));
    }
}

/* The voice comes through as it is at the reference, an interferer does not; also when some are gone, even the reference; and at any levels. */
static void test_mvdr(void **state) {
    (void)state;
    static uf_complex scratch[UF_MVDR_SCRATCH * 64 + 16];
    static const int there[][8] = {{0, 1, 2, 3, 4, 5, 6, 7}, {1, 2, 4, 7}, {0, 3}};
    static const int k[] = {8, 4, 2};
    for (int c = 0; c < 6; c++) {
        enum { N = 8 };
        uf_complex speech[N * N] = {0}, noise[N * N] = {0}, h[N], g[N], w[N], voice = 0, interferer = 0;
        for (int i = 0; i < N; i++) {
            double level = c < 3 ? 1 : pow(10, i - 4); /* microphones 80 dB apart */
            h[i] = level * any(1, (uint64_t)i);
            g[i] = level * any(2, (uint64_t)i);
            noise[i * N + i] = 1e-4 * level * level;
        }
        add_source(N, speech, h, 1);
        add_source(N, noise, g, 4);
        double snr = uf_mvdr(N, speech, noise, k[c % 3], there[c % 3], 0, 1e-9, scratch, w);
        for (int i = 0; i < N; i++) {
            voice += conj(w[i]) * h[i];
            interferer += conj(w[i]) * g[i];
        }
        assert_true(snr > 1);
        assert_true(cabs(voice - h[0]) < 1e-6 * cabs(h[0]));
        assert_true(cabs(interferer) < .02 * cabs(h[0]));
        memset(speech, 0, sizeof speech); /* no voice: the reference alone, where it is there */
        assert_true(uf_mvdr(N, speech, noise, k[c % 3], there[c % 3], 0, 1e-9, scratch, w) == 0);
        assert_true(w[0] == (there[c % 3][0] == 0 ? 1 : 0));
    }
}

/* Two microphones, a source that comes and goes, and echoes of it 5 to 8 frames later. */
static void test_wpe(void **state) {
    (void)state;
    enum { N = 640 };
    static float dry[2][2][N], x[2][2][N], weight[N];
    for (int m = 0; m < 2; m++)
        for (int t = 0; t < N; t++) {
            uf_complex s = t / 12 % 2 ? .01 * any(3, (uint64_t)t) : any(3, (uint64_t)t), y;
            if (m) s *= .7 - .4 * I;
            dry[m][0][t] = (float)creal(s);
            dry[m][1][t] = (float)cimag(s);
            y = s;
            for (int d = 5; d < 9; d++) y += t < d ? 0 : (.5 - .3 * m) * cexp(I * (d + m)) * ((double)dry[m][0][t - d] + I * (double)dry[m][1][t - d]);
            x[m][0][t] = (float)creal(y);
            x[m][1][t] = (float)cimag(y);
            if (!m) weight[t] = (float)(1 / (creal(s) * creal(s) + cimag(s) * cimag(s) + .01));
        }
    for (int given = 0; given < 2; given++) {
        static float z[2][2][N];
        uf_wpe_options o = {.mics = 2, .frames = N, .taps = 5, .delay = 4, .rounds = 3, .ridge = 1e-4};
        float *re[2] = {z[0][0], z[1][0]}, *im[2] = {z[0][1], z[1][1]};
        double before = 0, after = 0;
        void *scratch = malloc(uf_wpe_scratch(&o));
        memcpy(z, x, sizeof z);
        uf_wpe(&o, given ? weight : NULL, re, im, scratch);
        free(scratch);
        for (int t = 0; t < N; t++)
            for (int p = 0; p < 2; p++) {
                before += pow((double)x[0][p][t] - (double)dry[0][p][t], 2);
                after += pow((double)z[0][p][t] - (double)dry[0][p][t], 2);
            }
        if (!(after < .05 * before)) fail_msg("of the echoes %.1f dB remain", 10 * log10(after / before));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cholesky),
        cmocka_unit_test(test_mvdr),
        cmocka_unit_test(test_wpe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
