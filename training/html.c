/* What pages are made of. */
#include "training.h"

#include <openssl/evp.h>
#include <stdlib.h>

void uf_html_text(FILE *f, const char *s) {
    for (; *s; s++) {
        if (*s == '<') fputs("&lt;", f);
        else if (*s == '&') fputs("&amp;", f);
        else if (*s == '"') fputs("&quot;", f);
        else fputc(*s, f);
    }
}

int uf_html_base64(uf_ctx *ctx, FILE *f, const uint8_t *bytes, size_t n) {
    unsigned char *code = uf_alloc(ctx, 4 * (n / 3 + 1) + 1, 1);
    if (!code) return UF_ENOMEM;
    EVP_EncodeBlock(code, bytes, (int)n);
    fputs((const char *)code, f);
    free(code);
    return UF_OK;
}
