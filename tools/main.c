/* unfade COMMAND ...: finds the command, catches signals, turns codes into exit codes. */
#include "app.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The one thing a signal handler can reach. */
static uf_ctx *volatile signalled;

static void on_signal(int number) {
    if (uf_ctx_cancelled(signalled)) { /* asked twice: at once, as if there were no handler */
        signal(number, SIG_DFL);
        raise(number);
    }
    uf_ctx_cancel(signalled);
}

static void catch_signals(void) {
    struct sigaction a = {.sa_handler = on_signal};
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of writing, with a sentence */
}

static void list(FILE *to) {
    fprintf(to, "Usage: unfade COMMAND [OPTION...] ...\n"
                "Restores films, photographs and speech with neural networks, and trains those networks.\n\nCommands:\n");
    for (int i = 0; uf_commands[i]; i++) fprintf(to, "  %-10s %s\n", uf_commands[i]->name, uf_commands[i]->summary);
    fprintf(to, "\n'unfade COMMAND --help' tells more. A first try: unfade colorize old.mp4 new.mp4\n");
}

static int distance(const char *a, const char *b) {
    int row[64];
    size_t n = strlen(b);
    if (n > 62) return 99;
    for (size_t j = 0; j <= n; j++) row[j] = (int)j;
    for (size_t i = 1; a[i - 1]; i++) {
        int before = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= n; j++) {
            int keep = before + (a[i - 1] != b[j - 1]);
            before = row[j];
            int edit = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = keep < edit ? keep : edit;
        }
    }
    return row[n];
}

static int unknown(const char *name) {
    const char *near = NULL;
    int best = 4;
    for (int i = 0; uf_commands[i]; i++)
        if (distance(name, uf_commands[i]->name) < best) {
            best = distance(name, uf_commands[i]->name);
            near = uf_commands[i]->name;
        }
    if (near) fprintf(stderr, "unfade: there is no command '%s'; did you mean '%s'?\n", name, near);
    else fprintf(stderr, "unfade: there is no command '%s'; 'unfade --help' lists them\n", name);
    return UF_EXIT_USAGE;
}

static const uf_command *find(const char *name) {
    for (int i = 0; name && uf_commands[i]; i++)
        if (!strcmp(uf_commands[i]->name, name)) return uf_commands[i];
    return NULL;
}

/* For the shell's completion and the manual's build; not in the help. */
static int hidden(int argc, char **argv) {
    const uf_command *c = argc > 2 ? find(argv[2]) : NULL;
    if (!strcmp(argv[1], "--list-commands"))
        for (int i = 0; uf_commands[i]; i++) puts(uf_commands[i]->name);
    else if (c && !strcmp(argv[1], "--list-options"))
        for (const struct argp *a[] = {c->argp, &uf_common_argp, NULL}, **p = a; *p; p++)
            for (const struct argp_option *o = (*p)->options; o && o->name; o++) printf("--%s\n", o->name);
    else if (c && !strcmp(argv[1], "--man"))
        uf_man_print(c, stdout);
    else
        return unknown(argc > 2 ? argv[2] : argv[1]);
    return UF_EXIT_OK;
}

static int exit_code(int err) {
    switch (err) {
    case UF_OK: return UF_EXIT_OK;
    case UF_EDATA: return UF_EXIT_DATA;
    case UF_EINVAL: return UF_EXIT_USAGE;
    case UF_EINTR: return UF_EXIT_AGAIN;
    default: return UF_EXIT_FAILED;
    }
}

static const char *code_name(int err) {
    static const char *const names[] = {"ok", "eof", "invalid", "memory", "io", "data", "unsupported", "exists", "interrupted"};
    return err <= 0 && -err < (int)(sizeof names / sizeof *names) ? names[-err] : "unknown";
}

static int run(const uf_command *c, int argc, char **argv) {
    uf_app app = {.terminal = isatty(STDERR_FILENO), .width = 80};
    struct winsize w;
    if (!ioctl(STDERR_FILENO, TIOCGWINSZ, &w) && w.ws_col > 20) app.width = w.ws_col;
    if (uf_ctx_open(&app.ctx) < 0) {
        fprintf(stderr, "unfade: out of memory\n");
        return UF_EXIT_FAILED;
    }
    uf_ctx_set_log(app.ctx, getenv("UNFADE_DEBUG") ? UF_LOG_DEBUG : UF_LOG_INFO, uf_report_log, &app);
    signalled = app.ctx;
    catch_signals();
    char *name = uf_format(app.ctx, "unfade %s", c->name);
    if (name) argv[0] = name;
    int err = name ? c->run(&app, argc, argv) : UF_ENOMEM;
    uf_report_end(&app);
    if (err < 0) {
        const char *why = *uf_ctx_error(app.ctx) ? uf_ctx_error(app.ctx) : "failed";
        if (!app.json || !app.stdout_busy) fprintf(stderr, "unfade: %s\n", why); /* else the event below goes there */
        uf_report_event(&app, "error", json_pack("{s:s,s:s}", "code", code_name(err), "message", why));
    }
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    free(name);
    uf_ctx_close(&app.ctx);
    if (err == UF_OK && !app.stdout_busy && fflush(stdout)) {
        fprintf(stderr, "unfade: cannot write to standard output\n");
        return UF_EXIT_FAILED;
    }
    return exit_code(err);
}

/* Compute threads that wait by spinning keep decoding, encoding and other programs from the cores: on a busy machine that
 * made everything many times slower. Threads that sleep at once cost a tenth on an idle one, so they may spin some
 * microseconds first (GNU OpenMP counts turns). OpenMP reads its wishes before main(), so the program starts itself once
 * more with them. */
static void sleep_while_waiting(char **argv) {
    if (getenv("OMP_WAIT_POLICY") || setenv("OMP_WAIT_POLICY", "passive", 1)) return;
    setenv("GOMP_SPINCOUNT", "1000", 0);
    execv("/proc/self/exe", argv); /* returns only where there is no /proc: then as it was */
}

int main(int argc, char **argv) {
    setenv("SVT_LOG", "1", 0); /* SVT-AV1 talks to the terminal past everybody: errors only */
    sleep_while_waiting(argv);
    if (argc < 2) {
        list(stderr);
        return UF_EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || (!strcmp(argv[1], "help") && argc < 3)) {
        list(stdout);
        return UF_EXIT_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        puts("unfade " UF_VERSION);
        return UF_EXIT_OK;
    }
    if (!strncmp(argv[1], "--", 2)) return hidden(argc, argv);
    bool help = !strcmp(argv[1], "help");
    const uf_command *c = find(argv[help ? 2 : 1]);
    if (!c) return unknown(argv[help ? 2 : 1]);
    char *ask[] = {argv[0], (char *)(uintptr_t) "--help", NULL};
    return help ? run(c, 2, ask) : run(c, argc - 1, argv + 1);
}
