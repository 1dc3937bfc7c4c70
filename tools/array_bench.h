/* The benchmark behind `unfade array --bench`. */
#ifndef UF_ARRAY_BENCH_H
#define UF_ARRAY_BENCH_H

#include "app.h"
#include "array.h"

typedef struct uf_bench_options {
    uf_array_options scene; /* its seed is the first scene's */
    double seconds;
    int scenes;             /* of each number of microphones and SNR */
    int counts[8], n_counts;
    double snrs[8];
    int n_snrs;
    bool training;
    bool whole;             /* recordings as they are, through all of a merge; otherwise aligned by the truth, by everybody's method */
} uf_bench_options;
int uf_array_bench(uf_app *app, const char *recipe, const uf_bench_options *o);

typedef struct uf_whole_score {
    double alone, merged; /* SI-SDR, dB: of the recording that is best when cleaned alone; of the merge, while that one is there */
    double seconds;       /* that the merge took */
    int best, n_used;     /* that recording; how many the merge found to belong together */
} uf_whole_score;
/* One scene as files in a folder that is gone afterwards. array_whole.c */
int uf_array_whole(uf_ctx *ctx, const uf_mixer *m, const uf_array_options *o, uf_whole_score *s);

/* Others' methods; x: microphones of n samples each, y: n samples. array_peers.c */
void uf_peer_sum(int n_mics, const float *const *x, int n, float *y); /* equal gain, after all are brought to one level */
/* MVDR (Souden) whose mask is what is louder than the floor of each bin, at 16 kHz. */
int uf_peer_blind(uf_ctx *ctx, int n_mics, const float *const *x, int n, int reference, float *y);
/* Weighted delay-and-sum as in BeamformIt (Anguera, Wooters, Hernando 2007, doi:10.1109/TASL.2007.902460): GCC-PHAT over windows of half a
 * second, the delays that are most alike from window to window (Viterbi), weights by how much a channel agrees with the others. */
int uf_peer_beamformit(uf_ctx *ctx, int n_mics, const float *const *x, int n, int rate, float *y, int *reference);

#endif
