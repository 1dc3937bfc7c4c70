/* Drawings over time for pages, as SVG by cairo: bars, lines, and shares one upon another. Dark on white; a page for dark rooms inverts them. */
#ifndef UF_CHART_H
#define UF_CHART_H

#include "base.h"

#include <cairo.h>
#include <stdio.h>

typedef struct uf_chart_piece { /* a line through n points, or a bar from x[0] to x[1] */
    int n, series;              /* series: which colour */
    const double *x, *y;        /* s; in the chart's unit */
    bool hole;                  /* bars: nothing is there, where the one before it goes on */
} uf_chart_piece;
typedef enum uf_chart_kind { UF_CHART_AXIS, UF_CHART_BARS, UF_CHART_LINES, UF_CHART_SHARES } uf_chart_kind;
typedef struct uf_chart {
    uf_chart_kind kind;       /* AXIS: of time, for the bars above it; BARS: one row; SHARES: areas upon each other, in order, from 0 to 1, all with the same x */
    double seconds;           /* of the time line */
    const char *unit;         /* of y, above it */
    const uf_chart_piece *piece;
    int n;
    const double *mark;       /* s: n_marks places where something was lost */
    int n_marks;
} uf_chart;
/* All charts of one width have their times at the same places. UF_EIO without a message. */
int uf_chart_print(FILE *to, const uf_chart *c, int width);
int uf_chart_height(const uf_chart *c, int width);
const char *uf_chart_colour(int series); /* "#0072b2" */

/* sheet.c: an SVG of what `draw` draws; it gets its own argument. UF_EIO without a message. */
int uf_svg_print(FILE *to, int w, int h, void (*draw)(cairo_t *cr, const void *arg), const void *arg);

#endif
