#include "chart.h"

#include <math.h>

enum { LEFT = 46, RIGHT = 14, TOP = 22, BOTTOM = 38, BAR = 22, FONT = 12 };

typedef struct drawing {
    const uf_chart *c;
    cairo_t *cr;
    int w, h;
    double y0, y1;
} drawing;

/* Colours that the colour-blind tell apart: Okabe & Ito 2008, without yellow and black. Numbers stand by the lines as well. */
static const char *const colour[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a5195", "#6b6b6b"};

const char *uf_chart_colour(int series) { return colour[series % UF_LEN(colour)]; }

static void paint_as(cairo_t *cr, int series) {
    unsigned rgb = 0;
    sscanf(uf_chart_colour(series), "#%x", &rgb);
    cairo_set_source_rgb(cr, (rgb >> 16) / 255., (rgb >> 8 & 255) / 255., (rgb & 255) / 255.);
}

static double place_x(const drawing *d, double s) { return LEFT + fmin(fmax(s / d->c->seconds, 0), 1) * (d->w - LEFT - RIGHT); }
static double place_y(const drawing *d, double y) { return d->h - BOTTOM - (y - d->y0) / (d->y1 - d->y0) * (d->h - BOTTOM - TOP); }

static void text(const drawing *d, double x, double y, double align, const char *s) {
    cairo_text_extents_t e;
    cairo_text_extents(d->cr, s, &e);
    cairo_move_to(d->cr, x - align * e.x_advance, y);
    cairo_show_text(d->cr, s);
}

/* ---- axes ----------------------------------------------------------------------------------------------------------------- */

/* Of time: seconds, then what divides minutes and hours; labels need 70 pixels. */
static double time_step(const drawing *d) {
    static const double steps[] = {1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400};
    double least = d->c->seconds * 70 / (d->w - LEFT - RIGHT);
    int i = 0;
    while (i + 1 < UF_LEN(steps) && steps[i] < least) i++;
    return steps[i];
}

static void time_label(char to[32], double s, bool hours) {
    int t = (int)s;
    if (hours) snprintf(to, 32, "%d:%02d:%02d", t / 3600, t / 60 % 60, t % 60);
    else snprintf(to, 32, "%d:%02d", t / 60, t % 60);
}

static void thin_line(const drawing *d, double x0, double y0, double x1, double y1) {
    cairo_set_source_rgb(d->cr, .87, .87, .87);
    cairo_set_line_width(d->cr, 1);
    cairo_move_to(d->cr, x0, y0);
    cairo_line_to(d->cr, x1, y1);
    cairo_stroke(d->cr);
}

static void time_axis(const drawing *d, double top, double bottom, bool labels) {
    char label[32];
    double step = time_step(d);
    for (double s = 0; s <= d->c->seconds * 1.0001; s += step) {
        double x = floor(place_x(d, s)) + .5;
        thin_line(d, x, top, x, bottom);
        cairo_set_source_rgb(d->cr, .3, .3, .3);
        time_label(label, s, d->c->seconds >= 3600);
        if (labels) text(d, x, bottom + 14, x > d->w - 30 ? 1 : .5, label);
    }
    if (labels) text(d, d->w - RIGHT, bottom + 31, 1, d->c->seconds >= 3600 ? "time in the result, hours:minutes:seconds" : "time in the result, minutes:seconds");
}

static void value_axis(const drawing *d) {
    char label[32];
    double range = d->y1 - d->y0, step = pow(10, floor(log10(range / 4)));
    step *= range / step > 20 ? 5 : range / step > 8 ? 2 : 1;
    for (double i = ceil(d->y0 / step - 1e-9); i * step <= d->y1 + 1e-9 * range; i++) {
        double y = floor(place_y(d, i * step)) + .5;
        thin_line(d, LEFT, y, d->w - RIGHT, y);
        cairo_set_source_rgb(d->cr, .3, .3, .3);
        snprintf(label, sizeof label, "%.6g", i * step + 0.); /* no -0 */
        text(d, LEFT - 6, y + 4, 1, label);
    }
    text(d, 2, 13, 0, d->c->unit);
}

/* ---- what is drawn -------------------------------------------------------------------------------------------------------- */

static void draw_bars(const drawing *d) {
    cairo_t *cr = d->cr;
    time_axis(d, 0, d->h, false);
    char label[16];
    paint_as(cr, d->c->piece[0].series);
    snprintf(label, sizeof label, "%d", d->c->piece[0].series + 1);
    text(d, LEFT - 6, d->h - 7, 1, label);
    for (int i = 0; i < d->c->n; i++) {
        const uf_chart_piece *p = d->c->piece + i;
        double from = place_x(d, p->x[0]), wide = fmax(place_x(d, p->x[1]) - from, 2);
        if (p->hole) cairo_set_source_rgb(cr, 1, 1, 1);
        else paint_as(cr, p->series);
        cairo_rectangle(cr, from, 3, wide, d->h - 6);
        cairo_fill(cr);
        if (!p->hole) continue;
        cairo_set_source_rgb(cr, .3, .3, .3);
        cairo_rectangle(cr, from, 3, wide, d->h - 6);
        cairo_set_line_width(cr, .6);
        cairo_stroke(cr);
    }
    cairo_set_source_rgb(cr, 0, 0, 0);
    for (int i = 0; i < d->c->n_marks; i++) { /* a wedge that cuts into the bar from above */
        double x = place_x(d, d->c->mark[i]);
        cairo_move_to(cr, x - 5, 0);
        cairo_line_to(cr, x + 5, 0);
        cairo_line_to(cr, x, d->h - 5);
        cairo_close_path(cr);
        cairo_fill(cr);
    }
}

/* Its number at the end of each line, moved away from those that are there. */
static void number_lines(const drawing *d) {
    double taken[64];
    char label[16];
    int n = 0;
    for (int i = 0; i < d->c->n; i++) {
        const uf_chart_piece *p = d->c->piece + i;
        if (p->n < 1 || (i + 1 < d->c->n && p[1].series == p->series)) continue; /* it goes on */
        double x = fmin(place_x(d, p->x[p->n - 1]) + 3, d->w - RIGHT + 2), y = place_y(d, p->y[p->n - 1]) + 4;
        for (int k = 0; k < n; k++)
            if (fabs(taken[k] - y) < FONT && taken[k] < 1e8) y = taken[k] - FONT, k = -1;
        if (n < UF_LEN(taken)) taken[n++] = y;
        paint_as(d->cr, p->series);
        snprintf(label, sizeof label, "%d", p->series + 1);
        text(d, x, y, 0, label);
    }
}

static void draw_lines(const drawing *d) {
    value_axis(d);
    time_axis(d, TOP, d->h - BOTTOM, true);
    cairo_set_line_width(d->cr, 1.8);
    cairo_set_line_join(d->cr, CAIRO_LINE_JOIN_ROUND);
    for (int i = 0; i < d->c->n; i++) {
        const uf_chart_piece *p = d->c->piece + i;
        int stride = p->n / d->w + 1; /* more points than places would only make the file large */
        paint_as(d->cr, p->series);
        cairo_new_path(d->cr); /* writing leaves a point behind */
        for (int k = 0; k < p->n; k += stride) cairo_line_to(d->cr, place_x(d, p->x[k]), place_y(d, p->y[k]));
        if (p->n) cairo_line_to(d->cr, place_x(d, p->x[p->n - 1]), place_y(d, p->y[p->n - 1]));
        cairo_stroke(d->cr);
    }
    number_lines(d);
}

/* The mean of series i over point k and those that share its place. */
static double mean(const uf_chart_piece *p, int k, int stride) {
    double sum = 0;
    int n = 0;
    for (int i = k; i < k + stride && i < p->n; i++, n++) sum += p->y[i];
    return n ? sum / n : 0;
}

static double upto(const uf_chart *c, int i, int k, int stride) {
    double sum = 0;
    for (int m = 0; m <= i; m++) sum += mean(c->piece + m, k, stride);
    return fmin(sum, 1);
}

/* Each point is a stretch of time: a step, from its x to the next one's. */
static void draw_shares(const drawing *d) {
    const uf_chart *c = d->c;
    int n = c->n ? c->piece[0].n : 0, stride = n / (d->w - LEFT - RIGHT) + 1;
    for (int i = c->n - 1; i >= 0; i--) { /* what lies on top first, and the rest over it */
        paint_as(d->cr, c->piece[i].series);
        cairo_move_to(d->cr, place_x(d, 0), place_y(d, 0));
        for (int k = 0; k < n; k += stride) {
            double y = place_y(d, upto(c, i, k, stride));
            cairo_line_to(d->cr, place_x(d, c->piece[i].x[k]), y);
            cairo_line_to(d->cr, place_x(d, k + stride < n ? c->piece[i].x[k + stride] : c->seconds), y);
        }
        cairo_line_to(d->cr, place_x(d, c->seconds), place_y(d, 0));
        cairo_close_path(d->cr);
        cairo_fill(d->cr);
    }
    value_axis(d);
    time_axis(d, d->h - BOTTOM, d->h - BOTTOM, true);
}

/* ---- the chart ------------------------------------------------------------------------------------------------------------ */

static void find_range(drawing *d) {
    d->y0 = 0;
    d->y1 = d->c->kind == UF_CHART_SHARES ? 1 : 0;
    for (int i = 0; d->c->kind == UF_CHART_LINES && i < d->c->n; i++)
        for (int k = 0; k < d->c->piece[i].n; k++) {
            d->y0 = fmin(d->y0, d->c->piece[i].y[k]);
            d->y1 = fmax(d->y1, d->c->piece[i].y[k]);
        }
    double room = fmax(.04 * (d->y1 - d->y0), d->y1 > d->y0 ? 0 : .5);
    if (d->c->kind != UF_CHART_LINES) return;
    d->y0 -= room;
    d->y1 += room;
}

static void draw(cairo_t *cr, const void *arg) {
    drawing d = *(const drawing *)arg;
    d.cr = cr;
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_paint(cr);
    cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cr, FONT);
    if (d.c->kind == UF_CHART_AXIS) time_axis(&d, 0, 4, true);
    else if (d.c->kind == UF_CHART_BARS) draw_bars(&d);
    else if (d.c->kind == UF_CHART_LINES) draw_lines(&d);
    else draw_shares(&d);
}

int uf_chart_height(const uf_chart *c, int width) {
    return c->kind == UF_CHART_AXIS ? BOTTOM : c->kind == UF_CHART_BARS ? BAR : width < 500 ? 220 : 280;
}

int uf_chart_print(FILE *to, const uf_chart *c, int width) {
    drawing d = {.c = c, .w = width, .h = uf_chart_height(c, width)};
    find_range(&d);
    return uf_svg_print(to, d.w, d.h, draw, &d);
}
