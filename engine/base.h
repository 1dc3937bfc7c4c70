/* What every room stands on: errors, logging, memory, files that appear whole, random numbers. Internal. */
#ifndef UF_BASE_H
#define UF_BASE_H

#include "unfade.h"

#include <stdio.h>

#define UF_TRY(expr)                                                                                                  \
    do {                                                                                                              \
        int try_err = (expr);                                                                                         \
        if (try_err < 0) return try_err;                                                                              \
    } while (0)

/* Inner loops are compiled for several instruction sets, and chosen when the program starts. The sanitizers cannot run the chooser, which
 * comes before them. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define UF_KERNEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define UF_KERNEL
#endif

#define UF_LEN(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* Records the first failure and returns `code`. The message: lowercase, the subject in single quotes, then the remedy.
 * Called once, where the failure happens; everyone above only passes the code on. */
int uf_fail(uf_ctx *ctx, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void uf_log(uf_ctx *ctx, uf_level level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Zeroed memory aligned to 64 bytes, freed with free(); NULL after uf_fail(UF_ENOMEM). Sizes are overflow-checked. */
void *uf_alloc(uf_ctx *ctx, size_t n, size_t size);
char *uf_strdup(uf_ctx *ctx, const char *s);
/* printf into new memory (free()); NULL after uf_fail. */
char *uf_format(uf_ctx *ctx, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A file that appears whole or not at all: writes go to a sibling ".NAME.part-PID" (same extension at the end, so that
 * libraries which look at it agree); commit does fsync and rename; close without commit removes it. */
typedef struct uf_whole uf_whole;
int uf_whole_open(uf_whole **out, uf_ctx *ctx, const char *path, bool overwrite);
int uf_whole_shelter(uf_whole *w, const char *folder); /* moves the temporary there, on the same file system */
const char *uf_whole_path(const uf_whole *w); /* the temporary's path, for libraries that open files themselves */
FILE *uf_whole_file(uf_whole *w);             /* lazily fopen'ed "wb" on the temporary; owned by w; NULL after uf_fail */
int uf_whole_commit(uf_whole *w);             /* flush, fsync, rename, fsync the directory */
void uf_whole_close(uf_whole **w);
int uf_whole_check(uf_ctx *ctx, const char *path, bool overwrite); /* could it be opened? told before minutes are spent, not after */
int uf_make_folder(uf_ctx *ctx, const char *path); /* UF_OK also when it is there already; UF_EIO */
int uf_sync_path(const char *path, int flags); /* fsync of a file or folder, opened with flags; errno, 0: done */

/* Philox4x32-10 (Salmon et al. 2011): random numbers as a pure function of (seed, stream, index), so that the same
 * seed gives the same values for any number of threads and after any resume. */
void uf_philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4]);
float uf_uniform(uint64_t seed, uint64_t stream, uint64_t index);  /* [0,1) */
float uf_gaussian(uint64_t seed, uint64_t stream, uint64_t index); /* mean 0, deviation 1 */
uint64_t uf_hash(const void *data, size_t n);                      /* XXH3-64: names to streams */

bool uf_ctx_threads_chosen(const uf_ctx *ctx); /* by uf_ctx_set_threads(): then it is to be kept to */
double uf_now(void); /* monotonic seconds */
void uf_sort(double *x, size_t n);       /* rising; no NaN among them */
void uf_sort_floats(float *x, size_t n); /* likewise */

#endif
