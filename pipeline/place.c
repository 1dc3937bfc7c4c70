/* Recordings onto one time line: a tree of pairs that heard the same, and along it every recording's clock. */
#include "merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct placer {
    uf_ctx *ctx;
    uf_take *take;
    int n;
    uf_match *match;
    int n_matches;
    int group[UF_MERGE_MOST];      /* which recordings hang together: the number of one of them */
    double rough[UF_MERGE_MOST];   /* s: its own time less its group's, at the group's beginning */
} placer;

static double seconds(const uf_take *t) { return (double)t->n_low / UF_MERGE_RATE; }

/* ---- the graph -------------------------------------------------------------------------------------------------------------------- */

static double typical_lag(const uf_match *m) {
    double sum = 0, weight = 0;
    for (int i = 0; i < m->n; i++) {
        sum += m->anchor[i].z * m->anchor[i].lag;
        weight += m->anchor[i].z;
    }
    return weight > 0 ? sum / weight : 0;
}

/* How far what a pair says may be off: clocks run, and what was lost is in the mean of one pair and not in another's. */
static double slack(const placer *p, const uf_match *m) {
    static const double buffers = 1; /* s; more is a pause, or an error */
    double sum = .1 + 1e-3 * fmax(seconds(p->take + m->a), seconds(p->take + m->b));
    for (int i = 0; i < m->n_jumps; i++) sum += fabs(m->jump[i].by) < buffers ? fabs(m->jump[i].by) : 0;
    return sum;
}

/* By how much group a's time is to be moved for b's, as match m says. */
static double says(const placer *p, const uf_match *m, int from) {
    double between = typical_lag(m) - p->rough[m->b] + p->rough[m->a]; /* group time of b's less that of a's */
    return p->group[m->a] == from ? between : -between;
}

/* Two groups become one, where most of what connects them says so: one pair may err, by an echo or a refrain. */
static void join(placer *p, const uf_match *strongest) {
    int a = p->group[strongest->a], b = p->group[strongest->b];
    double best = 0, most = 0;
    for (int i = 0; i < p->n_matches; i++) {
        const uf_match *m = p->match + i;
        bool between = (p->group[m->a] == a && p->group[m->b] == b) || (p->group[m->a] == b && p->group[m->b] == a);
        if (!between || m->z < UF_MERGE_ENOUGH) continue;
        double offset = says(p, m, a), support = 0;
        for (int k = 0; k < p->n_matches; k++) {
            const uf_match *o = p->match + k;
            bool also = (p->group[o->a] == a && p->group[o->b] == b) || (p->group[o->a] == b && p->group[o->b] == a);
            if (also && o->z >= UF_MERGE_ENOUGH && fabs(says(p, o, a) - offset) < fmax(slack(p, m), slack(p, o))) support += o->z * o->z;
        }
        if (support > most) most = support, best = offset;
    }
    for (int i = 0; i < p->n; i++)
        if (p->group[i] == b) {
            p->group[i] = a;
            p->rough[i] += best;
        }
}

/* Kruskal's maximum spanning tree. */
static void group_all(placer *p) {
    for (int i = 0; i < p->n; i++) p->group[i] = i;
    for (;;) {
        const uf_match *strongest = NULL;
        for (int i = 0; i < p->n_matches; i++) {
            const uf_match *m = p->match + i;
            if (m->z >= UF_MERGE_ENOUGH && p->group[m->a] != p->group[m->b] && (!strongest || m->z > strongest->z)) strongest = m;
        }
        if (!strongest) return;
        join(p, strongest);
    }
}

/* A pair that agrees with what all of them together say: the closure of every triangle through it. */
static bool closes(const placer *p, const uf_match *m) {
    return m->z >= UF_MERGE_ENOUGH && p->group[m->a] == p->group[m->b] && fabs(typical_lag(m) - p->rough[m->b] + p->rough[m->a]) < slack(p, m);
}

/* The group that is kept: that of the recording whose clock was chosen, or the one with most in common. */
static int choose_group(const placer *p, int clock) {
    int best = clock >= 0 ? p->group[clock] : -1;
    double most = -1;
    for (int g = 0; g < p->n && clock < 0; g++) {
        double sum = 0;
        for (int i = 0; i < p->n_matches; i++)
            if (p->group[p->match[i].a] == g && closes(p, &p->match[i])) sum += p->match[i].z;
        if (sum > most) most = sum, best = g;
    }
    return best;
}

/* The one that has most in common with the others. */
static int choose_root(const placer *p, int group) {
    double most = -1;
    int best = group;
    for (int i = 0; i < p->n; i++) {
        double sum = 0;
        for (int k = 0; k < p->n_matches; k++)
            if ((p->match[k].a == i || p->match[k].b == i) && closes(p, &p->match[k])) sum += p->match[k].z;
        if (p->group[i] == group && p->take[i].same_as < 0 && sum > most) most = sum, best = i;
    }
    return best;
}

/* ---- one pair ------------------------------------------------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b) {
    double x = ((const uf_guess *)a)->at, y = ((const uf_guess *)b)->at;
    return (x > y) - (x < y);
}

static int by_place(const void *a, const void *b) {
    double x = ((const uf_jump *)a)->at, y = ((const uf_jump *)b)->at;
    return (x > y) - (x < y);
}

/* What the anchors say, in the common time, which the parent's clock knows. */
static int anchors_from(const placer *p, const uf_match *m, int parent, uf_guess *g) {
    const uf_clock *c = &p->take[parent].clock;
    for (int i = 0; i < m->n; i++) {
        double a = m->anchor[i].at, b = a + m->anchor[i].lag;
        g[i].at = uf_clock_inverse(c, m->a == parent ? a : b);
        g[i].lag = (m->a == parent ? b : a) - g[i].at;
    }
    qsort(g, (size_t)m->n, sizeof(*g), by_time);
    return m->n;
}

/* By how much the parent itself jumps near `at`: its clock knows, and what it knows is none of the child's. */
static double known_jump(const uf_clock *c, double at) {
    static const double near = 2.5; /* s */
    double sum = 0;
    for (int i = 1; i < c->n; i++)
        if (c->knot[i].opens && fabs(c->knot[i].at - at) < near) sum += (c->knot[i].is - c->knot[i - 1].is) - (c->knot[i].at - c->knot[i - 1].at);
    return sum;
}

/* The pair's jumps likewise. */
static int jumps_from(const placer *p, const uf_match *m, int parent, uf_jump *jump) {
    static const double fine = .05; /* s, to which they are known */
    const uf_clock *c = &p->take[parent].clock;
    int n = 0;
    for (int i = 0; i < m->n_jumps; i++) {
        double a = m->jump[i].at, lag = m->anchor[0].lag, by = m->a == parent ? m->jump[i].by : -m->jump[i].by;
        for (int k = 0; k < m->n && m->anchor[k].at < a; k++) lag = m->anchor[k].lag;
        double at = uf_clock_inverse(c, m->a == parent ? a : a + lag + .5 * m->jump[i].by), known = known_jump(c, at);
        if (fabs(by + known) < fine) continue;
        jump[n++] = (uf_jump){ .at = at, .by = fabs(by + known) < fabs(by) ? by + known : by };
    }
    qsort(jump, (size_t)n, sizeof(*jump), by_place);
    return n;
}

/* A line between the jumps through what the anchors say; and, over minutes, what small losses add up to. Of short recordings the clock is known better
 * without the anchors. */
static int rough_fit(const placer *p, const uf_match *m, int parent, uf_fit *f) {
    static const double spacing = 60, off_s = .015, off_rate = 200e-6; /* s; what an anchor errs by, and a clock */
    uf_guess g[UF_MERGE_ANCHORS];
    double at = 0, lag = 0, aa = off_s * off_s / (off_rate * off_rate), al = 0;
    int n = anchors_from(p, m, parent, g), n_knots = (int)fmin(fmax((g[n - 1].at - g[0].at) / spacing, 2), UF_FIT_KNOTS);
    *f = (uf_fit){ .at = uf_alloc(p->ctx, 2 * (size_t)n_knots, sizeof(double)), .polarity = 1 };
    if (!f->at) return UF_ENOMEM;
    f->lag = f->at + n_knots;
    f->pattern[UF_PATTERN_SIDE] = 1;
    f->n_steps = jumps_from(p, m, parent, f->step);
    for (int i = 0; i < n; i++) g[i].lag -= uf_fit_lag(f, g[i].at, true); /* of the jumps alone */
    for (int i = 0; i < n; i++) at += g[i].at / n, lag += g[i].lag / n;
    for (int i = 0; i < n; i++) aa += (g[i].at - at) * (g[i].at - at), al += (g[i].at - at) * (g[i].lag - lag);
    f->n = n_knots;
    for (int k = 0; k < n_knots; k++) {
        double left = 0;
        int near = 0;
        f->at[k] = g[0].at + fmax(g[n - 1].at - g[0].at, 1) * k / (n_knots - 1);
        f->lag[k] = lag + (f->at[k] - at) * al / aa;
        for (int i = 0; i < n && n_knots > 2; i++)
            if (fabs(g[i].at - f->at[k]) < spacing) left += g[i].lag - lag - (g[i].at - at) * al / aa, near++;
        if (near) f->lag[k] += left / near;
    }
    return UF_OK;
}

static int guess_from_fit(const uf_fit *f, uf_guess *g) {
    int n = 0;
    for (int i = 0; i < f->n; i++) g[n++] = (uf_guess){ f->at[i], uf_fit_lag(f, f->at[i], true) };
    for (int i = 0; i < f->n_steps; i++)
        for (int k = -1; k <= 1; k += 2) {
            double at = f->step[i].at + k * 1e-3;
            g[n++] = (uf_guess){ at, uf_fit_lag(f, at, true) };
        }
    qsort(g, (size_t)n, sizeof(*g), by_time);
    return n;
}

/* The fit's lines as a clock; at steps its own time is looked for to a few milliseconds. */
static int clock_from(placer *p, const uf_lag_options *o, const uf_fit *f, uf_clock *out) {
    uf_knot *k = uf_alloc(p->ctx, (size_t)(f->n + 2 * f->n_steps + 2), sizeof(*k));
    if (!k) return UF_ENOMEM;
    int n = 0, i = 0;
    double add = 0, begun = -INFINITY;
    for (int s = 0; s <= f->n_steps; s++) {
        double end = INFINITY, own = 0, before = 0, after = 0;
        if (s < f->n_steps) {
            before = uf_fit_lag(f, f->step[s].at, false) + add;
            after = before + f->step[s].by;
            double slack = f->step[s].slack, at = f->step[s].at;
            uf_lag_sides sides = { before, after, .5 * (uf_fit_lag(f, at + 1, false) - uf_fit_lag(f, at - 1, false)), f->pattern };
            int err = uf_lag_step(p->ctx, o, &sides, at + fmin(before, after) - slack, at + fmax(before, after) + slack, &own);
            if (err < 0) {
                free(k);
                return err;
            }
            end = fmin(own - before, own - after); /* what it has and the others lost has no place */
        }
        for (; i < f->n && (f->at[i] < end - .01 || s == f->n_steps); i++) {
            if (f->at[i] < begun + .01) continue;
            k[n] = (uf_knot){ f->at[i], f->at[i] + f->lag[i] + add, n == 0 };
            n++;
        }
        if (s == f->n_steps) break;
        if (n && end <= k[n - 1].at) end = k[n - 1].at + .005;
        k[n] = (uf_knot){ end, end + uf_fit_lag(f, end, false) + add, n == 0 };
        n++;
        add += f->step[s].by;
        begun = fmax(end, own - after);
        k[n] = (uf_knot){ begun, begun + uf_fit_lag(f, begun, false) + add, true };
        n++;
    }
    while (n > 1 && k[n - 1].opens) n--; /* a stretch of one knot says nothing */
    if (n == 1) {
        k[1] = (uf_knot){ k[0].at + 1, k[0].is + 1, false };
        n = 2;
    }
    *out = (uf_clock){ .knot = k, .n = n };
    return UF_OK;
}

/* Steps that were known, and those that were found beside them: within a window of each other they are one, which may be none. Some ms belong to the step
 * nearby that was known to some hundredths only; where there is none, to another talker. */
static int join_steps(const uf_fit *known, uf_jump *jump, int n) {
    static const double near = .3, nearby = 2.5, none = .003, least = .012; /* s */
    int kept = 0;
    for (int i = 0; i < known->n_steps; i++) jump[n++] = known->step[i];
    qsort(jump, (size_t)n, sizeof(*jump), by_place);
    for (int i = 0; i < n; i++) {
        if (kept && jump[i].at - jump[kept - 1].at < near) jump[kept - 1].by += jump[i].by;
        else jump[kept++] = jump[i];
    }
    for (int i = 0; i < kept; i++) {
        int best = -1;
        if (fabs(jump[i].by) >= least) continue;
        for (int k = 0; k < kept && fabs(jump[i].by) > none; k++)
            if (fabs(jump[k].by) >= least && (best < 0 || fabs(jump[k].at - jump[i].at) < fabs(jump[best].at - jump[i].at))) best = k;
        if (best >= 0 && fabs(jump[best].at - jump[i].at) < nearby) jump[best].by += jump[i].by;
    }
    n = kept;
    kept = 0;
    for (int i = 0; i < n; i++)
        if (fabs(jump[i].by) >= least && kept < UF_FIT_STEPS) jump[kept++] = jump[i];
    return kept;
}

/* A step lies between the windows that say what was before it and what after. */
static void pin_down(uf_fit *f, const uf_lag *lag, int n) {
    static const double blur = .1, longest = 3; /* s: a window's own; a pause */
    for (int i = 0; i < f->n_steps; i++) {
        uf_jump *s = f->step + i;
        double from = s->at - longest, to = s->at + longest;
        for (int k = 0; k < n; k++) {
            if (lag[k].at < s->at) from = fmax(from, lag[k].at - blur);
            else to = fmin(to, lag[k].at + blur);
        }
        s->at = .5 * (from + to);
        s->slack = .5 * (to - from);
    }
}

/* The mean of all stretches, around the lag that lies `late` (s) behind the guess. */
static void learn_pattern(uf_fit *f, const uf_stretch *s, int n, double late) {
    int moved = (int)lround(late * UF_MERGE_RATE);
    for (int l = 0; l < UF_PATTERN_LAGS; l++) {
        int at = l - UF_PATTERN_SIDE + moved + UF_STRETCH_SIDE;
        for (int i = 0; i < n && at >= 0 && at < UF_STRETCH_LAGS; i++) f->pattern[l] += s[i].all[at];
    }
    uf_pattern_shrink(f->pattern);
}

static void replace(uf_fit *fit, uf_fit *next, uf_lag_options *o, uf_guess *g) {
    free(fit->at);
    *fit = *next;
    o->n_guess = guess_from_fit(fit, g);
}

/* Where all of the pattern jumps, and what the clock does roughly. */
static int measure_steps(placer *p, uf_lag_options *o, uf_guess *g, uf_fit *fit) {
    uf_jump jump[2 * UF_FIT_STEPS]; /* found, and known */
    uf_stretch *s = NULL;
    uf_fit next;
    double from, to;
    int n = 0, n_lags = 0, n_jumps = 0;
    uf_lag_span(o, &from, &to);
    UF_TRY(uf_lag_stretches(p->ctx, o, from, to, o->hop, &s, &n));
    uf_lag *lag = uf_alloc(p->ctx, (size_t)n + 1, sizeof(*lag));
    int err = lag ? uf_steps_find(p->ctx, s, n, lag, &n_lags, jump, &n_jumps) : UF_ENOMEM;
    free(s);
    for (int i = 0; i < n_lags && err == UF_OK; i++) lag[i].lag += uf_fit_lag(fit, lag[i].at, true);
    if (err == UF_OK) {
        n_jumps = join_steps(fit, jump, n_jumps);
        err = uf_clock_fit(p->ctx, lag, n_lags, jump, n_jumps, UF_FIT_LEVELS, &next);
    }
    if (err == UF_OK) pin_down(&next, lag, n_lags);
    free(lag);
    if (err == UF_OK) replace(fit, &next, o, g);
    return err;
}

/* How it moves, in detail. */
static int measure_pattern(placer *p, uf_lag_options *o, uf_guess *g, uf_fit *fit) {
    uf_stretch *s = NULL;
    uf_fit next;
    double from = fit->at[0], to = fit->at[fit->n - 1], late = 0, polarity = 1, seconds = fmin(fmax((to - from) / 16, 1), fmax(8, (to - from) / 450));
    int n = 0;
    UF_TRY(uf_lag_stretches(p->ctx, o, from - .512, to + .512, seconds, &s, &n));
    uf_lag *lag = uf_alloc(p->ctx, (size_t)n + 1, sizeof(*lag));
    int err = lag ? n ? UF_OK : UF_EOF : UF_ENOMEM;
    if (err == UF_OK) err = uf_coherence_track(p->ctx, s, n, uf_onset_late(o->parent, o->take, fit), lag, &late, &polarity);
    for (int i = 0; i < n && err == UF_OK; i++) lag[i].lag += uf_fit_lag(fit, lag[i].at, true) + late;
    if (err == UF_OK) err = uf_clock_fit(p->ctx, lag, n, fit->step, fit->n_steps, 1, &next);
    if (err == UF_OK) {
        learn_pattern(&next, s, n, late);
        next.polarity = polarity;
        replace(fit, &next, o, g);
    }
    free(s);
    free(lag);
    return err;
}

static double drifted(const uf_fit *f) { return uf_fit_lag(f, f->at[f->n - 1], false) - uf_fit_lag(f, f->at[0], false); }

/* Whatever says nothing leaves what is known already. UF_EOF: only anchors are. */
static int measure(placer *p, uf_lag_options *o, uf_guess *g, uf_fit *fit) {
    double hop = o->hop;
    int err = UF_OK, known = UF_EOF;
    for (int round = 0; round < 2 && (err == UF_OK || err == UF_EOF); round++) /* again, by a pattern that is blurred no more */
        if ((err = measure_steps(p, o, g, fit)) == UF_OK) known = UF_OK;
    o->hop = .256;
    for (int round = 0; round < 2 && (err == UF_OK || err == UF_EOF); round++) {
        double before = drifted(fit);
        if ((err = measure_pattern(p, o, g, fit)) == UF_OK) known = UF_OK;
        if (fabs(drifted(fit) - before) < 2e-3 * fit->n) break; /* patterns were not blurred */
    }
    o->hop = hop;
    return err < 0 && err != UF_EOF ? err : known;
}

/* t: gets clock and all that is known of it; what it had is lost. */
static int place(placer *p, const uf_match *m, int parent, uf_take *t) {
    uf_guess g[UF_MERGE_ANCHORS];
    uf_fit fit;
    double overlap = fmin(seconds(t), seconds(p->take + parent));
    UF_TRY(rough_fit(p, m, parent, &fit));
    uf_lag_options o = { .parent = p->take + parent, .take = t, .guess = g, .n_guess = guess_from_fit(&fit, g), .hop = fmin(fmax(overlap / 4000, .256), 1) };
    int err = measure(p, &o, g, &fit);
    if (err == UF_EOF)
        uf_log(p->ctx, UF_LOG_WARN, "'%s' lies on the time line to a few milliseconds only: too little of it is heard in '%s'", t->path, p->take[parent].path);
    t->parent = parent;
    t->score = m->z;
    t->polarity = p->take[parent].polarity * fit.polarity;
    t->clock = (uf_clock){ 0 };
    t->scatter = fit.scatter;
    t->error_ppm = fit.error_ppm;
    t->agree = fit.agree;
    if (err == UF_OK || err == UF_EOF) err = clock_from(p, &o, &fit, &t->clock);
    free(fit.at);
    return err;
}

/* ---- where the parent hears nothing ------------------------------------------------------------------------------------------------- */

static const double worthwhile = 5; /* s, that another one must hear more of */

/* Before clock a begins, and behind its end, what b says, which may put all a little earlier or later. New memory to a's. */
static int splice(uf_ctx *ctx, uf_clock *a, const uf_clock *b) {
    double first = a->knot[0].at, last = a->knot[a->n - 1].at;
    double early = a->knot[0].is - uf_clock_read(b, first, NULL), late = a->knot[a->n - 1].is - uf_clock_read(b, last, NULL);
    uf_knot *k = uf_alloc(ctx, (size_t)(a->n + b->n), sizeof(*k));
    if (!k) return UF_ENOMEM;
    int n = 0;
    for (int i = 0; i < b->n && b->knot[i].at < first - .1 && b->knot[b->n - 1].at > first; i++) {
        k[n] = b->knot[i];
        k[n++].is += early;
    }
    for (int i = 0; i < a->n; i++) {
        k[n] = a->knot[i];
        k[n].opens &= i > 0 || n == 0; /* a stretch goes on */
        n++;
    }
    for (int i = 0; i < b->n; i++)
        if (b->knot[i].at > last + .1 && b->knot[0].at < last) {
            k[n] = b->knot[i];
            k[n++].is += late;
        }
    free(a->knot);
    *a = (uf_clock){ .knot = k, .n = n };
    return UF_OK;
}

/* Who is placed already and is heard in the child, by this pair, beside its parent; -1: nobody. */
static int neighbour(const placer *p, const uf_match *m, int child, int parent) {
    int other = m->a == child ? m->b : m->b == child ? m->a : -1;
    return other >= 0 && other != parent && p->take[other].placed && closes(p, m) ? other : -1;
}

/* Steps and drift are looked for with others too, where those hear what the parent does not. */
static int widen(placer *p, int child) {
    uf_take *t = p->take + child;
    for (int i = 0; i < p->n_matches; i++) {
        const uf_match *m = p->match + i;
        int other = neighbour(p, m, child, t->parent);
        if (other < 0) continue;
        const uf_clock *c = &p->take[other].clock;
        double from = fmax(uf_clock_inverse(c, 0), uf_clock_inverse(&t->clock, 0));
        double to = fmin(uf_clock_inverse(c, seconds(p->take + other)), uf_clock_inverse(&t->clock, seconds(t)));
        double first = t->clock.knot[0].at, last = t->clock.knot[t->clock.n - 1].at;
        if (from > first - worthwhile && to < last + worthwhile) continue;
        uf_take more = *t;
        int err = place(p, m, other, &more);
        if (err == UF_OK && more.agree > .5 && more.clock.knot[0].at < last && more.clock.knot[more.clock.n - 1].at > first)
            err = splice(p->ctx, &t->clock, &more.clock);
        free(more.clock.knot);
        UF_TRY(err);
    }
    return UF_OK;
}

/* Where less than this of what was compared lies on the clock that was found, the clock is wrong or the two hear little of one another. */
static const double doubtful = .9;
enum { ASKED = 3 }; /* neighbours instead, at most: each takes as long as the first */

/* The strongest pair of the child and one that is placed, weaker than z, without its parent. */
static const uf_match *next_neighbour(const placer *p, int child, int parent, double z) {
    const uf_match *best = NULL;
    for (int i = 0; i < p->n_matches; i++) {
        const uf_match *m = p->match + i;
        if (m->z < z && (!best || m->z > best->z) && neighbour(p, m, child, parent) >= 0) best = m;
    }
    return best;
}

/* Another neighbour's clock instead of a doubtful one, if more lies on it. */
static int doubt(placer *p, int child) {
    uf_take *t = p->take + child;
    const uf_match *m;
    int parent = t->parent;
    double z = INFINITY;
    for (int i = 0; i < ASKED && t->agree < doubtful && (m = next_neighbour(p, child, parent, z)); i++) {
        uf_take more = *t;
        UF_TRY(place(p, m, neighbour(p, m, child, parent), &more));
        bool better = more.agree > 1.1 * t->agree;
        free(better ? t->clock.knot : more.clock.knot);
        if (better) *t = more;
        z = m->z;
    }
    return UF_OK;
}

static void count_steps(uf_take *t) {
    t->n_steps = 0;
    for (int i = 1; i < t->clock.n; i++) t->n_steps += t->clock.knot[i].opens;
}

/* ---- all ------------------------------------------------------------------------------------------------------------------------------- */

static int place_root(placer *p, int root) {
    uf_take *t = p->take + root;
    uf_knot k[2] = { { 0, 0, true }, { 1, 1, false } };
    free(t->clock.knot);
    t->clock = (uf_clock){ 0 };
    t->parent = -1;
    t->polarity = t->agree = 1;
    t->scatter = t->error_ppm = t->score = 0;
    t->n_steps = 0;
    t->placed = true;
    for (int i = 0; i < p->n_matches; i++)
        if ((p->match[i].a == root || p->match[i].b == root) && closes(p, &p->match[i])) t->score = fmax(t->score, p->match[i].z);
    return uf_clock_copy(p->ctx, &t->clock, &(uf_clock){ .knot = k, .n = 2 });
}

/* Prim's way through the group: always the strongest pair that leads out of what is placed. */
static int place_group(placer *p, int root) {
    for (int i = 0; i < p->n; i++) p->take[i].placed = false;
    UF_TRY(place_root(p, root));
    for (;;) {
        const uf_match *best = NULL;
        for (int i = 0; i < p->n_matches; i++) {
            const uf_match *m = p->match + i;
            if (closes(p, m) && p->take[m->a].placed != p->take[m->b].placed && p->take[m->a].same_as < 0 && p->take[m->b].same_as < 0 &&
                (!best || m->z > best->z))
                best = m;
        }
        if (!best) return UF_OK;
        bool forward = p->take[best->a].placed;
        int child = forward ? best->b : best->a;
        uf_take *t = p->take + child;
        free(t->clock.knot);
        UF_TRY(place(p, best, forward ? best->a : best->b, t));
        UF_TRY(doubt(p, child));
        UF_TRY(widen(p, child));
        count_steps(t);
        t->placed = true;
    }
}

/* The one beside which the root seems to have lost most; -1: none. */
static int fuller(const placer *p) {
    double most = .01;
    int best = -1;
    for (int i = 0; i < p->n; i++) {
        double more = 0;
        const uf_clock *c = &p->take[i].clock;
        for (int k = 1; p->take[i].placed && k < c->n; k++)
            if (c->knot[k].opens) more += (c->knot[k].is - c->knot[k - 1].is) - (c->knot[k].at - c->knot[k - 1].at);
        if (more > most) most = more, best = i;
    }
    return best;
}

static void refuse(placer *p, int group) {
    int n_whole = 0;
    for (int i = 0; i < p->n; i++) n_whole += p->take[i].placed;
    for (int i = 0; i < p->n; i++) {
        uf_take *t = p->take + i;
        if (t->placed) continue;
        t->score = 0;
        for (int k = 0; k < p->n_matches; k++)
            if ((p->match[k].a == i || p->match[k].b == i) && p->take[p->match[k].a + p->match[k].b - i].placed) t->score = fmax(t->score, p->match[k].z);
        if (t->same_as >= 0) snprintf(t->refused, sizeof(t->refused), "it holds the same samples as '%.100s'", p->take[t->same_as].path);
        else if (t->quality.level < -110) snprintf(t->refused, sizeof(t->refused), "there is nothing but silence in it");
        else if (p->group[i] == group) snprintf(t->refused, sizeof(t->refused), "what connects it with the others contradicts itself");
        else snprintf(t->refused, sizeof(t->refused), "nothing in it is heard in the other%s", n_whole > 1 ? "s" : "");
    }
}

static void find_same(uf_take *take, int n) {
    for (int i = 0; i < n; i++) {
        take[i].same_as = take[i].parent = -1;
        for (int k = 0; k < i && take[i].same_as < 0; k++)
            if (take[k].same_as < 0 && take[k].n_low == take[i].n_low && take[k].hash == take[i].hash && take[i].n_low) take[i].same_as = k;
    }
}

int uf_place_all(uf_ctx *ctx, uf_take *take, int n, const uf_place_options *o) {
    placer p = { .ctx = ctx, .take = take, .n = n, .n_matches = n * (n - 1) / 2 };
    p.match = uf_alloc(ctx, (size_t)p.n_matches + 1, sizeof(*p.match));
    if (!p.match) return UF_ENOMEM;
    find_same(take, n);
    int clock = o->clock >= 0 && take[o->clock].same_as >= 0 ? take[o->clock].same_as : o->clock;
    int err = uf_match_all(ctx, take, n, p.match);
    if (err == UF_OK) {
        group_all(&p);
        int group = choose_group(&p, clock);
        int root = clock >= 0 ? clock : choose_root(&p, group);
        err = place_group(&p, root);
        int better = err == UF_OK && clock < 0 ? fuller(&p) : -1;
        if (better >= 0) err = place_group(&p, better);
        if (err == UF_OK) refuse(&p, group);
    }
    uf_matches_close(p.match, p.n_matches);
    free(p.match);
    return err;
}
