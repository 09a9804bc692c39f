/* rate: the learning rate that search "auto" makes of its stages.
 *
 * What:    a stage tells how long a step should have been: where the loss is lowest along it,
 *          whatever the rate was. After the first steps of a run that is two to three times as far
 *          as later, so half of it, and a quarter more, becomes the rate where that was low; one
 *          that was not low goes down to a quarter more, or half the way up. Each later stage moves
 *          the rate towards what it found, up or down, by its part in all stages so far, so that
 *          the rate is their (geometric) mean. A rate that was found has no warm-up, holds until
 *          the last part of the run and falls from there to 0. The typical rate bounds how far a
 *          stage may go, and how far a rate is raised; a run begins at the automatic one in the
 * place of one that is many times higher. Where the loss of training rises the rate is halved:
 * along a step the lowest point tells nothing of a rate above the best one. Owns:    nothing.
 * Threads: pure functions of plain values.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_TRAIN_RATE_H
#define FFWD_ENGINE_TRAIN_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/job_request.h"

/* What is known before the run. */
struct rate_plan {
    double asked;   /* as the job has it */
    double given;   /* peak of the schedule before any stage: rate_start of that */
    double typical; /* what the model's width and the adapter suggest: plan.h */
    int64_t total_steps, warmup_steps, batch_size;
    enum lr_schedule schedule;
    bool at_once; /* the first step of a warm-up moves: step s of w has (s + 1) / (w + 1) */
};

/* The rate to begin with where this one was asked for: the automatic one in the place of one four
 * times as high as any that may be right, since no stage undoes what its first steps do. */
double rate_start(double asked, double may_be_right, double automatic);
/* So far below the typical one that the first steps move next to nothing. */
bool rate_is_low(double rate, double typical);

/* found: the peak that stages made of it; 0: as given. Rate of an optimizer step from 0. */
double rate_at(const struct rate_plan *plan, double found, int64_t step);

/* After this step one that was found does not fall yet. */
bool rate_holds(const struct rate_plan *plan, int64_t step);

/* A stage after this step, along one of this rate, tells about the rate: it does not fall yet. */
bool rate_is_open(const struct rate_plan *plan, double found, int64_t step, double rate);

/* For a stage along a step of this rate: the tau to begin at (≥ 1), and the
 * most that it may go (1…max_tau). */
int64_t rate_first_tau(const struct rate_plan *plan, double rate);
int64_t rate_most_tau(const struct rate_plan *plan, double rate, int64_t max_tau);

/* The step, from 1, that the first stage follows: the first that moves anything, so that little is
 * lost by a rate too low, and the jump, with a new B of zeros, goes along B alone. Later where the
 * run began below the rate asked for: one that is too high has its lowest loss in its first steps,
 * and no stage is cheap beside those. */
int64_t rate_first_stage(const struct rate_plan *plan);

struct rate_stage {
    double rate;    /* of the step it went along */
    double length;  /* where the loss was lowest, from its start, in such steps; NaN: unknown */
    int64_t number; /* of the run's stages, from 1 */
    bool early;     /* the first of a run whose rate is low */
    bool limited;   /* the loss still fell at the most simulated steps that the job allows */
};
/* True where *found became another by a fifth or more; it may have by less. */
bool rate_learn(const struct rate_plan *plan, const struct rate_stage *stage, double *found);

/* To go on with after a step of this rate where the loss of training rises. */
double rate_after_rise(double rate);

#endif
