/* Motion between two pictures, by blocks, and cuts. Internal to the pipeline room. */
#ifndef UF_MOTION_H
#define UF_MOTION_H

#include <stdbool.h>
#include <stddef.h>

/* A loop over samples, compiled for several instruction sets and chosen when the program starts; all give the same bits, as C11 fuses no
 * multiplication with an addition. The sanitizers cannot run the chooser, which comes before them. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define UF_CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define UF_CLONES
#endif
#define UF_INLINE static inline __attribute__((always_inline)) /* into each clone */

enum { UF_BLOCK = 8, UF_REACH = 6 };

typedef struct uf_vector { int x, y; } uf_vector;

/* Where each block of `now` (h rows of `pitch` floats, [0,1]) lies in `past`: full search of +-UF_REACH pixels; staying wins unless moving
 * is clearly better. v: one a block, row by row, ceil(w / UF_BLOCK) x ceil(h / UF_BLOCK). The places lie inside the picture. */
void uf_motion_follow(uf_vector *v, const float *now, const float *past, int w, int h, ptrdiff_t pitch);

/* `past` moved to where `now` is, to out (h,pitch): v are the vectors of the pictures halved (w/2,h/2, as above); each is doubled and corrected
 * by a step to either side. w, h: at least two blocks. */
void uf_motion_compensate(const uf_vector *v, const float *now, const float *past, int w, int h, ptrdiff_t pitch, float *out);

/* Sum of |a - b| over w*h samples. */
float uf_motion_difference(const float *a, const float *b, ptrdiff_t pitch, int w, int h);

enum { UF_CUT_BINS = 32, UF_CUT_GRID = 16 };
typedef struct uf_cuts { /* zero-initialise */
    bool seen;
    float histogram[UF_CUT_BINS], grid[UF_CUT_GRID * UF_CUT_GRID];
} uf_cuts;
/* Does this picture (luma as above) begin a new scene? The first does. */
bool uf_cuts_push(uf_cuts *c, const float *luma, int w, int h, ptrdiff_t pitch);

#endif
