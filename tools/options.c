/* Options that all commands share, and the manual pages, out of the same tables that parse and help. */
#include "app.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_JSON = 0x1000, KEY_THREADS };

static const struct argp_option common[] = {
    {"json", KEY_JSON, 0, 0, "Write one JSON object a line to standard output; the manual page lists them", 90},
    {"quiet", 'q', 0, 0, "Say nothing but warnings and errors", 90},
    {"threads", KEY_THREADS, "N", 0, "How many processor cores may compute (default: all)", 90},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    uf_app *app = state->input;
    switch (key) {
    case KEY_JSON: app->json = true; return 0;
    case 'q': app->quiet = true; return 0;
    case KEY_THREADS:
        uf_ctx_set_threads(app->ctx, (int)uf_parse_number(state, "--threads", arg, 1, 1024));
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

const struct argp uf_common_argp = {.options = common, .parser = parse};

int64_t uf_parse_size(const char *s) {
    char *end;
    double v = strtod(s, &end), unit = 1;
    switch (toupper((unsigned char)*end)) {
    case 'K': unit = 1 << 10; break;
    case 'M': unit = 1 << 20; break;
    case 'G': unit = 1 << 30; break;
    case 0: return end > s && v >= 0 && v < 9e18 ? (int64_t)v : -1;
    default: return -1;
    }
    return end > s && !end[1] && v >= 0 && v * unit < 9e18 ? (int64_t)(v * unit) : -1;
}

double uf_parse_number(struct argp_state *state, const char *option, const char *arg, double from, double to) {
    char *end;
    double v = strtod(arg, &end);
    if (end == arg || *end || !(v >= from && v <= to))
        argp_error(state, "%s takes a number from %g to %g, not '%s'", option, from, to, arg);
    return v;
}

error_t uf_parse_one(struct argp_state *state, const char **to, const char *arg, const char *what) {
    if (state->arg_num) argp_error(state, "give one %s", what);
    *to = arg;
    return 0;
}

/* ---- manual pages ----------------------------------------------------------------------------------------------------- */

/* scdoc reads _ and * as marks, and spaces at a line's start as a mistake; ++ ends a line. */
static void text(FILE *to, const char *s) {
    bool start = true;
    for (; *s; s++) {
        if (start && *s == ' ') continue;
        if (!strncmp(s, "\n  ", 3)) fputs("++", to); /* an indented line, an example, stays a line */
        if (strchr("_*\\#`~<[", *s)) fputc('\\', to);
        if (*s == '\v') fputc('\n', to);
        fputc(*s == '\v' ? '\n' : *s, to);
        start = *s == '\v' || *s == '\n';
    }
}

static void options_print(FILE *to, const struct argp_option *o) {
    for (; o && (o->name || o->doc); o++) {
        if (o->flags & OPTION_HIDDEN || !o->name) continue;
        fprintf(to, "*--%s*", o->name);
        if (o->arg) {
            fputs("=_", to);
            text(to, o->arg);
            fputc('_', to);
        }
        if (o->key > 0 && o->key < 128 && isalnum(o->key)) fprintf(to, ", *-%c*", o->key);
        fputs("\n\t", to);
        text(to, o->doc);
        fputs("\n\n", to);
    }
}

static const struct {
    const char *names, *fields;
} events[] = {
    {"start", "colorize begins: input, output."},
    {"progress", "At most twice a second: unit (frames or steps), done, total (null when unknown), rate (of the last seconds, "
                 "a second), seconds (since the start), seconds_left (null when unknown)."},
    {"log", "level (warning, info or debug), message."},
    {"plan", "colorize --plan: frames, frames_measured, fps, seconds and bytes expected. The input and a few seconds of the output come before "
             "it as media."},
    {"media, weights, model, bench", "What info, models and bench have to tell."},
    {"done", "The last line of colorize, train and eval when they succeed. colorize: output, frames, seconds, fps (over the whole film), warnings (how many); "
             "train: folder; eval: pictures and the scores."},
    {"error", "The last line of a failure: code (invalid, memory, io, data, unsupported, exists or interrupted), message (a "
              "sentence; the remedy stands at its end)."},
};

static void events_print(FILE *to) {
    fputs("# JSON\n\nWith *--json* each line of standard output is an object with a field *event*, whose other fields are named "
          "here; later versions may add more. When the film goes to standard output, the lines go to standard error. Wrong "
          "options are told in words on standard error only.\n\n", to);
    for (int i = 0; i < UF_LEN(events); i++) {
        fprintf(to, "*%s*\n\t", events[i].names);
        text(to, events[i].fields);
        fputs("\n\n", to);
    }
}

void uf_man_print(const uf_command *c, FILE *to) {
    char name[64];
    snprintf(name, sizeof name, "unfade-%s", c->name);
    fprintf(to, "%s(1)\n\n# NAME\n\n%s - ", name, name);
    text(to, c->summary);
    fprintf(to, "\n\n# SYNOPSIS\n\n*unfade %s* [OPTION...] ", c->name);
    text(to, c->argp->args_doc);
    fputs("\n\n# DESCRIPTION\n\n", to);
    text(to, c->argp->doc);
    fputs("\n\n# OPTIONS\n\n", to);
    options_print(to, c->argp->options);
    options_print(to, uf_common_argp.options);
    events_print(to);
    fputs("# ENVIRONMENT\n\n*UNFADE\\_WEIGHTS*\n\tThe folder in which the weights lie that come with the program.\n\n"
          "*UNFADE\\_DEBUG*\n\tWhen set, to anything, more is told about what goes on.\n\n"
          "*OMP\\_WAIT\\_POLICY*\n\tHow compute threads wait for each other; *passive* when it is not set.\n\n", to);
    fputs("# EXIT STATUS\n\n0 done; 64 wrong options or names; 65 the input is damaged or of the wrong kind; 75 interrupted, worth "
          "another try; 1 any other failure, such as a missing file or a full disk.\n", to);
}
