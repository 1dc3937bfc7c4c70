/* What the commands share: the table row, the context, and how a command talks. */
#ifndef UF_APP_H
#define UF_APP_H

#include "pipeline.h"

#include <argp.h>
#include <jansson.h>

/* Exit codes (sysexits): batch systems act on them. */
enum { UF_EXIT_OK = 0, UF_EXIT_FAILED = 1, UF_EXIT_USAGE = 64, UF_EXIT_DATA = 65, UF_EXIT_AGAIN = 75 };

typedef struct uf_app {
    uf_ctx *ctx;
    bool json, quiet, terminal; /* terminal: stderr is one */
    bool stdout_busy;           /* media goes to standard output: nothing else may */
    int width;                  /* columns of the terminal */
    bool bar;                   /* a progress bar stands on the line */
    double last;                /* when progress was last shown */
    int n_warnings;
    FILE *notes;                /* what is said is written there too, line by line; NULL: nowhere */
} uf_app;

typedef struct uf_command {
    const char *name, *summary;
    const struct argp *argp;
    int (*run)(uf_app *app, int argc, char **argv); /* a uf_code; argv[0] is "unfade NAME" */
} uf_command;
extern const uf_command *const uf_commands[]; /* NULL-ended */

/* Options that every working command takes: --json, -q/--quiet, --threads. A child parser with input uf_app. */
extern const struct argp uf_common_argp;

/* ---- reports (report.c) --------------------------------------------------------------------------------------------- */

void uf_report_log(void *app, uf_level level, const char *message); /* a uf_log_fn */
/* One event: a line of JSON with --json (v is consumed), otherwise nothing. */
void uf_report_event(uf_app *app, const char *event, json_t *v);
/* A bar on a terminal, a line every few seconds in a log, an event with --json. n_total 0: unknown. */
void uf_report_progress(uf_app *app, const char *unit, int64_t n_done, int64_t n_total, double rate, double seconds,
                        const char *extra);
void uf_report_end(uf_app *app); /* clears the bar */
void uf_report_line(uf_app *app, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* to people, on stderr */

void uf_report_duration(double seconds, char *to, size_t n); /* "1:02:03", "2:03" */
/* What is in a file: lines for people, or an event. cmd_info.c */
void uf_report_media(uf_app *app, const char *path, const uf_media_info *m);

/* One page that shows a film beside what was made of it; cmd_report.c. */
typedef struct uf_page_options {
    int n;             /* frames to show of both */
    const char *masks; /* folder of `colorize --masks`, or NULL */
    const char *notes; /* lines: what was asked for, and what the program said, or NULL */
    bool overwrite;
} uf_page_options;
int uf_page_write(uf_app *app, const char *before, const char *after, const char *page, const uf_page_options *o);

enum { UF_MOST_REFERENCES = 64 };
typedef struct uf_reference {
    int64_t frame;       /* of the film, from 0 */
    const char *picture; /* that frame, coloured by hand */
} uf_reference;
/* Tunes the network to each scene that has references; references.c. *table: the file for uf_colorize_options.scenes, new memory. */
int uf_references_learn(uf_app *app, const char *film, const char *out, const uf_film_options *o, const uf_reference *refs, int n, char **table);
/* What colouring `in` to `out` would do and how long it would take, by doing a few seconds of it. forecast.c */
int uf_forecast(uf_app *app, const char *in, const char *out, const uf_film_options *o);

/* "512M", "2G", "100000": bytes; -1: not a size. */
int64_t uf_parse_size(const char *s);
/* A number in [from, to], or argp_error() naming the option. */
double uf_parse_number(struct argp_state *state, const char *option, const char *arg, double from, double to);

/* For ARGP_KEY_ARG of a command that takes one name: stores it; a second is an error ("give one film"). */
error_t uf_parse_one(struct argp_state *state, const char **to, const char *arg, const char *what);

void uf_man_print(const uf_command *c, FILE *to); /* scdoc source */

#endif
