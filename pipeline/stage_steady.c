/* Gate weave: a picture that sways by a few pixels is put where the smooth course of its places would have it. Pans go on, as they are
 * smooth. */
#include "gate.h"

#include <math.h>

static const float SMALLEST = .15f;  /* pixels of sway that is left alone */
static const float LARGEST = 12;     /* pixels: more is a shaken camera, not a gate */

static int look(uf_ctx *ctx, const uf_stage_size *size, const float *last, const float *luma, float note[UF_STAGE_NOTES]) {
    bool told = false;
    if (last) UF_TRY(uf_gate_motion(ctx, size, luma, last, &note[0], &note[1], &told));
    note[2] = told;
    return UF_OK;
}

/* Places of the frames around this one, which is at 0; where no motion could be told, the course ends. */
static int places(const uf_stage_work *k, int axis, float *at, bool *there) {
    const int c = UF_STAGE_REACH;
    int n = 1;
    at[c] = 0;
    there[c] = true;
    for (int i = c + 1; i < UF_STAGE_WINDOW && k->notes[i] && k->notes[i][2] > 0; i++, n++) {
        at[i] = at[i - 1] + k->notes[i][axis];
        there[i] = true;
    }
    for (int i = c - 1; i >= 0 && k->notes[i] && k->notes[i + 1][2] > 0; i--, n++) {
        at[i] = at[i + 1] - k->notes[i + 1][axis];
        there[i] = true;
    }
    return n;
}

static int mend(uf_ctx *ctx, uf_stage_work *k) {
    float x[UF_STAGE_WINDOW] = { 0 }, y[UF_STAGE_WINDOW] = { 0 };
    bool there[UF_STAGE_WINDOW] = { false };
    if (places(k, 0, x, there) < 5) return 0;
    places(k, 1, y, there);
    if (uf_stage_jumps(x, there) < SMALLEST && uf_stage_jumps(y, there) < SMALLEST) return 0;
    float dx = k->strength * uf_stage_smooth(x, there, UF_STAGE_REACH), dy = k->strength * uf_stage_smooth(y, there, UF_STAGE_REACH);
    if (fabsf(dx) > LARGEST || fabsf(dy) > LARGEST || fmaxf(fabsf(dx), fabsf(dy)) < .05f) return 0;
    UF_TRY(uf_gate_shift(ctx, &k->size, k->out, dx, dy));
    snprintf(k->said, sizeof(k->said), "moved by %+.2f, %+.2f pixels", (double)dx, (double)dy);
    return 1;
}

const uf_stage uf_stage_steady = { .name = "steady", .about = "takes out the sway of a worn gate", .reach = UF_STAGE_REACH,
                                   .look = look, .mend = mend };
