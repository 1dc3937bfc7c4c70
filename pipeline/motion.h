/* Motion between two pictures, by blocks, and cuts. Internal to the pipeline room. */
#ifndef UF_MOTION_H
#define UF_MOTION_H

#include <stdbool.h>
#include <stddef.h>

enum { UF_BLOCK = 8, UF_REACH = 6 };

typedef struct uf_vector { int x, y; } uf_vector;

/* Where each block of `now` (h rows of `pitch` floats, [0,1]) lies in `past`: full search of +-UF_REACH pixels; staying wins unless moving
 * is clearly better. v: one a block, row by row, ceil(w / UF_BLOCK) x ceil(h / UF_BLOCK). The places lie inside the picture. */
void uf_motion_follow(uf_vector *v, const float *now, const float *past, int w, int h, ptrdiff_t pitch);

enum { UF_CUT_BINS = 32, UF_CUT_GRID = 16 };
typedef struct uf_cuts { /* zero-initialise */
    bool seen;
    float histogram[UF_CUT_BINS], grid[UF_CUT_GRID * UF_CUT_GRID];
} uf_cuts;
/* Does this picture (luma as above) begin a new scene? The first does. */
bool uf_cuts_push(uf_cuts *c, const float *luma, int w, int h, ptrdiff_t pitch);

#endif
