/* A recording as a picture: time to the right, frequency upwards. Memory does not grow with its length. */
#include "fft.h"
#include "sound_reader.h"

#include <stdlib.h>
#include <string.h>

enum { LEVELS = 300 }; /* half decibels below full scale */

typedef struct drawing {
    uf_fft fft;
    float *window, *wait;     /* wait: samples of the mean channel, fft.n of them at most */
    int n_wait, w, h;
    float *column;            /* 2*w columns of h powers */
    int64_t n_frames, merged; /* frames so far; how many make a column */
    int64_t count[LEVELS];
    double energy;
    int64_t n;
} drawing;

static int drawing_open(uf_ctx *ctx, drawing *d, int rate, int w, int h) {
    int size = rate <= 24000 ? 1024 : rate <= 48000 ? 2048 : 4096;
    *d = (drawing){ .w = w, .h = h, .merged = 1 };
    d->window = uf_alloc(ctx, (size_t)size, sizeof(float));
    d->wait = uf_alloc(ctx, (size_t)size, sizeof(float));
    d->column = uf_alloc(ctx, 2 * (size_t)w * (size_t)h, sizeof(float));
    if (!uf_fft_open(&d->fft, size) || !d->window || !d->wait || !d->column) return uf_fail(ctx, UF_ENOMEM, "out of memory for a picture of sound");
    for (int i = 0; i < size; i++) d->window[i] = (float)((.5 - .5 * cos(2 * M_PI * i / size)) * 4 / size); /* a full sine is 0 dB */
    return UF_OK;
}

static void drawing_close(drawing *d) {
    uf_fft_close(&d->fft);
    free(d->window);
    free(d->wait);
    free(d->column);
}

/* Twice as many frames a column from here on: neighbours become one, the louder of both. */
static void merge(drawing *d) {
    for (int i = 0; i < d->w; i++)
        for (int k = 0; k < d->h; k++) d->column[i * d->h + k] = fmaxf(d->column[2 * i * d->h + k], d->column[(2 * i + 1) * d->h + k]);
    memset(d->column + d->w * d->h, 0, (size_t)(d->w * d->h) * sizeof(float));
    d->merged *= 2;
}

static void draw_frame(drawing *d) {
    double e = 1e-15;
    int bins = d->fft.n / 2;
    for (int i = 0; i < d->fft.n; i++) {
        d->fft.time[i] = d->wait[i] * d->window[i];
        e += (double)d->wait[i] * (double)d->wait[i] / d->fft.n;
    }
    int level = (int)(-20 * log10(e));
    d->count[level < 0 ? 0 : level >= LEVELS ? LEVELS - 1 : level]++;
    uf_fft_forward(&d->fft);
    if (d->n_frames / d->merged >= 2 * d->w) merge(d);
    float *to = d->column + d->n_frames / d->merged * d->h;
    for (int k = 0; k < d->h; k++)
        for (int b = k * bins / d->h; b < (k + 1) * bins / d->h || b == k * bins / d->h; b++)
            to[k] = fmaxf(to[k], d->fft.bins[b][0] * d->fft.bins[b][0] + d->fft.bins[b][1] * d->fft.bins[b][1]);
    d->n_frames++;
}

static void take(drawing *d, float *const *x, int channels, int n) {
    for (int i = 0; i < n; i++) {
        float mean = uf_sound_mean(x, channels, i);
        d->energy += (double)mean * (double)mean;
        d->wait[d->n_wait++] = mean;
        if (d->n_wait < d->fft.n) continue;
        draw_frame(d);
        d->n_wait -= d->fft.n / 4;
        memmove(d->wait, d->wait + d->fft.n / 4, (size_t)d->n_wait * sizeof(float));
    }
    d->n += n;
}

/* From black over violet and orange to white, as loudness grows from -100 to -10 dB. */
static void shade(float power, uint8_t *rgb) {
    static const float stop[][3] = { { 0, 0, 4 }, { 60, 15, 110 }, { 150, 40, 110 }, { 225, 90, 50 }, { 250, 175, 60 }, { 252, 255, 220 } };
    double t = (10 * log10((double)power + 1e-15) + 100) / 90 * (UF_LEN(stop) - 1);
    t = fmin(fmax(t, 0), UF_LEN(stop) - 1.001);
    int i = (int)t;
    for (int c = 0; c < 3; c++) rgb[c] = (uint8_t)((double)stop[i][c] + (t - i) * (double)(stop[i + 1][c] - stop[i][c]));
}

static void paint(const drawing *d, uint8_t *rgb) {
    int64_t columns = d->n_frames ? (d->n_frames - 1) / d->merged + 1 : 0;
    for (int x = 0; x < d->w; x++) {
        int64_t from = x * columns / d->w, to = (x + 1) * columns / d->w;
        for (int k = 0; k < d->h; k++) {
            float power = columns ? d->column[from * d->h + k] : 0.f;
            for (int64_t i = from + 1; i < to; i++) power = fmaxf(power, d->column[i * d->h + k]);
            shade(power, rgb + 3 * ((size_t)(d->h - 1 - k) * (size_t)d->w + (size_t)x));
        }
    }
}

int uf_spectrogram(uf_ctx *ctx, const char *path, int w, int h, uint8_t *rgb, uf_sound_look *look) {
    uf_sound_reader *r = NULL;
    uf_sound_item item;
    drawing d = { 0 };
    int err = uf_sound_reader_open(&r, ctx, path), rate = err == UF_OK ? uf_sound_reader_rate(r) : 1;
    if (err == UF_OK) err = drawing_open(ctx, &d, rate, w, h);
    while (err == UF_OK && (err = uf_sound_reader_next(r, &item)) == UF_OK) {
        if (uf_ctx_cancelled(ctx)) err = uf_fail(ctx, UF_EINTR, "stopped; nothing was written");
        else if (!item.packet) take(&d, item.x, uf_sound_reader_channels(r), item.n);
    }
    if (err == UF_EOF) {
        err = UF_OK;
        paint(&d, rgb);
        *look = (uf_sound_look){ .seconds = (double)d.n / rate, .rate = rate, .level = 10 * log10(d.energy / (double)(d.n ? d.n : 1) + 1e-15), .pauses = -150 };
        int64_t quiet = 0; /* the level that a tenth of the time stays below */
        for (int i = LEVELS - 1; i >= 0 && quiet * 10 <= d.n_frames; i--) {
            quiet += d.count[i];
            look->pauses = -.5 * i;
        }
    }
    drawing_close(&d);
    uf_sound_reader_close(&r);
    return err;
}
