/* Which recordings heard the same, and when: correlation of spectral flux, piece by piece, over all lags. */
#include "merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PIECES = 24, PEAKS = 5, LONGEST = 60, SHORTEST = 10, STEP = UF_MERGE_FLUX / UF_MERGE_COARSE, SINGLE = 7 /* z of a match by one piece */ };
static const double drift_most = 1e-3; /* of one clock against another */

typedef struct peak { double lag, z; } peak; /* lag: s */
typedef struct piece { /* of recording a */
    int64_t from;         /* samples at UF_MERGE_COARSE */
    int n, n_peaks;
    peak peak[PEAKS];
    uf_anchor found;
    bool is_found;
} piece;

typedef struct coarse { /* the flux of one recording at UF_MERGE_COARSE, mean 0 */
    float *x;
    int64_t n;
    double power;
    float (*spectrum)[2];
} coarse;

typedef struct matcher { /* a thread's */
    uf_ctx *ctx;
    const uf_take *take;
    const coarse *low;
    uf_fft fft;
    double *energy;       /* n+1 running sums of squares */
} matcher;

/* ---- correlation over all lags ------------------------------------------------------------------------------------------ */

/* An even number of small factors: what FFTW is quick with. */
static int good_size(int64_t n)
{
    for (;; n++) {
        int64_t m = n;
        for (int p = 2; p <= 5; p++)
            while (m % p == 0) m /= p;
        if (m == 1 && n % 2 == 0) return (int)n;
    }
}

/* Deviation of most of r: peaks do not count. */
static double deviation(const float *r, int64_t n)
{
    double square = 0, limit = INFINITY;
    int64_t count = 1;
    for (int round = 0; round < 3; round++) {
        square = 0;
        count = 0;
        for (int64_t i = 0; i < n; i++)
            if (fabs((double)r[i]) <= limit) square += (double)r[i] * (double)r[i], count++;
        limit = 3.5 * sqrt(square / (double)(count ? count : 1));
    }
    return limit / 3.5 + 1e-12;
}

static void add_peak(piece *p, double lag, double z)
{
    for (int i = 0; i < p->n_peaks; i++)
        if (fabs(p->peak[i].lag - lag) < .25) {
            if (z > p->peak[i].z) p->peak[i] = (peak){ lag, z };
            return;
        }
    int weakest = 0;
    for (int i = 1; i < p->n_peaks; i++)
        if (p->peak[i].z < p->peak[weakest].z) weakest = i;
    if (p->n_peaks < PEAKS) p->peak[p->n_peaks++] = (peak){ lag, z };
    else if (z > p->peak[weakest].z) p->peak[weakest] = (peak){ lag, z };
}

/* The piece of a against all of b: the best lags, each with its height in deviations of all the others. r[l] is normalised by what lies under the piece
 * there, so that a loud minute of b does not win by its loudness. */
static void correlate(matcher *m, const coarse *a, const coarse *b, piece *p)
{
    uf_fft *f = &m->fft;
    int64_t n = p->n, size = f->n, lags = b->n; /* from -n/2 on: at least half of the piece lies over b */
    double power = 0;
    memset(f->time, 0, (size_t)size * sizeof(float));
    memcpy(f->time, a->x + p->from, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) power += (double)f->time[i] * (double)f->time[i];
    uf_fft_forward(f);
    for (int64_t k = 0; k <= size / 2; k++) {
        float re = b->spectrum[k][0] * f->bins[k][0] + b->spectrum[k][1] * f->bins[k][1];
        f->bins[k][1] = b->spectrum[k][1] * f->bins[k][0] - b->spectrum[k][0] * f->bins[k][1];
        f->bins[k][0] = re;
    }
    uf_fft_inverse(f);
    float *r = uf_alloc(m->ctx, (size_t)lags + 1, sizeof(*r));
    if (!r) return;
    for (int64_t i = 0; i < lags; i++) {
        int64_t l = i - n / 2, from = l < 0 ? 0 : l, to = l + n > b->n ? b->n : l + n;
        double under = fmax(m->energy[to] - m->energy[from], .3 * b->power * (double)n);
        r[i] = (float)((double)f->time[l < 0 ? l + size : l] / ((double)size * sqrt(power * under + 1e-20)));
    }
    double unit = deviation(r, lags);
    for (int64_t i = 1; i + 1 < lags; i++)
        if ((double)r[i] > 3.5 * unit && r[i] >= r[i - 1] && r[i] > r[i + 1])
            add_peak(p, (double)(i - n / 2 - p->from) / UF_MERGE_COARSE, (double)r[i] / unit);
    free(r);
}

/* ---- one piece around one lag, at the full rate of the flux -------------------------------------------------------------- */

UF_KERNEL static float dot(const float *a, const float *b, int64_t n)
{
    float sum[16] = { 0 }, all = 0;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++) sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++) sum[0] += a[i] * b[i];
    for (int k = 0; k < 16; k++) all += sum[k];
    return all;
}

/* Normalised correlation of flux a[from..from+n) with b, `lag` samples later; 0 where less than half of it lies over b. */
static double at_lag(const uf_take *a, const uf_take *b, int64_t from, int64_t n, int64_t lag)
{
    int64_t first = from + lag < 0 ? -lag : from, last = from + n + lag > b->n_flux ? b->n_flux - lag : from + n;
    if (last - first < n / 2) return 0;
    const float *x = a->flux + first, *y = b->flux + first + lag;
    int64_t count = last - first;
    double square = (double)dot(x, x, count) * (double)dot(y, y, count);
    return (double)dot(x, y, count) / sqrt(square + 1e-20);
}

/* The best lag within +-reach of `lag` (s), to a fraction of the flux's step; z is measured against lags far away. */
static uf_anchor look(const uf_take *a, const uf_take *b, const piece *p, double lag, double reach)
{
    int64_t from = p->from * STEP, n = (int64_t)p->n * STEP, middle = llround(lag * UF_MERGE_FLUX), side = (int64_t)ceil(reach * UF_MERGE_FLUX);
    double noise = 0, best = 0;
    int64_t at = middle;
    int count = 0;
    for (int k = 0; k < 60; k++) { /* 2 to 6 s away */
        double r = at_lag(a, b, from, n, middle + (k % 2 ? 1 : -1) * (side + 2 * UF_MERGE_FLUX + 27 * k));
        if (r != 0) noise += r * r, count++;
    }
    noise = count > 10 ? sqrt(noise / count) : 1;
    for (int64_t l = middle - side; l <= middle + side; l++) {
        double r = at_lag(a, b, from, n, l);
        if (r > best) best = r, at = l;
    }
    double before = at_lag(a, b, from, n, at - 1), after = at_lag(a, b, from, n, at + 1), bend = before - 2 * best + after;
    double part = bend < 0 ? .5 * (before - after) / bend : 0;
    double seconds = ((double)at + (fabs(part) < 1 ? part : 0)) / UF_MERGE_FLUX;
    return (uf_anchor){ .at = ((double)from + .5 * (double)n) / UF_MERGE_FLUX, .lag = seconds, .z = best / noise };
}

/* ---- agreement --------------------------------------------------------------------------------------------------------------- */

static double middle_of(const piece *p) { return ((double)p->from + .5 * p->n) / UF_MERGE_COARSE; }

/* The lag which most pieces can live with, as piece and peak; false: none. */
static bool vote(const piece *p, int n, int *best_piece, int *best_peak)
{
    double most = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < p[i].n_peaks; k++) {
            double sum = 0;
            for (int j = 0; j < n; j++) {
                double z = 0, far = .04 + drift_most * fabs(middle_of(&p[j]) - middle_of(&p[i]));
                for (int l = 0; l < p[j].n_peaks; l++)
                    if (fabs(p[j].peak[l].lag - p[i].peak[k].lag) < far) z = fmax(z, p[j].peak[l].z);
                sum += .5 * z * z;
            }
            if (sum > most) {
                most = sum;
                *best_piece = i;
                *best_peak = k;
            }
        }
    return most > 0;
}

/* From a piece that was found to its neighbour: nearby, or, after a dropout, where the neighbour itself is sure. */
static void follow(const uf_take *a, const uf_take *b, const piece *from, piece *to)
{
    enum { FOUND = 4, SURE = 6 };
    static const double farthest = 30; /* s that a recorder may lose between two pieces */
    double away = fabs(middle_of(to) - middle_of(from)), lag = from->found.lag;
    uf_anchor near = look(a, b, to, lag, fmin(.05 + drift_most * away, .4));
    for (int k = 0; k < to->n_peaks && near.z < FOUND; k++)
        if (to->peak[k].z > SURE && fabs(to->peak[k].lag - lag) < farthest) {
            uf_anchor there = look(a, b, to, to->peak[k].lag, .02);
            if (there.z > SURE && there.z > near.z) near = there;
        }
    to->found = near;
    to->is_found = near.z >= FOUND;
}

/* Pieces of a that have enough of b under them, if b lies `lag` later. */
static bool could_be(const uf_take *b, const piece *p, double lag)
{
    double from = (double)p->from / UF_MERGE_COARSE + lag, length = (double)p->n / UF_MERGE_COARSE;
    double under = fmin(from + length, (double)b->n_flux / UF_MERGE_FLUX) - fmax(from, 0);
    return under > .55 * length;
}

/* Gaussian tails: one piece may fall anywhere, the others only near it. */
static double sum_up(const piece *p, int n, double lags)
{
    double sum = 0, strongest = 0;
    for (int i = 0; i < n; i++)
        if (p[i].is_found) {
            sum += fmax(.5 * p[i].found.z * p[i].found.z - log(10), 0);
            strongest = fmax(strongest, p[i].found.z);
        }
    sum -= strongest > 0 ? log(lags) : 0;
    return sum > 0 ? sqrt(2 * sum) : 0;
}

static int keep_anchors(uf_ctx *ctx, uf_match *out, const uf_take *b, const piece *p, int n, double lag)
{
    out->anchor = uf_alloc(ctx, (size_t)n, sizeof(*out->anchor));
    if (!out->anchor) return UF_ENOMEM;
    for (int i = 0; i < n; i++) {
        if (p[i].is_found) {
            lag = p[i].found.lag;
            out->anchor[out->n++] = p[i].found;
        }
        out->n_looked += p[i].is_found || could_be(b, &p[i], lag);
    }
    return UF_OK;
}

static int agree(matcher *m, uf_match *out, piece *p, int n)
{
    const uf_take *a = m->take + out->a, *b = m->take + out->b;
    int best = 0, which = 0;
    if (!vote(p, n, &best, &which)) return UF_OK;
    p[best].found = look(a, b, &p[best], p[best].peak[which].lag, .02);
    p[best].is_found = true;
    for (int i = best + 1, last = best; i < n; i++) {
        if (could_be(b, &p[i], p[last].found.lag)) follow(a, b, &p[last], &p[i]);
        if (p[i].is_found) last = i;
    }
    for (int i = best - 1, last = best; i >= 0; i--) {
        if (could_be(b, &p[i], p[last].found.lag)) follow(a, b, &p[last], &p[i]);
        if (p[i].is_found) last = i;
    }
    double lag = p[best].found.lag;
    UF_TRY(keep_anchors(m->ctx, out, b, p, n, lag));
    out->z = sum_up(p, n, (double)m->low[out->b].n / 5);
    if (out->n < 2 ? out->z < SINGLE || out->n_looked >= 3 : out->n * 5 < out->n_looked) out->z = fmin(out->z, UF_MERGE_ENOUGH - 1); /* one minute of many may be chance */
    uf_log(m->ctx, UF_LOG_DEBUG, "'%s' in '%s': z %.1f, %d of %d pieces, lag %.3f s", a->path, b->path, out->z, out->n, out->n_looked, lag);
    return UF_OK;
}

/* ---- all pairs ----------------------------------------------------------------------------------------------------------------- */

static int match_pair(matcher *m, uf_match *out)
{
    if (m->low[out->a].n > m->low[out->b].n) {
        int a = out->a;
        out->a = out->b;
        out->b = a;
    }
    const coarse *a = m->low + out->a, *b = m->low + out->b;
    piece *p = uf_alloc(m->ctx, MOST_PIECES, sizeof(*p));
    if (!p) return UF_ENOMEM;
    int64_t length = a->n / 6;
    if (length < SHORTEST * UF_MERGE_COARSE) length = SHORTEST * UF_MERGE_COARSE;
    if (length > LONGEST * UF_MERGE_COARSE) length = LONGEST * UF_MERGE_COARSE;
    if (length > a->n) length = a->n;
    int n = length ? (int)(2 * a->n / length) - 1 : 0; /* they overlap by half, where they are not far apart */
    if (n > MOST_PIECES) n = MOST_PIECES;
    m->energy[0] = 0;
    for (int64_t i = 0; i < b->n; i++) m->energy[i + 1] = m->energy[i] + (double)b->x[i] * (double)b->x[i];
    for (int i = 0; i < n; i++) {
        p[i] = (piece){ .from = n > 1 ? (a->n - length) * i / (n - 1) : 0, .n = (int)length };
        correlate(m, a, b, &p[i]);
    }
    int err = n ? agree(m, out, p, n) : UF_OK;
    free(p);
    return err;
}

static int coarse_open(uf_ctx *ctx, coarse *c, const uf_take *t, int size)
{
    uf_fft f;
    c->n = t->n_flux / STEP;
    c->x = uf_alloc(ctx, (size_t)c->n + 1, sizeof(*c->x));
    c->spectrum = uf_alloc(ctx, (size_t)size / 2 + 1, sizeof(*c->spectrum));
    bool ok = uf_fft_open(&f, size) && c->x && c->spectrum;
    for (int64_t i = 0; ok && i < c->n; i++) {
        for (int k = 0; k < STEP; k++) c->x[i] += t->flux[i * STEP + k] / STEP;
        c->power += (double)c->x[i] * (double)c->x[i] / (double)c->n;
    }
    if (ok) {
        memset(f.time, 0, (size_t)size * sizeof(float));
        memcpy(f.time, c->x, (size_t)c->n * sizeof(float));
        uf_fft_forward(&f);
        memcpy(c->spectrum, f.bins, ((size_t)size / 2 + 1) * sizeof(*c->spectrum));
    }
    uf_fft_close(&f);
    return ok ? UF_OK : uf_fail(ctx, UF_ENOMEM, "out of memory for %.0f minutes of '%s'; give shorter recordings", (double)t->n_low / UF_MERGE_RATE / 60, t->path);
}

static int match_some(uf_ctx *ctx, const uf_take *take, const coarse *low, int size, int64_t longest, uf_match *match, int n_pairs)
{
    int failed = UF_OK;
#pragma omp parallel num_threads(uf_ctx_threads(ctx))
    {
        matcher m = { .ctx = ctx, .take = take, .low = low };
        bool ok = uf_fft_open(&m.fft, size);
        m.energy = uf_alloc(ctx, (size_t)longest + 1, sizeof(double));
        int err = ok && m.energy ? UF_OK : UF_ENOMEM;
#pragma omp for schedule(dynamic)
        for (int i = 0; i < n_pairs; i++)
            if (err == UF_OK && !uf_ctx_cancelled(ctx)) err = match_pair(&m, match + i);
#pragma omp critical
        if (err < 0) failed = err;
        uf_fft_close(&m.fft);
        free(m.energy);
    }
    if (uf_ctx_cancelled(ctx)) return uf_fail(ctx, UF_EINTR, "stopped; nothing was written");
    return failed == UF_ENOMEM ? uf_fail(ctx, UF_ENOMEM, "out of memory for %d recordings; give fewer or shorter ones", n_pairs) : failed;
}

int uf_match_all(uf_ctx *ctx, const uf_take *take, int n, uf_match *match)
{
    coarse low[UF_MERGE_MOST] = { 0 };
    int64_t longest = 0;
    int n_pairs = 0, err = UF_OK;
    for (int i = 0; i < n; i++)
        if (take[i].n_flux / STEP > longest) longest = take[i].n_flux / STEP;
    int size = good_size(longest + LONGEST * UF_MERGE_COARSE + 16);
    for (int i = 0; i < n && err == UF_OK; i++) err = coarse_open(ctx, &low[i], &take[i], size);
    for (int i = 0; i < n; i++)
        for (int k = i + 1; k < n; k++) match[n_pairs++] = (uf_match){ .a = i, .b = k };
    if (err == UF_OK) err = match_some(ctx, take, low, size, longest, match, n_pairs);
    for (int i = 0; i < n; i++) {
        free(low[i].x);
        free(low[i].spectrum);
    }
    return err;
}

void uf_matches_close(uf_match *match, int n)
{
    for (int i = 0; i < n; i++) free(match[i].anchor); /* of pairs that were never looked at: NULL */
}
