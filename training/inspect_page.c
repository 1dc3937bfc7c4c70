/* The page of `unfade inspect`: one HTML file that needs no other, no script and no network. */
#include "inspect.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>unfade inspect</title>\n<style>\n"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:76rem;margin:0 auto;padding:1rem;color:#222;background:#fff}\n"
    "h1,li,figcaption{overflow-wrap:anywhere}h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2rem}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse}td,th{padding:.2rem .6rem;text-align:right;white-space:nowrap}\n"
    "th{border-bottom:1px solid #888}td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f4f4f4}\n"
    ".bad{color:#b00020;font-weight:bold}img,svg{max-width:100%;height:auto;display:block}\n"
    "figure{margin:.6rem 0}figcaption{font-size:.9rem;color:#555}\n</style></head><body>\n";

static int image(uf_ctx *ctx, FILE *f, const char *png, size_t n, const char *what) {
    fputs("<img alt=\"", f);
    uf_html_text(f, what);
    fputs("\" src=\"data:image/png;base64,", f);
    UF_TRY(uf_html_base64(ctx, f, (const uint8_t *)png, n));
    fputs("\">\n", f);
    return UF_OK;
}

static void layers(FILE *f, const uf_seen *s) {
    fputs("<h2>Layers</h2>\n<p>Activations over all pictures. A channel is dead when it was never above zero: it costs time and "
          "tells nothing. Gradient: of the mean absolute error of the chroma, on up to eight of the pictures, beside the length of "
          "the weights; a layer whose share is far below the others' hardly learns.</p>\n<div class=\"wide\"><table>\n"
          "<tr><th>layer</th><th>channels</th><th>size</th><th>mean</th><th>deviation</th><th>largest</th><th>zero</th>"
          "<th>dead</th><th>gradient / weights</th></tr>\n", f);
    for (int i = 0; i < s->n_layers; i++) {
        const uf_layer_seen *l = &s->layer[i];
        double mean = l->sum / l->n, deviation = sqrt(fmax(0, l->squares / l->n - mean * mean));
        fputs("<tr><td>", f);
        uf_html_text(f, l->name);
        fprintf(f, "</td><td>%d</td><td>%dx%d</td><td>%.3g</td><td>%.3g</td><td>%.3g</td><td>%.0f %%</td><td%s>%d</td>", l->shape.c,
                l->shape.w, l->shape.h, mean, deviation, l->most, 100 * l->zeros / l->n, l->n_dead ? " class=\"bad\"" : "",
                l->n_dead);
        if (l->length > 0) fprintf(f, "<td>%.2e</td></tr>\n", l->gradient / l->length);
        else fputs("<td></td></tr>\n", f);
    }
    fputs("</table></div>\n", f);
}

static int maps(uf_ctx *ctx, FILE *f, const uf_seen *s) {
    fputs("<h2>What it sees in the first picture</h2>\n<p>Of each layer, the channels that vary most over it, each from its "
          "least (black) to its most (white).</p>\n", f);
    for (int i = 0; i < s->n_layers; i++) {
        fputs("<figure>", f);
        UF_TRY(image(ctx, f, s->layer[i].maps, s->layer[i].n_maps, s->layer[i].name));
        fputs("<figcaption>", f);
        uf_html_text(f, s->layer[i].name);
        fputs("</figcaption></figure>\n", f);
    }
    return UF_OK;
}

static int worst(uf_ctx *ctx, FILE *f, const uf_seen *s) {
    int n = s->n_pictures < UF_INSPECT_WORST ? s->n_pictures : UF_INSPECT_WORST;
    fputs("<h2>The pictures that it colours worst</h2>\n<p>Grey, coloured, original; by CIEDE2000, the distance of colours as eyes "
          "see it.</p>\n", f);
    UF_TRY(image(ctx, f, s->worst, s->n_worst, "grey, coloured, original, row by row"));
    fputs("<ol>\n", f);
    for (int i = 0; i < n; i++) {
        fputs("<li>", f);
        uf_html_text(f, s->picture[i].name);
        fprintf(f, ": %.1f</li>\n", s->picture[i].ciede2000);
    }
    fputs("</ol>\n", f);
    return UF_OK;
}

/* Steps, losses, rates and gradient norms of a run's log.csv, n of each. */
typedef struct history {
    double *step, *y[3];
    int n, room;
} history;

static int remember(uf_ctx *ctx, history *h, const double v[4]) {
    if (h->n == h->room) {
        h->room = h->room ? 2 * h->room : 1024;
        for (int k = 0; k < 4; k++) {
            double **at = k ? &h->y[k - 1] : &h->step, *more = realloc(*at, (size_t)h->room * sizeof **at);
            if (!more) return uf_fail(ctx, UF_ENOMEM, "out of memory for the log; close other programs");
            *at = more;
        }
    }
    h->step[h->n] = v[0];
    for (int k = 0; k < 3; k++) h->y[k][h->n] = v[k + 1];
    h->n++;
    return UF_OK;
}

static int read_history(uf_ctx *ctx, const char *folder, history *h) {
    char line[512], *path = uf_format(ctx, "%s/log.csv", folder);
    FILE *f = path ? fopen(path, "r") : NULL;
    int err = f ? UF_OK : uf_fail(ctx, UF_EINVAL, "cannot open '%s': %s; --run wants the folder of 'unfade train'",
                                  path ? path : folder, strerror(errno));
    while (err == UF_OK && fgets(line, sizeof line, f)) {
        double v[4];
        if (sscanf(line, "%lf,%*d,%*d,%lf,%lf,%lf", &v[0], &v[2], &v[1], &v[3]) == 4) err = remember(ctx, h, v);
    }
    if (f) fclose(f);
    free(path);
    return err;
}

static int curves(uf_ctx *ctx, FILE *f, const char *folder) {
    static const char *const title[] = {"loss", "learning rate", "gradient norm"};
    history h = {0};
    int err = read_history(ctx, folder, &h);
    if (err == UF_OK) fputs("<h2>How it learnt</h2>\n<p>Running means over the last fifty steps.</p>\n", f);
    for (int k = 0; err == UF_OK && k < 3; k++) {
        char *svg = NULL;
        size_t n = 0;
        FILE *m = open_memstream(&svg, &n);
        if (!m) err = uf_fail(ctx, UF_ENOMEM, "out of memory for a curve; close other programs");
        if (err == UF_OK) err = uf_curve_print(ctx, m, title[k], h.n, h.step, h.y[k]);
        if (m) fclose(m);
        const char *from = err == UF_OK && svg ? strstr(svg, "<svg") : NULL; /* without the XML line */
        if (from) fprintf(f, "<figure>%s</figure>\n", from);
        free(svg);
    }
    free(h.step);
    for (int k = 0; k < 3; k++) free(h.y[k]);
    return err;
}

int uf_inspect_page(uf_ctx *ctx, FILE *f, const uf_inspect_options *o, const uf_seen *s) {
    double sum = 0;
    int dead = 0;
    for (int i = 0; i < s->n_pictures; i++) sum += s->picture[i].ciede2000;
    for (int i = 0; i < s->n_layers; i++) dead += s->layer[i].n_dead;
    fputs(head, f);
    fputs("<h1>", f);
    uf_html_text(f, o->weights);
    fprintf(f, "</h1>\n<p>%d pictures, CIEDE2000 %.2f on average. %d dead channels. %.2f %% of the predicted chroma lies outside of "
               "what a film can hold.</p>\n", s->n_pictures, sum / s->n_pictures, dead, 100 * s->clipped);
    UF_TRY(worst(ctx, f, s));
    layers(f, s);
    UF_TRY(maps(ctx, f, s));
    if (o->run) UF_TRY(curves(ctx, f, o->run));
    fputs("</body></html>\n", f);
    return UF_OK;
}
