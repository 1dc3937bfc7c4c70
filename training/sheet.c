/* Contact sheets and learning curves, drawn by cairo. */
#include "training.h"

#include "chart.h"

#include <cairo-svg.h>
#include <cairo.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 4 };

struct uf_sheet {
    uf_ctx *ctx;
    cairo_surface_t *surface;
    cairo_t *cr;
    int cell_w, cell_h;
};

int uf_sheet_open(uf_sheet **out, uf_ctx *ctx, int columns, int rows, int cell_w, int cell_h) {
    uf_sheet *s = uf_alloc(ctx, 1, sizeof *s);
    if (!s) return UF_ENOMEM;
    s->ctx = ctx;
    s->cell_w = cell_w;
    s->cell_h = cell_h;
    s->surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, columns * (cell_w + GAP) + GAP, rows * (cell_h + GAP) + GAP);
    s->cr = cairo_create(s->surface);
    if (cairo_status(s->cr)) {
        uf_sheet_close(&s);
        return uf_fail(ctx, UF_ENOMEM, "a contact sheet of %d x %d pictures is too large; give fewer", columns, rows);
    }
    cairo_set_source_rgb(s->cr, 1, 1, 1);
    cairo_paint(s->cr);
    *out = s;
    return UF_OK;
}

void uf_sheet_close(uf_sheet **s) {
    if (!*s) return;
    cairo_destroy((*s)->cr);
    cairo_surface_destroy((*s)->surface);
    free(*s);
    *s = NULL;
}

void uf_sheet_put(uf_sheet *s, int column, int row, int w, int h, const uint8_t *rgb) {
    cairo_surface_t *p = cairo_image_surface_create(CAIRO_FORMAT_RGB24, w, h);
    if (cairo_surface_status(p)) return;
    int stride = cairo_image_surface_get_stride(p);
    unsigned char *to = cairo_image_surface_get_data(p);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++, rgb += 3) {
            uint32_t v = (uint32_t)rgb[0] << 16 | (uint32_t)rgb[1] << 8 | rgb[2];
            memcpy(to + (ptrdiff_t)y * stride + 4 * (ptrdiff_t)x, &v, sizeof v);
        }
    cairo_surface_mark_dirty(p);
    double f = fmin((double)s->cell_w / w, (double)s->cell_h / h);
    cairo_save(s->cr);
    cairo_translate(s->cr, GAP + column * (s->cell_w + GAP), GAP + row * (s->cell_h + GAP));
    cairo_scale(s->cr, f, f);
    cairo_set_source_surface(s->cr, p, 0, 0);
    cairo_paint(s->cr);
    cairo_restore(s->cr);
    cairo_surface_destroy(p);
}

void uf_sheet_label(uf_sheet *s, int column, int row, const char *text) {
    double x = GAP + column * (s->cell_w + GAP) + 5, y = GAP + row * (s->cell_h + GAP) + 16;
    cairo_select_font_face(s->cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_BOLD);
    cairo_set_font_size(s->cr, 13);
    for (int lit = 0; lit < 2; lit++) { /* white on a shadow, to be read on anything */
        cairo_set_source_rgb(s->cr, lit, lit, lit);
        cairo_move_to(s->cr, x + 1 - lit, y + 1 - lit);
        cairo_show_text(s->cr, text);
    }
}

static cairo_status_t to_file(void *user, const unsigned char *data, unsigned n) {
    return fwrite(data, 1, n, user) == n ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

int uf_sheet_print(uf_sheet *s, FILE *to) {
    cairo_surface_flush(s->surface);
    return cairo_surface_write_to_png_stream(s->surface, to_file, to) ? UF_EIO : UF_OK;
}

int uf_sheet_write(uf_sheet *s, const char *path) {
    uf_whole *w = NULL;
    int err = uf_whole_open(&w, s->ctx, path, true);
    FILE *f = err == UF_OK ? uf_whole_file(w) : NULL;
    if (err == UF_OK && !f) err = UF_EIO;
    if (err == UF_OK && uf_sheet_print(s, f) < 0) err = uf_fail(s->ctx, UF_EIO, "cannot write '%s'; is the disk full?", path);
    if (err == UF_OK) err = uf_whole_commit(w);
    uf_whole_close(&w);
    return err;
}

/* ---- curves ------------------------------------------------------------------------------------------------------- */

typedef struct axes {
    double x0, x1, y0, y1;
} axes;

enum { WIDTH = 720, HEIGHT = 360, MARGIN = 48 };

static double place_x(const axes *a, double x) { return MARGIN + (x - a->x0) / (a->x1 - a->x0) * (WIDTH - 2 * MARGIN); }
static double place_y(const axes *a, double y) {
    return HEIGHT - MARGIN - (y - a->y0) / (a->y1 - a->y0) * (HEIGHT - 2 * MARGIN);
}

static void frame(cairo_t *cr, const axes *a, const char *title, bool powers) {
    char label[32];
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_paint(cr);
    cairo_set_source_rgb(cr, .2, .2, .2);
    cairo_set_line_width(cr, 1);
    cairo_rectangle(cr, MARGIN, MARGIN, WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN);
    cairo_stroke(cr);
    cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cr, 12);
    cairo_move_to(cr, MARGIN, MARGIN - 12);
    cairo_show_text(cr, title);
    for (int i = 0; i <= 4; i++) {
        double y = a->y0 + (a->y1 - a->y0) * i / 4, x = a->x0 + (a->x1 - a->x0) * i / 4;
        snprintf(label, sizeof label, "%.3g", y);
        cairo_move_to(cr, 4, place_y(a, y) + 4);
        cairo_show_text(cr, label);
        if (powers) snprintf(label, sizeof label, "%.1e", pow(10, x));
        else snprintf(label, sizeof label, "%.0f", x);
        cairo_move_to(cr, place_x(a, x) - 12, HEIGHT - MARGIN + 18);
        cairo_show_text(cr, label);
    }
}

/* More points than the drawing has places would only make the file large. */
static void line(cairo_t *cr, const axes *a, int n, const double *x, const double *y) {
    int stride = n / WIDTH + 1;
    for (int i = 0; i < n; i += stride) cairo_line_to(cr, place_x(a, x[i]), place_y(a, fmin(fmax(y[i], a->y0), a->y1)));
    cairo_stroke(cr);
}

/* A mean over the last steps, unbiased at the start. */
static void smooth(int n, const double *y, double *to) {
    double sum = 0, weight = 0;
    for (int i = 0; i < n; i++) {
        sum = .98 * sum + y[i];
        weight = .98 * weight + 1;
        to[i] = sum / weight;
    }
}

int uf_svg_print(FILE *to, int w, int h, void (*draw)(cairo_t *cr, const void *arg), const void *arg) {
    cairo_surface_t *s = cairo_svg_surface_create_for_stream(to_file, to, w, h);
    cairo_t *cr = cairo_create(s);
    draw(cr, arg);
    cairo_surface_finish(s);
    bool bad = cairo_status(cr) || cairo_surface_status(s);
    cairo_destroy(cr);
    cairo_surface_destroy(s);
    return bad ? UF_EIO : UF_OK;
}

/* An SVG that appears whole. */
static int write_svg(uf_ctx *ctx, const char *path, void (*draw)(cairo_t *cr, const void *arg), const void *arg) {
    uf_whole *w = NULL;
    int err = uf_whole_open(&w, ctx, path, true);
    FILE *f = err == UF_OK ? uf_whole_file(w) : NULL;
    if (err == UF_OK && !f) err = UF_EIO;
    if (err == UF_OK && uf_svg_print(f, WIDTH, HEIGHT, draw, arg) < 0) err = uf_fail(ctx, UF_EIO, "cannot write '%s'; is the disk full?", path);
    if (err == UF_OK) err = uf_whole_commit(w);
    uf_whole_close(&w);
    return err;
}

typedef struct curve {
    const char *title;
    axes a;
    int n, n_valid;
    const double *step, *mean, *valid_step, *valid;
} curve;

static void draw_curve(cairo_t *cr, const void *arg) {
    const curve *c = arg;
    frame(cr, &c->a, c->title, false);
    cairo_set_source_rgb(cr, .1, .35, .7);
    line(cr, &c->a, c->n, c->step, c->mean);
    cairo_set_source_rgb(cr, .8, .2, .1);
    line(cr, &c->a, c->n_valid, c->valid_step, c->valid);
}

/* The running mean (n) of the losses comes back in `mean`, its range in the curve. */
static curve curve_of(const char *title, int n, const double *step, const double *loss, int n_valid, const double *valid_step,
                      const double *valid, double *mean) {
    axes a = {step[0], step[n - 1], INFINITY, -INFINITY};
    smooth(n, loss, mean);
    for (int i = 0; i < n; i++) {
        a.y0 = fmin(a.y0, mean[i]);
        a.y1 = fmax(a.y1, mean[i]);
    }
    for (int i = 0; i < n_valid; i++) a.y0 = fmin(a.y0, valid[i]);
    a.y1 += .05 * (a.y1 - a.y0) + 1e-9;
    a.y0 -= .05 * (a.y1 - a.y0);
    return (curve){title, a, n, n_valid, step, mean, valid_step, valid};
}

int uf_curve_write(uf_ctx *ctx, const char *path, const char *title, int n, const double *step, const double *loss,
                   int n_valid, const double *valid_step, const double *valid) {
    if (n < 2) return UF_OK;
    double *mean = uf_alloc(ctx, (size_t)n, sizeof *mean);
    if (!mean) return UF_ENOMEM;
    curve c = curve_of(title, n, step, loss, n_valid, valid_step, valid, mean);
    int err = write_svg(ctx, path, draw_curve, &c);
    free(mean);
    return err;
}

int uf_curve_print(uf_ctx *ctx, FILE *to, const char *title, int n, const double *step, const double *y) {
    if (n < 2) return UF_OK;
    double *mean = uf_alloc(ctx, (size_t)n, sizeof *mean);
    if (!mean) return UF_ENOMEM;
    curve c = curve_of(title, n, step, y, 0, NULL, NULL, mean);
    int err = uf_svg_print(to, WIDTH, HEIGHT, draw_curve, &c);
    free(mean);
    return err;
}

typedef struct rates {
    const uf_lr_found *f;
    axes a;
    const double *power;
} rates;

static void mark(cairo_t *cr, const rates *r, double rate, double red, double blue) {
    double x = log10(rate), at = place_x(&r->a, x);
    cairo_set_source_rgb(cr, red, .2, blue);
    cairo_move_to(cr, at, MARGIN);
    cairo_line_to(cr, at, HEIGHT - MARGIN);
    cairo_stroke(cr);
}

static void draw_rates(cairo_t *cr, const void *arg) {
    const rates *r = arg;
    char title[128];
    snprintf(title, sizeof title, "loss at rising learning rates (red: valley, %.1e; violet: steepest, %.1e)", r->f->valley,
             r->f->steepest);
    frame(cr, &r->a, title, true);
    mark(cr, r, r->f->steepest, .6, .8);
    mark(cr, r, r->f->valley, .8, .1);
    cairo_set_source_rgb(cr, .1, .35, .7);
    line(cr, &r->a, r->f->n, r->power, r->f->loss);
}

int uf_rates_print(uf_ctx *ctx, FILE *to, const uf_lr_found *f) {
    double *power = uf_alloc(ctx, (size_t)f->n, sizeof *power), least = INFINITY;
    if (!power) return UF_ENOMEM;
    for (int i = 0; i < f->n; i++) {
        power[i] = log10(f->rate[i]);
        least = fmin(least, f->loss[i]);
    }
    double first = f->loss[0], room = fmax(first - least, 1e-6); /* the rise at the end leaves the picture */
    rates r = {f, {power[0], power[f->n - 1], least - .1 * room, first + .5 * room}, power};
    int err = uf_svg_print(to, WIDTH, HEIGHT, draw_rates, &r);
    free(power);
    return err < 0 ? uf_fail(ctx, UF_EIO, "cannot write the plot; is the disk full?") : UF_OK;
}
