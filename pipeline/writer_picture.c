/* Pictures: packet = file, with the tags of its source. */
#include "tags.h"
#include "writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void tell_loss(uf_writer *w, const char *what) {
    if (!w->told_loss && *what) uf_log(w->ctx, UF_LOG_WARN, "'%s' cannot hold what its source tells beside the picture (%s): left out", w->path, what);
    w->told_loss |= *what != 0;
}

/* The encoded picture with its source's tags, as a new file. PNG's and JPEG's encoders write the colour profile
 * themselves. */
static int tag_picture(uf_writer *w, uf_bytes *file) {
    char lost[128];
    bool has_icc = w->codec->id == AV_CODEC_ID_PNG || w->codec->id == AV_CODEC_ID_MJPEG;
    uf_bytes icc = { 0 };
    if (w->icc && !has_icc) icc = (uf_bytes){ w->icc->data, (size_t)w->icc->size };
    UF_TRY(uf_bytes_add(file, w->ctx, w->packet->data, (size_t)w->packet->size));
    if (!w->tags && !icc.n) return UF_OK;
    UF_TRY(uf_tags_write(file, w->ctx, w->codec->id, w->enc->width, w->enc->height,
                         w->tags ? (const uf_tags *)(const void *)w->tags->data : NULL, icc.n ? &icc : NULL, lost, sizeof(lost)));
    tell_loss(w, lost);
    return UF_OK;
}

int uf_writer_picture(uf_writer *w) {
    uf_bytes tagged = { 0 };
    char name[4096];
    uf_whole *whole = w->whole;
    FILE *file;
    int err = UF_OK;
    if (w->sink == UF_SINK_SEQUENCE) {
        if (av_get_frame_filename(name, sizeof(name), w->path, (int)w->number++) < 0)
            return uf_fail(w->ctx, UF_EINVAL, "cannot number '%s'; name it like frame-%%05d.png", w->path);
        whole = NULL;
        UF_TRY(uf_whole_open(&whole, w->ctx, name, w->overwrite));
    }
    file = uf_whole_file(whole);
    if (!file) err = UF_EIO;
    else if ((err = tag_picture(w, &tagged)) == UF_OK && fwrite(tagged.data, 1, tagged.n, file) != tagged.n)
        err = uf_writer_failed(w, AVERROR(errno));
    free(tagged.data);
    if (w->sink == UF_SINK_SEQUENCE) {
        if (err == UF_OK) err = uf_whole_commit(whole);
        uf_whole_close(&whole);
    }
    return err;
}

int uf_writer_keep_tags(uf_writer *w, AVFrame *f) {
    const AVFrameSideData *profile = av_frame_get_side_data(f, AV_FRAME_DATA_ICC_PROFILE);
    if (profile && (profile->size < 20 || memcmp(profile->data + 16, "RGB ", 4))) {
        av_frame_remove_side_data(f, AV_FRAME_DATA_ICC_PROFILE);
        profile = NULL;
        if (!w->told_profile)
            uf_log(w->ctx, UF_LOG_WARN, "'%s' cannot take the colour profile of its source, which is not for RGB: left out", w->path);
        w->told_profile = true;
    }
    if (w->sink != UF_SINK_PICTURE && w->sink != UF_SINK_SEQUENCE) {
        const uf_tags *t = f->opaque_ref ? (const void *)f->opaque_ref->data : NULL;
        tell_loss(w, t && uf_exif_orientation(t->exif.data, t->exif.n) > 1 ? "which side is up, EXIF"
                     : t && (t->exif.n || t->xmp.n) ? "EXIF or XMP" : profile ? "its colour profile" : "");
        return UF_OK;
    }
    if (av_buffer_replace(&w->tags, f->opaque_ref) < 0 || av_buffer_replace(&w->icc, profile ? profile->buf : NULL) < 0)
        return uf_writer_failed(w, AVERROR(ENOMEM));
    return UF_OK;
}
