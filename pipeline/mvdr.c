#include "mvdr.h"

#include <math.h>
#include <string.h>

bool uf_cholesky(int n, uf_complex *a) {
    for (int j = 0; j < n; j++) {
        double d = creal(a[j * n + j]);
        for (int k = 0; k < j; k++) d -= creal(a[j * n + k] * conj(a[j * n + k]));
        if (!(d > 0)) return false;
        d = sqrt(d);
        a[j * n + j] = d;
        for (int i = j + 1; i < n; i++) {
            uf_complex s = a[i * n + j];
            for (int k = 0; k < j; k++) s -= a[i * n + k] * conj(a[j * n + k]);
            a[i * n + j] = s / d;
        }
    }
    return true;
}

void uf_cholesky_solve(int n, const uf_complex *l, uf_complex *b) {
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++) b[i] -= l[i * n + k] * b[k];
        b[i] /= creal(l[i * n + i]);
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++) b[i] -= conj(l[k * n + i]) * b[k];
        b[i] /= creal(l[i * n + i]);
    }
}

/* The voice is silent, or nobody is there: the reference alone. */
static double as_it_is(int n, int reference, int k, const int *there, uf_complex *w) {
    memset(w, 0, (size_t)n * sizeof(*w));
    for (int i = 0; i < k; i++)
        if (there[i] == reference) w[reference] = 1;
    return 0;
}

/* The trace of A^-1 B, where A = L L^H and B is `speech` of those that are there, at the levels d. */
static double trace(int n, const uf_complex *speech, int k, const int *there, const uf_complex *l, const uf_complex *d, uf_complex *column) {
    double sum = 0;
    for (int j = 0; j < k; j++) {
        for (int i = 0; i < k; i++) column[i] = speech[there[i] * n + there[j]] / (creal(d[i]) * creal(d[j]));
        uf_cholesky_solve(k, l, column);
        sum += creal(column[j]);
    }
    return sum;
}

double uf_mvdr(int n, const uf_complex *speech, const uf_complex *noise, int k, const int *there, int reference, double loading, uf_complex *scratch,
               uf_complex *w) {
    uf_complex *a = scratch, *d = a + n * n, *column = d + n;
    double all = 0;
    for (int i = 0; i < k; i++) {
        int m = there[i];
        double level = creal(noise[m * n + m]);
        all += level + creal(speech[m * n + m]);
        d[i] = sqrt(level > 1e-30 ? level : 1e-30);
    }
    if (k < 1 || all < 1e-25) return as_it_is(n, reference, k, there, w);
    double mean = 0;
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) a[i * k + j] = noise[there[i] * n + there[j]] / (creal(d[i]) * creal(d[j]));
    for (int i = 0; i < k; i++) mean += creal(a[i * k + i]) / k;
    for (int i = 0; i < k; i++) a[i * k + i] += loading * mean + 1e-9;
    if (!uf_cholesky(k, a)) return as_it_is(n, reference, k, there, w);
    double snr = trace(n, speech, k, there, a, d, column);
    if (!(snr > 1e-9)) return as_it_is(n, reference, k, there, w);
    for (int i = 0; i < k; i++) column[i] = speech[there[i] * n + reference] / creal(d[i]);
    uf_cholesky_solve(k, a, column);
    memset(w, 0, (size_t)n * sizeof(*w));
    for (int i = 0; i < k; i++) w[there[i]] = column[i] / (creal(d[i]) * snr);
    return snr;
}
