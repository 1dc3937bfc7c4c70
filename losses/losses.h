/* Losses as graph builders, and quality measures on pictures. Internal API. */
#ifndef UF_LOSSES_H
#define UF_LOSSES_H

#include "engine.h"

/* What a loss may look at. Unused fields NULL. */
typedef struct uf_loss_in {
    uf_node *predicted, *target; /* chroma (N,2,h,w), or logits and labels */
    uf_node *const *predicted_features, *const *target_features; /* n_features activations of a frozen network */
    int n_features;
    const float *feature_weight; /* n_features, NULL: all 1 */
    float smoothing;             /* of labels */
    int rate;                    /* of waves, Hz; 0: 16000. Windows last as long at every rate */
} uf_loss_in;
typedef struct uf_loss {
    const char *name, *summary;
    uf_node *(*build)(const uf_loss_in *in); /* scalar */
    bool looks;                              /* reads the frozen network's activations */
    bool sound;                              /* predicted and target are waves (N,1,1,T) of 2048 samples or more */
    bool pairs;                              /* of UF_MOTION: the batch must be made so */
} uf_loss;
extern const uf_loss *const uf_losses[]; /* NULL-ended: l1, l2, feature, cross_entropy, ... */
/* A batch of pairs: picture N/2 + i is picture i through a window that lies further right and down by this, in places of the
 * chroma plane. Odd, so that no coarser grid of the network moves by whole cells. */
enum { UF_MOTION_X = 3, UF_MOTION_Y = 1 };

enum { UF_MAX_LOSSES = 32 };             /* room for one weight a loss, by its place in the table */
const uf_loss *uf_loss_find(const char *name);
bool uf_losses_look(const float *weight); /* does one of those that weigh anything read a frozen network? */
bool uf_losses_pair(const float *weight); /* ... need a batch of pairs? */
int uf_loss_index(const char *name); /* its place in the table, -1: there is none */

extern const uf_loss uf_loss_snr, uf_loss_spectrum, uf_loss_resolutions; /* sound_losses.c */

/* Measures on 8-bit sRGB pictures, interleaved RGB, `stride` bytes a row. */
typedef struct uf_rgb {
    const uint8_t *data;
    int w, h, stride;
} uf_rgb;
/* Mean CIEDE2000 over all pixels (Sharma et al. 2005), D65. */
double uf_ciede2000(uf_rgb a, uf_rgb b);
/* One pair of CIELAB colours; for the published test vectors. */
double uf_ciede2000_lab(const double lab1[3], const double lab2[3]);
/* PSNR of the a*b* planes, peak 255 as in the colorization literature (a,b in [-128,127]); dB. */
double uf_ab_psnr(uf_rgb a, uf_rgb b);
/* Hasler & Suesstrunk 2003: sqrt(var rg + var yb) + .3 sqrt(mean rg^2 + mean yb^2), rg = R-G, yb = (R+G)/2-B, 0..255 */
double uf_colorfulness(uf_rgb a);
/* Share of pixels with CIELAB chroma under 5. */
double uf_grey_share(uf_rgb a);

#endif
