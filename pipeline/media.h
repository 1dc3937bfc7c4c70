/* Reading and writing media with FFmpeg. Internal to the pipeline room.
 *
 * The film's own video stream is decoded and encoded; every other stream is copied packet by packet. Timestamps stay in
 * the input stream's time base until the muxer. */
#ifndef UF_MEDIA_H
#define UF_MEDIA_H

#include "pipeline.h"

#include <libavcodec/avcodec.h>
#include <libavfilter/avfilter.h>
#include <libavformat/avformat.h>
#include <libavutil/pixdesc.h>
#include <stdatomic.h>

/* One thing that travels: a decoded frame, or a packet to copy. Both NULL: the end. */
typedef struct uf_item {
    AVFrame *frame;
    AVPacket *packet; /* stream_index and timestamps are the input's */
    float *predicted; /* what the network said of the frame, or NULL; owned */
} uf_item;
void uf_item_clear(uf_item *item);

/* ---- common -------------------------------------------------------------------------------------------------- */

/* FFmpeg's text for an error, written to buf and returned. */
const char *uf_av_text(int av_err, char buf[128]);
int uf_av_code(int av_err);
/* "cannot WHAT 'PATH': FFmpeg's text", or that the job was stopped before it wrote anything. Returns the code. */
int uf_av_fail(uf_ctx *ctx, const char *what, const char *path, int av_err);
/* A graph's source (of frames, or of sound) and sink, with FFmpeg's `filters` between them; FFmpeg's codes. */
int uf_av_filters(AVFilterGraph *g, bool sound, const char *source, const char *filters, AVFilterContext **in, AVFilterContext **out);
/* Marks a context as ours, so that cancelling stops its input and output, and its messages reach uf_log at DEBUG. */
void uf_av_adopt_format(uf_ctx *ctx, AVFormatContext *fmt);
/* What a codec says beside what it returns: some decoders hide damage behind blocks of the last picture and only speak of it. */
typedef struct uf_sayings {
    uf_ctx *ctx;
    atomic_int n_damage, n_errors; /* messages of hidden damage; other errors */
    char damage[160], error[160];  /* the first of each: threads of the codec may speak at once, and only the first writes */
} uf_sayings;
void uf_av_adopt_codec(uf_ctx *ctx, AVCodecContext *codec, uf_sayings *says); /* says lives as long as the codec */
/* Opens a film, sound file, picture, numbered sequence or "-" and reads its headers; end with avformat_close_input(). */
int uf_av_open(AVFormatContext **out, uf_ctx *ctx, const char *path);
/* The name FFmpeg opens: "pipe:N" for "-", "file:..." where a colon could be read as a protocol. free(). */
char *uf_av_url(uf_ctx *ctx, const char *path, bool output);

/* ---- reader -------------------------------------------------------------------------------------------------- */

typedef struct uf_reader uf_reader;
/* Opens a film, picture, numbered sequence or "-" and decodes its first frame. */
int uf_reader_open(uf_reader **out, uf_ctx *ctx, const char *path);
typedef struct uf_reader_options {
    double from, length; /* seconds: only this part; timestamps begin at its own start; length 0: to the end */
    const char *filters; /* of libavfilter, which frames go through before anybody sees them; borrowed; NULL: none */
} uf_reader_options;
int uf_reader_open_with(uf_reader **out, uf_ctx *ctx, const char *path, const uf_reader_options *o);
bool uf_reader_is_part(const uf_reader *r);
void uf_reader_close(uf_reader **r);
/* The next frame or copied packet, now the caller's; UF_EOF at a clean end. UF_EDATA names the time of the damage. */
int uf_reader_next(uf_reader *r, uf_item *item);
AVFormatContext *uf_reader_format(const uf_reader *r);
int uf_reader_video(const uf_reader *r);           /* index of the film's stream */
bool uf_reader_copies(const uf_reader *r, int i);  /* stream i is delivered as packets */
const AVFrame *uf_reader_first(const uf_reader *r); /* borrowed; also delivered by next */
const char *uf_reader_path(const uf_reader *r);
AVRational uf_reader_rate(const uf_reader *r);     /* frames a second, as they are delivered */
int64_t uf_reader_n_frames(const uf_reader *r);    /* promised or estimated; 0: unknown */

/* Calls `on` with every frame of a film whose number is a multiple of `every`, and progress as often. */
typedef struct uf_walk_options {
    int64_t every; /* 1 or more */
    int (*on)(void *user, const AVFrame *f, int64_t number); /* UF_OK, or a code after uf_fail */
    void *user;
    uf_progress_fn *progress; /* or NULL */
    void *progress_user;
} uf_walk_options;
int uf_walk(uf_ctx *ctx, uf_reader *r, const uf_walk_options *o);

/* ---- writer -------------------------------------------------------------------------------------------------- */

/* What the encoder is handed. */
typedef struct uf_target {
    enum AVPixelFormat format;
    enum AVColorRange range;        /* never unspecified */
    enum AVColorSpace matrix;       /* never unspecified; RGB for RGB formats */
    enum AVChromaLocation location; /* where chroma samples sit; left when the source does not say */
} uf_target;

typedef enum uf_sink { UF_SINK_FILM, UF_SINK_PIPE, UF_SINK_PICTURE, UF_SINK_SEQUENCE } uf_sink;

/* Picks the format for a source frame and an encoder (takes_full: it can signal full range). Warns when a depth or
 * subsampling is lost. target.c */
int uf_target_pick(uf_target *out, uf_ctx *ctx, const AVFrame *source, const AVCodec *codec, uf_sink sink,
                   bool takes_full);
/* The range and matrix a frame is in, by its tags or FFmpeg's conventions. */
enum AVColorRange uf_frame_range(const AVFrame *f);
enum AVColorSpace uf_frame_matrix(const AVFrame *f);
bool uf_frame_has_colour(const AVFrame *f);
bool uf_format_is_rgb(enum AVPixelFormat format); /* RGB or palette */

typedef struct uf_writer uf_writer;
typedef struct uf_writer_options {
    const char *codec; /* NULL: by extension */
    int crf;           /* 0: default */
    const char *const *encoder_options; /* names and values in turn, NULL-ended; borrowed; NULL: none */
    bool overwrite;
    bool still;        /* one picture out of a film, on purpose: nobody misses its sound */
    bool wait;         /* for space on a full disk, when there is a job */
    bool twice;        /* frames are twice as wide as the reader's */
} uf_writer_options;
/* Refuses an existing output and unknown extensions and encoders; writes nothing yet. */
int uf_writer_open(uf_writer **out, uf_ctx *ctx, const char *path, const uf_writer_options *o);
bool uf_writer_keeps(const uf_writer *w); /* a film in a file: what is finished of it can be kept */
/* Maps the reader's streams and opens the encoder. identity: what the result of one that keeps depends on, for its job; NULL: no job. */
int uf_writer_start(uf_writer *w, const uf_reader *in, const char *identity);
/* Frames that earlier runs have finished: not to be written again; the others of the film follow. */
int64_t uf_writer_n_done(const uf_writer *w);
bool uf_writer_copies(const uf_writer *w); /* it reads what is copied by itself, when all frames are there */
const uf_target *uf_writer_target(const uf_writer *w);
/* Takes the item's content, even on failure. */
int uf_writer_write(uf_writer *w, uf_item *item);
int uf_writer_finish(uf_writer *w); /* flushes, ends the file and puts it in place */
void uf_writer_close(uf_writer **w); /* without finish: removes what was written */

/* Stream mapping, remux.c: adds an output stream for each copied one; map[i] is its index or -1. */
int uf_remux_streams(uf_ctx *ctx, AVFormatContext *oc, const uf_reader *in, const char *path, int *map, AVStream **film);
/* One stream of the same kind as a copy: its index, or -1 with a warning when the container cannot hold data or a cover, UF_EUNSUPPORTED when it
 * cannot hold what a viewer would miss. */
int uf_remux_stream(uf_ctx *ctx, AVFormatContext *oc, const AVStream *st, const char *in, const char *path, int *index);
int uf_remux_metadata(uf_ctx *ctx, AVFormatContext *oc, const AVFormatContext *ic, const char *path); /* tags of the file */
int uf_remux_chapters(uf_ctx *ctx, AVFormatContext *oc, const AVFormatContext *ic, const char *path);
/* Encoder options by codec, and those that the user gives over them; the caller frees *o with av_dict_free. */
int uf_encoder_setup(uf_ctx *ctx, AVCodecContext *enc, int crf, const char *const *more, AVDictionary **o);

/* ---- colour and planes --------------------------------------------------------------------------------------- */

typedef struct uf_canvas uf_canvas; /* between a film's frames and the network's planes */
int uf_canvas_open(uf_canvas **out, uf_ctx *ctx, const AVFrame *source, const uf_target *target, int net_w, int net_h);
int uf_canvas_open_png(uf_canvas **out, uf_ctx *ctx, const AVFrame *source, int net_w, int net_h); /* for PNG files, or to look only */
void uf_canvas_close(uf_canvas **c);
/* The frame's luma at network size, (net_h,net_w) in [0,1]. */
int uf_canvas_luma(uf_canvas *c, const AVFrame *source, float *net_luma);
/* After uf_canvas_luma for the same source: a new frame in the target's format, luma from the source, chroma from the
 * network. small: luma (net_h/2,net_w/2); chroma (2,net_h/2,net_w/2). */
int uf_canvas_paint(uf_canvas *c, const AVFrame *source, const float *small, const float *chroma, AVFrame **out);

/* ---- queue --------------------------------------------------------------------------------------------------- */

typedef struct uf_queue uf_queue; /* bounded in frames and in packets */
int uf_queue_open(uf_queue **out, uf_ctx *ctx, int max_frames, int max_items);
void uf_queue_close(uf_queue **q);
/* Takes the item, even on failure. UF_EINTR (without a message): the queue was aborted. */
int uf_queue_push(uf_queue *q, uf_item *item);
int uf_queue_pop(uf_queue *q, uf_item *item);
void uf_queue_abort(uf_queue *q);

#endif
