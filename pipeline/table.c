#include "table.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct uf_table {
    uf_table_scene *scenes;
    int n, room;
};

static int add(uf_ctx *ctx, uf_table *t, const uf_table_scene *s) {
    if (t->n == t->room) {
        int room = t->room ? 2 * t->room : 64;
        uf_table_scene *more = realloc(t->scenes, (size_t)room * sizeof(*more));
        if (!more) return uf_fail(ctx, UF_ENOMEM, "out of memory for a table of %d scenes", room);
        t->scenes = more;
        t->room = room;
    }
    t->scenes[t->n++] = *s;
    return UF_OK;
}

/* The number that stands after a word; NaN when there is none. */
static double number_after(char **rest) {
    char *word = strtok_r(NULL, " \t\r\n", rest), *end = word;
    double v = word ? strtod(word, &end) : NAN;
    return word && end != word && !*end ? v : NAN;
}

static int read_line(uf_ctx *ctx, uf_table *t, const char *path, int number, char *line) {
    uf_table_scene s = { .frame = -1, .strength = 1 };
    char *rest, *word = strtok_r(line, " \t\r\n", &rest);
    double v;
    if (!word || *word == '#') return UF_OK;
    for (; word; word = strtok_r(NULL, " \t\r\n", &rest)) {
        if (strcmp(word, "frame") == 0) {
            v = number_after(&rest);
            if (!(v >= 0 && v < 1e12 && v == floor(v))) return uf_fail(ctx, UF_EDATA, "'%s', line %d: after 'frame' comes the number of a scene's first frame", path, number);
            s.frame = (int64_t)v;
        } else if (strcmp(word, "strength") == 0) {
            s.strength = number_after(&rest);
            if (!(s.strength >= 0 && s.strength <= 2)) return uf_fail(ctx, UF_EDATA, "'%s', line %d: after 'strength' comes a number from 0 to 2", path, number);
        } else if (strcmp(word, "tune") == 0) {
            char *file = rest + strspn(rest, " \t");
            file[strcspn(file, "\r\n")] = 0;
            if (!*file) return uf_fail(ctx, UF_EDATA, "'%s', line %d: after 'tune' comes the name of a file", path, number);
            if (!(s.tune = uf_strdup(ctx, file))) return UF_ENOMEM;
            break;
        }
    }
    int err = UF_OK;
    int64_t last = t->n ? t->scenes[t->n - 1].frame : -1;
    if (s.frame < 0) err = uf_fail(ctx, UF_EDATA, "'%s', line %d tells no 'frame'; give lines as 'unfade scenes' prints them", path, number);
    else if (s.frame <= last) err = uf_fail(ctx, UF_EDATA, "'%s', line %d: frame %lld comes after frame %lld; put the scenes in order", path, number,
                                            (long long)s.frame, (long long)last);
    if (err == UF_OK && t->n == 0 && s.frame > 0) err = add(ctx, t, &(uf_table_scene){ .strength = 1 });
    if (err == UF_OK) err = add(ctx, t, &s);
    if (err < 0) free(s.tune);
    return err;
}

int uf_table_open(uf_table **out, uf_ctx *ctx, const char *path) {
    FILE *f = fopen(path, "r");
    uf_table *t = uf_alloc(ctx, 1, sizeof(*t));
    char *line = NULL;
    size_t room = 0;
    int err = t ? UF_OK : UF_ENOMEM;
    if (!f) err = uf_fail(ctx, UF_EIO, "cannot open '%s': %s; give the file that 'unfade scenes FILM' was written to", path, strerror(errno));
    for (int n = 1; err == UF_OK && getline(&line, &room, f) >= 0; n++) err = read_line(ctx, t, path, n, line);
    if (err == UF_OK && t->n == 0) err = uf_fail(ctx, UF_EDATA, "'%s' tells of no scene; give lines as 'unfade scenes' prints them", path);
    free(line);
    if (f) fclose(f);
    if (err < 0) uf_table_close(&t);
    else *out = t;
    return err;
}

void uf_table_close(uf_table **t) {
    if (!t || !*t) return;
    for (int i = 0; i < (*t)->n; i++) free((*t)->scenes[i].tune);
    free((*t)->scenes);
    free(*t);
    *t = NULL;
}

const uf_table_scene *uf_table_at(const uf_table *t, int64_t frame) {
    int low = 0, high = t->n - 1; /* scenes[low] begins at or before it */
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (t->scenes[middle].frame <= frame) low = middle;
        else high = middle - 1;
    }
    return &t->scenes[low];
}

bool uf_table_begins(const uf_table *t, int64_t frame) {
    return uf_table_at(t, frame)->frame == frame;
}
