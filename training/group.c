#include "group.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What launchers tell the processes that they start: of most the number of processes. Whoever starts
 * one process by hand has no use for MPI's own start, which takes seconds. */
static const char *launched(void) {
    static const char *const words[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS"};
    for (int i = 0; i < UF_LEN(words); i++)
        if (getenv(words[i])) return getenv(words[i]);
    return NULL;
}

#ifdef UNFADE_MPI
#include <mpi.h>

static void finalize(void) { MPI_Finalize(); }

static int failed(uf_ctx *ctx) {
    return uf_fail(ctx, UF_EIO, "the processes lost each other; go on from the last checkpoint with --resume");
}

static int sum(uf_ctx *ctx, void *x, size_t n, MPI_Datatype type) {
    return MPI_Allreduce(MPI_IN_PLACE, x, (int)n, type, MPI_SUM, MPI_COMM_WORLD) == MPI_SUCCESS ? UF_OK : failed(ctx);
}

int uf_group_open(uf_group *g, uf_ctx *ctx) {
    int there = 0, level;
    *g = (uf_group){0, 1};
    if (!launched()) return UF_OK;
    MPI_Initialized(&there); /* by the caller, or by an earlier run of this process */
    if (!there && MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS) return failed(ctx);
    MPI_Comm_rank(MPI_COMM_WORLD, &g->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &g->n);
    if (!there) atexit(finalize);
    return UF_OK;
}

void uf_group_close(uf_group *g, uf_ctx *ctx, int code) {
    if (g->n < 2 || code >= 0 || code == UF_EINTR) return;
    uf_log(ctx, UF_LOG_ERROR, "process %d of %d: %s", g->rank + 1, g->n, uf_ctx_error(ctx));
    MPI_Abort(MPI_COMM_WORLD, 1);
}

int uf_group_sum(const uf_group *g, uf_ctx *ctx, double *x, int n) {
    return g->n > 1 ? sum(ctx, x, (size_t)n, MPI_DOUBLE) : UF_OK;
}

int uf_group_end(const uf_group *g, uf_ctx *ctx, uf_params *params, int batches) {
    if (g->n < 2) return UF_OK;
    float older = powf(1.f - UF_BATCH_NORM_MOMENTUM, (float)(batches * (g->n - 1 - g->rank)));
    for (int i = 0; i < uf_params_n(params); i++) {
        uf_param *p = uf_params_at(params, i);
        size_t n = uf_count(p->shape);
        for (size_t k = 0; p->buffer && k < n; k++) p->value[k] *= older;
        if (p->buffer) UF_TRY(sum(ctx, p->value, n, MPI_FLOAT));
        else if (p->grad && !p->frozen) UF_TRY(sum(ctx, p->grad, n, MPI_FLOAT));
    }
    return UF_OK;
}
#else
int uf_group_open(uf_group *g, uf_ctx *ctx) {
    const char *n = launched();
    *g = (uf_group){0, 1};
    if (n && atoi(n) > 1)
        return uf_fail(ctx, UF_EUNSUPPORTED, "%s processes were started to train together, and this unfade was built without "
                       "MPI; build it with -DUNFADE_MPI=ON, or start one", n);
    return UF_OK;
}

void uf_group_close(uf_group *g, uf_ctx *ctx, int code) {
    (void)g;
    (void)ctx;
    (void)code;
}

int uf_group_sum(const uf_group *g, uf_ctx *ctx, double *x, int n) {
    (void)g;
    (void)ctx;
    (void)x;
    (void)n;
    return UF_OK;
}

int uf_group_end(const uf_group *g, uf_ctx *ctx, uf_params *params, int batches) {
    (void)g;
    (void)ctx;
    (void)params;
    (void)batches;
    return UF_OK;
}
#endif

/* A running mean over a batches, from m: q^a m + what the batches add. Only the first process begins from m, so that the sum of
 * all, each aged by those that come after it, is as one process would have it. */
void uf_group_begin(const uf_group *g, uf_params *params) {
    for (int i = 0; g->rank > 0 && i < uf_params_n(params); i++) {
        uf_param *p = uf_params_at(params, i);
        if (p->buffer) memset(p->value, 0, uf_count(p->shape) * sizeof *p->value);
    }
}
