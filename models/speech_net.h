/* The parts that the speech networks are made of (speech.c), for those that hear more (speech_wide.c). Internal to models/. */
#ifndef UF_SPEECH_NET_H
#define UF_SPEECH_NET_H

#include "models.h"

typedef struct uf_speech_design {
    int wide, deep, blocks; /* channels over frequency, and over the bands; recurrent blocks */
    bool causal;
    bool together; /* recordings of one scene hear each other */
} uf_speech_design;
extern const uf_speech_design uf_speech_offline;

typedef struct uf_speech_net {
    const uf_speech_design *d;
    uf_built *b;
    bool streams; /* the past comes in and goes out as states of b */
} uf_speech_net;

/* Loudness more than energy: spectra are compressed by this power, so that quiet and loud parts weigh alike. */
#define UF_SPEECH_POWER .3f

/* All on x (N,channels,frames,places). A convolution, around each frame or of it and those before it; with a norm and, active, a ReLU. */
uf_node *uf_speech_conv(const uf_speech_net *w, uf_node *x, const char *name, uf_conv o);
uf_node *uf_speech_layer(const uf_speech_net *w, uf_node *x, const char *name, int out, int k, bool active);
/* A recurrent block of w->d->deep channels: along time, then across the places. */
uf_node *uf_speech_block(const uf_speech_net *w, uf_node *x, const char *name);
/* A compressed spectrum of bins = fold * places through a complex mask that is read off x by the convolution `name`; not compressed any more.
 * spectrum has one bin more, whose mask is its neighbour's. */
uf_node *uf_speech_masked(const uf_speech_net *w, uf_node *spectrum, uf_node *x, const char *name, int fold);
/* (N,2,frames,257) of a recording -> the same of the voice in it, to b->out, and of the voice in its room, to b->room; activations of the
 * encoder to b->stage. Returns what the recurrent blocks make of it: (N,deep,frames,16). */
uf_node *uf_speech_listen(const uf_speech_net *w, uf_node *spectrum);

#endif
