/* `speech` and `speech-live`: a noisy recording in, the voice alone out, at 16 kHz. A complex mask on the compressed spectrum, 512/256 (the
 * shape of FastEnhancer: dense convolutions that fold frequency by four, recurrent blocks over 16 bands); the blocks are dual-path,
 * recurrent in time and then across the bands (Le et al., DPCRN, arXiv:2107.05429). `speech` hears both ways in time; `speech-live` hears
 * nothing that comes later: its convolutions and its units in time look back alone, so that it can go on from frame to frame. */
#include "speech_net.h"

#include <string.h>

enum { FFT = UF_SPEECH_FFT, HOP = UF_SPEECH_HOP };

/* A new state of this shape: what it was before. */
static uf_node *state(const uf_speech_net *w, uf_graph *g, uf_shape s) {
    char name[32];
    if (w->b->n_states == UF_MAX_STATES) {
        uf_graph_fail(g, UF_EINVAL, "a network of more than %d states; raise UF_MAX_STATES", UF_MAX_STATES);
        return NULL;
    }
    snprintf(name, sizeof name, "state.%d", w->b->n_states);
    return w->b->state[w->b->n_states++].before = uf_input(g, name, s);
}

/* The last `n` frames of x are the newest state's next value. */
static void keep(const uf_speech_net *w, uf_node *x, int n) {
    if (x) w->b->state[w->b->n_states - 1].after = uf_output(uf_slice(x, 2, x->shape.h - n, x->shape.h));
}

uf_node *uf_speech_conv(const uf_speech_net *w, uf_node *x, const char *name, uf_conv o) {
    if (x && w->d->causal && o.k > 1) o.rows = w->streams ? UF_ROWS_NONE : UF_ROWS_PAST;
    if (x && o.rows == UF_ROWS_NONE) {
        uf_node *both[2] = {state(w, x->graph, (uf_shape){x->shape.n, x->shape.c, o.k - 1, x->shape.w}), x};
        x = uf_concat(2, both, 2);
        keep(w, x, o.k - 1);
    }
    return uf_conv2d(x, name, o);
}

uf_node *uf_speech_layer(const uf_speech_net *w, uf_node *x, const char *name, int out, int k, bool active) {
    char norm[80];
    snprintf(norm, sizeof norm, "%s.bn", name);
    x = uf_batch_norm(uf_speech_conv(w, x, name, (uf_conv){.out = out, .k = k, .no_bias = true}), norm);
    return active ? uf_unary(x, "relu") : x;
}

static uf_node *residual(const uf_speech_net *w, uf_node *x, const char *name) {
    char a[48], b[48];
    snprintf(a, sizeof a, "%s.0", name);
    snprintf(b, sizeof b, "%s.1", name);
    uf_node *y = uf_speech_layer(w, uf_speech_layer(w, x, a, w->d->wide, 3, true), b, w->d->wide, 3, false);
    return uf_unary(uf_binary(y, "add", x), "relu");
}

/* x + norm(mix([forward, backward])), along axis 2 (time) or 3 (bands); x + norm(mix(forward)) along a time that only goes on. */
static uf_node *path(const uf_speech_net *w, uf_node *x, const char *name, int axis) {
    char there[48], back[48], mix[48];
    snprintf(there, sizeof there, "%s.forward", name);
    snprintf(back, sizeof back, "%s.backward", name);
    snprintf(mix, sizeof mix, "%s.mix", name);
    int deep = w->d->deep;
    if (axis == 3 || !w->d->causal) {
        uf_node *both[2] = {uf_gru(x, there, deep / 2, axis, false), uf_gru(x, back, deep / 2, axis, true)};
        return uf_binary(uf_speech_layer(w, uf_concat(2, both, 1), mix, deep, 1, false), "add", x);
    }
    uf_node *before = x && w->streams ? state(w, x->graph, (uf_shape){x->shape.n, deep, 1, x->shape.w}) : NULL;
    uf_node *y = uf_gru_from(x, before, there, deep, axis, false);
    if (w->streams) keep(w, y, 1);
    return uf_binary(uf_speech_layer(w, y, mix, deep, 1, false), "add", x);
}

uf_node *uf_speech_block(const uf_speech_net *w, uf_node *x, const char *name) {
    char time[48], bands[48];
    snprintf(time, sizeof time, "%s.time", name);
    snprintf(bands, sizeof bands, "%s.bands", name);
    return path(w, path(w, x, time, 2), bands, 3);
}

/* x + norm(mix([t, mean of the microphones' t])), t a transform of x: what one microphone cannot tell, others may (transform, average, concatenate: Luo et
 * al., arXiv:1910.14104). */
static uf_node *pool(const uf_speech_net *w, uf_node *x, const char *name) {
    char in[48], mix[48];
    if (!x || !w->d->together) return x;
    snprintf(in, sizeof in, "pool.%s.in", name);
    snprintf(mix, sizeof mix, "pool.%s.mix", name);
    uf_node *own = uf_speech_layer(w, x, in, x->shape.c, 1, true), *both[2] = {own, own ? uf_group_mean(own, w->b->mics ? w->b->mics : x->shape.n) : NULL};
    return uf_binary(uf_speech_layer(w, uf_concat(2, both, 1), mix, x->shape.c, 1, false), "add", x);
}

uf_node *uf_speech_masked(const uf_speech_net *w, uf_node *spectrum, uf_node *x, const char *name, int fold) {
    uf_node *mask = uf_unfold(uf_speech_conv(w, x, name, (uf_conv){.out = 2 * fold, .k = 3, .init = UF_INIT_XAVIER}), fold);
    uf_node *whole[2] = {mask, mask ? uf_slice(mask, 3, mask->shape.w - 1, mask->shape.w) : NULL};
    return uf_compress(uf_rotate(spectrum, uf_concat(2, whole, 3)), 1.f / UF_SPEECH_POWER);
}

uf_node *uf_speech_listen(const uf_speech_net *w, uf_node *spectrum) {
    spectrum = uf_compress(spectrum, UF_SPEECH_POWER);
    uf_node *x = uf_fold(uf_slice(spectrum, 3, 0, FFT / 2), 4), **stage = w->b->stage;
    stage[0] = uf_speech_layer(w, x, "enc.in", w->d->wide, 3, true);
    uf_node *skip = stage[1] = residual(w, stage[0], "enc.res");
    x = stage[2] = uf_speech_layer(w, uf_fold(skip, 4), "enc.down", w->d->deep, 1, true);
    for (int i = 0; i < w->d->blocks; i++) {
        char name[32];
        snprintf(name, sizeof name, "block.%d", i);
        x = uf_speech_block(w, pool(w, x, name), name);
    }
    uf_node *heard = x, *both[2] = {uf_unfold(uf_speech_layer(w, x, "dec.up", 4 * w->d->wide, 1, true), 4), skip};
    x = residual(w, pool(w, uf_speech_layer(w, uf_concat(2, both, 1), "dec.in", w->d->wide, 3, true), "dec"), "dec.res");
    w->b->out = uf_speech_masked(w, spectrum, x, "head", 4);
    if (w->b->keep_room) w->b->room = uf_speech_masked(w, spectrum, x, "head.room", 4);
    return heard;
}

static uf_node *wave_of(uf_node *spectrum, int n) { return uf_istft(uf_transpose(spectrum, 0, 1, 3, 2), FFT, HOP, n); }

static int build(uf_graph *g, uf_shape sound, uf_built *b, const uf_speech_design *d) {
    if (!b->sound) b->sound = uf_input(g, "sound", sound);
    uf_speech_listen(&(uf_speech_net){.d = d, .b = b}, uf_transpose(uf_stft(b->sound, FFT, HOP), 0, 1, 3, 2));
    b->out = wave_of(b->out, sound.w);
    if (b->keep_room) b->room = wave_of(b->room, sound.w);
    return uf_graph_status(g);
}

const uf_speech_design uf_speech_offline = {.wide = 48, .deep = 64, .blocks = 5};
static const uf_speech_design array = {.wide = 48, .deep = 64, .blocks = 5, .together = true};
static const uf_speech_design live = {.wide = 32, .deep = 64, .blocks = 3, .causal = true};

static int build_offline(uf_graph *g, uf_shape sound, uf_built *b) { return build(g, sound, b, &uf_speech_offline); }
static int build_array(uf_graph *g, uf_shape sound, uf_built *b) { return build(g, sound, b, &array); }
static int build_live(uf_graph *g, uf_shape sound, uf_built *b) { return build(g, sound, b, &live); }

static int stream_live(uf_graph *g, int n, int frames, uf_built *b) {
    if (!b->spectrum) b->spectrum = uf_input(g, "spectrum", (uf_shape){n, 2, frames, FFT / 2 + 1});
    uf_speech_listen(&(uf_speech_net){.d = &live, .b = b, .streams = true}, b->spectrum);
    return uf_graph_status(g);
}

/* Does the file hold this tensor? */
static bool holds(const uf_weights *w, const char *name) {
    for (int i = 0; i < uf_weights_n(w); i++)
        if (!strcmp(uf_weights_tensor(w, i, NULL, NULL), name)) return true;
    return false;
}

static bool hears_high(const uf_weights *w) { return holds(w, "high.in.w"); }

bool uf_speech_has_room(const uf_weights *w) { return holds(w, "head.room.w"); }

int uf_speech_knows_room(uf_ctx *ctx, const char *path, bool *there) {
    uf_weights *w = NULL;
    UF_TRY(uf_weights_open(&w, ctx, path));
    *there = uf_speech_has_room(w);
    uf_weights_close(&w);
    return UF_OK;
}

int uf_speech_kind(uf_ctx *ctx, const char *path, const uf_model **m) {
    uf_weights *w = NULL;
    UF_TRY(uf_weights_open(&w, ctx, path));
    *m = hears_high(w) ? &uf_model_speech_wide : holds(w, "pool.dec.mix.w") ? &uf_model_speech_array : &uf_model_speech;
    uf_weights_close(&w);
    return UF_OK;
}

int uf_speech_need_room(uf_ctx *ctx, const char *path) {
    bool there;
    UF_TRY(uf_speech_knows_room(ctx, path, &there));
    return there ? UF_OK : uf_fail(ctx, UF_EDATA, "the weights '%s' were not trained to keep the room; clean without it, or pass others with --weights", path);
}

void uf_speech_start_room(uf_params *speech) {
    static const char *const heads[] = {"head", "high.head"}, *const kinds[] = {"w", "b"};
    for (int i = 0; i < UF_LEN(heads) * UF_LEN(kinds); i++) {
        char from[32], to[32];
        snprintf(from, sizeof from, "%s.%s", heads[i / 2], kinds[i % 2]);
        snprintf(to, sizeof to, "%s.room.%s", heads[i / 2], kinds[i % 2]);
        const uf_param *voice = uf_params_find(speech, from);
        uf_param *room = uf_params_find(speech, to);
        if (voice && room) memcpy(room->value, voice->value, uf_count(room->shape) * sizeof *room->value);
    }
}

/* Is the parameter in a block, or in what microphones share, that the file has not? Such a part begins as if it were not there: what it adds is scaled
 * by 0. */
static bool starts_part(const uf_weights *w, uf_param *p) {
    static const char *const silent = ".mix.bn.gamma";
    int block = 0;
    char known[48] = "pool.dec.mix.w";
    if (sscanf(p->name, "block.%d.", &block) == 1) snprintf(known, sizeof known, "block.%d.time.mix.w", block);
    else if (strncmp(p->name, "pool.", 5)) return false;
    if (holds(w, known)) return false;
    size_t n = strlen(p->name), tail = strlen(silent);
    if (n > tail && !strcmp(p->name + n - tail, silent)) memset(p->value, 0, uf_count(p->shape) * sizeof *p->value);
    return true;
}

/* Is the parameter one of those that hear above 8 kHz? They begin anew. */
static bool starts_high(uf_param *p) {
    if (strncmp(p->name, "high.", 5)) return false;
    bool lets_through = !strcmp(p->name, "high.head.b") || !strcmp(p->name, "high.head.room.b");
    for (size_t i = 0; lets_through && i < uf_count(p->shape); i += 2) p->value[i] = .8f; /* masks near 0 would hardly learn */
    return true;
}

int uf_speech_init(uf_ctx *ctx, const uf_weights *w, uf_params *speech) {
    int loaded = 0, started = 0, high = 0, n = uf_params_n(speech);
    bool start_room = uf_params_find(speech, "head.room.w") && !uf_speech_has_room(w), start_high = !hears_high(w);
    UF_TRY(uf_weights_load(w, speech, false, &loaded));
    for (int i = 0; i < n; i++) {
        started += starts_part(w, uf_params_at(speech, i));
        if (start_high) high += starts_high(uf_params_at(speech, i));
    }
    if (loaded + started + high + 2 * start_room != n) return uf_weights_load(w, speech, true, NULL); /* which says what is missing */
    if (started) uf_log(ctx, UF_LOG_INFO, "the first weights lack some parts of the network: those that are new begin as if they were not there");
    if (high) uf_log(ctx, UF_LOG_INFO, "the first weights hear nothing above 8 kHz: that part begins anew");
    if (!start_room) return UF_OK;
    uf_speech_start_room(speech);
    uf_log(ctx, UF_LOG_INFO, "the first weights know the voice without its room: the output that keeps the room begins as that");
    return UF_OK;
}

const uf_model uf_model_speech = {
    .name = "speech",
    .summary = "takes noise and room out of speech: 16 kHz sound in, the voice out",
    .file = "speech.safetensors",
    .multiple = HOP,
    .rate = 16000,
    .rooms = true,
    .build = build_offline,
};

const uf_model uf_model_speech_live = {
    .name = "speech-live",
    .summary = "the same from frame to frame, for sound that is still being made: what comes later is unknown to it",
    .file = "speech-live.safetensors",
    .multiple = HOP,
    .rate = 16000,
    .rooms = true,
    .build = build_live,
    .stream = stream_live,
};

const uf_model uf_model_speech_array = {
    .name = "speech-array",
    .summary = "the same for several recordings of one scene that hear each other: for the merge",
    .file = "speech-array.safetensors",
    .multiple = HOP,
    .rate = 16000,
    .build = build_array,
};
