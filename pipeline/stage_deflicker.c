/* Flicker: brightness and contrast that jump from frame to frame are brought to a smooth course. Content that comes and goes moves
 * them slowly, and a flash or a lamp more than flicker does: neither is touched. Roosmalen, Restoration of Archived Film and Video, 1999,
 * chapter 3, with one gain and offset for the frame. */
#include "stages.h"

#include <math.h>

static const float SMALLEST = .003f; /* change of the mean, of full scale, that nobody sees */
static const float SMALLEST_GAIN = .01f;
static const float LARGEST = .12f;   /* more than this is content */
static const float LARGEST_GAIN = .35f;

static int look(uf_ctx *ctx, const uf_stage_size *size, const float *last, const float *luma, float note[UF_STAGE_NOTES]) {
    double sum = 0, squares = 0, n = (double)size->w * size->h;
    (void)ctx, (void)last;
    for (int y = 0; y < size->h; y++) {
        float a = 0, b = 0;
        for (int x = 0; x < size->w; x++) {
            float v = luma[y * size->pitch + x];
            a += v;
            b += v * v;
        }
        sum += (double)a;
        squares += (double)b;
    }
    note[0] = (float)(sum / n);
    note[1] = (float)sqrt(fmax(squares / n - sum / n * (sum / n), 0));
    return UF_OK;
}

static int mend(uf_ctx *ctx, uf_stage_work *k) {
    float mean[UF_STAGE_WINDOW] = { 0 }, spread[UF_STAGE_WINDOW] = { 0 };
    bool there[UF_STAGE_WINDOW] = { false };
    int n = 0;
    (void)ctx;
    for (int i = 0; i < UF_STAGE_WINDOW; i++) {
        if (!(there[i] = k->notes[i] != NULL)) continue;
        mean[i] = k->notes[i][0];
        spread[i] = k->notes[i][1];
        n++;
    }
    float m = mean[UF_STAGE_REACH], s = spread[UF_STAGE_REACH];
    if (n < 5 || s < .01f) return 0; /* too little to tell a course from a jump */
    if (uf_stage_jumps(mean, there) < .5f * SMALLEST && uf_stage_jumps(spread, there) < .5f * SMALLEST_GAIN * s) return 0;
    float shift = uf_stage_smooth(mean, there, UF_STAGE_REACH) - m, gain = uf_stage_smooth(spread, there, UF_STAGE_REACH) / s - 1;
    if (fabsf(shift) < SMALLEST && fabsf(gain) < SMALLEST_GAIN) return 0;
    if (fabsf(shift) > LARGEST || fabsf(gain) > LARGEST_GAIN) return 0;
    shift *= k->strength;
    gain *= k->strength;
    for (int y = 0; y < k->size.h; y++) {
        float *row = k->out + y * k->size.pitch;
        for (int x = 0; x < k->size.w; x++) row[x] = fminf(fmaxf((row[x] - m) * (1 + gain) + m + shift, 0.f), 1.f);
    }
    snprintf(k->said, sizeof(k->said), "brightness %+.2f %%, contrast %+.1f %%", 100 * (double)shift, 100 * (double)gain);
    return 1;
}

const uf_stage uf_stage_deflicker = { .name = "deflicker", .about = "evens brightness that jumps from frame to frame",
                                      .reach = UF_STAGE_REACH, .look = look, .mend = mend };
