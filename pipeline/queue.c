#include "media.h"

#include <pthread.h>
#include <stdlib.h>

struct uf_queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uf_item *items; /* ring */
    int head, n, n_frames, max_frames, max_items;
    bool aborted;
};

void uf_item_clear(uf_item *item) {
    av_frame_free(&item->frame);
    av_packet_free(&item->packet);
    free(item->predicted);
    item->predicted = NULL;
}

int uf_queue_open(uf_queue **out, uf_ctx *ctx, int max_frames, int max_items) {
    uf_queue *q = uf_alloc(ctx, 1, sizeof(*q));
    if (!q) return UF_ENOMEM;
    q->items = uf_alloc(ctx, (size_t)max_items, sizeof(*q->items));
    if (!q->items) {
        free(q);
        return UF_ENOMEM;
    }
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed, NULL);
    q->max_frames = max_frames;
    q->max_items = max_items;
    *out = q;
    return UF_OK;
}

void uf_queue_close(uf_queue **q) {
    if (!q || !*q) return;
    for (; (*q)->n; (*q)->n--) {
        uf_item_clear(&(*q)->items[(*q)->head]);
        (*q)->head = ((*q)->head + 1) % (*q)->max_items;
    }
    pthread_cond_destroy(&(*q)->changed);
    pthread_mutex_destroy(&(*q)->lock);
    free((*q)->items);
    free(*q);
    *q = NULL;
}

int uf_queue_push(uf_queue *q, uf_item *item) {
    int err = UF_OK;
    pthread_mutex_lock(&q->lock);
    while (!q->aborted && (q->n == q->max_items || (item->frame && q->n_frames >= q->max_frames)))
        pthread_cond_wait(&q->changed, &q->lock);
    if (q->aborted) {
        uf_item_clear(item);
        err = UF_EINTR;
    } else {
        q->items[(q->head + q->n++) % q->max_items] = *item;
        q->n_frames += item->frame != NULL;
        *item = (uf_item){ 0 };
        pthread_cond_broadcast(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
    return err;
}

int uf_queue_pop(uf_queue *q, uf_item *item) {
    int err = UF_OK;
    pthread_mutex_lock(&q->lock);
    while (!q->aborted && q->n == 0) pthread_cond_wait(&q->changed, &q->lock);
    if (q->aborted) {
        err = UF_EINTR;
    } else {
        *item = q->items[q->head];
        q->head = (q->head + 1) % q->max_items;
        q->n--;
        q->n_frames -= item->frame != NULL;
        pthread_cond_broadcast(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
    return err;
}

void uf_queue_abort(uf_queue *q) {
    if (!q) return;
    pthread_mutex_lock(&q->lock);
    q->aborted = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}
