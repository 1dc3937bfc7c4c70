/* A film in the making: finished stretches of encoded packets and a journal of them, in a folder beside the output, so that a run
 * that was stopped at any moment goes on where it was. Internal to the pipeline room.
 *
 * A stretch counts when its bytes and then its line in the journal are on the disk (fsync). Whatever is not so is made again:
 * a line without its end, a stretch whose size or checksum differs, and all after it. */
#ifndef UF_JOB_H
#define UF_JOB_H

#include "media.h"

/* Frames of a stretch. The steady filter starts anew at the same places, so that a resumed run gives the same bits. */
enum { UF_STRETCH = UF_STEADY_PERIOD };

typedef struct uf_job uf_job;
/* identity: text that is the same when and only when the finished part may be gone on with. UF_EEXIST: another run is at work on
 * it, or (without overwrite) it has another identity. */
int uf_job_open(uf_job **out, uf_ctx *ctx, const char *target, const char *identity, bool overwrite);
/* The folder goes, unless something finished is in it that is worth keeping. */
void uf_job_close(uf_job **j, bool keep);
const char *uf_job_folder(const uf_job *j);
int64_t uf_job_n_frames(const uf_job *j); /* finished */
/* A packet for the stretch in the making. wait: a full disk is waited for. */
int uf_job_add(uf_job *j, const AVPacket *p, bool wait);
int uf_job_end_stretch(uf_job *j, int n_frames);
/* All packets from the first on, once every stretch is finished. UF_EOF after the last. */
int uf_job_next(uf_job *j, AVPacket *p);

/* "SIZE-CHECKSUM" of a file, of its first and last MiB; free() it. NULL after uf_fail(UF_EIO). */
char *uf_file_mark(uf_ctx *ctx, const char *path);

#endif
