/* Which nodes the cpu backend computes together. A chain is fused when every value inside it has one reader and nobody
 * outside may look at it; the group is known by its last node. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

static bool is(const uf_node *n, const char *op) { return n && !strcmp(n->op->name, op); }

/* The only live reader of n, when n may vanish into it. */
static const uf_node *only_reader(const uf_plan *p, const uf_node *n) {
    const uf_tensor *t = uf_tensor_of(p, n);
    if (n->output || t->n_consumers != 1) return NULL;
    for (int i = n->index + 1; i < p->n_nodes; i++) {
        const uf_node *m = uf_graph_at(p->graph, i);
        if (!p->tensor[i].live) continue;
        for (int k = 0; k < m->n_in; k++)
            if (m->in[k] == n) return m;
    }
    return NULL;
}

static bool frozen(const uf_node *n) { return n->param && (n->param->frozen || n->param->buffer); }

/* A norm whose statistics are fixed is a factor and an offset a channel: they go into the convolution's weights. While
 * training that holds for frozen networks only. */
static bool foldable(const uf_plan *p, const uf_node *conv, const uf_node *norm) {
    if (!is(norm, "batch_norm") || norm->in[0] != conv || !conv->in[1]->param) return false;
    if (conv->n_in > 2 && !conv->in[2]->param) return false;
    for (int i = 1; i < norm->n_in; i++)
        if (!norm->in[i]->param) return false;
    if (p->options.mode == UF_INFER) return true;
    if (norm->attr.mode != 0 || !frozen(conv->in[1]) || (conv->n_in > 2 && !frozen(conv->in[2]))) return false;
    return frozen(norm->in[1]) && frozen(norm->in[2]);
}

/* Follows [add] [relu] behind `n`; returns the last node taken. */
static const uf_node *tail(const uf_plan *p, const uf_node *n, uf_group *g) {
    const uf_node *next = only_reader(p, n);
    if (is(next, "add") && !uf_tensor_of(p, next)->absorbed && !uf_tensor_of(p, next)->group.add &&
        uf_same(next->in[0]->shape, next->in[1]->shape) && next->in[0] != next->in[1]) {
        const uf_node *other = next->in[0] == n ? next->in[1] : next->in[0];
        if (other->n_in > 0) {
            g->add = next;
            g->residual = other;
            n = next;
            next = only_reader(p, n);
        }
    }
    if (is(next, "relu")) {
        g->act = next;
        n = next;
    }
    return n;
}

static void commit(uf_plan *p, const uf_node *last, const uf_group *g) {
    const uf_node *all[] = {g->conv, g->norm, g->add, g->act, g->shuffle, g->blur};
    for (int i = 0; i < UF_LEN(all); i++)
        if (all[i] && all[i] != last) uf_tensor_of(p, all[i])->absorbed = true;
    uf_tensor_of(p, last)->group = *g;
}

static bool taken(const uf_plan *p, const uf_node *n) {
    const uf_tensor *t = uf_tensor_of(p, n);
    return t->absorbed || t->group.conv || t->group.norm || t->group.shuffle;
}

static void fuse_concat(uf_plan *p, const uf_node *n) {
    const uf_node *blur = n->in[0];
    if (n->n_in != 2 || n->attr.axis != 1 || !is(blur, "blur") || only_reader(p, blur) != n) return;
    const uf_node *shuffle = blur->in[0];
    if (!is(shuffle, "pixel_shuffle") || shuffle->attr.r != 2 || only_reader(p, shuffle) != blur) return;
    uf_group g = {.shuffle = shuffle, .blur = blur, .skip = n->in[1]};
    commit(p, n, &g);
}

void uf_cpu_fuse(uf_plan *p) {
    for (int i = 0; i < p->n_nodes; i++) {
        const uf_node *n = uf_graph_at(p->graph, i);
        if (!p->tensor[i].live || taken(p, n)) continue;
        uf_group g = {0};
        const uf_node *last = n;
        if (is(n, "conv2d")) {
            if (!uf_conv_fusible(p, n)) continue;
            g.conv = n;
            const uf_node *norm = only_reader(p, n);
            if (norm && foldable(p, n, norm)) {
                g.norm = norm;
                last = norm;
            } else if (is(norm, "batch_norm")) {
                continue; /* a training norm must see the bare convolution */
            }
            last = tail(p, last, &g);
        } else if (is(n, "batch_norm")) {
            g.norm = n;
            last = tail(p, n, &g);
        } else if (is(n, "concat")) {
            fuse_concat(p, n);
            continue;
        } else {
            continue;
        }
        if (last != n) commit(p, last, &g);
    }
}
