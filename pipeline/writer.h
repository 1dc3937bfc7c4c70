/* What the writer's files share. Internal to them. */
#ifndef UF_WRITER_H
#define UF_WRITER_H

#include "job.h"

enum { N_DURATIONS = 256 }; /* more than any encoder holds back */

struct uf_writer {
    uf_ctx *ctx;
    char *path, *codec_name;
    int crf;
    bool overwrite;
    uf_sink sink;
    uf_whole *whole;
    const AVOutputFormat *format;
    const AVCodec *codec;
    AVCodecContext *enc;
    uf_sayings says;
    AVFormatContext *oc;
    AVPacket *packet;
    AVStream *film;
    uf_target target;
    const AVFormatContext *ic;
    AVRational in_base;
    int *map;
    const char *const *encoder_options;
    bool wait, twice;
    uf_job *job;       /* packets go there first, or NULL */
    const uf_reader *in;
    int in_stretch;    /* frames sent since the encoder was opened */
    bool told_fields;
    bool still;        /* a picture out of a film: nobody misses its sound */
    bool grid;         /* only a constant frame rate: timestamps count frames */
    int64_t start_us;  /* taken off all timestamps where the container has none of its own */
    int64_t first_pts, last_pts;
    int64_t n_frames, number;
    AVBufferRef *tags, *icc; /* of the picture that is being encoded; NULL: none */
    bool told_loss, told_profile;
    struct { int64_t pts, duration; } durations[N_DURATIONS];
};

/* FFmpeg's error on the output, as a code. */
int uf_writer_failed(const uf_writer *w, int av);
/* writer_picture.c: the encoded picture in w->packet as a file of its own, with its source's tags; */
int uf_writer_picture(uf_writer *w);
/* and what a frame has of those, kept until then. A profile for grey or CMYK samples fits no picture in colour. */
int uf_writer_keep_tags(uf_writer *w, AVFrame *f);

#endif
