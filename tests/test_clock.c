/* Clocks out of windows, as long recordings have them: thousands, of which some err, behind losses, with clocks that wander. */
#include "merge.h"
#include "pipeline.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ctx.h"

/* ---- the fit --------------------------------------------------------------------------------------------------------------------- */

enum { WINDOWS = 4000 };
static const double every = .85; /* s: an hour of them */
static const uf_jump lost[] = {{.at = 486.8, .by = -.0379}, {.at = 1338.3, .by = -.0288}};

static double wandering(double t) {
    double lag = 45.25 + 30e-6 * 800 / (2 * M_PI) * (1 - cos(2 * M_PI * t / 800)) + 40e-6 * t;
    for (int i = 0; i < UF_LEN(lost); i++) lag += t > lost[i].at ? lost[i].by : 0;
    return lag;
}

/* A clock that swings by 30 ppm and has lost something twice: no line fits, and what the attempt makes of the losses must be forgotten. */
static void test_losses_of_a_wandering_clock(void **state) {
    (void)state;
    uf_ctx *ctx = open_ctx();
    uf_lag *lag = calloc(WINDOWS, sizeof *lag);
    uf_fit f;
    assert_non_null(lag);
    for (int k = 0; k < WINDOWS; k++) {
        double at = 46 + every * k, off = 40e-6 * (double)uf_gaussian(5, 1, (uint64_t)k);
        if (uf_uniform(5, 2, (uint64_t)k) < .1f) off = .06 * (double)uf_gaussian(5, 3, (uint64_t)k); /* what errs */
        lag[k] = (uf_lag){.at = at, .lag = wandering(at) + off, .q = 8, .level = -1};
    }
    assert_int_equal(uf_clock_fit(ctx, lag, WINDOWS, lost, UF_LEN(lost), UF_FIT_LEVELS, &f), UF_OK);
    assert_int_equal(f.n_steps, UF_LEN(lost));
    for (int i = 0; i < f.n_steps; i++)
        if (fabs(f.step[i].by - lost[i].by) > 1e-4) fail_msg("at %.1f s %.2f ms were lost, not %.2f", lost[i].at, -1e3 * f.step[i].by, -1e3 * lost[i].by);
    for (double t = 100; t < 3400; t += 50) {
        double late = uf_fit_lag(&f, t, true) - wandering(t);
        if (fabs(late) > 60e-6) fail_msg("at %.0f s it is off by %.0f us", t, 1e6 * late);
    }
    free(f.at);
    free(lag);
    uf_ctx_close(&ctx);
}

/* ---- steps ----------------------------------------------------------------------------------------------------------------------- */

/* Two talkers take turns all the time, whose places lie 3.5 ms apart; and once something is lost. There are more turns than there is room for steps. */
static void test_a_loss_among_many_turns(void **state) {
    (void)state;
    enum { N = 1000, AT = 900, APART = 28, BY = 100 };
    uf_ctx *ctx = open_ctx();
    uf_stretch *w = calloc(N, sizeof *w);
    uf_lag *lag = calloc(N, sizeof *lag);
    uf_jump jump[UF_FIT_STEPS];
    int n_lags = 0, n_jumps = 0;
    assert_non_null(w);
    assert_non_null(lag);
    for (int k = 0; k < N; k++) {
        int where = UF_STRETCH_SIDE + (k % 20 > 14 ? APART : 0) + (k >= AT ? BY : 0);
        w[k].at = k;
        w[k].seconds = 1;
        w[k].n = 1;
        for (int l = 0; l < UF_STRETCH_LAGS; l++) w[k].all[l] = .01f * uf_gaussian(9, (uint64_t)k, (uint64_t)l);
        w[k].all[where] += .3f;
    }
    assert_int_equal(uf_steps_find(ctx, w, N, lag, &n_lags, jump, &n_jumps), UF_OK);
    double most = 0, at = 0;
    for (int i = 0; i < n_jumps; i++)
        if (fabs(jump[i].by) > most) most = fabs(jump[i].by), at = jump[i].at;
    if (!(fabs(at - AT) < 2 && fabs(most - (double)BY / UF_MERGE_RATE) < 1.1 * APART / UF_MERGE_RATE)) fail_msg("the largest of %d steps is %.1f ms at %.0f s", n_jumps, 1e3 * most, at);
    assert_true(n_jumps <= UF_FIT_STEPS);
    for (int i = 1; i < n_jumps; i++) assert_true(jump[i].at > jump[i - 1].at);
    free(w);
    free(lag);
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses_of_a_wandering_clock),
        cmocka_unit_test(test_a_loss_among_many_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
