/* `speech-wide`: `speech` for sound of the whole band, at 48 kHz. Its frames last as long as those of `speech`, so that the lowest 257 of its
 * bins are those that `speech` hears: up to 8 kHz it is `speech`, parameter for parameter. Above, where a voice is breath and hiss that follow
 * what happens below, a smaller part hears a fold of eight bins at a time, and shares two recurrent blocks with what `speech` made of the
 * bands below: from those it knows when there is a voice, and which. */
#include "speech_net.h"

enum { FFT = UF_SPEECH_WIDER * UF_SPEECH_FFT, HOP = UF_SPEECH_WIDER * UF_SPEECH_HOP, LOW = UF_SPEECH_FFT / 2, FOLD = 8, WIDE = 24, BLOCKS = 2 };

/* The mask of the bins from LOW on, for the voice or with its room. */
typedef struct high {
    uf_node *spectrum, *x;
} high;

/* spectrum (N,2,frames,513): the bins from 8 to 24 kHz; heard: what the blocks of `speech` made of those below. */
static high hear(const uf_speech_net *w, uf_node *spectrum, uf_node *heard) {
    high h = {.spectrum = uf_compress(spectrum, UF_SPEECH_POWER)};
    uf_node *bins = h.spectrum ? uf_slice(h.spectrum, 3, 0, h.spectrum->shape.w - 1) : NULL;
    uf_node *skip = uf_speech_layer(w, uf_fold(bins, FOLD), "high.in", WIDE, 3, true);
    uf_node *x = uf_speech_layer(w, uf_fold(skip, 4), "high.down", w->d->deep, 1, true);
    w->b->stage[3] = skip;
    w->b->stage[4] = x;
    uf_node *both[2] = {heard, x};
    int bands = heard ? heard->shape.w : 0, all = x ? bands + x->shape.w : 0;
    x = uf_concat(2, both, 3);
    for (int i = 0; i < BLOCKS; i++) {
        char name[32];
        snprintf(name, sizeof name, "high.block.%d", i);
        x = uf_speech_block(w, x, name);
    }
    x = uf_slice(x, 3, bands, all);
    uf_node *fine[2] = {uf_unfold(uf_speech_layer(w, x, "high.up", 4 * WIDE, 1, true), 4), skip};
    h.x = uf_speech_layer(w, uf_concat(2, fine, 1), "high.out", WIDE, 3, true);
    return h;
}

/* Both parts, one above the other, as a wave of n samples. */
static uf_node *joined(const uf_speech_net *w, const high *h, uf_node *low, const char *name, int n) {
    uf_node *both[2] = {uf_slice(low, 3, 0, LOW), uf_speech_masked(w, h->spectrum, h->x, name, FOLD)};
    uf_node *whole = uf_scale(uf_concat(2, both, 3), UF_SPEECH_WIDER, 0.f);
    return uf_istft(uf_transpose(whole, 0, 1, 3, 2), FFT, HOP, n);
}

static int build(uf_graph *g, uf_shape sound, uf_built *b) {
    uf_speech_net w = {.d = &uf_speech_offline, .b = b};
    bool training = uf_graph_is_training(g);
    if (!b->sound) b->sound = uf_input(g, "sound", sound);
    /* A frame of as many more samples has bins as much larger. */
    uf_node *all = uf_scale(uf_transpose(uf_stft(b->sound, FFT, HOP), 0, 1, 3, 2), 1.f / UF_SPEECH_WIDER, 0.f);
    uf_graph_training(g, false); /* the norms of what is `speech` stay as they are: recipes freeze it */
    uf_node *heard = uf_speech_listen(&w, uf_slice(all, 3, 0, LOW + 1));
    uf_graph_training(g, training);
    high h = hear(&w, uf_slice(all, 3, LOW, FFT / 2 + 1), heard);
    b->out = joined(&w, &h, b->out, "high.head", sound.w);
    if (b->keep_room) b->room = joined(&w, &h, b->room, "high.head.room", sound.w);
    return uf_graph_status(g);
}

const uf_model uf_model_speech_wide = {
    .name = "speech-wide",
    .summary = "the same as speech over the whole band: 48 kHz sound in, the voice out",
    .file = "speech-wide.safetensors",
    .multiple = HOP,
    .rate = UF_SPEECH_WIDER * 16000,
    .rooms = true,
    .build = build,
};
