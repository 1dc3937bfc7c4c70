#include "job.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VERSION = 1, MARK = 1 << 20, WAIT_SECONDS = 2 };

struct uf_job {
    uf_ctx *ctx;
    char *target, *folder;
    int journal, segment;   /* -1: not open; the journal is locked while the job runs */
    int64_t journal_bytes;
    int n_segments;         /* finished */
    int64_t n_frames;
    int64_t bytes;          /* of the stretch in the making */
    uint64_t sum;
    uint8_t *record;        /* of one packet */
    size_t room;
    FILE *reading;
    int at;                 /* stretch that is read */
};

/* What stands before a packet's data and its side data, each with a type and a size. */
typedef struct head {
    int64_t pts, dts, duration;
    int32_t flags, size, n_side, unused;
} head;

const char *uf_job_folder(const uf_job *j) {
    return j->folder;
}

int64_t uf_job_n_frames(const uf_job *j) {
    return j->n_frames;
}

static int fail_io(const uf_job *j, const char *doing) {
    if (errno == ENOSPC || errno == EDQUOT)
        return uf_fail(j->ctx, UF_EIO, "the disk is full: what is finished of '%s' is kept; free some space and give the same command "
                       "again, it goes on from there", j->target);
    return uf_fail(j->ctx, UF_EIO, "cannot %s '%s': %s; see to the folder and give the same command again", doing, j->folder,
                   strerror(errno));
}

static char *segment_path(const uf_job *j, int n) {
    return uf_format(j->ctx, "%s/%06d.packets", j->folder, n);
}

static uint64_t chain(uint64_t sum, const void *data, size_t n) {
    uint64_t two[2] = { sum, uf_hash(data, n) };
    return uf_hash(two, sizeof(two));
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

static int write_all(int fd, const void *data, size_t n, int64_t at) {
    for (size_t done = 0; done < n;) {
        ssize_t k = pwrite(fd, (const char *)data + done, n - done, (off_t)(at + (int64_t)done));
        if (k < 0 && errno != EINTR) return -1;
        if (k > 0) done += (size_t)k;
    }
    return 0;
}

static int add_line(uf_job *j, json_t *line) {
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL, *whole = text ? uf_format(j->ctx, "%s\n", text) : NULL;
    int err = whole ? UF_OK : uf_fail(j->ctx, UF_ENOMEM, "cannot write '%s': out of memory", j->folder);
    if (err == UF_OK && (write_all(j->journal, whole, strlen(whole), j->journal_bytes) < 0 || fsync(j->journal) < 0))
        err = fail_io(j, "write the journal of");
    if (err == UF_OK) j->journal_bytes += (int64_t)strlen(whole);
    free(text);
    free(whole);
    json_decref(line);
    return err;
}

static bool make_room(uf_job *j, size_t n) {
    if (n <= j->room) return true;
    uint8_t *more = realloc(j->record, n);
    if (!more) return false;
    j->record = more;
    j->room = n;
    return true;
}

/* The next record of a stretch, without its length, into j->record. UF_EOF after the last; UF_EDATA: not whole; UF_ENOMEM. No
 * messages. */
static int read_record(uf_job *j, FILE *f, int64_t *length) {
    if (fread(length, sizeof(*length), 1, f) != 1) return UF_EOF;
    if (*length < (int64_t)sizeof(head) || *length >= INT32_MAX) return UF_EDATA;
    if (!make_room(j, (size_t)*length)) return UF_ENOMEM;
    return fread(j->record, 1, (size_t)*length, f) == (size_t)*length ? UF_OK : UF_EDATA;
}

/* The stretch's checksum as its records have it; 0 when the file does not hold whole records. */
static uint64_t sum_of(uf_job *j, const char *path, int64_t *bytes) {
    FILE *f = fopen(path, "rbe");
    uint64_t sum = 0;
    int64_t n;
    int err = f ? UF_OK : UF_EIO;
    *bytes = 0;
    while (err == UF_OK && (err = read_record(j, f, &n)) == UF_OK) {
        sum = chain(sum, j->record, (size_t)n);
        *bytes += n + (int64_t)sizeof(n);
    }
    if (f) fclose(f);
    return err == UF_EOF ? sum : 0;
}

/* One finished stretch, if the line tells of it and it is as the line tells. */
static bool take_segment(uf_job *j, const json_t *line) {
    int number = -1, frames = 0;
    json_int_t bytes = 0;
    const char *sum = NULL;
    char is[32];
    int64_t has;
    if (json_unpack((json_t *)(uintptr_t)line, "{s:i,s:i,s:I,s:s}", "stretch", &number, "frames", &frames, "bytes", &bytes, "sum", &sum) < 0)
        return false;
    if (number != j->n_segments || frames < 1 || frames > UF_STRETCH) return false;
    char *path = segment_path(j, number);
    if (!path) return false;
    snprintf(is, sizeof(is), "%016llx", (unsigned long long)sum_of(j, path, &has));
    free(path);
    if (has != bytes || strcmp(sum, is)) return false;
    j->n_segments++;
    j->n_frames += frames;
    return true;
}

/* The journal's lines as far as they are whole and true. *other: it is of another job. */
static int read_journal(uf_job *j, const char *identity, bool *other) {
    struct stat st;
    char *text = NULL, *end;
    int err = UF_OK;
    *other = false;
    if (fstat(j->journal, &st) < 0) return fail_io(j, "read");
    if (!(text = uf_alloc(j->ctx, (size_t)st.st_size + 1, 1))) return UF_ENOMEM;
    ssize_t n = pread(j->journal, text, (size_t)st.st_size, 0);
    if (n < 0) err = fail_io(j, "read");
    for (char *line = text; err == UF_OK && n > 0 && (end = memchr(line, '\n', (size_t)(text + n - line))); line = end + 1) {
        json_t *said = json_loadb(line, (size_t)(end - line), 0, NULL);
        int version = 0;
        const char *whose = NULL;
        bool good = said != NULL;
        if (good && line == text) {
            good = json_unpack(said, "{s:i,s:s}", "unfade_job", &version, "identity", &whose) == 0;
            *other = good && (version != VERSION || strcmp(whose, identity));
            good = good && !*other;
        } else if (good) {
            good = take_segment(j, said);
        }
        json_decref(said);
        if (!good) break;
        j->journal_bytes = end + 1 - text;
    }
    free(text);
    return err;
}

static bool is_finished(const uf_job *j, const char *name) {
    int n = -1, length = 0;
    if (!strcmp(name, "journal")) return true;
    return sscanf(name, "%6d.packets%n", &n, &length) == 1 && length == (int)strlen(name) && n >= 0 && n < j->n_segments;
}

/* Half-written stretches and outputs of runs that were killed. */
static void sweep(const uf_job *j, bool all) {
    DIR *d = opendir(j->folder);
    struct dirent *e;
    while (d && (e = readdir(d)))
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && (all || !is_finished(j, e->d_name))) unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
}

static int begin(uf_job *j, const char *identity) {
    if (j->journal_bytes > 0) return ftruncate(j->journal, j->journal_bytes) < 0 ? fail_io(j, "write the journal of") : UF_OK;
    j->n_segments = 0;
    j->n_frames = 0;
    if (ftruncate(j->journal, 0) < 0) return fail_io(j, "write the journal of");
    return add_line(j, json_pack("{s:i,s:s}", "unfade_job", VERSION, "identity", identity));
}

static int open_folder(uf_job *j, const char *identity, bool overwrite) {
    char *path = uf_format(j->ctx, "%s/journal", j->folder);
    bool other;
    if (!path) return UF_ENOMEM;
    if (mkdir(j->folder, 0777) < 0 && errno != EEXIST) {
        free(path);
        return fail_io(j, "make");
    }
    j->journal = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    free(path);
    if (j->journal < 0) return fail_io(j, "write to");
    if (flock(j->journal, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return uf_fail(j->ctx, UF_EEXIST, "another unfade is at work on '%s'; wait for it, or give the result another name", j->target);
    UF_TRY(read_journal(j, identity, &other));
    if (other && !overwrite)
        return uf_fail(j->ctx, UF_EEXIST, "'%s' holds a part of another job, with other settings or another input; give the same command as "
                       "then to go on with it, or --overwrite to begin anew", j->folder);
    if (other) j->journal_bytes = 0;
    UF_TRY(begin(j, identity));
    sweep(j, false);
    return UF_OK;
}

int uf_job_open(uf_job **out, uf_ctx *ctx, const char *target, const char *identity, bool overwrite) {
    uf_job *j = uf_alloc(ctx, 1, sizeof(*j));
    if (!j) return UF_ENOMEM;
    j->ctx = ctx;
    j->journal = j->segment = -1;
    j->target = uf_strdup(ctx, target);
    j->folder = uf_format(ctx, "%s.unfade-job", target);
    int err = j->target && j->folder ? open_folder(j, identity, overwrite) : UF_ENOMEM;
    if (err < 0) {
        if (j->journal >= 0) close(j->journal);
        j->journal = -1;
        uf_job_close(&j, true);
    } else {
        *out = j;
    }
    return err;
}

void uf_job_close(uf_job **job, bool keep) {
    uf_job *j = job ? *job : NULL;
    if (!j) return;
    if (j->segment >= 0) close(j->segment);
    if (j->reading) fclose(j->reading);
    if (j->journal >= 0) {
        sweep(j, !keep || !j->n_segments);
        if (!keep || !j->n_segments) rmdir(j->folder);
        close(j->journal);
    }
    free(j->record);
    free(j->target);
    free(j->folder);
    free(j);
    *job = NULL;
}

/* ---- writing ------------------------------------------------------------------------------------------------- */

static void put(uint8_t **to, const void *data, size_t n) {
    memcpy(*to, data, n);
    *to += n;
}

/* The record in j->record, after its length; its bytes with that come back, 0: out of memory. */
static size_t pack(uf_job *j, const AVPacket *p) {
    head h = { p->pts, p->dts, p->duration, p->flags, p->size, p->side_data_elems, 0 };
    size_t n = sizeof(h) + (size_t)p->size;
    for (int i = 0; i < p->side_data_elems; i++) n += 2 * sizeof(int32_t) + p->side_data[i].size;
    int64_t length = (int64_t)n;
    if (!make_room(j, n + sizeof(length))) return 0;
    uint8_t *to = j->record;
    put(&to, &length, sizeof(length));
    put(&to, &h, sizeof(h));
    put(&to, p->data, (size_t)p->size);
    for (int i = 0; i < p->side_data_elems; i++) {
        int32_t side[2] = { p->side_data[i].type, (int32_t)p->side_data[i].size };
        put(&to, side, sizeof(side));
        put(&to, p->side_data[i].data, p->side_data[i].size);
    }
    return n + sizeof(length);
}

static int begin_segment(uf_job *j) {
    char *path = segment_path(j, j->n_segments);
    if (!path) return UF_ENOMEM;
    j->segment = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    free(path);
    j->bytes = 0;
    j->sum = 0;
    return j->segment < 0 ? fail_io(j, "write to") : UF_OK;
}

int uf_job_add(uf_job *j, const AVPacket *p, bool wait) {
    size_t n = pack(j, p);
    bool told = false;
    if (!n) return uf_fail(j->ctx, UF_ENOMEM, "cannot write to '%s': out of memory", j->folder);
    if (j->segment < 0) UF_TRY(begin_segment(j));
    while (write_all(j->segment, j->record, n, j->bytes) < 0) {
        if (!wait || (errno != ENOSPC && errno != EDQUOT)) return fail_io(j, "write to");
        if (!told) uf_log(j->ctx, UF_LOG_WARN, "the disk is full: waiting until there is space for '%s'", j->target);
        told = true;
        if (uf_ctx_cancelled(j->ctx)) return UF_EINTR;
        sleep(WAIT_SECONDS);
    }
    if (told) uf_log(j->ctx, UF_LOG_INFO, "there is space again: going on");
    j->sum = chain(j->sum, j->record + sizeof(int64_t), n - sizeof(int64_t));
    j->bytes += (int64_t)n;
    return UF_OK;
}

int uf_job_end_stretch(uf_job *j, int n_frames) {
    char sum[32];
    int fd = j->segment;
    if (fd < 0) return UF_OK;
    j->segment = -1;
    int synced = fsync(fd);
    if (close(fd) < 0 || synced < 0) return fail_io(j, "write to");
    uf_sync_path(j->folder, O_RDONLY | O_DIRECTORY); /* its name too */
    snprintf(sum, sizeof(sum), "%016llx", (unsigned long long)j->sum);
    UF_TRY(add_line(j, json_pack("{s:i,s:i,s:I,s:s}", "stretch", j->n_segments, "frames", n_frames, "bytes", (json_int_t)j->bytes, "sum", sum)));
    j->n_segments++;
    j->n_frames += n_frames;
    return UF_OK;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

static int fail_read(const uf_job *j) {
    return uf_fail(j->ctx, UF_EIO, "'%s' has changed while the film was made; give the same command again", j->folder);
}

static const uint8_t *take(const uint8_t *from, void *to, size_t n) {
    memcpy(to, from, n);
    return from + n;
}

static int unpack(const uf_job *j, int64_t length, AVPacket *p) {
    head h;
    const uint8_t *from = take(j->record, &h, sizeof(h)), *end = j->record + length;
    if (h.size < 0 || h.size > end - from || av_new_packet(p, h.size) < 0) return fail_read(j);
    from = take(from, p->data, (size_t)h.size);
    for (int i = 0; i < h.n_side; i++) {
        int32_t side[2];
        if (end - from < (ptrdiff_t)sizeof(side)) return fail_read(j);
        from = take(from, side, sizeof(side));
        uint8_t *data = side[1] >= 0 && side[1] <= end - from ? av_packet_new_side_data(p, (enum AVPacketSideDataType)side[0], (size_t)side[1]) : NULL;
        if (!data) return fail_read(j);
        from = take(from, data, (size_t)side[1]);
    }
    p->pts = h.pts;
    p->dts = h.dts;
    p->duration = h.duration;
    p->flags = h.flags;
    return UF_OK;
}

int uf_job_next(uf_job *j, AVPacket *p) {
    int64_t length = 0;
    int err = UF_EOF;
    while (err == UF_EOF) {
        if (!j->reading) {
            if (j->at == j->n_segments) return UF_EOF;
            char *path = segment_path(j, j->at++);
            j->reading = path ? fopen(path, "rbe") : NULL;
            free(path);
            if (!j->reading) return fail_read(j);
        }
        if ((err = read_record(j, j->reading, &length)) != UF_EOF) break;
        fclose(j->reading);
        j->reading = NULL;
    }
    if (err == UF_ENOMEM) return uf_fail(j->ctx, UF_ENOMEM, "cannot read '%s': out of memory", j->folder);
    return err < 0 ? fail_read(j) : unpack(j, length, p);
}

char *uf_file_mark(uf_ctx *ctx, const char *path) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *data = uf_alloc(ctx, 2 * MARK, 1);
    char *mark = NULL;
    if (fd >= 0 && data && !fstat(fd, &st)) {
        ssize_t a = pread(fd, data, MARK, 0), b = a == MARK ? pread(fd, data + a, MARK, st.st_size > 2 * MARK ? st.st_size - MARK : MARK) : 0;
        if (a >= 0 && b >= 0) mark = uf_format(ctx, "%lld-%016llx", (long long)st.st_size, (unsigned long long)uf_hash(data, (size_t)(a + b)));
    }
    if (!mark) uf_fail(ctx, UF_EIO, "cannot read '%s': %s; check the name", path, strerror(errno));
    if (fd >= 0) close(fd);
    free(data);
    return mark;
}
