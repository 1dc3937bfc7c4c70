/* Sound for training: recordings, simulated rooms, and mixtures made as they are asked for. Internal to training/. */
#ifndef UF_SOUNDS_H
#define UF_SOUNDS_H

#include "fft.h"
#include "training.h"

typedef struct uf_sounds uf_sounds;
int uf_sounds_open(uf_sounds **out, uf_ctx *ctx, const uf_source *sources, int n, int rate);
void uf_sounds_close(uf_sounds **s);
/* The recording for draw `index`: sources by weight, each in a new order every epoch. *n samples; 0: it could not be read. */
const int16_t *uf_sounds_pick(const uf_sounds *s, uint64_t seed, uint64_t index, size_t *n);

/* ---- rooms (room.c) ------------------------------------------------------------------------------------------------------ */

typedef struct uf_room {
    double size[3], source[3], microphone[3]; /* m */
    double t60;                               /* s until the sound has fallen by 60 dB */
} uf_room;
/* The impulse response of a shoebox room, n samples: direct sound of amplitude 1 at sample *direct, images of the source (Allen &
 * Berkley 1979) for 80 ms behind it, then noise that decays as the room does. */
void uf_room_response(const uf_room *r, int rate, uint64_t seed, uint64_t index, float *response, int n, int *direct);

/* ---- codecs (codec.c) ---------------------------------------------------------------------------------------------------- */

int uf_codecs_n(void);
const char *uf_codec_name(int which); /* FFmpeg's name of its encoder */
/* x, n samples, becomes what codec `which` makes of it, not delayed. share: of its range of bit rates, 0 to 1. Transforms of f hold n samples
 * and the delay, up to half a second; `spectrum` is scratch for its bins. false: FFmpeg here lacks the codec, and x is as it was. */
bool uf_codec_pass(int which, double share, int rate, float *x, int n, uf_fft *f, float (*spectrum)[2]);

/* ---- microphones and levels (mix.c) --------------------------------------------------------------------------------------- */

enum { UF_CURVE = 6 };
/* A microphone's gain at `hertz`: dB at six places an even distance apart on the logarithm, 62.5 Hz to 8 kHz, joined by lines; and the end of
 * its band. */
double uf_curve_gain(const double *curve, double band, double hertz);
/* Root mean square of the pieces of 32 ms that are not 30 dB below the loudest: pauses do not make a voice quiet. */
double uf_active_level(const float *x, int n, int rate);

/* `path` as a wave file of float, n samples of one channel; mixtures.c. */
int uf_wave_write(uf_ctx *ctx, const char *path, const float *x, size_t n, int rate, bool overwrite);

/* ---- mixtures (mix.c) ------------------------------------------------------------------------------------------------------ */

typedef struct uf_mixer {
    uf_sounds *voice, *noise; /* noise NULL: only what is made up */
    int rate;
    double snr_from, snr_to;  /* dB; both 0: -5 to 20 */
    double codecs;            /* share of the mixtures that a codec has gone through */
    double hiss;              /* share of the mixtures with a recorder's own noise, 12 to 42 dB below the voice; half of these have no other */
    double quiet;             /* share of the mixtures whose noises are 15 to 40 dB below the voice, whatever snr_from and snr_to say */
} uf_mixer;

/* What the recipe trains on, or what it holds out. */
int uf_mixer_open(uf_mixer *m, uf_ctx *ctx, const uf_recipe *r, bool training);
/* The same of a recipe's file, which comes back in *r (even on failure) and is closed after m. mixtures.c */
int uf_mixer_open_recipe(uf_mixer *m, uf_ctx *ctx, const char *recipe, bool training, uf_recipe **r);
void uf_mixer_close(uf_mixer *m);

typedef struct uf_mixing uf_mixing; /* what a thread needs for mixtures of n samples */
int uf_mixing_open(uf_mixing **out, uf_ctx *ctx, const uf_mixer *m, int n);
void uf_mixing_close(uf_mixing **w);
/* Mixture number `index`: noisy, the voice in it with the first 50 ms of its room, and the voice in the whole room: what is noisy but for the
 * noise, clipping and codecs. Silent draws give their place to others; UF_EDATA: many in a row. */
int uf_mix(uf_mixing *w, uint64_t seed, uint64_t index, float *noisy, float *voice, float *room);

#endif
