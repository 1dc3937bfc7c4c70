/* A context for a test program: two threads. */
#ifndef UF_TEST_CTX_H
#define UF_TEST_CTX_H

static uf_ctx *open_ctx(void) {
    uf_ctx *ctx = NULL;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    uf_ctx_set_threads(ctx, 2);
    return ctx;
}

#endif
