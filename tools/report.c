/* How commands talk: people get a bar or plain lines on stderr, programs get JSON lines on stdout. */
#include "app.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static void clear(uf_app *app) {
    if (app->bar) fprintf(stderr, "\r\033[K");
    app->bar = false;
}

void uf_report_end(uf_app *app) { clear(app); }

void uf_report_event(uf_app *app, const char *event, json_t *v) {
    if (app->json && v) {
        FILE *to = app->stdout_busy ? stderr : stdout;
        json_t *line = json_pack("{s:s}", "event", event);
        json_object_update(line, v);
        json_dumpf(line, to, JSON_COMPACT | JSON_REAL_PRECISION(8));
        fputc('\n', to);
        fflush(to);
        json_decref(line);
    }
    json_decref(v);
}

void uf_report_line(uf_app *app, const char *fmt, ...) {
    if (app->quiet || app->json) return;
    clear(app);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void uf_report_log(void *user, uf_level level, const char *message) {
    static const char *const names[] = {"error", "warning", "info", "debug"};
    uf_app *app = user;
    if (level == UF_LOG_WARN) app->n_warnings++;
    if (app->notes && level <= UF_LOG_INFO) fprintf(app->notes, level <= UF_LOG_WARN ? "%s: %s\n" : "%.0s%s\n", names[level], message);
    if (app->quiet && level > UF_LOG_WARN) return;
    if (app->json) {
        uf_report_event(app, "log", json_pack("{s:s,s:s}", "level", names[level], "message", message));
        return;
    }
    clear(app);
    fprintf(stderr, level <= UF_LOG_WARN ? "unfade: %s: %s\n" : "%.0s%s\n", names[level], message);
}

void uf_report_duration(double seconds, char *to, size_t n) {
    long s = (long)(seconds + .5);
    if (s >= 3600) snprintf(to, n, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else snprintf(to, n, "%ld:%02ld", s / 60, s % 60);
}

static void draw_bar(uf_app *app, const char *text, double share) {
    int room = app->width - (int)strlen(text) - 4;
    fprintf(stderr, "\r\033[K");
    if (room > 10 && share >= 0) {
        int full = (int)(share * room + .5);
        fputc('[', stderr);
        for (int i = 0; i < room; i++) fputc(i < full ? '#' : '.', stderr);
        fputs("] ", stderr);
    }
    fprintf(stderr, "%.*s", app->width - 1, text);
    fflush(stderr);
    app->bar = true;
}

void uf_report_progress(uf_app *app, const char *unit, int64_t n_done, int64_t n_total, double rate, double seconds,
                        const char *extra) {
    double now = uf_now(), every = app->json ? .5 : app->terminal ? .1 : 5;
    bool last = n_total > 0 && n_done >= n_total;
    if (app->quiet || (now - app->last < every && !last)) return;
    app->last = now;
    double left = n_total > 0 && rate > 0 ? (double)(n_total - n_done) / rate : -1;
    if (app->json) {
        uf_report_event(app, "progress", json_pack("{s:s,s:I,s:o,s:f,s:f,s:o}", "unit", unit, "done", (json_int_t)n_done, "total",
                                                   n_total > 0 ? json_integer(n_total) : json_null(), "rate", rate, "seconds",
                                                   seconds, "seconds_left", left >= 0 ? json_real(left) : json_null()));
        return;
    }
    char text[256], time[32] = "";
    if (n_total > 0) {
        uf_report_duration(left < 0 ? 0 : left, time, sizeof time);
        snprintf(text, sizeof text, "%3.0f %%  %lld/%lld %s  %.1f/s  %s left%s%s", 100. * (double)n_done / (double)n_total,
                 (long long)n_done, (long long)n_total, unit, rate, left < 0 ? "?" : time, extra ? "  " : "", extra ? extra : "");
    } else {
        snprintf(text, sizeof text, "%lld %s  %.1f/s%s%s", (long long)n_done, unit, rate, extra ? "  " : "", extra ? extra : "");
    }
    if (app->terminal) draw_bar(app, text, n_total > 0 ? (double)n_done / (double)n_total : -1);
    else fprintf(stderr, "%s\n", text);
}
