/* What the adversarial finish is judged by, on what is held out. Internal to training/. */
#ifndef UF_PROBE_H
#define UF_PROBE_H

#include "run.h"

enum { UF_PROBE_MOST = 5 };

typedef struct uf_probe {
    double value[UF_PROBE_MOST];
} uf_probe;

typedef struct uf_prober {
    const char *column[UF_PROBE_MOST]; /* n measures, as finish.csv calls them */
    int n;
    int (*take)(uf_run *u, int size, uf_probe *out); /* of u->params, with running statistics, at the finish's size */
    double (*score)(const uf_probe *p, const uf_probe *start); /* one number to turn at, smaller is better */
    void (*tell)(const uf_probe *p, char *to, size_t size); /* in words */
} uf_prober;

/* On 64 pictures: CIEDE2000; L1 between the frozen network's activations, over the layers of the recipe; Hellinger distance of the set's chroma
 * histogram from the photographs', 0..1; colourfulness as a share of the photographs'; mean |difference| of the chroma under two draws of grain, as
 * a share of the mean |chroma|. Score: histogram, feature and colourfulness as shares of what they were at the start, and a wall where CIEDE2000
 * is over 3 % or the flicker over 10 % worse than at the start. */
extern const uf_prober uf_probe_color;
/* On 32 mixtures: SI-SDR, segmental SNR and log-spectral distance, in dB (sound_measure.h). Score: the distance as a share of what it was at the
 * start, and a wall where SI-SDR is over 0.3 dB worse: the critic is asked for spectra like a voice's, and pays for them in samples. */
extern const uf_prober uf_probe_sound;

#endif
