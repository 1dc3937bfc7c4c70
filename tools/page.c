/* What the pages of the commands have in common: one HTML file, no other file, no network, one small script of its own. */
#include "page.h"

#include "training.h"

#include <ctype.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LARGEST_PLAYER = 16 << 20, SOUND_W = 1200, SOUND_H = 320 };

static const char style[] =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;color:#222;background:#fff;color-scheme:light dark}\n"
    "h1,h3,li{overflow-wrap:anywhere}h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2rem}\n"
    ".pair{position:relative;max-width:40rem;margin:1rem 0}.pair img{display:block;width:100%;height:auto}\n"
    ".wave.pair{max-width:none}audio{width:100%}\n"
    ".pair .after{position:absolute;top:0;left:0;clip-path:inset(0 0 0 50%)}\n"
    ".pair input{width:100%;margin:.4rem 0;height:2rem}figcaption{font-size:.9rem;color:#555}figure{margin:0}\n"
    ".strip{display:flex;flex-wrap:wrap;gap:.5rem}.strip figure{width:9rem}.strip img{width:100%;height:auto;display:block}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse}td,th{padding:.2rem .6rem;text-align:left}th{border-bottom:1px solid #888}\n"
    ".bad{color:#b00020;font-weight:bold}video{max-width:100%;height:auto}a{color:inherit}\n"
    ".chart{display:block;width:100%;height:auto}.takes{list-style:none;padding:0}.takes li{margin:.7rem 0}.takes .chart{margin-top:.2rem}\n"
    ".tight td,.tight th{white-space:nowrap}"
    ".key{display:inline-block;min-width:1.5em;padding:0 .2em;margin-right:.4em;text-align:center;color:#fff;border-radius:.2em;font-size:.85em}\n"
    ".note{color:#555;font-size:.9rem}.sample{display:inline-block;width:1em;height:.8em;border:1px solid #444;background:#fff;margin:0 .3em}\n"
    ".wedge{display:inline-block;border:.35em solid transparent;border-top:.8em solid #000;border-bottom:0;margin:0 .3em}\n"
    ".tag{position:absolute;color:#fff;background:#0008;font-size:.8rem;padding:0 .3rem;pointer-events:none}\n"
    ".scale{display:flex;justify-content:space-between;font-size:.8rem;color:#555}\n"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}figcaption,.note,.scale{color:#aaa}.bad{color:#ff8080}\n"
    ".chart,.key,.sample,.wedge{filter:invert(.91) hue-rotate(180deg)}}\n";

static const char script[] =
    "document.querySelectorAll('.pair').forEach(function(p){var r=p.querySelector('input'),a=p.querySelector('.after');"
    "r.addEventListener('input',function(){a.style.clipPath='inset(0 0 0 '+r.value+'%)'})})";

int uf_page_head(uf_ctx *ctx, FILE *f, const char *title) {
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (!EVP_Digest(script, sizeof script - 1, sum, &n, EVP_sha256(), NULL)) return uf_fail(ctx, UF_ENOMEM, "cannot compute a checksum");
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; media-src data: 'self' file:; style-src 'unsafe-inline'; "
          "script-src 'sha256-", f);
    UF_TRY(uf_html_base64(ctx, f, sum, n));
    fprintf(f, "'\">\n<title>unfade report</title>\n<style>\n%s</style></head><body>\n<h1>", style);
    uf_html_text(f, title);
    fputs("</h1>\n", f);
    return UF_OK;
}

void uf_page_foot(FILE *f) { fprintf(f, "<p>unfade %s</p>\n<script>%s</script>\n</body></html>\n", UF_VERSION, script); }

/* What was asked for and what the program said of it. */
void uf_page_notes(FILE *f, const char *lines) {
    if (!lines || !*lines) return;
    fputs("<h2>What was done</h2>\n<ul>\n", f);
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        char line[1024];
        snprintf(line, sizeof line, "%.*s", (int)(n < sizeof line ? n : sizeof line - 1), lines);
        fprintf(f, "<li%s>", strncmp(line, "warning: ", 9) ? "" : " class=\"bad\"");
        uf_html_text(f, line);
        fputs("</li>\n", f);
        lines += n + (lines[n] == '\n');
    }
    fputs("</ul>\n", f);
}

static const char *player_type(const char *path) {
    static const char *const types[][2] = {{".mp4", "video/mp4"}, {".webm", "video/webm"}, {".wav", "audio/wav"}, {".mp3", "audio/mpeg"}, {".flac", "audio/flac"},
                                           {".ogg", "audio/ogg"}, {".opus", "audio/ogg"}, {".m4a", "audio/mp4"}};
    const char *dot = strrchr(path, '.');
    for (int i = 0; dot && i < UF_LEN(types); i++)
        if (!strcmp(dot, types[i][0])) return types[i][1];
    return NULL;
}

/* As an address, relative to the folder that it is in. */
static void print_address(FILE *f, const char *file_name) {
    for (const unsigned char *c = (const unsigned char *)file_name; *c; c++) fprintf(f, isalnum(*c) || strchr("-._~", *c) ? "%c" : "%%%02X", *c);
}

static void too_large(FILE *f, const char *path, const char *title, const char *type, const char *page, double megabytes) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *other = strrchr(page, '/');
    size_t n = (size_t)(name - path), n_page = other ? (size_t)(other + 1 - page) : 0;
    bool beside = n == n_page && !strncmp(path, page, n);
    fprintf(f, "<h2>%s</h2>\n<p class=\"note\">Of %.0f MB: what is larger than %d MiB is not in the page itself. %s ", title, megabytes, LARGEST_PLAYER >> 20,
            beside ? "This is played from beside it; keep both together:" : "Play it from its own place:");
    uf_html_text(f, path);
    fputs("</p>\n", f);
    if (!beside) return;
    fprintf(f, "<%.5s controls preload=\"metadata\" src=\"", type);
    print_address(f, name);
    fprintf(f, "\"></%.5s>\n", type);
}

int uf_page_player(uf_app *app, FILE *f, const char *path, const char *title, const char *page) {
    const char *type = player_type(path);
    struct stat st;
    if (!type || stat(path, &st) != 0) return UF_OK;
    if (st.st_size > LARGEST_PLAYER) return too_large(f, path, title, type, page, (double)st.st_size / 1e6), UF_OK;
    uint8_t *bytes = uf_alloc(app->ctx, (size_t)st.st_size + 1, 1);
    FILE *media = bytes ? fopen(path, "rb") : NULL;
    int err = UF_OK;
    if (media && fread(bytes, 1, (size_t)st.st_size, media) == (size_t)st.st_size) {
        fprintf(f, "<h2>%s</h2>\n<%.5s controls preload=\"metadata\" src=\"data:%s;base64,", title, type, type);
        err = uf_html_base64(app->ctx, f, bytes, (size_t)st.st_size);
        fprintf(f, "\"></%.5s>\n", type);
    }
    if (media) fclose(media);
    free(bytes);
    return err;
}

/* ---- spectrograms --------------------------------------------------------------------------------------------------------------- */

/* w*h pixels into SOUND_W*SOUND_H, their lower left corner `left` from the left; what is outside is left out, what is nowhere is black. */
static void place(const uint8_t *from, int w, int h, int left, uint8_t *to) {
    for (int y = 0; y < SOUND_H; y++)
        for (int x = 0; x < SOUND_W; x++) {
            int fx = x - left, fy = y - SOUND_H + h;
            if (fx >= 0 && fx < w && fy >= 0) memcpy(to + 3 * (y * SOUND_W + x), from + 3 * (fy * w + fx), 3);
        }
}

/* Where the recording has its place on a longer time line and a wider band. */
static int draw(uf_ctx *ctx, const char *path, const uf_page_span *span, uint8_t *rgb, uf_sound_look *look) {
    if (!span) return uf_spectrogram(ctx, path, SOUND_W, SOUND_H, rgb, look);
    int w = (int)fmax(1, round(SOUND_W * fmin(span->seconds / span->all, 4))), h = (int)fmax(1, round(SOUND_H * fmin((double)span->rate / span->top, 4)));
    uint8_t *own = uf_alloc(ctx, 3 * (size_t)w * (size_t)h, 1);
    int err = own ? uf_spectrogram(ctx, path, w, h, own, look) : UF_ENOMEM;
    if (err == UF_OK) place(own, w, h, (int)round(SOUND_W * span->at / span->all), rgb);
    free(own);
    return err;
}

int uf_page_spectrogram(uf_app *app, FILE *f, const char *path, const char *what, const uf_page_span *span, uf_sound_look *look) {
    uf_sheet *sheet = NULL;
    char *png = NULL;
    size_t n = 0;
    uint8_t *rgb = uf_alloc(app->ctx, 3 * SOUND_W * SOUND_H, 1);
    FILE *memory = open_memstream(&png, &n);
    int err = rgb && memory ? draw(app->ctx, path, span, rgb, look) : UF_ENOMEM;
    if (err == UF_OK) err = uf_sheet_open(&sheet, app->ctx, 1, 1, SOUND_W, SOUND_H);
    if (err == UF_OK) {
        uf_sheet_put(sheet, 0, 0, SOUND_W, SOUND_H, rgb);
        err = uf_sheet_print(sheet, memory);
    }
    if (memory) fclose(memory);
    if (err == UF_OK) {
        fprintf(f, "<img%s width=\"%d\" height=\"%d\" alt=\"spectrogram %s\" src=\"data:image/png;base64,", strcmp(what, "after") ? "" : " class=\"after\"", SOUND_W,
                SOUND_H, what);
        err = uf_html_base64(app->ctx, f, (const uint8_t *)png, n);
        fputs("\">", f);
    }
    uf_sheet_close(&sheet);
    free(png);
    free(rgb);
    return err;
}

/* ---- charts --------------------------------------------------------------------------------------------------------------------- */

static int chart_data(uf_ctx *ctx, FILE *f, const uf_chart *c, int width) {
    char *svg = NULL;
    size_t n = 0;
    FILE *memory = open_memstream(&svg, &n);
    int err = memory ? uf_chart_print(memory, c, width) : UF_ENOMEM;
    if (memory) fclose(memory);
    if (err < 0) err = uf_fail(ctx, UF_ENOMEM, "out of memory for a chart; close other programs");
    fputs("data:image/svg+xml;base64,", f);
    if (err == UF_OK) err = uf_html_base64(ctx, f, (const uint8_t *)svg, n);
    free(svg);
    return err;
}

/* As pictures, not as part of the page: cairo gives the letters of every drawing the same names. */
int uf_page_chart(uf_app *app, FILE *f, const uf_chart *c, const char *what) {
    enum { WIDE = 928, NARROW = 360 };
    fputs("<picture><source media=\"(max-width:34rem)\" srcset=\"", f);
    UF_TRY(chart_data(app->ctx, f, c, NARROW));
    fprintf(f, "\" width=\"%d\" height=\"%d\"><img class=\"chart\" width=\"%d\" height=\"%d\" alt=\"", NARROW, uf_chart_height(c, NARROW), WIDE, uf_chart_height(c, WIDE));
    uf_html_text(f, what);
    fputs("\" src=\"", f);
    UF_TRY(chart_data(app->ctx, f, c, WIDE));
    fputs("\"></picture>\n", f);
    return UF_OK;
}

/* ---- what was said -------------------------------------------------------------------------------------------------------------- */

/* From here on the page remembers what is said; that it can be written is known before minutes are spent. */
int uf_page_listen(uf_app *app, int argc, char **argv, const char *page, bool overwrite, char **said, size_t *n_said) {
    UF_TRY(uf_whole_check(app->ctx, page, overwrite));
    if (!(app->notes = open_memstream(said, n_said))) return uf_fail(app->ctx, UF_ENOMEM, "out of memory for the page '%s'", page);
    for (int i = 0; i < argc; i++) fprintf(app->notes, i + 1 < argc ? "%s " : "%s\n", argv[i]);
    return UF_OK;
}
