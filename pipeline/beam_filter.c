#include "beam_filter.h"

#include "beam_chunk.h"
#include "beam_share.h"
#include "mvdr.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = UF_BEAM_BINS, BLOCK = UF_BEAM_BLOCK, FIRST = (UF_SHARE_FROM * UF_BEAM_FFT + 15999) / 16000, LAST = UF_SHARE_TO * UF_BEAM_FFT / 16000,
       TOLD = LAST - FIRST + 1 }; /* bins that tell shares */

typedef struct scratch { /* of one thread */
    uf_complex *speech, *noise; /* (blocks, mics, mics) */
    uf_complex *sums;           /* blocks + 1 */
    uf_complex *solve, *w[2];   /* w: (blocks, mics), of the usual crew and of the spare one */
    float *x;                   /* (mics, 2, frames): of one bin, without its late room */
    float *wet;                 /* ... and with it */
    float *weight, *q;          /* frames; (2, BLOCK) */
    void *wpe;
} scratch;

/* Whose sound a block's filter takes. */
typedef struct crew {
    int *there, *n_there; /* (blocks, mics) */
    int *reference;       /* (blocks): whose voice comes out */
    double *gain;         /* (blocks): ... and what it is made louder by, where it is not the reference */
} crew;

/* The usual crew of a block is there for most of it; where one of them is away the spare one takes over, which is there for all of it. So a
 * hole of some hundredths of a second costs no more than itself. */
enum { USUAL, SPARE };

/* Of two neighbouring blocks, what the further one counts for a third. Fewer than FEWEST blocks say too little: then all count, whoever was there. */
static const double memory = .95;
enum { FEWEST = 4 };

struct uf_beam_filter {
    uf_ctx *ctx;
    uf_beam_filter_options o;
    scratch *scratch;
    int n_threads, blocks;
    uf_complex *speech, *noise; /* (BINS, mics, mics): learnt so far */
    double *loud;               /* (BINS): mean power of the voice so far */
    crew crew[2];
    bool *spare;                /* (frames): the spare crew takes over */
    bool *whole;                /* (frames): all of the block's usual crew are there */
    uint64_t *set;              /* (blocks): ... a bit each */
    uint64_t known;             /* who was there in all that has been learnt */
    double weight;              /* ... and how many blocks that is, those long past less than one */
    double *counts;             /* (blocks + 1, blocks + 1): by what each block (column; the last: what has been learnt) counts for each (row; the last: for
                                   what is to be learnt) */
    bool mixed;                 /* some count for some only */
    float *share;               /* (TOLD, frames, mics) */
};

int uf_beam_band(double hertz) {
    const double whole = 7500; /* changes of the rate end a little below the half, codecs too: nobody misses that */
    return hertz >= whole ? BINS : (int)(fmax(hertz, 0) * UF_BEAM_FFT / 16000) + 1;
}

void uf_beam_look(const float *heard, size_t step, const float *voice, int frames, const float *share, float level, float *power, float *mask) {
    for (int b = 0; b < BINS; b++) {
        const float *x = heard + (size_t)b * step, *s = voice + (size_t)(2 * b) * (size_t)frames;
        float *p = power + (size_t)b * (size_t)frames, *m = mask + (size_t)b * (size_t)frames;
        for (int t = 0; t < frames; t++) {
            float re = x[t] - s[t], im = x[frames + t] - s[frames + t], v = s[t] * s[t] + s[frames + t] * s[frames + t];
            p[t] += share[b] * level * v;
            m[t] += share[b] * v / (v + re * re + im * im + 1e-12f);
        }
    }
}

/* ---- one frequency ---------------------------------------------------------------------------------------------------------------- */

static double mean_power(uf_beam_filter *f, const uf_beam_filter_job *j, int b) {
    const float *p = j->power + (size_t)b * (size_t)j->frames;
    double mean = 0;
    for (int t = 0; t < j->frames; t++) mean += (double)p[t] / j->frames;
    mean = fmax(mean, .5 * f->loud[b]);
    if (j->learn) f->loud[b] = mean;
    return mean;
}

/* 1 / the power of the voice: what is quiet in it is noise and room, and decides (maximum likelihood of a voice that is Gaussian with this
 * power: Cho et al. 2019, arXiv:1905.03982; Nakatani & Kinoshita 2019, arXiv:1812.08400). But the power is what a network guesses, and is most wrong
 * where there is least of it: from `least` down all frames count alike. */
static void weigh(const uf_beam_filter_job *j, int b, double least, float *weight) {
    const float *p = j->power + (size_t)b * (size_t)j->frames;
    for (int t = 0; t < j->frames; t++) weight[t] = 1.f / (p[t] + (float)least + 1e-12f);
}

/* Covariances of one block: of the voice, by its share; of all, by the weight. */
static void measure(const uf_beam_filter *f, const uf_beam_filter_job *j, scratch *s, int b, int block) {
    int n = f->o.n_mics, frames = j->frames, at = block * BLOCK;
    const float *mask = j->mask + (size_t)b * (size_t)frames + at;
    uf_complex *speech = s->speech + block * n * n, *noise = s->noise + block * n * n;
    for (int m = 0; m < n; m++) {
        const float *re = s->x + (size_t)(2 * m) * (size_t)frames + at, *im = re + frames;
        for (int k = 0; k <= m; k++) {
            const float *zr = s->x + (size_t)(2 * k) * (size_t)frames + at, *zi = zr + frames;
            for (int part = 0; part < 2; part++) {
                float sum[2];
                for (int t = 0; t < BLOCK; t++) {
                    float g = !f->whole[at + t] ? 0.f : part ? s->weight[at + t] : mask[t];
                    s->q[t] = g * re[t];
                    s->q[BLOCK + t] = g * im[t];
                }
                uf_correlate(s->q, s->q + BLOCK, zr, zi, BLOCK, sum);
                uf_complex v = (double)sum[0] + I * (double)sum[1], *to = part ? noise : speech;
                to[m * n + k] = v;
                to[k * n + m] = conj(v);
            }
        }
    }
}

/* What is near in time counts most, before and after: block k becomes the sum of all blocks i times memory^|k-i|, with what was learnt earlier
 * before the block `from`. From `from` to `to` is learnt, if `learn`. sums: scratch, `blocks` of them. */
static void remember_all(uf_complex *cov, int blocks, int size, uf_complex *learnt, const uf_beam_filter_job *j, uf_complex *sums) {
    for (int i = 0; i < size; i++) {
        uf_complex past = learnt[i], next = 0;
        for (int k = j->from; k < blocks; k++) {
            past = memory * past + cov[k * size + i];
            sums[k] = past;
            if (j->learn && k == j->to - 1) learnt[i] = past;
        }
        for (int k = blocks - 1; k >= j->from; k--) {
            uf_complex own = cov[k * size + i];
            cov[k * size + i] = sums[k] + memory * next;
            next = own + memory * next;
        }
        for (int k = 0; k < j->from; k++) cov[k * size + i] = cov[j->from * size + i];
    }
}

/* The same of those blocks that count, as f->counts says, for one microphone with another; the other with the one is its conjugate. */
static void remember_pair(const uf_beam_filter *f, uf_complex *cov, int blocks, int one, int other, uf_complex *learnt, const uf_beam_filter_job *j, uf_complex *own) { /* own: scratch, blocks + 1 of them */
    int row = blocks + 1, n = f->o.n_mics, i = one * n + other, mirror = other * n + one;
    for (int k = 0; k < blocks; k++) own[k] = cov[k * n * n + i];
    own[blocks] = learnt[i];
    for (int k = 0; k < (j->learn ? row : blocks); k++) {
        uf_complex sum = 0, *to = k == blocks ? learnt : cov + k * n * n;
        for (int b = 0; b < row; b++) sum += f->counts[k * row + b] * own[b];
        to[mirror] = conj(sum);
        to[i] = sum;
    }
}

static void remember_some(const uf_beam_filter *f, uf_complex *cov, int blocks, uf_complex *learnt, const uf_beam_filter_job *j, uf_complex *own) {
    for (int m = 0; m < f->o.n_mics; m++)
        for (int k = 0; k <= m; k++) remember_pair(f, cov, blocks, m, k, learnt, j, own);
}

/* The microphones of bin b as they are, silent where they are not there. */
static void fetch(const uf_beam_filter *f, const uf_beam_filter_job *j, int b, float *x) {
    size_t row = (size_t)j->frames, n = (size_t)f->o.n_mics;
    memcpy(x, j->spectrum + (size_t)b * 2 * n * row, 2 * n * row * sizeof(*x));
    for (int m = 0; m < f->o.n_mics; m++)
        for (int t = 0; t < j->frames; t++)
            if (!j->present[(size_t)m * row + (size_t)t]) x[(size_t)(2 * m) * row + (size_t)t] = x[(size_t)(2 * m + 1) * row + (size_t)t] = 0;
}

static uf_wpe_options wpe_options(const uf_beam_filter_options *o, int frames) {
    int taps = o->n_mics <= 2 ? 8 : o->n_mics <= 4 ? 4 : o->n_mics <= 8 ? 3 : 1;
    return (uf_wpe_options){.mics = o->n_mics, .frames = frames, .taps = taps, .delay = 4, .rounds = 1, .ridge = .03};
}

static void dry(const uf_beam_filter *f, const uf_beam_filter_job *j, scratch *s, int b) {
    float *re[64], *im[64];
    uf_wpe_options o = wpe_options(&f->o, j->frames);
    if (o.taps < 1 || f->o.n_mics > 12) return;
    size_t row = (size_t)j->frames, all = 2 * (size_t)f->o.n_mics * row;
    for (int m = 0; m < f->o.n_mics; m++) {
        re[m] = s->x + (size_t)(2 * m) * (size_t)j->frames;
        im[m] = re[m] + j->frames;
    }
    memcpy(s->wet, s->x, all * sizeof(*s->wet));
    uf_wpe(&o, s->weight, re, im, s->wpe);
    float share = b >= j->band[j->reference] ? 0 : uf_wpe_share(s->wet + (size_t)(2 * j->reference) * row, s->x + (size_t)(2 * j->reference) * row, j->voice + (size_t)(2 * b) * row, j->frames);
    for (size_t i = 0; i < all; i++) s->x[i] = share * s->x[i] + (1 - share) * s->wet[i];
}

/* Of microphone m in frame t: from the middle of one block to the middle of the next a share of both blocks' w. */
static uf_complex weight_at(const uf_beam_filter *f, const scratch *s, int blocks, int m, int t) {
    double at = (t + .5) / BLOCK - .5, share = at - floor(at);
    int n = f->o.n_mics, k = (int)floor(at), a = k < 0 ? 0 : k, z = k + 1 < blocks ? k + 1 : blocks - 1;
    const uf_complex *w = s->w[f->spare[t] ? SPARE : USUAL];
    return (1 - share) * w[a * n + m] + share * w[z * n + m];
}

/* y = w^H x. */
static void apply(const uf_beam_filter *f, const uf_beam_filter_job *j, const scratch *s, float *y) {
    int n = f->o.n_mics, frames = j->frames, blocks = frames / BLOCK;
    memset(y, 0, (size_t)(2 * frames) * sizeof(*y));
    for (int t = 0; t < frames; t++) {
        uf_complex sum = 0;
        for (int m = 0; m < n; m++) {
            const float *x = s->x + (size_t)(2 * m) * (size_t)frames + t;
            sum += conj(weight_at(f, s, blocks, m, t)) * ((double)x[0] + I * (double)x[frames]);
        }
        y[t] = (float)creal(sum);
        y[frames + t] = (float)cimag(sum);
    }
}

/* Of what goes into that sum, each microphone's share of the energy, frame by frame; all 0 in silence. to: (frames, mics) */
static void tell_shares(const uf_beam_filter *f, const uf_beam_filter_job *j, const scratch *s, float *to) {
    int n = f->o.n_mics, frames = j->frames;
    for (int t = 0; t < frames; t++, to += n) {
        double energy[64], sum = 0;
        for (int m = 0; m < n; m++) {
            const float *x = s->x + (size_t)(2 * m) * (size_t)frames + t;
            uf_complex w = weight_at(f, s, frames / BLOCK, m, t);
            energy[m] = (creal(w) * creal(w) + cimag(w) * cimag(w)) * ((double)x[0] * (double)x[0] + (double)x[frames] * (double)x[frames]);
            sum += energy[m];
        }
        for (int m = 0; m < n; m++) to[m] = sum > 0 ? (float)(energy[m] / sum) : 0.f;
    }
}

static bool same_crew(const uf_beam_filter *f, int k) {
    const crew *a = &f->crew[USUAL], *b = &f->crew[SPARE];
    size_t row = (size_t)(k * f->o.n_mics);
    return a->n_there[k] == b->n_there[k] && !memcmp(a->there + row, b->there + row, (size_t)a->n_there[k] * sizeof(*a->there));
}

/* Covariances with a reference that is away tell its voice only as far as both were heard together, and would make it too quiet: the best
 * that is there stands in, as loud as the reference was. */
static void stand_in(const uf_beam_filter *f, const uf_beam_filter_job *j, const int *there, int n_there, int *reference, double *gain) {
    int best = -1;
    *reference = j->reference;
    *gain = 1;
    for (int i = 0; i < n_there; i++) {
        if (there[i] == j->reference) return;
        if (best < 0 || j->quality[there[i]] > j->quality[best]) best = there[i];
    }
    if (best < 0) return;
    *reference = best;
    double here = j->both[best * f->o.n_mics + j->reference], wanted = j->both[j->reference * f->o.n_mics + best];
    if (here > 0 && wanted > 0) *gain = fmin(fmax(sqrt(wanted / here), .25), 4);
}

/* The filter of crew c for bin b in block k. Whose band has ended below is as good as away: so what a telephone has cut off comes from another. */
static void solve(const uf_beam_filter *f, const uf_beam_filter_job *j, const scratch *s, int c, int b, int k, uf_complex *w) {
    const crew *who = &f->crew[c];
    int n = f->o.n_mics, size = n * n, here[64], n_here = 0, reference = who->reference[k], n_there = who->n_there[k];
    const int *there = who->there + k * n;
    double gain = who->gain[k];
    for (int i = 0; i < n_there; i++)
        if (b < j->band[there[i]]) here[n_here++] = there[i];
    if (n_here && n_here < n_there) {
        there = here;
        n_there = n_here;
        stand_in(f, j, here, n_here, &reference, &gain);
    }
    uf_mvdr(n, s->speech + k * size, s->noise + k * size, n_there, there, reference, 1e-4, s->solve, w);
    for (int m = 0; m < n; m++) w[m] *= gain;
}

static void run_bin(uf_beam_filter *f, const uf_beam_filter_job *j, scratch *s, int b, float *y) {
    int n = f->o.n_mics, size = n * n, blocks = j->frames / BLOCK;
    fetch(f, j, b, s->x);
    double mean = mean_power(f, j, b);
    bool few = n <= UF_BEAM_FEW;
    if (!f->o.keep_room) {
        weigh(j, b, few ? mean : .01 * mean, s->weight); /* less would let pauses decide what is late room: of few microphones the voice loses more than that */
        dry(f, j, s, b);
    }
    weigh(j, b, few ? .03 * mean : .01 * mean, s->weight); /* more would be as good, but make the voice quieter, bin by bin */
    for (int k = 0; k < blocks; k++) measure(f, j, s, b, k);
    for (int part = 0; part < 2; part++) {
        uf_complex *cov = part ? s->noise : s->speech, *learnt = (part ? f->noise : f->speech) + (size_t)b * (size_t)size;
        if (f->mixed) remember_some(f, cov, blocks, learnt, j, s->sums);
        else remember_all(cov, blocks, size, learnt, j, s->sums);
    }
    for (int k = 0; k < blocks; k++)
        for (int c = USUAL; c <= SPARE; c++) {
            uf_complex *w = s->w[c] + k * n;
            if (c == SPARE && same_crew(f, k)) memcpy(w, s->w[USUAL] + k * n, (size_t)n * sizeof(*w));
            else solve(f, j, s, c, b, k, w);
        }
    apply(f, j, s, y);
    if (j->share && b >= FIRST && b <= LAST) tell_shares(f, j, s, f->share + (size_t)(b - FIRST) * (size_t)(j->frames * n));
}

/* ---- all of them ------------------------------------------------------------------------------------------------------------------ */

/* Frames of block k in which microphone m is there. */
static int frames_there(const uf_beam_filter_job *j, int m, int k) {
    const bool *present = j->present + (size_t)m * (size_t)j->frames + (size_t)k * BLOCK;
    int frames = 0;
    for (int t = 0; t < BLOCK; t++) frames += present[t];
    return frames;
}

/* Nobody is there long enough: who is there for most of block k, of equals the one that hears the voice better, is better than nobody. */
static void make_do(const uf_beam_filter *f, crew *c, const uf_beam_filter_job *j, int k) {
    int most = 0, best = -1;
    for (int m = 0; m < f->o.n_mics; m++) {
        int frames = frames_there(j, m, k);
        if (frames > most || (frames && frames == most && j->quality[m] > j->quality[best])) most = frames, best = m;
    }
    if (best >= 0) c->there[k * f->o.n_mics + c->n_there[k]++] = best;
}

/* Usual: who is there for three quarters of block k. Spare: who is there in all of it and its neighbours, whose filters reach into it. */
static void call_up(const uf_beam_filter *f, crew *c, const uf_beam_filter_job *j, int k, bool spare) {
    int n = f->o.n_mics, blocks = j->frames / BLOCK, from = spare && k ? k - 1 : k, to = spare && k + 1 < blocks ? k + 1 : k;
    c->n_there[k] = 0;
    for (int m = 0; m < n; m++) {
        int frames = 0;
        for (int i = from; i <= to; i++) frames += frames_there(j, m, i);
        if (frames >= (spare ? (to - from + 1) * BLOCK : BLOCK * 3 / 4)) c->there[k * n + c->n_there[k]++] = m;
    }
    if (!c->n_there[k]) make_do(f, c, j, k);
    stand_in(f, j, c->there + k * n, c->n_there[k], &c->reference[k], &c->gain[k]);
}

/* Does frame t miss one whose sound the filter of block k takes? */
static bool misses(const uf_beam_filter *f, const uf_beam_filter_job *j, int k, int t) {
    const crew *c = &f->crew[USUAL];
    for (int i = 0; i < c->n_there[k]; i++)
        if (!j->present[(size_t)c->there[k * f->o.n_mics + i] * (size_t)j->frames + (size_t)t]) return true;
    return false;
}

/* By what each block counts for those who are there in block k (or for `set`, at the end of what is to be learnt, k = blocks): blocks in which one of them is
 * missing count nothing. Its silence there would pass for sound that only the others hear. Returns how many blocks that is. */
static double count_for(const uf_beam_filter *f, const uf_beam_filter_job *j, int k, uint64_t set, double *counts) {
    int blocks = j->frames / BLOCK, at = k < blocks ? (k < j->from ? j->from : k) : j->to - 1, end = k < blocks ? blocks : j->to;
    double n = 0;
    for (int i = 0; i < blocks; i++) n += counts[i] = i < j->from || i >= end || (set & ~f->set[i]) ? 0 : pow(memory, abs(at - i));
    counts[blocks] = (set & ~f->known) ? 0 : pow(memory, at - j->from + 1);
    return n + counts[blocks] * f->weight;
}

static bool more(uint64_t a, uint64_t b) { return __builtin_popcountll(a) > __builtin_popcountll(b); }

/* What is learnt is learnt of as many as possible: of those who are there in enough blocks. */
static void count_learnt(uf_beam_filter *f, const uf_beam_filter_job *j, double *counts) {
    int blocks = j->frames / BLOCK;
    uint64_t best = f->set[j->to - 1];
    for (int i = j->from; i <= j->to; i++) {
        uint64_t set = i < j->to ? f->set[i] : f->known;
        if (more(set, best) && count_for(f, j, blocks, set, counts) >= FEWEST) best = set;
    }
    f->weight = count_for(f, j, blocks, best, counts);
    f->known = best;
}

static void count_all(uf_beam_filter *f, const uf_beam_filter_job *j) {
    int blocks = j->frames / BLOCK, row = blocks + 1;
    f->mixed = f->weight > 0 && f->known != f->set[j->from];
    for (int k = j->from; k < blocks; k++) f->mixed = f->mixed || f->set[k] != f->set[j->from];
    for (int k = 0; f->mixed && k < blocks; k++)
        if (count_for(f, j, k, f->set[k], f->counts + k * row) < FEWEST) count_for(f, j, k, 0, f->counts + k * row);
    if (j->learn) count_learnt(f, j, f->counts + blocks * row);
}

static void call_all(uf_beam_filter *f, const uf_beam_filter_job *j) {
    int blocks = j->frames / BLOCK;
    for (int k = 0; k < blocks; k++) {
        for (int c = USUAL; c <= SPARE; c++) call_up(f, &f->crew[c], j, k, c == SPARE);
        f->set[k] = 0;
        for (int i = 0; i < f->crew[USUAL].n_there[k]; i++) f->set[k] |= UINT64_C(1) << f->crew[USUAL].there[k * f->o.n_mics + i];
    }
    for (int t = 0; t < j->frames; t++) {
        int k = t / BLOCK, other = t % BLOCK < BLOCK / 2 ? k - 1 : k + 1; /* whose filter has a share in frame t */
        f->whole[t] = !misses(f, j, k, t);
        f->spare[t] = !f->whole[t] || (other >= 0 && other < blocks && misses(f, j, other, t));
    }
    count_all(f, j);
}

/* The mean over the bins that say anything, in their order: the same for any number of threads. */
static void mean_shares(const uf_beam_filter *f, const uf_beam_filter_job *j) {
    int n = f->o.n_mics, all = j->frames * n;
    for (int k = 0; k < all; k += n) {
        double mean[64] = {0}, sum = 0;
        for (int b = 0; b < TOLD; b++)
            for (int m = 0; m < n; m++) mean[m] += (double)f->share[b * all + k + m];
        for (int m = 0; m < n; m++) sum += mean[m];
        for (int m = 0; m < n; m++) j->share[k + m] = sum > 0 ? (float)(mean[m] / sum) : 0.f;
    }
}

void uf_beam_filter_run(uf_beam_filter *f, const uf_beam_filter_job *j, float *y) {
    call_all(f, j);
#pragma omp parallel for schedule(static) num_threads(f->n_threads)
    for (int b = 0; b < BINS; b++) run_bin(f, j, &f->scratch[omp_get_thread_num()], b, y + (size_t)(2 * b) * (size_t)j->frames);
    if (j->share) mean_shares(f, j);
}

static bool scratch_open(uf_ctx *ctx, scratch *s, const uf_beam_filter_options *o) {
    size_t n = (size_t)o->n_mics, frames = (size_t)o->frames, blocks = frames / BLOCK;
    uf_wpe_options wpe = wpe_options(o, o->frames);
    s->speech = uf_alloc(ctx, blocks * n * n, sizeof(uf_complex));
    s->noise = uf_alloc(ctx, blocks * n * n, sizeof(uf_complex));
    s->sums = uf_alloc(ctx, blocks + 1, sizeof(uf_complex));
    s->solve = uf_alloc(ctx, UF_MVDR_SCRATCH * n * n + 2 * n, sizeof(uf_complex));
    for (int c = USUAL; c <= SPARE; c++) s->w[c] = uf_alloc(ctx, blocks * n, sizeof(uf_complex));
    s->x = uf_alloc(ctx, 2 * n * frames, sizeof(float));
    s->wet = uf_alloc(ctx, 2 * n * frames, sizeof(float));
    s->weight = uf_alloc(ctx, frames, sizeof(float));
    s->q = uf_alloc(ctx, 2 * BLOCK, sizeof(float));
    s->wpe = uf_alloc(ctx, uf_wpe_scratch(&wpe), 1);
    return s->speech && s->noise && s->sums && s->solve && s->w[USUAL] && s->w[SPARE] && s->x && s->wet && s->weight && s->q && s->wpe;
}

static bool crew_open(uf_ctx *ctx, crew *c, size_t n, size_t blocks) {
    c->there = uf_alloc(ctx, blocks * n, sizeof(int));
    c->n_there = uf_alloc(ctx, blocks, sizeof(int));
    c->reference = uf_alloc(ctx, blocks, sizeof(int));
    c->gain = uf_alloc(ctx, blocks, sizeof(double));
    return c->there && c->n_there && c->reference && c->gain;
}

int uf_beam_filter_open(uf_beam_filter **out, uf_ctx *ctx, const uf_beam_filter_options *o) {
    uf_beam_filter *f = uf_alloc(ctx, 1, sizeof(*f));
    if (!f) return UF_ENOMEM;
    size_t n = (size_t)o->n_mics, blocks = (size_t)(o->frames / BLOCK);
    f->ctx = ctx;
    f->o = *o;
    f->n_threads = uf_ctx_threads(ctx);
    f->scratch = uf_alloc(ctx, (size_t)f->n_threads, sizeof(*f->scratch));
    f->speech = uf_alloc(ctx, BINS * n * n, sizeof(uf_complex));
    f->noise = uf_alloc(ctx, BINS * n * n, sizeof(uf_complex));
    f->loud = uf_alloc(ctx, BINS, sizeof(double));
    f->spare = uf_alloc(ctx, (size_t)o->frames, sizeof(bool));
    f->whole = uf_alloc(ctx, (size_t)o->frames, sizeof(bool));
    f->set = uf_alloc(ctx, blocks, sizeof(uint64_t));
    f->counts = uf_alloc(ctx, (blocks + 1) * (blocks + 1), sizeof(double));
    f->share = uf_alloc(ctx, TOLD * (size_t)o->frames * n, sizeof(float));
    bool all = f->scratch && f->speech && f->noise && f->loud && f->spare && f->whole && f->set && f->counts && f->share;
    for (int c = USUAL; c <= SPARE; c++) all = crew_open(ctx, &f->crew[c], n, blocks) && all;
    for (int i = 0; all && i < f->n_threads; i++) all = scratch_open(ctx, &f->scratch[i], o);
    if (!all) {
        uf_beam_filter_close(&f);
        return UF_ENOMEM;
    }
    *out = f;
    return UF_OK;
}

void uf_beam_filter_close(uf_beam_filter **pf) {
    uf_beam_filter *f = *pf;
    if (!f) return;
    for (int i = 0; f->scratch && i < f->n_threads; i++) {
        scratch *s = &f->scratch[i];
        void *owned[] = {s->speech, s->noise, s->sums, s->solve, s->w[USUAL], s->w[SPARE], s->x, s->wet, s->weight, s->q, s->wpe};
        for (int k = 0; k < UF_LEN(owned); k++) free(owned[k]);
    }
    free(f->scratch);
    free(f->speech);
    free(f->noise);
    free(f->loud);
    for (int c = USUAL; c <= SPARE; c++) {
        free(f->crew[c].there);
        free(f->crew[c].n_there);
        free(f->crew[c].reference);
        free(f->crew[c].gain);
    }
    free(f->spare);
    free(f->whole);
    free(f->set);
    free(f->counts);
    free(f->share);
    free(f);
    *pf = NULL;
}
