#include "exif.h"

#include <libavutil/intreadwrite.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRY = 12, ORIENTATION = 274, X_RESOLUTION = 282, Y_RESOLUTION = 283, RESOLUTION_UNIT = 296, XMP = 700,
       ICC = 34675, EXIF_TABLE = 34665, GPS_TABLE = 34853, INTEROP_TABLE = 40965 };

/* Bytes of one value, and of the unit that has a byte order, by type. */
static const int sizes[] = { 0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4 };
static const int units[] = { 0, 1, 1, 2, 4, 4, 1, 1, 2, 4, 4, 4, 8, 4 };

typedef struct block {
    const uint8_t *data;
    size_t n;
    bool big; /* byte order */
} block;

typedef struct value { /* of one tag, inside a block */
    unsigned tag, type;
    uint32_t count;
    const uint8_t *at;
    size_t n; /* bytes at `at`, all inside the block */
} value;

int uf_bytes_add(uf_bytes *b, uf_ctx *ctx, const void *data, size_t n) {
    uint8_t *more = n < SIZE_MAX - b->n ? realloc(b->data, b->n + n + 1) : NULL;
    if (!more) return uf_fail(ctx, UF_ENOMEM, "cannot keep the tags of a picture: out of memory");
    b->data = more;
    if (n) memcpy(more + b->n, data, n);
    b->n += n;
    return UF_OK;
}

static unsigned get16(const block *b, const uint8_t *p) {
    return b->big ? AV_RB16(p) : AV_RL16(p);
}

static uint32_t get32(const block *b, const uint8_t *p) {
    return b->big ? AV_RB32(p) : AV_RL32(p);
}

/* Number of entries of the table at offset `table`; 0 when it does not lie inside the block, or is no such table: real
 * ones have some dozens. */
static unsigned n_entries(const block *b, size_t table) {
    unsigned n;
    if (table < 8 || b->n < 2 || table > b->n - 2) return 0;
    n = get16(b, b->data + table);
    return n <= 1000 && n <= (b->n - table - 2) / ENTRY ? n : 0;
}

/* Offset of the first table; 0: not such a block. */
static size_t open_block(block *b, const uint8_t *data, size_t n) {
    *b = (block){ data, n, n > 1 && data[0] == 'M' };
    if (n < 8 || (memcmp(data, "II*\0", 4) && memcmp(data, "MM\0*", 4))) return 0;
    return get32(b, data + 4);
}

static bool entry(const block *b, size_t table, unsigned i, value *v) {
    const uint8_t *p = b->data + table + 2 + (size_t)i * ENTRY;
    uint64_t n;
    *v = (value){ get16(b, p), get16(b, p + 2), get32(b, p + 4), p + 8, 0 };
    if (v->type == 0 || v->type >= UF_LEN(sizes)) return false;
    n = (uint64_t)v->count * (unsigned)sizes[v->type];
    if (n > 4) {
        size_t at = get32(b, p + 8);
        if (n > b->n || at > b->n - n) return false;
        v->at = b->data + at;
    }
    v->n = (size_t)n;
    return n > 0;
}

static bool find(const block *b, size_t table, unsigned tag, value *v) {
    for (unsigned i = 0, n = n_entries(b, table); i < n; i++)
        if (entry(b, table, i, v) && v->tag == tag) return true;
    return false;
}

int uf_exif_orientation(const uint8_t *data, size_t n) {
    block b;
    value v;
    size_t table = open_block(&b, data, n);
    unsigned o = table && find(&b, table, ORIENTATION, &v) && v.type == 3 ? get16(&b, v.at) : 0;
    return o <= 8 ? (int)o : 0;
}

bool uf_exif_density(const uint8_t *data, size_t n, double dpi[2]) {
    block b;
    value unit, v;
    size_t table = open_block(&b, data, n);
    double per_inch = table && find(&b, table, RESOLUTION_UNIT, &unit) && unit.type == 3 && get16(&b, unit.at) == 3 ? 2.54 : 1;
    for (unsigned i = 0; i < 2; i++) {
        if (!table || !find(&b, table, X_RESOLUTION + i, &v) || v.type != 5 || get32(&b, v.at + 4) == 0) return false;
        dpi[i] = (double)get32(&b, v.at) / get32(&b, v.at + 4) * per_inch;
    }
    return dpi[0] > 0 && dpi[1] > 0;
}

void uf_exif_drop_thumbnail(uint8_t *data, size_t n) {
    block b;
    size_t table = open_block(&b, data, n), next = table + 2 + (size_t)n_entries(&b, table) * ENTRY;
    if (table >= 8 && next <= n && n - next >= 4) memset(data + next, 0, 4); /* the second table describes it */
}

/* ---- merging ------------------------------------------------------------------------------------------------ */

/* Of the first table, what describes the picture; of the tables below it everything does. */
static bool describes(unsigned tag, int depth) {
    static const uint16_t tags[] = { 269, 270, 271, 272, ORIENTATION, X_RESOLUTION, Y_RESOLUTION, 285, RESOLUTION_UNIT, 305, 306,
        315, 316, XMP, 33432, 33723, 34377, EXIF_TABLE, GPS_TABLE, 40091, 40092, 40093, 40094, 40095 };
    for (int i = 0; i < UF_LEN(tags); i++)
        if (tags[i] == tag) return true;
    return depth > 0;
}

/* Appends the bytes in Intel's order, on an even offset, and returns that offset. */
static int append(uf_bytes *to, uf_ctx *ctx, const block *b, const value *v, uint32_t *at) {
    size_t unit = (size_t)units[v->type];
    if (to->n & 1) UF_TRY(uf_bytes_add(to, ctx, "", 1));
    *at = (uint32_t)to->n;
    UF_TRY(uf_bytes_add(to, ctx, v->at, v->n));
    for (size_t i = 0; b->big && i < v->n; i += unit)
        for (size_t k = 0; k < unit; k++) to->data[*at + i + k] = v->at[i + unit - 1 - k];
    return UF_OK;
}

static int by_tag(const void *a, const void *b) {
    return (int)AV_RL16(a) - (int)AV_RL16(b);
}

static void put_entry(uint8_t *p, unsigned tag, unsigned type, uint32_t count, uint32_t inside) {
    AV_WL16(p, tag);
    AV_WL16(p + 2, type);
    AV_WL32(p + 4, count);
    AV_WL32(p + 8, inside);
}

static int copy_table(uf_bytes *to, uf_ctx *ctx, const block *b, size_t table, size_t room, int depth, uint32_t *at);

/* One tag as an entry at p; UF_EOF: it is left out. */
static int copy_tag(uf_bytes *to, uf_ctx *ctx, const block *b, const value *v, size_t room, int depth, uint8_t *p) {
    uint32_t at = 0;
    if (v->tag == EXIF_TABLE || v->tag == GPS_TABLE || v->tag == INTEROP_TABLE) {
        if (depth >= 2 || v->n != 4) return UF_EOF;
        UF_TRY(copy_table(to, ctx, b, get32(b, v->at), room, depth + 1, &at));
        if (!at) return UF_EOF;
        put_entry(p, v->tag, 4, 1, at);
        return UF_OK;
    }
    if (to->n + v->n > room) return UF_EOF; /* tables that share their bytes could make it grow without end */
    UF_TRY(append(to, ctx, b, v, &at));
    put_entry(p, v->tag, v->type, v->count, at);
    if (v->n > 4) return UF_OK;
    memset(p + 8, 0, 4);
    memcpy(p + 8, to->data + at, v->n);
    to->n = at;
    return UF_OK;
}

/* Copies what describes the picture into entries[*n...], a tag once. */
static int copy_tags(uf_bytes *to, uf_ctx *ctx, const block *b, size_t table, size_t room, int depth, uint8_t *entries, unsigned *n) {
    for (unsigned i = 0, all = n_entries(b, table); i < all; i++) {
        uint8_t *p = entries + (size_t)*n * ENTRY;
        bool seen = false;
        value v;
        int err;
        if (!entry(b, table, i, &v) || !describes(v.tag, depth)) continue;
        for (unsigned k = 0; k < *n; k++) seen |= AV_RL16(entries + (size_t)k * ENTRY) == v.tag;
        if (seen) continue;
        if ((err = copy_tag(to, ctx, b, &v, room, depth, p)) == UF_OK) ++*n;
        else if (err != UF_EOF) return err;
    }
    return UF_OK;
}

static int write_table(uf_bytes *to, uf_ctx *ctx, uint8_t *entries, unsigned n, uint32_t *at) {
    uint8_t count[2];
    qsort(entries, n, ENTRY, by_tag);
    AV_WL16(count, n);
    if (to->n & 1) UF_TRY(uf_bytes_add(to, ctx, "", 1));
    *at = (uint32_t)to->n;
    UF_TRY(uf_bytes_add(to, ctx, count, 2));
    UF_TRY(uf_bytes_add(to, ctx, entries, (size_t)n * ENTRY));
    return uf_bytes_add(to, ctx, "\0\0\0", 4); /* no table follows */
}

static int copy_table(uf_bytes *to, uf_ctx *ctx, const block *b, size_t table, size_t room, int depth, uint32_t *at) {
    unsigned n = 0;
    uint8_t *entries = uf_alloc(ctx, n_entries(b, table) + 1u, ENTRY);
    int err = entries ? copy_tags(to, ctx, b, table, room, depth, entries, &n) : UF_ENOMEM;
    if (err == UF_OK && n) err = write_table(to, ctx, entries, n, at);
    free(entries);
    return err;
}

/* The file's own entries, but those that were copied already. */
static unsigned keep_own(const block *own, size_t table, uint8_t *entries, unsigned n) {
    unsigned copied = n;
    for (unsigned i = 0, all = n_entries(own, table); i < all; i++) {
        const uint8_t *p = own->data + table + 2 + (size_t)i * ENTRY;
        bool seen = false;
        for (unsigned k = 0; k < copied; k++) seen |= AV_RL16(entries + (size_t)k * ENTRY) == AV_RL16(p);
        if (!seen) memcpy(entries + (size_t)n++ * ENTRY, p, ENTRY);
    }
    return n;
}

int uf_exif_merge(uf_bytes *file, uf_ctx *ctx, const uint8_t *data, size_t n_data, const uf_bytes *icc) {
    block from, own;
    size_t table = open_block(&from, data, n_data), own_table, room;
    uint8_t *entries;
    unsigned n = 0;
    uint32_t at = 0;
    int err = UF_OK;
    if (!file->n) UF_TRY(uf_bytes_add(file, ctx, "II*\0\0\0\0", 8));
    own_table = open_block(&own, file->data, file->n);
    room = file->n + n_data + 65536;
    if (own.big || room + (icc ? icc->n : 0) > UINT32_MAX) return UF_OK; /* tiffenc writes Intel's order, offsets have 32 bits */
    entries = uf_alloc(ctx, n_entries(&from, table) + n_entries(&own, own_table) + 1u, ENTRY);
    if (!entries) return UF_ENOMEM;
    if (table) err = copy_tags(file, ctx, &from, table, room, 0, entries, &n);
    if (err == UF_OK && icc && icc->n > 4) {
        value v = { ICC, 7, (uint32_t)icc->n, icc->data, icc->n };
        own.big = false;
        if ((err = append(file, ctx, &own, &v, &at)) == UF_OK) put_entry(entries + (size_t)n++ * ENTRY, ICC, 7, v.count, at);
    }
    own.data = file->data; /* it has moved */
    n = keep_own(&own, own_table, entries, n);
    if (err == UF_OK && (err = write_table(file, ctx, entries, n, &at)) == UF_OK) AV_WL32(file->data + 4, at);
    free(entries);
    return err;
}
