/* Stages that mend an old film's luma before it is coloured: damage, flicker, weave. Internal to the pipeline room. No media types in
 * a stage: it sees planes of floats. */
#ifndef UF_STAGES_H
#define UF_STAGES_H

#include "base.h"

enum { UF_STAGE_NOTES = 4, UF_STAGE_REACH = 12, UF_STAGE_WINDOW = 2 * UF_STAGE_REACH + 1 };

typedef struct uf_stage_size {
    int w, h;        /* pixels */
    ptrdiff_t pitch; /* floats from row to row, a multiple of 16 */
} uf_stage_size;

/* One frame, with those around it of the same scene. */
typedef struct uf_stage_work {
    uf_stage_size size;
    float strength;                          /* >0 .. 1 */
    const float *luma[UF_STAGE_WINDOW];      /* (h,pitch) in [0,1]; [reach] is this frame; NULL beyond the scene. Only for a stage with
                                                `planes` */
    const float *notes[UF_STAGE_WINDOW];     /* what look() left of each, NULL beyond the scene */
    float *out;                              /* this frame's luma, to be changed in place */
    uint8_t *mask;                           /* (h,w): 255 where out was changed; zero at first. A stage that changes all leaves it */
    float *room;                             /* memory for the stage's own use, of any content: `room` planes (h,pitch), one after the other */
    char said[96];                           /* what was done, for the list */
} uf_stage_work;

typedef struct uf_stage {
    const char *name, *about;
    int reach;   /* frames that it wants to see on either side, up to UF_STAGE_REACH */
    bool planes; /* it wants their luma, not only their notes */
    int room;    /* planes of memory that mend() works with */
    /* Measures a frame as it comes; last: the luma before it, NULL at the start of a scene. NULL: nothing to measure. */
    int (*look)(uf_ctx *ctx, const uf_stage_size *size, const float *last, const float *luma, float note[UF_STAGE_NOTES]);
    /* 1: changed; 0: nothing found, and not one sample changed; below 0: a code after uf_fail. */
    int (*mend)(uf_ctx *ctx, uf_stage_work *work);
} uf_stage;

extern const uf_stage *const uf_stages[]; /* NULL-ended, in the order in which frames go through them */

/* The value at the middle of a line through the values of a window of 2 reach + 1 frames, weighed by nearness: what is left when it is taken
 * off is what changes from frame to frame. Locally weighted regression (Cleveland, JASA 74, 1979), without robustness. */
float uf_stage_smooth(const float *values, const bool *there, int reach);

/* How much the values of a window of UF_STAGE_WINDOW jump from frame to frame, root mean square: the second difference of independent jumps
 * is sqrt(6) of them, and that of what pans, fades or is carried is next to nothing. */
float uf_stage_jumps(const float *values, const bool *there);

/* The middle of n > 0 values, which are put in order. */
float uf_stage_median(float *v, int n);

#endif
