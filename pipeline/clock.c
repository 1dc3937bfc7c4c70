/* A clock out of lags. Slopes between pairs of windows agree for one talker and for another, however far apart they sit: the mode of those slopes is the
 * clock's first estimate. Then lines between knots are fitted to differences over several baselines, and at last to the lags themselves, each talker
 * with a level of his own; all by least squares that are weighted again and again (Holland & Welsch 1977), with weights that outliers lose (Tukey's). */
#include "merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = UF_FIT_KNOTS + 1 + UF_FIT_LEVELS + UF_FIT_STEPS, FEWEST = 4 };
static const double knot_every = 30;      /* s */
static const double wander = 2e-6;        /* by which a wandering clock's rate may change from knot to knot */
static const double steady = 1e-9;       /* and another's */
static const double noise = 40e-6;        /* s, of one window */
static const double step_off = 3e-3;      /* s, by which a known step may be off */
static const double level_apart = .4e-3;  /* s, between talkers that count as two */

/* ---- least squares -------------------------------------------------------------------------------------------------------------- */

typedef struct equations { /* normal equations of n unknowns */
    int n;
    double *a, *b, *x;     /* (MOST, MOST), MOST, MOST */
} equations;

static int equations_open(uf_ctx *ctx, equations *e) {
    *e = (equations){ .a = uf_alloc(ctx, MOST * MOST + 2 * MOST, sizeof(double)) };
    if (!e->a) return UF_ENOMEM;
    e->b = e->a + MOST * MOST;
    e->x = e->b + MOST;
    return UF_OK;
}

static void clear(equations *e, int n) {
    e->n = n;
    memset(e->a, 0, (MOST * MOST + MOST) * sizeof(double));
}

/* sum of value[i] * x[column[i]] = y, with weight w */
static void observe(equations *e, const int *column, const double *value, int n, double y, double w) {
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n; k++) e->a[column[i] * MOST + column[k]] += w * value[i] * value[k];
        e->b[column[i]] += w * value[i] * y;
    }
}

/* By Cholesky; the little that is added keeps what nothing was said about at 0, within a second or so. */
static void solve(equations *e) {
    int n = e->n;
    double *a = e->a;
    for (int i = 0; i < n; i++) {
        a[i * MOST + i] += 1 + 1e-14 * a[i * MOST + i];
        for (int j = 0; j <= i; j++) {
            double s = a[i * MOST + j];
            for (int k = 0; k < j; k++) s -= a[i * MOST + k] * a[j * MOST + k];
            a[i * MOST + j] = j < i ? s / a[j * MOST + j] : sqrt(fmax(s, 1e-30));
        }
    }
    for (int i = 0; i < n; i++) {
        double s = e->b[i];
        for (int k = 0; k < i; k++) s -= a[i * MOST + k] * e->x[k];
        e->x[i] = s / a[i * MOST + i];
    }
    for (int i = n - 1; i >= 0; i--) {
        double s = e->x[i];
        for (int k = i + 1; k < n; k++) s -= a[k * MOST + i] * e->x[k];
        e->x[i] = s / a[i * MOST + i];
    }
}

static double tukey(double r, double scale) {
    double u = r / scale;
    return fabs(u) < 1 ? (1 - u * u) * (1 - u * u) : 0;
}

static double median(double *x, int n) {
    if (!n) return 0;
    uf_sort(x, (size_t)n);
    return n % 2 ? x[n / 2] : .5 * (x[n / 2 - 1] + x[n / 2]);
}

/* ---- the work -------------------------------------------------------------------------------------------------------------------- */

typedef struct work {
    uf_ctx *ctx;
    uf_lag *lag;           /* n */
    double *y;             /* n: lag less the steps */
    double *scratch;       /* 2n */
    int n, n_knots;
    double from, spacing, base; /* base: s that all lags are less here */
    equations e;
    double c[UF_FIT_KNOTS + 1]; /* the curve at the knots */
    double level[UF_FIT_LEVELS];
    int n_levels, most_levels;
    const uf_jump *step;   /* n_steps, as they are known before */
    int n_steps;
    uf_fit *fit;
} work;

static int cell(const work *w, double at, double *share) {
    double place = (at - w->from) / w->spacing;
    int i = (int)floor(place);
    i = i < 0 ? 0 : i > w->n_knots - 2 ? w->n_knots - 2 : i;
    *share = place - i;
    return i;
}

static double curve(const work *w, double at) {
    double share;
    int i = cell(w, at, &share);
    return w->c[i] + share * (w->c[i + 1] - w->c[i]);
}

/* ---- slopes ------------------------------------------------------------------------------------------------------------------------ */

/* Calls for pairs of windows that are about `apart` seconds from each other. */
static int partner(const work *w, int k, double apart) {
    int low = k + 1, high = w->n;
    while (low < high) {
        int middle = (low + high) / 2;
        if (w->lag[middle].at < w->lag[k].at + apart) low = middle + 1;
        else high = middle;
    }
    return low < w->n && w->lag[low].at < w->lag[k].at + 1.5 * apart + 1 ? low : -1;
}

/* The slope that most pairs have, within +-limit of `around`, where slopes within `width` are equal. */
static double mode_of_slopes(const work *w, double around, double limit, double width) {
    enum { BINS = 400 };
    double bin[BINS + 1] = { 0 }, best = -1, at = around, duration = w->lag[w->n - 1].at - w->lag[0].at;
    static const double apart[] = { 1, 2, 3, 5, 8, 12, 18, 25, 35, 50 };
    for (int k = 0; k < w->n; k++)
        for (int i = 0; i < UF_LEN(apart); i++) {
            int j = apart[i] < duration ? partner(w, k, apart[i]) : -1;
            if (j < 0) continue;
            double dt = w->lag[j].at - w->lag[k].at, slope = (w->y[j] - w->y[k]) / dt - around;
            double spread = fmax(width, noise / dt), place = (slope + limit) / (2 * limit) * BINS, side = spread / (2 * limit) * BINS;
            for (int b = (int)ceil(place - side); b <= place + side; b++)
                if (b >= 0 && b <= BINS) bin[b] += 1 / (2 * side + 1);
        }
    for (int b = 0; b <= BINS; b++)
        if (bin[b] > best) best = bin[b], at = around + ((double)b / BINS * 2 - 1) * limit;
    return at;
}

/* ---- steps -------------------------------------------------------------------------------------------------------------------------- */

/* Lags without the known steps, as at the beginning: what one fit made of them is none of the next one's. */
static void know_steps(work *w) {
    w->fit->n_steps = w->n_steps;
    for (int k = 0; k < w->n; k++) w->y[k] = w->lag[k].lag - w->base;
    for (int i = 0; i < w->n_steps; i++) {
        w->fit->step[i] = w->step[i];
        for (int k = 0; k < w->n; k++)
            if (w->lag[k].at > w->step[i].at) w->y[k] -= w->step[i].by;
    }
}

/* ---- the curve ----------------------------------------------------------------------------------------------------------------------- */

static void smooth(equations *e, const work *w, double change) {
    for (int i = 1; i + 1 < w->n_knots; i++) {
        int column[] = { i - 1, i, i + 1 };
        double value[] = { 1 / w->spacing, -2 / w->spacing, 1 / w->spacing };
        observe(e, column, value, 3, 0, 1 / (change * change * w->spacing / knot_every));
    }
}

/* By differences between windows, over some baselines. */
static void fit_differences(work *w, double change) {
    static const double apart[] = { 2, 8, 30, 120 };
    double duration = w->lag[w->n - 1].at - w->lag[0].at;
    for (double scale = 1e-3; scale > 1e-4; scale *= .6) {
        clear(&w->e, w->n_knots);
        for (int k = 0; k < w->n; k++)
            for (int i = 0; i < UF_LEN(apart); i++) {
                int j = apart[i] < duration ? partner(w, k, apart[i]) : -1, column[4];
                double y, share[2], value[4];
                if (j < 0) continue;
                column[0] = cell(w, w->lag[k].at, &share[0]);
                column[2] = cell(w, w->lag[j].at, &share[1]);
                column[1] = column[0] + 1;
                column[3] = column[2] + 1;
                value[0] = share[0] - 1;
                value[1] = -share[0];
                value[2] = 1 - share[1];
                value[3] = share[1];
                y = w->y[j] - w->y[k];
                double r = y - (curve(w, w->lag[j].at) - curve(w, w->lag[k].at)), weight = tukey(r, scale + 20e-6 * apart[i] / 8);
                if (weight > 0) observe(&w->e, column, value, 4, y, weight / (2 * noise * noise) / UF_LEN(apart));
            }
        smooth(&w->e, w, change);
        solve(&w->e);
        memcpy(w->c, w->e.x, (size_t)w->n_knots * sizeof(double));
    }
}

/* The talkers' distances: where residues gather. */
static void find_levels(work *w) {
    double *r = w->scratch, *left = w->scratch + w->n;
    int n = w->n;
    for (int k = 0; k < n; k++) left[k] = w->y[k] - curve(w, w->lag[k].at);
    w->n_levels = 0;
    while (w->n_levels < w->most_levels) {
        int most = 0, at = 0;
        memcpy(r, left, (size_t)n * sizeof(*r));
        uf_sort(r, (size_t)n);
        for (int i = 0, j = 0; i < n; i++) { /* windows within half of the distance that keeps talkers apart */
            while (r[i] - r[j] > .5 * level_apart) j++;
            if (i - j + 1 > most) most = i - j + 1, at = j;
        }
        if (most < 4 || (w->n_levels && most < .04 * w->n)) break;
        double level = r[at + most / 2];
        w->level[w->n_levels++] = level;
        int kept = 0;
        for (int k = 0; k < n; k++)
            if (fabs(left[k] - level) > level_apart) left[kept++] = left[k];
        n = kept;
    }
}

/* Each window to the nearest level. */
static void choose_levels(work *w, double far) {
    for (int k = 0; k < w->n; k++) {
        double r = w->y[k] - curve(w, w->lag[k].at), best = far;
        w->lag[k].level = -1;
        for (int i = 0; i < w->n_levels; i++)
            if (fabs(r - w->level[i]) < best) best = fabs(r - w->level[i]), w->lag[k].level = i;
    }
}

/* Curve, levels (the first is the curve itself) and steps at once. */
static double fit_levels(work *w, double change) {
    double scale = .5 * level_apart;
    uf_fit *f = w->fit;
    for (int i = 0; i < w->n_knots; i++) w->c[i] += w->level[0];
    for (int i = w->n_levels - 1; i >= 0; i--) w->level[i] -= w->level[0];
    for (int round = 0; round < 6; round++) {
        int at_level = w->n_knots, at_step = at_level + w->n_levels - 1;
        clear(&w->e, at_step + f->n_steps);
        choose_levels(w, scale);
        for (int k = 0; k < w->n; k++) {
            int column[4 + UF_FIT_STEPS], n = 2;
            double value[4 + UF_FIT_STEPS], share;
            if (w->lag[k].level < 0) continue;
            column[0] = cell(w, w->lag[k].at, &share);
            column[1] = column[0] + 1;
            value[0] = 1 - share;
            value[1] = share;
            if (w->lag[k].level > 0) column[n] = at_level + w->lag[k].level - 1, value[n++] = 1;
            for (int i = 0; i < f->n_steps; i++)
                if (w->lag[k].at > f->step[i].at) column[n] = at_step + i, value[n++] = 1;
            double r = w->y[k] - curve(w, w->lag[k].at) - w->level[w->lag[k].level];
            observe(&w->e, column, value, n, w->y[k], tukey(r, scale) / (noise * noise));
        }
        for (int i = 0; i < f->n_steps; i++) {
            int column = at_step + i;
            double one = 1;
            observe(&w->e, &column, &one, 1, w->step[i].by - f->step[i].by, 1 / (step_off * step_off));
        }
        smooth(&w->e, w, change);
        solve(&w->e);
        memcpy(w->c, w->e.x, (size_t)w->n_knots * sizeof(double));
        for (int i = 1; i < w->n_levels; i++) w->level[i] = w->e.x[at_level + i - 1];
        for (int i = 0; i < f->n_steps; i++) {
            double more = w->e.x[at_step + i];
            f->step[i].by += more;
            for (int k = 0; k < w->n; k++)
                if (w->lag[k].at > f->step[i].at) w->y[k] -= more;
        }
        int n = 0;
        for (int k = 0; k < w->n; k++)
            if (w->lag[k].level >= 0) w->scratch[n++] = fabs(w->y[k] - curve(w, w->lag[k].at) - w->level[w->lag[k].level]);
        f->scatter = median(w->scratch, n);
        f->agree = (double)n / w->n;
        scale = fmin(fmax(6 * f->scatter, 60e-6), .5 * level_apart);
    }
    return f->scatter;
}

static void fit_curve(work *w, double slope, double change) {
    know_steps(w);
    for (int i = 0; i < w->n_knots; i++) w->c[i] = slope * (w->from + i * w->spacing);
    fit_differences(w, change);
    find_levels(w);
    if (w->n_levels) fit_levels(w, change);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------------------- */

static int begin(work *w) {
    double sign = 0, duration;
    int kept = 0;
    for (int k = 0; k < w->n; k++) sign += w->lag[k].q * fabs(w->lag[k].q);
    w->fit->polarity = sign < 0 ? -1 : 1;
    for (int k = 0; k < w->n; k++)
        if (w->lag[k].q * w->fit->polarity > 0) w->lag[kept++] = w->lag[k];
    w->n = kept;
    if (kept < FEWEST) return UF_EOF;
    duration = w->lag[kept - 1].at - w->lag[0].at;
    w->n_knots = 1 + (int)fmax(1, fmin(UF_FIT_KNOTS - 1, floor(duration / knot_every)));
    w->from = w->lag[0].at;
    w->spacing = fmax(duration, 1e-3) / (w->n_knots - 1);
    w->y = uf_alloc(w->ctx, 3 * (size_t)kept, sizeof(double));
    if (!w->y) return UF_ENOMEM;
    w->scratch = w->y + kept;
    w->base = w->lag[kept / 2].lag;
    return equations_open(w->ctx, &w->e);
}

static int finish(work *w) {
    uf_fit *f = w->fit;
    int used = 0;
    f->at = uf_alloc(w->ctx, 2 * (size_t)w->n_knots, sizeof(double));
    if (!f->at) return UF_ENOMEM;
    f->lag = f->at + w->n_knots;
    f->n = w->n_knots;
    f->n_levels = w->n_levels;
    for (int i = 0; i < f->n; i++) {
        f->at[i] = w->from + i * w->spacing;
        f->lag[i] = w->c[i] + w->base;
    }
    for (int k = 0; k < w->n; k++) used += w->lag[k].level >= 0;
    double duration = w->spacing * (w->n_knots - 1);
    f->error_ppm = used > 2 ? 1e6 * 1.5 * f->scatter * sqrt(12. / used) / duration : 1e3;
    for (int i = 0; i < f->n_steps; i++) /* by time */
        for (int k = i + 1; k < f->n_steps; k++)
            if (f->step[k].at < f->step[i].at) {
                uf_jump later = f->step[i];
                f->step[i] = f->step[k];
                f->step[k] = later;
            }
    return f->agree > 0 ? UF_OK : UF_EOF;
}

int uf_clock_fit(uf_ctx *ctx, uf_lag *lag, int n, const uf_jump *steps, int n_steps, int n_levels, uf_fit *out) {
    work *w = uf_alloc(ctx, 1, sizeof(*w));
    if (!w) return UF_ENOMEM;
    *out = (uf_fit){ 0 };
    *w = (work){ .ctx = ctx, .lag = lag, .n = n, .step = steps, .n_steps = n_steps, .fit = out, .most_levels = n_levels };
    int err = begin(w);
    if (err == UF_OK) {
        know_steps(w);
        double slope = mode_of_slopes(w, 0, 1500e-6, 15e-6);
        slope = mode_of_slopes(w, slope, 100e-6, 2e-6);
        slope = mode_of_slopes(w, slope, 20e-6, .5e-6);
        fit_curve(w, slope, steady);
        double straight = out->scatter, agree = out->agree;
        if (w->n_knots > 2) {
            fit_curve(w, slope, wander);
            if (out->scatter > .85 * straight && out->agree < 1.1 * agree) fit_curve(w, slope, steady); /* nothing gained: a line errs less */
        }
        err = finish(w);
    }
    if (err < 0) free(out->at), out->at = NULL;
    free(w->y);
    free(w->e.a);
    free(w);
    return err;
}

double uf_fit_lag(const uf_fit *f, double at, bool steps) {
    int i = 0;
    double lag = 0;
    while (i + 2 < f->n && f->at[i + 1] <= at) i++;
    if (f->n > 1) lag = f->lag[i] + (at - f->at[i]) * (f->lag[i + 1] - f->lag[i]) / (f->at[i + 1] - f->at[i]);
    for (int k = 0; steps && k < f->n_steps; k++)
        if (f->step[k].at < at) lag += f->step[k].by;
    return lag;
}
