/* The scenes of a film as a person has them: the lines of `unfade scenes`, corrected. Internal to the pipeline room. */
#ifndef UF_TABLE_H
#define UF_TABLE_H

#include "base.h"

typedef struct uf_table_scene {
    int64_t frame;   /* its first, from 0 */
    double strength; /* of its colours, beside the film's own: 0 (grey) .. 2; 1 when the line says nothing */
    char *tune;      /* what `unfade tune` has learnt of it, or NULL */
} uf_table_scene;

typedef struct uf_table uf_table;
/* A line a scene, in which the words "frame N" tell where it begins, "strength X" and, at the end, "tune FILE" what it wants; other words are
 * passed over, as are empty lines and what begins with #. UF_EIO; UF_EDATA names the line. */
int uf_table_open(uf_table **out, uf_ctx *ctx, const char *path);
void uf_table_close(uf_table **t);
const uf_table_scene *uf_table_at(const uf_table *t, int64_t frame); /* the scene that this frame is of */
bool uf_table_begins(const uf_table *t, int64_t frame);

#endif
