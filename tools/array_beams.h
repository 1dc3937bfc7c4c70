/* What the network behind the merge's beam learns from: `unfade array --beams`. */
#ifndef UF_ARRAY_BEAMS_H
#define UF_ARRAY_BEAMS_H

#include "array.h"

typedef struct uf_beams_options {
    uf_array_options scene; /* its seed is the first scene's; n_mics 0: two to four, another number each time */
    const char *dir;        /* made when missing */
    int scenes;
    bool training, overwrite;
    uf_train_progress_fn *progress;
    void *user;
} uf_beams_options;
/* Scenes as an alignment gives them that is some milliseconds wrong, through the beam: files of sounds.h's UF_BEAMS_CHANNELS. */
int uf_array_beams(uf_ctx *ctx, const char *recipe, const uf_beams_options *o);

#endif
