/* A run: what its stages, its checkpoints and its log share. Internal to training/. */
#ifndef UF_RUN_H
#define UF_RUN_H

#include "sounds.h"
#include "step.h"

#include <stdio.h>

typedef struct uf_run {
    uf_ctx *ctx;
    const uf_train_options *o;
    uf_recipe *r;
    const uf_finish *finish; /* the recipe's, or NULL: none, or none wanted */
    char *dir, *recipe_text;
    uf_group group;          /* the first process writes log, checkpoints and pictures */
    bool stopping;           /* one of the processes is to stop */
    uf_params *params, *judge;
    uf_data *train, *valid;         /* pictures */
    uf_mixer train_mix, valid_mix;  /* or sound */
    FILE *csv, *held_out_csv;
    int64_t step, n_steps; /* over all stages */
    double started, last_log;
    double *curve_step, *curve_loss, *valid_step, *valid_loss;
    int n_curve, n_valid;
    double smoothed, accuracy;
    bool smoothing; /* `smoothed` has begun */
    int64_t best_step; /* of the finish: what is shipped; 0: none */
} uf_run;

bool uf_run_out_of_time(const uf_run *u); /* cancelled, or over max_seconds */
int uf_run_size(const uf_run *u, bool last); /* of the pictures or mixtures in the first or the last stretch of the run */
const char *uf_run_unit(const uf_run *u); /* in which uf_run_size() and a stage's size are told: "px" or "samples" */
char *uf_run_path(const uf_run *u, const char *name); /* DIR/name; free() it. NULL: out of memory */

/* train.c: a run without its log, up to where its first step would begin: recipe, data, parameters, starting weights. */
int uf_run_open(uf_run *u, const char *recipe);
void uf_run_close(uf_run *u);
/* The network and the loader of a stage, from its step `from` on; first_sample counts the samples of the stages before. */
int uf_run_stage_open(uf_run *u, const uf_stage *s, int64_t from, int64_t first_sample, uf_network *n, uf_loader **l);

/* checkpoint.c: the parameters as a file of the run's folder, with `state` (a checkpoint) or averaged and small. */
int uf_run_save(uf_run *u, const char *name, bool state);
int uf_run_resume(uf_run *u);

/* log.c: log.csv, a line a step, and the progress that the caller is told; held_out.csv, a line a look at what is held out. */
int uf_run_log_open(uf_run *u);
/* A log of the run's folder, written anew with the lines that the checkpoint has seen (keep). NULL after uf_fail(). */
FILE *uf_run_csv(uf_run *u, const char *name, const char *head, bool (*keep)(void *user, const char *line), void *user);
int uf_run_log(uf_run *u, int stage, const uf_stage *s, const uf_stepped *t);
/* extra: share of right classes (features), or dB that the SI-SDR gains (speech). */
int uf_run_log_held_out(uf_run *u, double loss, double extra);

/* held_out.c: loss (and pictures) of the averaged weights on the pictures of `valid`. */
int uf_run_held_out(uf_run *u, const uf_stage *s, bool pictures);

#endif
