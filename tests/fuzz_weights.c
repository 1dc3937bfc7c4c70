/* libFuzzer: any bytes at all as a weights file. Each must end in a sentence or in a load; the sanitizers watch.
 * cmake -DCMAKE_C_COMPILER=clang -DUNFADE_FUZZ=ON, build target fuzz_weights, then: fuzz_weights CORPUS_FOLDER */
#include "engine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void look(const uf_weights *w) {
    uf_shape s;
    const char *text;
    for (int i = 0; i < uf_weights_n(w); i++)
        if (!uf_weights_tensor(w, i, &s, &text) || uf_count(s) == 0) abort();
    for (int i = 0; i < uf_weights_n_meta(w); i++)
        if (!uf_weights_meta_at(w, i, &text) || !text) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char path[64];
    uf_ctx *ctx = NULL;
    uf_params *set = NULL;
    uf_weights *w = NULL;
    int fd = memfd_create("weights", 0); /* never touches a disk */
    if (fd < 0 || (n && write(fd, data, n) != (ssize_t)n)) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (uf_ctx_open(&ctx) < 0 || uf_params_open(&set, ctx, 1) < 0) abort();
    uf_param *a = uf_params_add(set, "a", (uf_shape){2, 1, 1, 2}, UF_INIT_ONE);
    uf_params_add(set, "b", (uf_shape){1, 3, 1, 1}, UF_INIT_ONE);
    int err = uf_weights_open(&w, ctx, path);
    if (err == UF_OK) {
        look(w);
        uf_weights_load(w, set, false, NULL);
        uf_weights_load_cut(w, a);
        uf_ctx_clear(ctx);
        err = uf_weights_load(w, set, true, NULL);
    }
    if (err < 0 && !*uf_ctx_error(ctx)) abort();
    uf_weights_close(&w);
    uf_params_close(&set);
    uf_ctx_close(&ctx);
    close(fd);
    return 0;
}
