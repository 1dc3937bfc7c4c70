/* How well, and how fast, the stages mend a film that damage was put on, or that has none:
 *   mend FILM STAGES [DAMAGE [FRAMES [MASKS [SCENES]]]]
 * STAGES: names with commas between. DAMAGE: letters of d (8 spots and hairs a frame), l (two lines over the whole height), h (two over half of
 * it), s (a splice at each cut, and one in every 50 frames), f (flicker), w (sway by whole pixels); - or nothing: none. Prints frames changed, error before and after in
 * 8-bit steps (root mean square of all frames, and of those that the stages changed), the share of sound samples that were changed, and the time
 * that the chain's thread computed for each frame. SCENES: a table of scenes, as for colouring.
 * 8-bit films only. */
#include "chain.h"
#include "motion.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EDGE = 8, MOST = 512 };

typedef struct waiting { /* a frame as it was, and as it was made */
    uint8_t *whole, *damaged;
} waiting;

typedef struct bench {
    uf_ctx *ctx;
    int w, h;
    const char *damage;
    waiting ring[MOST];
    int64_t n_in, n_out, n_changed, first_changed[12];
    double error[2], error_changed[2], n_sound, n_touched;
    uf_cuts cuts;
    bool is_cut;
} bench;

static double dice(int64_t t, int which) { return (double)uf_uniform(77, (uint64_t)t, (uint64_t)which); }
static bool has(const bench *b, char c) { return strchr(b->damage, c) != NULL; }

static void add(const bench *b, uint8_t *p, int x, int y, double value, double share) {
    if (x < 0 || y < 0 || x >= b->w || y >= b->h) return;
    double v = p[y * b->w + x] * (1 - share) + value * share;
    p[y * b->w + x] = (uint8_t)(fmin(fmax(v, 0), 255) + .5);
}

/* Spots with soft rims and ragged shapes, and a hair now and then. */
static void put_dust(const bench *b, uint8_t *p, int64_t t) {
    for (int s = 0; s < 8; s++) {
        double cx = dice(t, 10 * s) * b->w, cy = dice(t, 10 * s + 1) * b->h, r = 1 + 5 * pow(dice(t, 10 * s + 2), 2), value = s % 2 ? 15 : 240;
        double lobe = dice(t, 10 * s + 3) * 6.28, ragged = .4 * dice(t, 10 * s + 4);
        for (int y = (int)(cy - 9); y <= cy + 9; y++)
            for (int x = (int)(cx - 9); x <= cx + 9; x++) {
                double d = hypot(x - cx, y - cy) / (1 + ragged * sin(3 * atan2(y - cy, x - cx) + lobe));
                if (d < r + .5) add(b, p, x, y, value, d < r - .5 ? .9 : .9 * (r + .5 - d));
            }
    }
    if (t % 5) return;
    double x = dice(t, 101) * b->w, y = dice(t, 102) * b->h, a = dice(t, 103) * 6.28;
    for (int i = 0; i < 60; i++, a += .15 * (dice(t, 200 + i) - .5), x += cos(a), y += sin(a)) {
        add(b, p, (int)x, (int)y, 20, .8);
        add(b, p, (int)x + 1, (int)y, 20, .4);
    }
}

static void put_lines(const bench *b, uint8_t *p, bool whole) {
    for (int y = 0; y < b->h; y++)
        for (int k = 0; k < 2; k++) {
            int x = b->w * (k ? 67 : 29) / 100 + (whole ? 0 : 41), way = k ? -1 : 1;
            if (!whole && (k ? y > b->h / 2 : y < b->h / 2)) continue;
            add(b, p, x, y, p[y * b->w + x] + way * 40, 1);
            add(b, p, x + 1, y, p[y * b->w + x + 1] + way * 25, 1);
        }
}

/* What the shoulder of two pieces leaves: a bar, another exposure, a jump of the first frame; a bar at the end of the last. */
static void put_splice(const bench *b, uint8_t *p, int64_t t, bool first) {
    int thick = b->h / 40 + (int)(dice(t, 1) * b->h / 30), jump = first ? (int)(12 * dice(t, 2)) - 6 : 0;
    double gain = first && dice(t, 3) > .5 ? 1.25 : 1, value = dice(t, 4) > .5 ? 245 : 8;
    uint8_t *copy = malloc((size_t)b->w * (size_t)b->h);
    if (!copy) return;
    memcpy(copy, p, (size_t)b->w * (size_t)b->h);
    for (int y = 0; y < b->h; y++)
        for (int x = 0; x < b->w; x++) {
            int from = y - jump < 0 ? 0 : y - jump >= b->h ? b->h - 1 : y - jump;
            add(b, p, x, y, copy[from * b->w + x] * gain, 1);
        }
    for (int y = 0; y < thick; y++)
        for (int x = 0; x < b->w; x++) add(b, p, x, first ? y + b->h / 50 : b->h - 1 - b->h / 50 - y, value, .85);
    free(copy);
}

static void put_sway(const bench *b, uint8_t *p, int64_t t, bool flicker, bool sway) {
    int dx = sway ? (int)(5 * dice(t, 301)) - 2 : 0, dy = sway ? (int)(5 * dice(t, 302)) - 2 : 0;
    double gain = flicker ? 1 + .1 * (dice(t, 303) - .5) : 1;
    uint8_t *copy = malloc((size_t)b->w * (size_t)b->h);
    if (!copy) return;
    memcpy(copy, p, (size_t)b->w * (size_t)b->h);
    for (int y = 0; y < b->h; y++)
        for (int x = 0; x < b->w; x++) {
            int fy = y - dy < 0 ? 0 : y - dy >= b->h ? b->h - 1 : y - dy, fx = x - dx < 0 ? 0 : x - dx >= b->w ? b->w - 1 : x - dx;
            add(b, p, x, y, copy[fy * b->w + fx] * gain, 1);
        }
    free(copy);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(void *user, AVFrame *f) {
    bench *b = user;
    waiting *w = &b->ring[b->n_out % MOST];
    bool changed = false;
    double e[2] = { 0, 0 };
    for (int y = 0; y < b->h; y++) changed |= memcmp(f->data[0] + (ptrdiff_t)y * f->linesize[0], w->damaged + y * b->w, (size_t)b->w) != 0;
    for (int y = EDGE; y < b->h - EDGE; y++)
        for (int x = EDGE; x < b->w - EDGE; x++) {
            int is = f->data[0][(ptrdiff_t)y * f->linesize[0] + x], was = w->damaged[y * b->w + x], right = w->whole[y * b->w + x];
            e[0] += (was - right) * (was - right);
            e[1] += (is - right) * (is - right);
            b->n_sound += was == right;
            b->n_touched += was == right && is != right;
        }
    for (int k = 0; k < 2; k++) b->error[k] += e[k], b->error_changed[k] += changed ? e[k] : 0;
    if (changed && b->n_changed < UF_LEN(b->first_changed)) b->first_changed[b->n_changed] = b->n_out;
    b->n_changed += changed;
    b->n_out++;
    av_frame_free(&f);
    return UF_OK;
}

static int damage(bench *b, AVFrame *f, const AVFrame *next, bool cut, bool cut_next) {
    waiting *w = &b->ring[b->n_in % MOST];
    size_t n = (size_t)b->w * (size_t)b->h;
    int64_t t = b->n_in++;
    if (!w->whole && (!(w->whole = malloc(n)) || !(w->damaged = malloc(n)))) return UF_ENOMEM;
    (void)next;
    if (av_frame_make_writable(f) < 0) return UF_ENOMEM;
    for (int y = 0; y < b->h; y++) memcpy(w->whole + y * b->w, f->data[0] + (ptrdiff_t)y * f->linesize[0], (size_t)b->w);
    memcpy(w->damaged, w->whole, n);
    if (has(b, 'f') || has(b, 'w')) put_sway(b, w->damaged, t, has(b, 'f'), has(b, 'w'));
    if (has(b, 's') && t && (cut || t % 50 == 25)) put_splice(b, w->damaged, t, true);
    if (has(b, 's') && (cut_next || t % 50 == 24)) put_splice(b, w->damaged, t, false);
    if (has(b, 'd')) put_dust(b, w->damaged, t);
    if (has(b, 'l')) put_lines(b, w->damaged, true);
    if (has(b, 'h')) put_lines(b, w->damaged, false);
    for (int y = 0; y < b->h; y++) memcpy(f->data[0] + (ptrdiff_t)y * f->linesize[0], w->damaged + y * b->w, (size_t)b->w);
    return UF_OK;
}

static bool cuts_here(bench *b, const AVFrame *f) {
    float *luma = malloc((size_t)b->w * (size_t)b->h * sizeof(float));
    if (!luma) return false;
    for (int y = 0; y < b->h; y++)
        for (int x = 0; x < b->w; x++) luma[y * b->w + x] = f->data[0][(ptrdiff_t)y * f->linesize[0] + x] / 255.f;
    bool cut = uf_cuts_push(&b->cuts, luma, b->w, b->h, b->w);
    free(luma);
    return cut;
}

static int run(bench *b, uf_reader *r, uf_chain *c, int64_t most, double *took) {
    AVFrame *last = NULL;
    bool last_cut = false;
    int64_t n = 0;
    int err = UF_OK;
    while (err == UF_OK) {
        uf_item item = { 0 };
        err = n < most ? uf_reader_next(r, &item) : UF_EOF;
        if (err == UF_OK && !item.frame) {
            uf_item_clear(&item);
            continue;
        }
        bool cut = item.frame && cuts_here(b, item.frame);
        n += item.frame != NULL;
        if (last && (err == UF_OK || err == UF_EOF)) { /* one late: a splice marks the frame before the cut too */
            int d = damage(b, last, item.frame, last_cut, cut);
            double began = now();
            if (d == UF_OK) d = uf_chain_push(c, last, compare, b);
            *took += now() - began;
            if (d < 0) err = d;
        }
        last = item.frame;
        last_cut = cut;
    }
    double began = now();
    if (err == UF_EOF) err = uf_chain_push(c, NULL, compare, b);
    *took += now() - began;
    return err;
}

int main(int argc, char **argv) {
    uf_chain_options o = { .masks = argc > 5 && *argv[5] ? argv[5] : NULL };
    uf_table *table = NULL;
    bench *b = calloc(1, sizeof(*b));
    uf_reader *r = NULL;
    uf_chain *c = NULL;
    double took = 0;
    if (argc < 3 || !b) return fprintf(stderr, "mend FILM STAGES [DAMAGE [FRAMES [MASKS [SCENES]]]]\n"), 64;
    b->damage = argc > 3 ? argv[3] : "";
    char *list = strdup(argv[2]);
    for (char *name = strtok(list, ","); name; name = strtok(NULL, ","))
        for (int i = 0; uf_stages[i]; i++)
            if (!strcmp(name, uf_stages[i]->name)) o.strength[i] = 1;
    int err = uf_ctx_open(&b->ctx);
    if (err == UF_OK) err = uf_reader_open(&r, b->ctx, argv[1]);
    if (err == UF_OK) b->w = uf_reader_first(r)->width, b->h = uf_reader_first(r)->height;
    if (err == UF_OK && argc > 6) err = uf_table_open(&table, b->ctx, argv[6]);
    o.table = table;
    if (err == UF_OK) err = uf_chain_open(&c, b->ctx, uf_reader_first(r), &o);
    if (err == UF_OK) err = run(b, r, c, argc > 4 ? atoll(argv[4]) : INT64_MAX, &took);
    if (err < 0) return fprintf(stderr, "mend: %s\n", uf_ctx_error(b->ctx)), 1;
    double n = (double)b->n_out * (b->w - 2 * EDGE) * (b->h - 2 * EDGE), n_changed = (double)b->n_changed * (b->w - 2 * EDGE) * (b->h - 2 * EDGE);
    printf("%s %s %s: %lld of %lld frames changed; error %.2f -> %.2f (changed frames %.2f -> %.2f), %.4f %% of sound samples; %.1f ms a frame;", argv[1], argv[2],
           b->damage, (long long)b->n_changed, (long long)b->n_out, sqrt(b->error[0] / n), sqrt(b->error[1] / n),
           n_changed > 0 ? sqrt(b->error_changed[0] / n_changed) : 0., n_changed > 0 ? sqrt(b->error_changed[1] / n_changed) : 0.,
           100 * b->n_touched / fmax(b->n_sound, 1), 1e3 * took / (double)b->n_out);
    for (int i = 0; i < UF_LEN(b->first_changed) && i < b->n_changed; i++) printf(" %lld", (long long)b->first_changed[i]);
    printf("\n");
    for (int i = 0; i < MOST; i++) free(b->ring[i].whole), free(b->ring[i].damaged);
    uf_chain_close(&c);
    uf_table_close(&table);
    uf_reader_close(&r);
    uf_ctx_close(&b->ctx);
    free(list);
    free(b);
    return 0;
}
