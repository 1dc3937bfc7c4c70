#include "wave_chunks.h"

#include "pipeline.h"

#include <sndfile.h>
#include <stdlib.h>
#include <string.h>

static const char *const kept[] = { "cue ", "LIST", "smpl", "inst", "iXML", "axml", "cart", "_PMX" };
enum { MOST = 64 << 20 };

static void put32(unsigned char *to, uint32_t x) {
    for (int i = 0; i < 4; i++) to[i] = (unsigned char)(x >> (8 * i));
}

/* One chunk at the end of f, whose own length is in its eighth byte and on. */
static bool append(FILE *f, const char *id, const void *data, uint32_t n) {
    unsigned char size[4];
    put32(size, n);
    return fwrite(id, 4, 1, f) == 1 && fwrite(size, 4, 1, f) == 1 && fwrite(data, 1, n, f) == n && (!(n & 1) || fputc(0, f) != EOF);
}

static bool append_kind(SNDFILE *s, FILE *f, const char *id) {
    SF_CHUNK_INFO about = { .id_size = 4 };
    memcpy(about.id, id, 4);
    for (SF_CHUNK_ITERATOR *i = sf_get_chunk_iterator(s, &about); i; i = sf_next_chunk_iterator(i)) {
        SF_CHUNK_INFO c = { 0 };
        if (sf_get_chunk_size(i, &c) || c.datalen < 4 || c.datalen > MOST || !(c.data = malloc(c.datalen))) continue;
        bool info = sf_get_chunk_data(i, &c) || (!strcmp(id, "LIST") && memcmp(c.data, "adtl", 4)); /* tags are written by FFmpeg */
        bool good = info || append(f, id, c.data, c.datalen);
        free(c.data);
        if (!good) return false;
    }
    return true;
}

/* The length in the head of the file. */
static bool finish(FILE *f) {
    unsigned char size[4];
    long end = fseek(f, 0, SEEK_END) ? -1 : ftell(f);
    if (end < 8 || end - 8 > (long)UINT32_MAX) return false;
    put32(size, (uint32_t)(end - 8));
    return !fseek(f, 4, SEEK_SET) && fwrite(size, 4, 1, f) == 1;
}

int uf_wave_chunks_copy(uf_ctx *ctx, const char *from, const char *to, const char *name) {
    SF_INFO info = { 0 };
    SNDFILE *s = sf_open(from, SFM_READ, &info);
    if (!s) return UF_OK; /* FFmpeg reads more kinds than libsndfile does: there is nothing here that it would know */
    FILE *f = fopen(to, "r+b");
    char head[4] = "";
    bool good = f && fread(head, 4, 1, f) == 1;
    if (good && !memcmp(head, "RIFF", 4)) {
        good = !fseek(f, 0, SEEK_END);
        for (int i = 0; good && i < UF_LEN(kept); i++) good = append_kind(s, f, kept[i]);
        good = good && finish(f);
    }
    if (f && fclose(f)) good = false;
    sf_close(s);
    return good ? UF_OK : uf_fail(ctx, UF_EIO, "cannot write '%s'; is the disk full?", name);
}
