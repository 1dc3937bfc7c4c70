/* The other side of color_torch.py: unfade's forward pass and training step on the same shapes.
 *     cc ... or: cmake --build build/release --target color_step && build/release/tests/color_step */
#include "models.h"

#include <stdlib.h>

static int measure(uf_ctx *ctx, uf_dtype dtype, bool train, int n, int h, int w) {
    uf_params *params = NULL;
    uf_graph *g = NULL;
    uf_plan *plan = NULL;
    uf_built b = {0};
    uf_adam a = {.rate = 1e-4f, .beta1 = .9f, .beta2 = .99f, .eps = 1e-8f, .decay = .01f};
    int err = uf_params_open(&params, ctx, 1);
    if (err == UF_OK) err = uf_graph_open(&g, ctx, params);
    if (err == UF_OK) err = uf_model_color.build(g, (uf_shape){n, 1, h, w}, &b);
    uf_node *target = err == UF_OK ? uf_input(g, "target", b.out->shape) : NULL;
    uf_node *loss = train && target ? uf_l1(b.out, target) : NULL;
    if (err == UF_OK) uf_output(b.out);
    uf_plan_options o = {.mode = train ? UF_TRAIN : UF_INFER, .dtype = dtype, .loss = loss};
    if (err == UF_OK) err = uf_plan_open(&plan, ctx, g, &o);
    float *x = uf_alloc(ctx, (size_t)n * (size_t)h * (size_t)w, sizeof *x);
    if (err == UF_OK) err = x ? uf_plan_set(plan, b.luma, x) : UF_ENOMEM;
    double best = 1e9;
    for (int i = 0; err == UF_OK && i < (train ? 6 : 30); i++) {
        double start = uf_now();
        err = uf_plan_run(plan);
        if (err == UF_OK && train) {
            uf_params_zero_grad(params);
            err = uf_plan_backward(plan);
            if (err == UF_OK) err = uf_adam_step(ctx, params, &a, i + 1, NULL);
        }
        double ms = (uf_now() - start) * 1e3;
        if (i && ms < best) best = ms;
    }
    if (err == UF_OK)
        printf("%s %s %dx%d, batch %d: %.2f ms\n", dtype == UF_BF16 ? "bf16" : "float32", train ? "training step" : "forward", w, h,
               n, best);
    free(x);
    uf_plan_close(&plan);
    uf_graph_close(&g);
    uf_params_close(&params);
    return err;
}

int main(void) {
    uf_ctx *ctx = NULL;
    if (uf_ctx_open(&ctx) < 0) return 1;
    int err = UF_OK;
    for (int bf16 = uf_cpu_has_bf16(); err == UF_OK && bf16 >= 0; bf16--) {
        err = measure(ctx, bf16 ? UF_BF16 : UF_F32, false, 1, 256, 320);
        if (err == UF_OK) err = measure(ctx, bf16 ? UF_BF16 : UF_F32, true, 32, 128, 128);
    }
    if (err < 0) fprintf(stderr, "%s\n", uf_ctx_error(ctx));
    uf_ctx_close(&ctx);
    return err < 0;
}
