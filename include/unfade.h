/* unfade: restores films, photographs and sound with neural networks, and trains those networks.
 *
 * This is the whole public API. Every function returns UF_OK (0) or a negative uf_code unless its comment says
 * otherwise; the reason, with its remedy, is then in uf_ctx_error(). Handles are made by *_open, ended by *_close(&h),
 * which accepts NULL and half-built objects and sets the handle to NULL. `const` pointers are borrowed. A context may
 * be used by several threads at once; any other handle by one thread at a time.
 *
 * The networks compute with OpenMP, whose threads by default wait in a loop that keeps a core busy; decoding, encoding and
 * your own threads then run several times slower. Set OMP_WAIT_POLICY=passive (and, with GNU OpenMP, GOMP_SPINCOUNT=1000,
 * which is a tenth faster on an idle machine) in the environment before your program starts: OpenMP reads them before
 * main(), so setenv() in main() comes too late. (The program `unfade` starts itself once more with them.) */
#ifndef UNFADE_H
#define UNFADE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UF_VERSION "0.1.0"

typedef enum uf_code {
    UF_OK = 0,
    UF_EOF = -1,          /* no more data: not an error */
    UF_EINVAL = -2,       /* the caller's argument, option, recipe or shape is wrong */
    UF_ENOMEM = -3,       /* memory, or the cap that was given, is exhausted */
    UF_EIO = -4,          /* reading or writing failed: disk full, vanished file, permission */
    UF_EDATA = -5,        /* the file's content is damaged, or of another kind than claimed */
    UF_EUNSUPPORTED = -6, /* right, but not here: no such codec, processor feature, device */
    UF_EEXIST = -7,       /* the output is there already and may not be replaced */
    UF_EINTR = -8         /* stopped by uf_ctx_cancel() */
} uf_code;

/* A context carries the error, the log, the wish to stop, and the limits. There are no globals. */
typedef struct uf_ctx uf_ctx;

typedef enum uf_level { UF_LOG_ERROR, UF_LOG_WARN, UF_LOG_INFO, UF_LOG_DEBUG } uf_level;
typedef void uf_log_fn(void *user, uf_level level, const char *message);

int uf_ctx_open(uf_ctx **out);
void uf_ctx_close(uf_ctx **ctx);
/* The first failure since the last uf_ctx_clear(), one lowercase sentence without a full stop; "" when none.
 * The string belongs to the context and lives until the next failure or close. */
const char *uf_ctx_error(const uf_ctx *ctx);
int uf_ctx_error_code(const uf_ctx *ctx);
void uf_ctx_clear(uf_ctx *ctx);
/* Messages of `level` or graver reach fn, from any thread, one at a time. fn NULL: silence (the default). */
void uf_ctx_set_log(uf_ctx *ctx, uf_level level, uf_log_fn *fn, void *user);
/* Asks every running job to stop at its next safe point, with UF_EINTR. Safe in a signal handler. */
void uf_ctx_cancel(uf_ctx *ctx);
bool uf_ctx_cancelled(const uf_ctx *ctx);
/* Compute threads; 0 (the default) takes one per core that this process may run on. */
void uf_ctx_set_threads(uf_ctx *ctx, int n_threads);
int uf_ctx_threads(const uf_ctx *ctx);

/* ---- colouring ---------------------------------------------------------------------------------------------- */

typedef struct uf_progress {
    int64_t n_done, n_total; /* frames; n_total 0 when unknown */
    double seconds;          /* wall time since the job began */
    double fps;              /* over the last few seconds */
    double media_seconds;    /* timestamp of the last frame written */
} uf_progress;
typedef void uf_progress_fn(void *user, const uf_progress *p);

/* Zero-initialise, then set what differs: a zero field means the default named beside it. */
typedef struct uf_colorize_options {
    const char *weights;     /* safetensors file; NULL: color.safetensors in the folder that the environment's
                                UNFADE_WEIGHTS names; without that in ../share/unfade beside the running program, or in
                                models/weights of the working directory */
    const char *tune;        /* file of `unfade tune`: those weights fitted to one film; NULL: none */
    const char *scenes;      /* file with lines as `unfade scenes` prints them, corrected: where scenes begin, and what strength and
                                tuning each wants; NULL: scenes begin where they seem to */
    const char *device;      /* "auto" (default), "cpu" */
    const char *codec;       /* video encoder, FFmpeg's name; NULL: by the output's extension */
    int crf;                 /* quality of that encoder, 1 (best) .. 51; 0: the default for the codec */
    const char *const *encoder_options; /* names and values in turn, NULL-ended, as FFmpeg knows them: "preset", "slow"; NULL:
                                none */
    double from, length;     /* seconds of a film: only this part of it; length 0: to the end */
    const char *fields;      /* "keep" (NULL): frames as they are; "auto": woven ones whole; "deinterlace": all; "detelecine": 24 frames out of 30 */
    int compare;             /* 0: no; 1: the left half stays grey; 2: twice as wide, grey on the left, coloured on the right */
    double splice;           /* before colouring, damage is mended: bars, jumps and flashes where pieces of film were joined; */
    double scratch;          /* dust, hairs and vertical scratches; */
    double deflicker;        /* brightness that jumps from frame to frame; */
    double steady;           /* a picture that sways. Each 0 (off) .. 1 (usual) .. 2; frames where nothing is found stay as they are */
    const char *masks;       /* folder for pictures of what `splice` and `scratch` changed and a list of all that was mended; NULL: none */
    int size;                /* short side in pixels that the network sees, 64..1024; 0: 192 */
    double strength;         /* saturation of the result, >0 .. 2; 0: 1 as trained (tiny value for grey) */
    int64_t memory;          /* bytes that the job may plan to use; 0: no cap */
    bool overwrite;          /* replace an existing output */
    bool float32;            /* compute in float32 even where bf16 is faster */
    bool no_filter;          /* switch the temporal chroma filter off */
    uf_progress_fn *progress;
    void *user;
} uf_colorize_options;

/* Colours the film, picture or numbered picture sequence at `in` and writes `out`; their extensions choose the
 * containers ("-" is standard input or output as yuv4mpeg). Luma is copied sample for sample, but for what the stages mend; audio, subtitles,
 * attachments, chapters and metadata are copied; timestamps are kept. `out` appears whole or not at all.
 * UF_EINVAL: options; UF_EEXIST; UF_EDATA: damaged input or weights; UF_EIO: missing input, weights or folder, full disk;
 * UF_EUNSUPPORTED: a format that FFmpeg here cannot decode, hold or encode; UF_ENOMEM; UF_EINTR. */
int uf_colorize(uf_ctx *ctx, const char *in, const char *out, const uf_colorize_options *options);

/* ---- cleaning speech ---------------------------------------------------------------------------------------- */

/* Zero-initialise, then set what differs. */
typedef struct uf_clean_options {
    const char *weights; /* safetensors file; NULL: speech.safetensors up to 16,000 samples a second, speech-wide.safetensors above,
                            speech-live.safetensors live; found as for colouring */
    double most;         /* dB: noise is made quieter by so much at most; 0: as far as the network goes */
    double wet;          /* share of the cleaned sound, >0 .. 1; 0: 1 */
    double hum;          /* before the network: notches at this mains frequency, 50 or 60 Hz, and its harmonics; 0: none */
    bool clicks, clips;  /* before the network: clicks and clipped peaks are bridged (FFmpeg's adeclick, adeclip) */
    double loudness;     /* LUFS (EBU R 128), -70 .. 0: the whole is brought there, with peaks under -1 dB; 0: left as it is. Takes two passes */
    bool keep_room;      /* the reverberation stays, noise goes; for weights that have learnt it */
    bool highs;          /* what a telephone or a codec cut off above is made up anew; recordings below 32,000 Hz become 48,000 Hz */
    bool live;           /* with the network that hears nothing later, speech-live.safetensors: what a live stream would become */
    bool overwrite, float32;
    uf_progress_fn *progress; /* n_done and n_total are whole seconds of sound, fps seconds of sound a second */
    void *user;
} uf_clean_options;

/* Takes noise and room out of the speech in a recording or a film and writes `out`; its extension chooses the container. Rate (but for `highs`), channels
 * and length stay, sample n of the result is sample n of the recording; everything else that the container holds (pictures, subtitles,
 * tags, chapters) is copied. Memory does not grow with the length. `out` appears whole or not at all. Errors as for colouring. */
int uf_clean(uf_ctx *ctx, const char *in, const char *out, const uf_clean_options *options);

/* ---- merging recordings --------------------------------------------------------------------------------------- */

enum { UF_MERGE_INPUTS = 32 };

/* Zero-initialise, then set what differs. */
typedef struct uf_merge_options {
    const char *weights;   /* safetensors file, of `speech`: each recording is heard for itself, or of `speech-array`: all are heard together, and the
                              rest is by the shipped speech.safetensors; NULL: speech-array.safetensors, found as for colouring */
    const char *reference; /* the input whose clock, timbre and level the result has; NULL: the one that serves best */
    const char *into;      /* a film among the inputs, or one more: the result is that film with the merged sound; NULL: a sound file */
    const char *stems;     /* folder for every input as a 24-bit wave file, aligned, on one clock, with its own channels; NULL: none */
    const char *report;    /* JSON file: places, clocks, steps, scores, what was refused and why, and of a mix every second's
                            * share of each input (the energy that it brings to the voice's band, 200 to 4000 Hz; they add to 1); NULL: none */
    bool align_only;       /* nothing is mixed: `out`, which may then be NULL, gets a channel for every input */
    bool keep_room;        /* the room stays in the voice */
    bool music;            /* levels and timbres are matched and mixed, and nothing is taken for noise */
    double most;           /* dB: noise is made quieter by so much at most; 0: as far as the network goes */
    double loudness;       /* LUFS, as for cleaning; 0: left as it is */
    bool overwrite, float32;
    uf_progress_fn *progress; /* n_done and n_total are whole seconds of sound: of all inputs, and of the result */
    void *user;
} uf_merge_options;

/* Several recordings of the same event, by recorders that know nothing of each other, to one good track: whenever each was started, however its
 * clock runs, whatever it has lost. n: 1 (which is cleaned) to UF_MERGE_INPUTS sound files or films of any rates and channels. The result reaches from the
 * first beginning to the last end (into: is as long as the film), mono, at the highest of their rates, 48000 Hz at most. An input that has nothing in
 * common with the others is left out, with a warning that names it. Memory does not grow with the length but for some 6 MB an hour of each; beside the
 * result 60 MB an hour of each are needed on the disk meanwhile. UF_EDATA also: the inputs have nothing in common. Otherwise as for cleaning. */
int uf_merge(uf_ctx *ctx, const char *const *in, int n, const char *out, const uf_merge_options *options);

#ifdef __cplusplus
}
#endif
#endif
