#include "fft.h"

#include <fftw3.h>
#include <math.h>
#include <pthread.h>
#include <stddef.h>

static pthread_mutex_t planner = PTHREAD_MUTEX_INITIALIZER;

bool uf_fft_open(uf_fft *f, int n) {
    *f = (uf_fft){.n = n};
    f->time = fftwf_alloc_real((size_t)n);
    f->bins = (float(*)[2])fftwf_alloc_complex((size_t)n / 2 + 1);
    if (!f->time || !f->bins) return false;
    pthread_mutex_lock(&planner);
    f->plan[0] = fftwf_plan_dft_r2c_1d(n, f->time, (fftwf_complex *)f->bins, FFTW_ESTIMATE | FFTW_PRESERVE_INPUT);
    f->plan[1] = fftwf_plan_dft_c2r_1d(n, (fftwf_complex *)f->bins, f->time, FFTW_ESTIMATE);
    pthread_mutex_unlock(&planner);
    return f->plan[0] && f->plan[1];
}

void uf_fft_close(uf_fft *f) {
    pthread_mutex_lock(&planner);
    for (int i = 0; i < 2; i++)
        if (f->plan[i]) fftwf_destroy_plan(f->plan[i]);
    pthread_mutex_unlock(&planner);
    fftwf_free(f->time);
    fftwf_free(f->bins);
    *f = (uf_fft){0};
}

void uf_fft_window(int n, float *w) {
    for (int i = 0; i < n; i++) w[i] = (float)(.5 - .5 * cos(2 * 3.14159265358979323846 * i / n));
}

void uf_fft_forward(uf_fft *f) { fftwf_execute(f->plan[0]); }
void uf_fft_inverse(uf_fft *f) { fftwf_execute(f->plan[1]); }
