/* Frames through the stages of stages.c, each of which sees some frames before and after the one that it mends. Internal to the
 * pipeline room. */
#ifndef UF_CHAIN_H
#define UF_CHAIN_H

#include "media.h"
#include "stages.h"
#include "table.h"

enum { UF_CHAIN_MOST = 8 }; /* stages */

typedef struct uf_chain_options {
    double strength[UF_CHAIN_MOST]; /* of each of uf_stages[]; 0: that stage is left out */
    const char *masks;              /* folder for masks and the list of what was done, or NULL */
    int64_t number;                 /* of the first frame that comes */
    const uf_table *table;          /* where scenes begin; NULL: where they seem to */
    int64_t done;                   /* frames before this one have been told and drawn by an earlier run */
} uf_chain_options;

typedef struct uf_chain uf_chain;
/* first: a frame like those that come. UF_EUNSUPPORTED: it has no plane of brightness. */
int uf_chain_open(uf_chain **out, uf_ctx *ctx, const AVFrame *first, const uf_chain_options *o);
void uf_chain_close(uf_chain **c);
typedef int uf_chain_emit(void *user, AVFrame *f); /* takes f, even on failure */
/* Takes f, even on failure, and emits what is finished, in order. NULL: the end; everything left is emitted. */
int uf_chain_push(uf_chain *c, AVFrame *f, uf_chain_emit *emit, void *user);
/* Frames that stage i of uf_stages[] has changed. */
int64_t uf_chain_n_changed(const uf_chain *c, int i);

/* An 8-bit grey PNG file; png.c. UF_EIO. */
int uf_png_write(uf_ctx *ctx, const char *path, const uint8_t *grey, int w, int h);

#endif
