/* The page of `unfade merge`: when each recording ran, what was made of them, who was heard, how the clocks ran. */
#include "page.h"

#include "training.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct source { /* one of the recordings, as the report has it */
    const char *path, *refused, *parent;
    int used, rate, clipped, inverted;
    double seconds, offset, end, ppm, ppm_error, level, floor;
    json_t *drops, *steps, *lags, *weights;
} source;

typedef struct merged {
    uf_app *app;
    FILE *f;
    const char *output, *reference, *page;
    double seconds;
    int rate, n, n_used;
    source in[UF_MERGE_INPUTS];
} merged;

static double number(const json_t *pair, size_t i) { return json_number_value(json_array_get(pair, i)); }

static int read_source(uf_ctx *ctx, json_t *o, source *s) {
    json_error_t e;
    *s = (source){0};
    if (json_unpack_ex(o, &e, 0, "{s:s,s:i,s:F,s:b,s?s,s?F,s?F,s?F,s?F,s?b,s?o,s?o,s?o,s?o,s:{s:F,s:F,s:i}}", "path", &s->path, "rate", &s->rate, "seconds", &s->seconds,
                       "used", &s->used, "refused", &s->refused, "offset", &s->offset, "end", &s->end, "ppm", &s->ppm, "ppm_error", &s->ppm_error,
                       "inverted", &s->inverted, "drops", &s->drops, "steps", &s->steps, "lags", &s->lags, "weights", &s->weights, "quality", "level_db", &s->level,
                       "noise_floor_db", &s->floor, "clipped_runs", &s->clipped) < 0)
        return uf_fail(ctx, UF_EDATA, "the report of the merge cannot be read: %s", e.text);
    s->parent = json_string_value(json_object_get(o, "placed_by"));
    return UF_OK;
}

static int read_all(merged *m, json_t *found) {
    size_t i;
    json_t *o;
    m->output = json_string_value(json_object_get(found, "output"));
    m->reference = json_string_value(json_object_get(found, "reference"));
    m->seconds = fmax(json_number_value(json_object_get(found, "seconds")), 1e-3);
    m->rate = (int)json_integer_value(json_object_get(found, "rate"));
    json_array_foreach(json_object_get(found, "inputs"), i, o) {
        UF_TRY(read_source(m->app->ctx, o, &m->in[i]));
        m->n_used += m->in[i].used;
        m->n++;
    }
    return UF_OK;
}

/* "1:02.5" */
static const char *clock_of(double s, char to[32]) {
    int64_t tenths = llround(fabs(s) * 10);
    snprintf(to, 32, "%s%lld:%02d.%d", s < -.05 ? "-" : "", (long long)(tenths / 600), (int)(tenths / 10 % 60), (int)(tenths % 10));
    return to;
}

static void name(const merged *m, int i) {
    fprintf(m->f, "<span class=\"key\" style=\"background:%s\">%d</span>", uf_chart_colour(i), i + 1);
    uf_html_text(m->f, m->in[i].path);
}

/* ---- when each ran ------------------------------------------------------------------------------------------------------------- */

static void tell_place(const merged *m, const source *s) {
    char from[32], to[32];
    fprintf(m->f, "<span class=\"note\">%s to %s", clock_of(s->offset, from), clock_of(s->end, to));
    for (size_t i = 0; i < json_array_size(s->steps); i++) {
        double by = 0, at = 0;
        json_unpack(json_array_get(s->steps, i), "{s:F,s:F}", "at", &at, "seconds", &by);
        fprintf(m->f, "; %s %.3f s at %s", by < 0 ? "lost" : "has too much by", fabs(by), clock_of(at, from));
    }
    double away = 0;
    for (size_t i = 0; i < json_array_size(s->drops); i++) away += number(json_array_get(s->drops, i), 1) - number(json_array_get(s->drops, i), 0);
    if (away > 0) fprintf(m->f, "; %zu dropout%s, %.2f s", json_array_size(s->drops), json_array_size(s->drops) == 1 ? "" : "s", away);
    fprintf(m->f, "%s</span>\n", s->inverted ? "; upside down, turned" : "");
}

static int draw_bar(const merged *m, int i) {
    const source *s = &m->in[i];
    size_t n_drops = json_array_size(s->drops), n_steps = json_array_size(s->steps);
    uf_chart_piece *piece = uf_alloc(m->app->ctx, n_drops + 1, sizeof *piece);
    double *x = uf_alloc(m->app->ctx, 2 * n_drops + 2 + n_steps, sizeof *x), *mark = x ? x + 2 * n_drops + 2 : NULL;
    int err = piece && x ? UF_OK : UF_ENOMEM;
    for (size_t k = 0; err == UF_OK && k <= n_drops; k++) {
        x[2 * k] = k ? number(json_array_get(s->drops, k - 1), 0) : s->offset;
        x[2 * k + 1] = k ? number(json_array_get(s->drops, k - 1), 1) : s->end;
        piece[k] = (uf_chart_piece){.series = i, .x = x + 2 * k, .hole = k > 0};
    }
    for (size_t k = 0; err == UF_OK && k < n_steps; k++) mark[k] = json_number_value(json_object_get(json_array_get(s->steps, k), "at"));
    if (err == UF_OK)
        err = uf_page_chart(m->app, m->f, &(uf_chart){.kind = UF_CHART_BARS, .seconds = m->seconds, .piece = piece, .n = (int)n_drops + 1, .mark = mark, .n_marks = (int)n_steps},
                            "its place on the time line");
    free(piece);
    free(x);
    return err;
}

static int time_line(const merged *m) {
    fputs("<h2>When each recorded</h2>\n<p>All on the clock of the result. <span class=\"sample\"></span> dropout: silence or repeated sound, which the others fill; "
          "<span class=\"wedge\"></span> the recorder lost or repeated something there, and its time jumps.</p>\n<ul class=\"takes\">\n", m->f);
    for (int i = 0; i < m->n; i++) {
        fputs("<li>", m->f);
        name(m, i);
        fputs("<br>", m->f);
        if (m->in[i].used) {
            tell_place(m, &m->in[i]);
            UF_TRY(draw_bar(m, i));
        } else {
            fputs("<span class=\"bad\">left out: ", m->f);
            uf_html_text(m->f, m->in[i].refused ? m->in[i].refused : "");
            fputs("</span>", m->f);
        }
        fputs("</li>\n", m->f);
    }
    fputs("</ul>\n", m->f);
    return uf_page_chart(m->app, m->f, &(uf_chart){.kind = UF_CHART_AXIS, .seconds = m->seconds}, "time in the result");
}

/* ---- what was made of them ----------------------------------------------------------------------------------------------------- */

static const source *best_of(const merged *m) {
    for (int i = 0; i < m->n; i++)
        if (m->reference && !strcmp(m->in[i].path, m->reference)) return &m->in[i];
    return NULL;
}

/* Both on one time line and one scale of frequencies. */
static int pictures(const merged *m, const source *best) {
    uf_sound_look before, after;
    char length[32];
    uf_page_span span = {.at = best->offset, .seconds = best->end - best->offset, .all = m->seconds, .rate = best->rate, .top = m->rate};
    fputs("<figure class=\"wave pair\">", m->f);
    UF_TRY(uf_page_spectrogram(m->app, m->f, best->path, "before", &span, &before));
    UF_TRY(uf_page_spectrogram(m->app, m->f, m->output, "after", &(uf_page_span){.seconds = m->seconds, .all = m->seconds, .rate = m->rate, .top = m->rate}, &after));
    fprintf(m->f, "<span class=\"tag\" style=\"top:0;left:0\">%g kHz; the best alone</span><span class=\"tag\" style=\"top:0;right:0\">the result</span>"
                  "<div class=\"scale\"><span>0:00.0</span><span>time, minutes:seconds</span><span>%s</span></div>"
                  "<input type=\"range\" min=\"0\" max=\"100\" value=\"50\" aria-label=\"how much of the spectrogram is of the best recording alone\">"
                  "<figcaption>Left of the slider the best recording alone, right of it the result. Frequency upwards, from 0 to %d Hz; brighter is louder. "
                  "Pauses (what a tenth of the time stays below): %.1f dB alone, %.1f dB in the result.</figcaption></figure>\n",
            m->rate / 2000., clock_of(m->seconds, length), m->rate / 2, before.pauses, after.pauses);
    return UF_OK;
}

static int sounds(const merged *m) {
    const source *best = best_of(m);
    if (!m->output || !best) return UF_OK;
    fputs("<h2>The best recording alone, and the result</h2>\n<p>The best is the one that decided how the result sounds for the longest: ", m->f);
    name(m, (int)(best - m->in));
    fputs(". Move the slider, with the mouse, a finger or the arrow keys.</p>\n", m->f);
    UF_TRY(pictures(m, best));
    UF_TRY(uf_page_player(m->app, m->f, m->output, "Listen: the result", m->page));
    return uf_page_player(m->app, m->f, best->path, "Listen: the best recording alone", m->page);
}

/* ---- who is heard -------------------------------------------------------------------------------------------------------------- */

static int weights(const merged *m) {
    uf_chart_piece piece[UF_MERGE_INPUTS];
    const source *first = NULL;
    int n = 0, err = UF_OK;
    for (int i = 0; i < m->n; i++)
        if (!first && m->in[i].weights) first = &m->in[i];
    if (!first) return UF_OK;
    size_t seconds = json_array_size(first->weights);
    double *x = uf_alloc(m->app->ctx, (size_t)(m->n + 1) * (seconds + 1), sizeof *x);
    if (!x) return UF_ENOMEM;
    for (size_t k = 0; k < seconds; k++) x[k] = (double)k;
    for (int i = 0; i < m->n; i++) {
        if (!m->in[i].weights) continue;
        double *y = x + (size_t)(n + 1) * seconds;
        for (size_t k = 0; k < seconds; k++) y[k] = number(m->in[i].weights, k);
        piece[n++] = (uf_chart_piece){.n = (int)seconds, .series = i, .x = x, .y = y};
    }
    fputs("<h2>Who is heard</h2>\n<p>Each recording's share of the result, second by second: of the energy that all bring into the sum, frequency by frequency in the band of "
          "the voice, 200 to 4000 Hz. Empty: nobody recorded, or nothing sounded.</p>\n<p>", m->f);
    for (int i = 0; i < n; i++) {
        name(m, piece[i].series);
        fputs(i + 1 < n ? ", " : "</p>\n", m->f);
    }
    err = uf_page_chart(m->app, m->f, &(uf_chart){.kind = UF_CHART_SHARES, .seconds = m->seconds, .unit = "share of the result, 0 to 1", .piece = piece, .n = n},
                        "each recording's share of the result over time");
    free(x);
    return err;
}

/* ---- how the clocks ran -------------------------------------------------------------------------------------------------------- */

/* One stretch of lags, ms, its first and last point moved along their lines to the times *from and *to, if given. Returns how many points. */
static int stretch(const json_t *s, const double *from, const double *to, double *x, double *y) {
    size_t n = json_array_size(s);
    int got = 0;
    for (size_t k = 0; k < n; k++, got++) {
        x[got] = number(json_array_get(s, k), 0);
        y[got] = 1e3 * number(json_array_get(s, k), 1);
    }
    for (int end = 0; end < 2 && n > 1; end++) { /* the lines go on to where the recording begins and ends */
        const double *want = end ? to : from;
        int a = end ? got - 2 : 1, z = end ? got - 1 : 0;
        if (!want || x[a] == x[z]) continue;
        y[z] += (*want - x[z]) * (y[z] - y[a]) / (x[z] - x[a]);
        x[z] = *want;
    }
    return got;
}

/* All pieces of recording i from piece[n] on; *at: where in x and y there is room. Returns n and as many as they are. */
static int add_clock(const merged *m, int i, uf_chart_piece *piece, int n, double *x, double *y, size_t *at) {
    const source *s = &m->in[i];
    size_t n_stretches = json_array_size(s->lags);
    for (size_t k = 0; k < n_stretches; k++, n++) {
        double *px = x + *at, *py = y + *at;
        int got = stretch(json_array_get(s->lags, k), k ? NULL : &s->offset, k + 1 < n_stretches ? NULL : &s->end, px, py);
        double zero = k ? py[0] - piece[n - 1].y[piece[n - 1].n - 1] : py[0]; /* goes on where the last one ended */
        for (int p = 0; p < got; p++) py[p] -= zero;
        piece[n] = (uf_chart_piece){.n = got, .series = i, .x = px, .y = py};
        *at += (size_t)got;
    }
    return n;
}

static int clocks(const merged *m) {
    size_t n_points = 0, n_pieces = 0, k, at = 0;
    json_t *s;
    int n = 0;
    for (int i = 0; i < m->n; i++)
        json_array_foreach(m->in[i].lags, k, s) n_points += json_array_size(s), n_pieces++;
    double *x = uf_alloc(m->app->ctx, 2 * n_points + 1, sizeof *x);
    uf_chart_piece *piece = uf_alloc(m->app->ctx, n_pieces + 1, sizeof *piece);
    int err = x && piece ? UF_OK : UF_ENOMEM;
    for (int i = 0; err == UF_OK && i < m->n; i++) n = add_clock(m, i, piece, n, x, x + n_points, &at);
    fputs("<h2>How the clocks ran</h2>\n<p>By how much each recorder's clock has run ahead since it began, against that of ", m->f);
    for (int i = 0; i < m->n; i++)
        if (m->in[i].used && !m->in[i].parent) name(m, i);
    fputs(", whose own line is flat. What was lost at once is left out here. 1 ppm is a millionth: 3.6 ms an hour. The result is free of all this.</p>\n", m->f);
    if (err == UF_OK)
        err = uf_page_chart(m->app, m->f, &(uf_chart){.kind = UF_CHART_LINES, .seconds = m->seconds, .unit = "ahead, milliseconds", .piece = piece, .n = n},
                            "how far each clock has run away over time");
    free(piece);
    free(x);
    return err;
}

/* ---- figures ------------------------------------------------------------------------------------------------------------------- */

static double mean_weight(const source *s) {
    double sum = 0;
    for (size_t i = 0; i < json_array_size(s->weights); i++) sum += number(s->weights, i);
    return sum / fmax((double)json_array_size(s->weights), 1);
}

static void figures(const merged *m) {
    fputs("<h2>Measured</h2>\n<div class=\"wide\"><table class=\"tight\"><tr><th>recording</th><th>seconds</th><th>Hz</th><th>clock, ppm</th><th>loud, dB</th><th>pauses, dB</th>"
          "<th>too loud, times</th><th>share</th></tr>\n", m->f);
    for (int i = 0; i < m->n; i++) {
        const source *s = &m->in[i];
        fputs("<tr><td>", m->f);
        name(m, i);
        fprintf(m->f, "</td><td>%.1f</td><td>%d</td><td>", s->seconds, s->rate);
        if (s->used) fprintf(m->f, "%+.2f", s->ppm);
        if (s->ppm_error > 0) fprintf(m->f, " &plusmn; %.2f", s->ppm_error);
        fprintf(m->f, "</td><td>%.1f</td><td>%.1f</td><td>%d</td><td>", s->level, s->floor, s->clipped);
        if (s->weights) fprintf(m->f, "%.0f %%", 100 * mean_weight(s));
        fputs("</td></tr>\n", m->f);
    }
    fputs("</table></div>\n<p class=\"note\">Levels are dB below full scale; pauses: what a tenth of the time stays below.</p>\n", m->f);
}

static int write_page(const merged *m, const char *notes) {
    char title[64], length[32];
    snprintf(title, sizeof title, "%d recordings", m->n);
    UF_TRY(uf_page_head(m->app->ctx, m->f, m->output ? m->output : title));
    fprintf(m->f, "<p>%d of %d recordings, on one clock, %s minutes:seconds long.</p>\n", m->n_used, m->n, clock_of(m->seconds, length));
    UF_TRY(time_line(m));
    UF_TRY(sounds(m));
    UF_TRY(weights(m));
    if (m->n_used > 1) UF_TRY(clocks(m));
    figures(m);
    uf_page_notes(m->f, notes);
    uf_page_foot(m->f);
    return UF_OK;
}

int uf_merge_page_write(uf_app *app, const uf_merge_page *p) {
    merged m = {.app = app, .page = p->path};
    uf_whole *w = NULL;
    json_error_t e;
    json_t *found = json_loads(p->found, 0, &e);
    int err = found ? read_all(&m, found) : uf_fail(app->ctx, UF_EDATA, "the report of the merge cannot be read: %s", e.text);
    if (err == UF_OK) err = uf_whole_open(&w, app->ctx, p->path, p->overwrite);
    if (err == UF_OK && !(m.f = uf_whole_file(w))) err = UF_EIO;
    if (err == UF_OK) err = write_page(&m, p->notes);
    if (err == UF_OK && ferror(m.f)) err = uf_fail(app->ctx, UF_EIO, "cannot write '%s'; is the disk full?", p->path);
    if (err == UF_OK) err = uf_whole_commit(w);
    uf_whole_close(&w);
    json_decref(found);
    return err;
}
