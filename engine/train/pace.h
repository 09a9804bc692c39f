/* pace: the learning rate that follows from Fast Forward's stages, and when the next one is due.
 *
 * What:    for search "auto". A stage's parabola has its lowest point (1 + vertex) steps from where
 *          the last step began; times the rate of that step this is the rate a line search would
 *          have taken, an estimate that does not depend on the rate it was measured at. The first
 *          estimate is taken near the starting point, by steps too short to do harm; the rate is
 *          the geometric mean of the estimates of the first tenth of the run. It is held for half
 * of the run and then falls to zero, as a cosine where the schedule is one, else linearly. Later
 * estimates are not followed down: near a minimum noise makes the best next step shorter than the
 * best rate for the steps that remain (Wu et al., "Understanding Short-Horizon Bias in Stochastic
 * Meta-Optimization", ICLR 2018). They raise the rate where they exceed it, and a loss that rose
 * from stage to stage halves it. A stage pays when it lowers the loss by more per FLOP than
 * training since the last one did; the next is then one interval away, else the wait doubles, and
 * stages end before those after the first that did not pay have cost PACE_SHARE of the run's FLOPs.
 * Owns, Threads, Errors: none; pure functions of plain values.
 */
#ifndef FFWD_ENGINE_TRAIN_PACE_H
#define FFWD_ENGINE_TRAIN_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/job_request.h"

#define PACE_FIRST 2    /* step of the first stage: from the second on, A moves as well as B */
#define PACE_SHARE 0.05 /* of a run's FLOPs, for stages that do not pay */

struct pace {
    double rate;       /* peak of the schedule; 0: not known yet */
    double estimate;   /* of the last stage */
    int64_t estimates; /* that rate is the mean of */
    int64_t gap, next; /* intervals to the next stage; its step */
    double loss;       /* after the last stage */
    double flops;      /* of training, at the last stage */
    double spent;      /* FLOPs of stages that did not pay, without the first */
};

/* What is known about the run. */
struct pace_plan {
    double start;     /* rate to start looking at */
    double automatic; /* rate that the model's width suggests */
    int64_t total_steps, interval;
    enum lr_schedule schedule;
};

/* A stage, as pace_stage needs it. */
struct pace_stage {
    int64_t step;
    double rate;                    /* of the step it looked along */
    double vertex;                  /* of its parabola, in steps after that one; NaN: unknown */
    double loss_before, loss_after; /* NaN: not finite */
    double evaluation_flops;        /* of one evaluation */
    int64_t evaluations;            /* that the stage made */
    double training_flops;          /* of the run so far */
};

void pace_init(struct pace *p, const struct pace_plan *plan);
/* Rate of an optimizer step counted from 0. */
double pace_rate(const struct pace *p, const struct pace_plan *plan, int64_t step);
/* A stage follows this step, counted from 1. */
bool pace_due(const struct pace *p, int64_t step);
/* tau to begin at, for a direction made at this rate; ≥ 1. */
int64_t pace_guess(const struct pace *p, const struct pace_plan *plan, double rate);
void pace_learn(struct pace *p, const struct pace_plan *plan, const struct pace_stage *stage);

#endif
