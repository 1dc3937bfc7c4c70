/* The context: first error, log, cancel flag, thread count; and checked memory. */
#include "base.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct uf_ctx {
    pthread_mutex_t error_lock;
    char error[1024]; /* written once, before code; read only when code says so */
    atomic_int code;
    pthread_mutex_t log_lock; /* its own, so that a log function may fail or read the error */
    uf_log_fn *log;
    void *log_user;
    uf_level level;
    atomic_bool cancelled;
    atomic_int n_threads;
};

int uf_ctx_open(uf_ctx **out) {
    uf_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx) return UF_ENOMEM;
    if (pthread_mutex_init(&ctx->error_lock, NULL)) goto no_error_lock;
    if (pthread_mutex_init(&ctx->log_lock, NULL)) goto no_log_lock;
    *out = ctx;
    return UF_OK;
no_log_lock:
    pthread_mutex_destroy(&ctx->error_lock);
no_error_lock:
    free(ctx);
    return UF_ENOMEM;
}

void uf_ctx_close(uf_ctx **ctx) {
    if (!ctx || !*ctx) return;
    pthread_mutex_destroy(&(*ctx)->error_lock);
    pthread_mutex_destroy(&(*ctx)->log_lock);
    free(*ctx);
    *ctx = NULL;
}

/* C11's atomic_load takes no const object; nothing is written. */
int uf_ctx_error_code(const uf_ctx *ctx) { return atomic_load(&((uf_ctx *)(uintptr_t)ctx)->code); }

const char *uf_ctx_error(const uf_ctx *ctx) { return uf_ctx_error_code(ctx) == UF_OK ? "" : ctx->error; }

void uf_ctx_clear(uf_ctx *ctx) {
    pthread_mutex_lock(&ctx->error_lock);
    atomic_store(&ctx->code, UF_OK);
    pthread_mutex_unlock(&ctx->error_lock);
}

void uf_ctx_set_log(uf_ctx *ctx, uf_level level, uf_log_fn *fn, void *user) {
    pthread_mutex_lock(&ctx->log_lock);
    ctx->level = level;
    ctx->log = fn;
    ctx->log_user = user;
    pthread_mutex_unlock(&ctx->log_lock);
}

void uf_ctx_cancel(uf_ctx *ctx) { atomic_store(&ctx->cancelled, true); }

bool uf_ctx_cancelled(const uf_ctx *ctx) { return atomic_load(&((uf_ctx *)(uintptr_t)ctx)->cancelled); }

void uf_ctx_set_threads(uf_ctx *ctx, int n_threads) { atomic_store(&ctx->n_threads, n_threads < 0 ? 0 : n_threads); }

bool uf_ctx_threads_chosen(const uf_ctx *ctx) { return atomic_load(&((uf_ctx *)(uintptr_t)ctx)->n_threads) > 0; }

int uf_ctx_threads(const uf_ctx *ctx) {
    int n = atomic_load(&((uf_ctx *)(uintptr_t)ctx)->n_threads);
    if (n > 0) return n;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) n = (int)sysconf(_SC_NPROCESSORS_ONLN); /* over 1024 processors */
    else n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

int uf_fail(uf_ctx *ctx, int code, const char *fmt, ...) {
    if (!ctx) return code;
    pthread_mutex_lock(&ctx->error_lock);
    if (atomic_load(&ctx->code) == UF_OK) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(ctx->error, sizeof ctx->error, fmt, ap);
        va_end(ap);
        atomic_store(&ctx->code, code);
    }
    pthread_mutex_unlock(&ctx->error_lock);
    return code;
}

void uf_log(uf_ctx *ctx, uf_level level, const char *fmt, ...) {
    if (!ctx) return;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&ctx->log_lock);
    if (ctx->log && level <= ctx->level) ctx->log(ctx->log_user, level, line);
    pthread_mutex_unlock(&ctx->log_lock);
}

void *uf_alloc(uf_ctx *ctx, size_t n, size_t size) {
    size_t bytes = 0;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX - 64) {
        uf_fail(ctx, UF_ENOMEM, "a size of %zu x %zu bytes overflows; the input claims impossible dimensions", n, size);
        return NULL;
    }
    bytes = (bytes + 63) / 64 * 64;
    void *p = aligned_alloc(64, bytes ? bytes : 64);
    if (!p) {
        uf_fail(ctx, UF_ENOMEM, "out of memory: %zu MB more were needed; choose a smaller size or batch", bytes >> 20);
        return NULL;
    }
    memset(p, 0, bytes ? bytes : 64);
    return p;
}

char *uf_strdup(uf_ctx *ctx, const char *s) { return uf_format(ctx, "%s", s); }

char *uf_format(uf_ctx *ctx, const char *fmt, ...) {
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    if (n >= 0) return s;
    uf_fail(ctx, UF_ENOMEM, "out of memory; close other programs");
    return NULL;
}

double uf_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int by_float(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void uf_sort(double *x, size_t n) { qsort(x, n, sizeof *x, by_value); }
void uf_sort_floats(float *x, size_t n) { qsort(x, n, sizeof *x, by_float); }
