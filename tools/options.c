/* Options that all commands share, and the manual pages, out of the same tables that parse and help. */
#include "app.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_JSON = 0x1000, KEY_THREADS };

static const struct argp_option common[] = {
    {"json", KEY_JSON, 0, 0, "Write one JSON object a line to standard output", 90},
    {"quiet", 'q', 0, 0, "Say nothing but errors", 90},
    {"threads", KEY_THREADS, "N", 0, "Compute threads (default: one a core)", 90},
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
    fputs("# EXIT STATUS\n\n0 done; 64 wrong usage; 65 damaged or unsuitable input; 75 interrupted, worth another try; 1 any other failure.\n", to);
}
