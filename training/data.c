/* An index of pictures, or of recordings, in folders and plain archives, and the order in which a run visits them. */
#include "training.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct entry {
    char *name;             /* below the source's path; sorted */
    const uint8_t *data;    /* in the mapped archive, or NULL: a file */
    size_t size;
    int class;
} entry;

typedef struct source {
    const uf_source *spec;  /* borrowed, while it opens */
    char *path;
    entry *at;
    int64_t n, room;
    void *map;
    size_t map_size;
    int n_classes;
    double weight, share, until; /* as the recipe has it; of the samples; cumulative */
} source;

struct uf_data {
    uf_ctx *ctx;
    const char *const *ext; /* how names end */
    const char *what;       /* "pictures": for messages */
    source *source;
    int n_sources;
    int64_t n;
};

static const char *const pictures[] = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", NULL};
static const char *const recordings[] = {".wav", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff",
                                         ".au", ".caf", ".g722", ".wma", NULL};

static bool fits(const uf_data *d, const char *name) {
    const char *dot = strrchr(name, '.');
    for (int i = 0; dot && d->ext[i]; i++)
        if (!strcasecmp(dot, d->ext[i])) return true;
    return false;
}

static int push(uf_data *d, source *s, const char *name, const uint8_t *data, size_t size) {
    if (s->n == s->room) {
        int64_t more = s->room ? 2 * s->room : 1024;
        entry *at = realloc(s->at, (size_t)more * sizeof *at);
        if (!at) return uf_fail(d->ctx, UF_ENOMEM, "out of memory for the list of %s in '%s'", d->what, s->path);
        s->at = at;
        s->room = more;
    }
    char *copy = uf_strdup(d->ctx, name);
    if (!copy) return UF_ENOMEM;
    s->at[s->n++] = (entry){.name = copy, .data = data, .size = size, .class = -1};
    return UF_OK;
}

static int scan(uf_data *d, source *s, const char *below, int depth) {
    char *path = uf_format(d->ctx, *below ? "%s/%s" : "%s%s", s->path, below);
    if (!path) return UF_ENOMEM;
    DIR *dir = depth < 32 ? opendir(path) : NULL;
    int err = dir ? UF_OK
                  : uf_fail(d->ctx, UF_EIO, "cannot read the %s in '%s': %s; check the path in the recipe", d->what,
                            path, strerror(errno));
    free(path);
    const struct dirent *e;
    while (err == UF_OK && (e = readdir(dir))) {
        if (e->d_name[0] == '.') continue;
        char *name = uf_format(d->ctx, *below ? "%s/%s" : "%s%s", below, e->d_name);
        if (!name) err = UF_ENOMEM;
        else if (e->d_type == DT_DIR) err = scan(d, s, name, depth + 1);
        else if (fits(d, e->d_name)) err = push(d, s, name, NULL, 0);
        free(name);
    }
    if (dir) closedir(dir);
    return err;
}

/* A plain .tar is mapped: libarchive walks it and hands out places inside the map, so nothing is copied. A compressed
 * archive cannot be read out of order; it is refused. */
static int scan_archive(uf_data *d, source *s, size_t size) {
    int fd = open(s->path, O_RDONLY | O_CLOEXEC), err = UF_OK;
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (fd >= 0) close(fd);
    if (map == MAP_FAILED) return uf_fail(d->ctx, UF_EIO, "cannot open '%s': %s", s->path, strerror(errno));
    s->map = map;
    s->map_size = size;
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    if (!a) return uf_fail(d->ctx, UF_ENOMEM, "out of memory for '%s'", s->path);
    archive_read_support_format_tar(a);
    if (archive_read_open_memory(a, map, size) != ARCHIVE_OK)
        err = uf_fail(d->ctx, UF_EDATA, "'%s' is neither a folder nor a plain .tar; unpack it first", s->path);
    int state = ARCHIVE_OK;
    while (err == UF_OK && (state = archive_read_next_header(a, &e)) == ARCHIVE_OK) {
        const char *name = archive_entry_pathname(e);
        const void *data = NULL;
        size_t n = 0;
        la_int64_t at = 0, whole = archive_entry_size(e);
        if (!name || !fits(d, name) || whole <= 0) continue;
        if (archive_read_data_block(a, &data, &n, &at) != ARCHIVE_OK || n != (size_t)whole || (const char *)data < (char *)map ||
            (const char *)data + n > (char *)map + size)
            err = uf_fail(d->ctx, UF_EDATA, "'%s' is damaged at '%s', or compressed; give a plain .tar", s->path, name);
        else
            err = push(d, s, name[0] == '.' && name[1] == '/' ? name + 2 : name, data, n);
    }
    if (err == UF_OK && state != ARCHIVE_EOF)
        err = uf_fail(d->ctx, UF_EDATA, "'%s' ends early or is no plain .tar; get it again", s->path);
    archive_read_free(a);
    return err;
}

static int by_name(const void *a, const void *b) { return strcmp(((const entry *)a)->name, ((const entry *)b)->name); }

static bool ends_with(const char *name, const char *end) {
    size_t n = strlen(name), k = strlen(end);
    return n >= k && !strcmp(name + n - k, end) && (n == k || end[0] == '/' || name[n - k - 1] == '/');
}

/* Takes out the pictures that the recipe names. A name that fits none is refused: it was meant to keep something out. */
static int leave_out(uf_data *d, source *s) {
    for (unsigned k = 0; k < s->spec->exclude_count; k++) {
        int64_t n = 0;
        for (int64_t i = 0; i < s->n; i++)
            if (ends_with(s->at[i].name, s->spec->exclude[k])) free(s->at[i].name);
            else s->at[n++] = s->at[i];
        if (n == s->n)
            return uf_fail(d->ctx, UF_EDATA, "among the %s in '%s' there is no '%s' to leave out; check `exclude` in the recipe",
                           d->what, s->path, s->spec->exclude[k]);
        s->n = n;
    }
    return UF_OK;
}

/* Keeps what exclude_every / only_every ask for, counted over the sorted names. */
static void keep(source *s) {
    int64_t n = 0;
    int out = s->spec->exclude_every, only = s->spec->only_every;
    for (int64_t i = 0; i < s->n; i++) {
        bool wanted = !(out > 0 && i % out == out - 1) && !(only > 0 && i % only != only - 1);
        if (wanted) s->at[n++] = s->at[i];
        else free(s->at[i].name);
    }
    s->n = n;
}

/* Classes are numbered by the sorted names of the first folders; the list is sorted, so equal ones are neighbours. */
static int classify(uf_data *d, source *s) {
    size_t before = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const char *name = s->at[i].name, *slash = strchr(name, '/');
        if (!slash)
            return uf_fail(d->ctx, UF_EDATA, "'%s' in '%s' is in no class folder; a labelled source has one folder a "
                           "class", name, s->path);
        size_t n = (size_t)(slash - name);
        if (i == 0 || n != before || strncmp(name, s->at[i - 1].name, n)) s->n_classes++;
        s->at[i].class = s->n_classes - 1;
        before = n;
    }
    return UF_OK;
}

static int source_open(uf_data *d, source *s) {
    struct stat st;
    s->path = uf_strdup(d->ctx, s->spec->path);
    if (!s->path) return UF_ENOMEM;
    if (stat(s->path, &st))
        return uf_fail(d->ctx, UF_EIO, "cannot find the %s '%s': %s; check the path", d->what, s->path, strerror(errno));
    if (S_ISREG(st.st_mode) && fits(d, s->path)) { /* a single one counts as a folder of one */
        char *slash = strrchr(s->path, '/');
        UF_TRY(push(d, s, slash ? slash + 1 : s->path, NULL, 0));
        if (slash) *slash = 0;
        else strcpy(s->path, ".");
    } else {
        UF_TRY(S_ISDIR(st.st_mode) ? scan(d, s, "", 0) : scan_archive(d, s, (size_t)st.st_size));
    }
    qsort(s->at, (size_t)s->n, sizeof *s->at, by_name);
    UF_TRY(leave_out(d, s));
    keep(s);
    if (!s->n) return uf_fail(d->ctx, UF_EDATA, "there are no %s%s in '%s'", d->ext == pictures ? "JPEG, PNG, TIFF or WebP " : "",
                              d->what, s->path);
    return s->spec->labelled ? classify(d, s) : UF_OK;
}

static void share_out(uf_data *d) {
    double sum = 0, until = 0;
    d->n = 0;
    for (int i = 0; i < d->n_sources; i++) {
        source *s = &d->source[i];
        d->n += s->n;
        sum += s->share = s->weight > 0 ? s->weight : (double)s->n;
    }
    for (int i = 0; i < d->n_sources; i++) {
        d->source[i].share /= sum;
        d->source[i].until = until += d->source[i].share;
    }
}

int uf_data_keep(uf_data *d, const bool *wanted) {
    for (int k = 0; k < d->n_sources; k++) {
        source *s = &d->source[k];
        int64_t n = 0;
        for (int64_t i = 0; i < s->n; i++)
            if (*wanted++) s->at[n++] = s->at[i];
            else free(s->at[i].name);
        s->n = n;
    }
    for (int k = 0; k < d->n_sources; k++)
        if (!d->source[k].n) return uf_fail(d->ctx, UF_EDATA, "of the %s in '%s' none is good enough to learn from; leave this source out, or ask less of it in the recipe", d->what, d->source[k].path);
    share_out(d);
    return UF_OK;
}

static int open_kind(uf_data **out, uf_ctx *ctx, const uf_source *sources, int n, const char *const *ext, const char *what) {
    uf_data *d = uf_alloc(ctx, 1, sizeof *d);
    if (!d) return UF_ENOMEM;
    d->ctx = ctx;
    d->ext = ext;
    d->what = what;
    d->n_sources = n;
    d->source = uf_alloc(ctx, (size_t)n + 1, sizeof *d->source);
    int err = d->source ? UF_OK : UF_ENOMEM;
    for (int i = 0; err == UF_OK && i < n; i++) {
        d->source[i].spec = &sources[i];
        d->source[i].weight = (double)sources[i].weight;
        err = source_open(d, &d->source[i]);
    }
    if (err == UF_OK) share_out(d);
    if (err < 0) uf_data_close(&d);
    else *out = d;
    return err;
}

int uf_data_open(uf_data **out, uf_ctx *ctx, const uf_source *sources, int n) {
    return open_kind(out, ctx, sources, n, pictures, "pictures");
}

int uf_data_open_sounds(uf_data **out, uf_ctx *ctx, const uf_source *sources, int n) {
    return open_kind(out, ctx, sources, n, recordings, "recordings");
}

int uf_data_open_paths(uf_data **out, uf_ctx *ctx, int n, const char *const *paths) {
    uf_source *sources = uf_alloc(ctx, (size_t)n + 1, sizeof *sources);
    if (!sources) return UF_ENOMEM;
    for (int i = 0; i < n; i++) sources[i].path = (char *)(uintptr_t)paths[i];
    int err = uf_data_open(out, ctx, sources, n);
    free(sources);
    return err;
}

void uf_data_close(uf_data **pd) {
    uf_data *d = *pd;
    if (!d) return;
    for (int i = 0; d->source && i < d->n_sources; i++) {
        source *s = &d->source[i];
        for (int64_t k = 0; k < s->n; k++) free(s->at[k].name);
        if (s->map) munmap(s->map, s->map_size);
        free(s->at);
        free(s->path);
    }
    free(d->source);
    free(d);
    *pd = NULL;
}

int64_t uf_data_n(const uf_data *d) { return d->n; }

int uf_data_n_classes(const uf_data *d) {
    int n = 0;
    for (int i = 0; i < d->n_sources; i++)
        if (d->source[i].n_classes > n) n = d->source[i].n_classes;
    return n;
}

/* A keyed permutation of [0, n): four Feistel rounds on the next power of four, walked until inside. */
static uint64_t permute(uint64_t seed, uint64_t key, uint64_t i, uint64_t n) {
    int bits = 1;
    while (bits < 31 && (uint64_t)1 << (2 * bits) < n) bits++;
    uint64_t mask = ((uint64_t)1 << bits) - 1;
    do {
        uint64_t l = i >> bits, r = i & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint32_t f[4];
            uf_philox(seed, key * 4 + round, r, f);
            uint64_t next = l ^ (f[0] & mask);
            l = r;
            r = next;
        }
        i = l << bits | r;
    } while (i >= n);
    return i;
}

int64_t uf_data_pick(const uf_data *d, uint64_t seed, uint64_t index) {
    double u = d->n_sources > 1 ? (double)uf_uniform(seed, uf_hash("source", 6), index) : 0;
    int k = 0;
    while (k < d->n_sources - 1 && u >= d->source[k].until) k++;
    const source *s = &d->source[k];
    uint64_t turn = (uint64_t)((double)index * s->share), n = (uint64_t)s->n; /* how often this source came before */
    int64_t first = 0;
    for (int i = 0; i < k; i++) first += d->source[i].n;
    return first + (int64_t)permute(seed, (uint64_t)k << 32 | turn / n, turn % n, n);
}

static const entry *find(const uf_data *d, int64_t i, const source **s) {
    for (*s = d->source; i >= (*s)->n; (*s)++) i -= (*s)->n;
    return &(*s)->at[i];
}

int uf_data_source(const uf_data *d, int64_t i) {
    const source *s;
    find(d, i, &s);
    return (int)(s - d->source);
}

int uf_data_read(const uf_data *d, int64_t i, const void **data, size_t *n, void **owned) {
    const source *s;
    const entry *e = find(d, i, &s);
    *owned = NULL;
    if (e->data) {
        *data = e->data;
        *n = e->size;
        return UF_OK;
    }
    char *path = uf_format(d->ctx, "%s/%s", s->path, e->name);
    FILE *f = path ? fopen(path, "rb") : NULL;
    free(path);
    if (!f) return UF_EIO; /* the caller counts: one lost picture is a warning, all of them an error */
    int err = UF_EIO;
    long size = 0;
    if (!fseek(f, 0, SEEK_END) && (size = ftell(f)) > 0 && !fseek(f, 0, SEEK_SET) && (*owned = malloc((size_t)size)) &&
        fread(*owned, 1, (size_t)size, f) == (size_t)size)
        err = UF_OK;
    fclose(f);
    if (err < 0) {
        free(*owned);
        *owned = NULL;
    }
    *data = *owned;
    *n = (size_t)size;
    return err;
}

int uf_data_decode(const uf_data *d, int64_t i, uf_decoder *to, int *w, int *h) {
    const void *bytes;
    void *owned = NULL;
    size_t n;
    int err = uf_data_read(d, i, &bytes, &n, &owned);
    if (err == UF_OK) err = uf_decoder_decode(to, bytes, n, w, h);
    free(owned);
    if (err < 0) return uf_fail(d->ctx, UF_EDATA, "cannot read picture '%s'; take it out of the folder", uf_data_name(d, i));
    return UF_OK;
}

const char *uf_data_name(const uf_data *d, int64_t i) {
    const source *s;
    return find(d, i, &s)->name;
}

int uf_data_class(const uf_data *d, int64_t i) {
    const source *s;
    return find(d, i, &s)->class;
}
