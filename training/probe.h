/* What the adversarial finish is judged by, on held-out pictures. Internal to training/. */
#ifndef UF_PROBE_H
#define UF_PROBE_H

#include "run.h"

typedef struct uf_probe {
    double ciede2000;
    double feature;      /* L1 between the frozen network's activations, over the layers of the recipe */
    double histogram;    /* Hellinger distance of the set's chroma histogram from the photographs', 0..1 */
    double colorfulness; /* as a share of the photographs' */
    double flicker;      /* mean |difference| of the chroma under two draws of grain, as a share of the mean |chroma| */
} uf_probe;

/* Measures u->params, with running statistics, on the first N_PICTURES of `valid` at size x size. */
int uf_probe_take(uf_run *u, int size, uf_probe *out);

/* One number to turn at, smaller is better: histogram, feature and colourfulness as shares of what they were at the start,
 * and a wall where CIEDE2000 is over 3 % or the flicker over 10 % worse than at the start. */
double uf_probe_score(const uf_probe *p, const uf_probe *start);

#endif
