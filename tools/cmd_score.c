#include "app.h"

#include <math.h>

typedef struct args {
    uf_app *app;
    const char *reference;
    const char *tests[256];
    int n;
} args;

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a->app; return 0;
    case ARGP_KEY_ARG:
        if (!state->arg_num) a->reference = arg;
        else if (a->n < UF_LEN(a->tests)) a->tests[a->n++] = arg;
        else argp_error(state, "at most 256 recordings at once");
        return 0;
    case ARGP_KEY_END:
        if (!a->n) argp_error(state, "give the clean voice, and recordings to compare with it");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&uf_common_argp, 0, 0, 90}, {0}};
static const struct argp argp = {
    .parser = parse,
    .args_doc = "REFERENCE TEST...",
    .doc = "Measure how close recordings are to the clean voice in REFERENCE.\v"
           "They must begin at the same sample: nothing is aligned, but a recording that comes late or early is warned of. SI-SDR: voice over all else, in dB, whatever the loudness. STOI and ESTOI: how well it is "
           "understood, 0 to 1. LSD: distance between the spectra in dB, loudness below 4 kHz made equal, less is better. Segmental SNR: mean over 32 ms with voice, in dB.\n\n"
           "Example:\n  unfade score voice.wav noisy.wav cleaned.wav",
    .children = children,
};

static int run(uf_app *app, int argc, char **argv) {
    args a = {.app = app};
    uf_score_reference *r = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    UF_TRY(uf_score_open(&r, app->ctx, a.reference));
    if (!app->json) printf("%10s %8s %8s %8s %10s\n", "SI-SDR dB", "STOI", "ESTOI", "LSD dB", "segSNR dB");
    int err = UF_OK;
    for (int i = 0; i < a.n && err == UF_OK; i++) {
        uf_sound_score s;
        if ((err = uf_score_sound(r, a.tests[i], &s)) < 0) break;
        if (fabs(s.longer) > .05)
            uf_log(app->ctx, UF_LOG_WARN, "'%s' is %.2f s %s than the reference: only what both have is compared", a.tests[i], fabs(s.longer),
                   s.longer > 0 ? "longer" : "shorter");
        if (s.late != 0)
            uf_log(app->ctx, UF_LOG_WARN, "'%s' comes %.2f ms %s than the reference, which spoils all scores: cut one of them", a.tests[i],
                   1000 * fabs(s.late), s.late > 0 ? "later" : "earlier");
        if (!app->json) printf("%10.2f %8.4f %8.4f %8.2f %10.2f  %s\n", s.si_sdr, s.stoi, s.estoi, s.lsd, s.segmental_snr, a.tests[i]);
        uf_report_event(app, "score", json_pack("{s:s,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "file", a.tests[i], "seconds", s.seconds, "late", s.late, "si_sdr", s.si_sdr, "stoi",
                                                s.stoi, "estoi", s.estoi, "lsd", s.lsd, "segmental_snr", s.segmental_snr));
    }
    uf_score_close(&r);
    return err;
}

const uf_command uf_command_score = {.name = "score", .summary = "measure how close recordings are to a clean voice", .argp = &argp, .run = run};
