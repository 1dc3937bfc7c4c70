/* Files that appear whole or not at all: written beside the target under another name, then renamed over it. */
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct uf_whole {
    uf_ctx *ctx;
    char *target, *dir, *temporary;
    FILE *file;
    bool overwrite, made, committed;
};

/* The one place that words a failing write; 0 for an unknown reason (a stream remembers that it failed, not why). */
static int fail_write(const uf_whole *w, int reason) {
    struct statvfs fs;
    if (!reason && !statvfs(w->dir, &fs) && fs.f_bavail * fs.f_frsize < 65536) reason = ENOSPC;
    if (reason == ENOSPC || reason == EDQUOT)
        return uf_fail(w->ctx, UF_EIO, "cannot write '%s': the disk is full; free some space or write elsewhere",
                       w->target);
    if (reason == ENOENT || reason == ENOTDIR)
        return uf_fail(w->ctx, UF_EIO, "cannot write '%s': there is no folder '%s'; make it first", w->target, w->dir);
    if (reason == EACCES || reason == EPERM || reason == EROFS)
        return uf_fail(w->ctx, UF_EIO, "cannot write '%s': folder '%s' is not writable; choose another", w->target,
                       w->dir);
    return uf_fail(w->ctx, UF_EIO, "cannot write '%s': %s; write elsewhere", w->target,
                   reason ? strerror(reason) : "the disk reported an error");
}

static int fail_exists(const uf_whole *w) {
    return uf_fail(w->ctx, UF_EEXIST, "'%s' exists already; pass --overwrite to replace it", w->target);
}

static int check_target(const uf_whole *w) {
    struct stat st;
    if (!*w->target) return uf_fail(w->ctx, UF_EINVAL, "an output name is empty; give a file name");
    if (w->target[strlen(w->target) - 1] == '/')
        return uf_fail(w->ctx, UF_EINVAL, "'%s' is a folder; give a file name", w->target);
    if (stat(w->target, &st)) return UF_OK; /* a missing folder shows when the temporary is made */
    if (S_ISDIR(st.st_mode)) return uf_fail(w->ctx, UF_EINVAL, "'%s' is a folder; give a file name", w->target);
    if (!S_ISREG(st.st_mode)) /* renaming over a device or a pipe would replace it */
        return uf_fail(w->ctx, UF_EINVAL, "'%s' is not a regular file; choose another name", w->target);
    return w->overwrite ? UF_OK : fail_exists(w);
}

/* ".STEM.part-PID.EXT" in the target's folder; n > 1 is appended to the PID when that name is taken. The stem is cut so
 * that a long name stays within the file system's 255 bytes. */
static char *temporary_name(const uf_whole *w, int n) {
    const char *slash = strrchr(w->target, '/'), *base = slash ? slash + 1 : w->target;
    const char *dot = strrchr(base, '.');
    if (!dot || dot == base || strlen(dot) > 32) dot = base + strlen(base);
    int stem = dot - base > 180 ? 180 : (int)(dot - base);
    if (n > 1) return uf_format(w->ctx, "%s/.%.*s.part-%ld-%d%s", w->dir, stem, base, (long)getpid(), n, dot);
    return uf_format(w->ctx, "%s/.%.*s.part-%ld%s", w->dir, stem, base, (long)getpid(), dot);
}

/* Made at once, so that a folder that is missing or not writable is told before hours of work. */
static int make_temporary(uf_whole *w) {
    for (int n = 1; n < 1000; n++) {
        free(w->temporary);
        w->temporary = temporary_name(w, n);
        if (!w->temporary) return UF_ENOMEM;
        int fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0) {
            w->made = true;
            close(fd);
            return UF_OK;
        }
        if (errno != EEXIST) return fail_write(w, errno);
    }
    return fail_write(w, EEXIST);
}

static int locate(uf_whole *w, const char *path) {
    char *real = realpath(path, NULL); /* a link stays a link: what it points to is replaced */
    w->target = uf_strdup(w->ctx, real ? real : path);
    free(real);
    if (!w->target) return UF_ENOMEM;
    const char *slash = strrchr(w->target, '/');
    if (!slash) w->dir = uf_strdup(w->ctx, ".");
    else w->dir = uf_format(w->ctx, "%.*s", slash == w->target ? 1 : (int)(slash - w->target), w->target);
    return w->dir ? UF_OK : UF_ENOMEM;
}

int uf_whole_open(uf_whole **out, uf_ctx *ctx, const char *path, bool overwrite) {
    uf_whole *w = uf_alloc(ctx, 1, sizeof *w);
    if (!w) return UF_ENOMEM;
    w->ctx = ctx;
    w->overwrite = overwrite;
    int err = locate(w, path);
    if (err == UF_OK) err = check_target(w);
    if (err == UF_OK) err = make_temporary(w);
    if (err < 0) uf_whole_close(&w);
    else *out = w;
    return err;
}

int uf_whole_shelter(uf_whole *w, const char *folder) {
    const char *slash = strrchr(w->temporary, '/');
    char *there = uf_format(w->ctx, "%s/%s", folder, slash ? slash + 1 : w->temporary);
    if (!there) return UF_ENOMEM;
    if (rename(w->temporary, there)) {
        free(there);
        return fail_write(w, errno);
    }
    free(w->temporary);
    w->temporary = there;
    return UF_OK;
}

const char *uf_whole_path(const uf_whole *w) { return w->temporary; }

FILE *uf_whole_file(uf_whole *w) {
    if (w->file || w->committed) return w->file;
    w->file = fopen(w->temporary, "wbe");
    if (!w->file) fail_write(w, errno);
    return w->file;
}

static int close_stream(uf_whole *w) {
    FILE *f = w->file;
    w->file = NULL;
    errno = 0;
    bool failed = ferror(f);
    if (fflush(f)) failed = true;
    int reason = errno;
    if (fclose(f) && !failed) {
        failed = true;
        reason = errno;
    }
    return failed ? fail_write(w, reason) : UF_OK;
}

int uf_sync_path(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) return errno;
    int reason = fsync(fd) ? errno : 0;
    close(fd);
    return reason;
}

int uf_whole_commit(uf_whole *w) {
    if (w->committed) return UF_OK;
    if (w->file) UF_TRY(close_stream(w));
    int reason = uf_sync_path(w->temporary, O_RDWR);
    if (reason && reason != EINVAL) return fail_write(w, reason);
    /* Someone else may have made the target since; not every file system can refuse within the rename. */
    int err = renameat2(AT_FDCWD, w->temporary, AT_FDCWD, w->target, w->overwrite ? 0 : RENAME_NOREPLACE);
    if (err && errno == EEXIST && !w->overwrite) return fail_exists(w);
    if (err && (errno == EINVAL || errno == ENOSYS)) {
        if (!w->overwrite && !access(w->target, F_OK)) return fail_exists(w);
        err = rename(w->temporary, w->target);
    }
    if (err) return fail_write(w, errno);
    w->committed = true;
    uf_sync_path(w->dir, O_RDONLY | O_DIRECTORY); /* best effort: some file systems refuse */
    return UF_OK;
}

void uf_whole_close(uf_whole **w) {
    if (!w || !*w) return;
    if ((*w)->file) fclose((*w)->file);
    if ((*w)->made && !(*w)->committed) unlink((*w)->temporary);
    free((*w)->temporary);
    free((*w)->target);
    free((*w)->dir);
    free(*w);
    *w = NULL;
}

int uf_whole_check(uf_ctx *ctx, const char *path, bool overwrite) {
    uf_whole *w = NULL;
    UF_TRY(uf_whole_open(&w, ctx, path, overwrite));
    uf_whole_close(&w);
    return UF_OK;
}

int uf_make_folder(uf_ctx *ctx, const char *path) {
    if (!mkdir(path, 0777)) return UF_OK;
    int why = errno;
    struct stat st;
    if (why == EEXIST && !stat(path, &st) && S_ISDIR(st.st_mode)) return UF_OK;
    return uf_fail(ctx, UF_EIO, "cannot make folder '%s': %s", path, strerror(why));
}
