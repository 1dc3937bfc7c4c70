/* What the pages of the commands have in common. page.c */
#ifndef UF_PAGE_H
#define UF_PAGE_H

#include "app.h"
#include "chart.h"

int uf_page_head(uf_ctx *ctx, FILE *f, const char *title); /* up to the heading */
void uf_page_foot(FILE *f);
void uf_page_notes(FILE *f, const char *lines); /* what was asked for and said, a line each; NULL: nothing */
/* The page remembers from here on, in app->notes, what is said; first the command. UF_EEXIST, UF_EIO: the page could not be written. */
int uf_page_listen(uf_app *app, int argc, char **argv, const char *page, bool overwrite, char **said, size_t *n_said);

/* A film or recording to be played: inside the page up to 16 MiB; what is larger from beside it, if it lies in the folder of `page`, else its name. Nothing
 * where no browser can play it. */
int uf_page_player(uf_app *app, FILE *f, const char *path, const char *title, const char *page);

typedef struct uf_page_span { /* where a recording lies in a spectrogram of more than itself */
    double at, seconds, all;  /* s: where it begins, how long it and the whole are */
    int rate, top;            /* Hz: its own, and that of the whole */
} uf_page_span;
/* what: "before", or "after", which a slider uncovers. span NULL: it is the whole. */
int uf_page_spectrogram(uf_app *app, FILE *f, const char *path, const char *what, const uf_page_span *span, uf_sound_look *look);

int uf_page_chart(uf_app *app, FILE *f, const uf_chart *c, const char *what); /* twice: for wide screens and telephones; what: for who cannot see it */

/* The page of `unfade merge`: found: the report, JSON; inputs and result are read again. merge_page.c */
typedef struct uf_merge_page {
    const char *found, *notes, *path;
    bool overwrite;
} uf_merge_page;
int uf_merge_page_write(uf_app *app, const uf_merge_page *p);

#endif
