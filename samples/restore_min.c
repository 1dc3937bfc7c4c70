/* The smallest program that colours a film: restore_min IN OUT [WEIGHTS]
 * Run it as OMP_WAIT_POLICY=passive restore_min IN OUT: compute threads that wait in a busy loop, OpenMP's default, slow
 * down decoding and encoding. */
#include <stdio.h>
#include <unfade.h>

static void progress(void *user, const uf_progress *p) {
    (void)user;
    fprintf(stderr, "\r%lld frames, %.1f a second", (long long)p->n_done, p->fps);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: restore_min IN OUT [WEIGHTS]\n");
        return 64;
    }
    uf_ctx *ctx = NULL;
    if (uf_ctx_open(&ctx) < 0) return 1;
    uf_colorize_options options = {.weights = argc > 3 ? argv[3] : NULL, .progress = progress};
    int err = uf_colorize(ctx, argv[1], argv[2], &options);
    fprintf(stderr, "\n%s\n", err < 0 ? uf_ctx_error(ctx) : "done");
    uf_ctx_close(&ctx);
    return err < 0;
}
