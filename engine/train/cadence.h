/* cadence: when the stages of search "auto" come, and what they may cost.
 *
 * What:    the first stage comes early, after a step that the rate decides on. A stage
 *          pays when it went further than training would have gone for its FLOPs, and lowered the
 *          loss by more per FLOP than the steps since the last stage did. After one that paid, or
 *          found another learning rate, the next comes with the next interval, else its jump is
 *          taken back and the wait doubles. Those that did not pay have an allowance, a small part
 *          of the run's FLOPs that grows with the run; where it is used up, no stage comes until it
 *          has grown. A stage that is due makes no more evaluations than are left of it, or three.
 * So a run whose stages find nothing costs little more than one without Fast Forward. Owns:
 * nothing. Threads: pure functions of plain values. Errors:  none.
 */
#ifndef FFWD_ENGINE_TRAIN_CADENCE_H
#define FFWD_ENGINE_TRAIN_CADENCE_H

#include <stdbool.h>
#include <stdint.h>

/* Allowance of stages that do not pay: this part of the whole run from its start, and this part of
 * what has been trained so far. */
#define CADENCE_START 0.015
#define CADENCE_SHARE 0.025

struct cadence {
    int64_t gap, next; /* intervals to the next stage; its step at the earliest */
    double loss;       /* after the last stage; NaN: none yet, or not finite */
    double flops;      /* of training, at the last stage; 0: none yet */
    double spent;      /* FLOPs of stages whose jumps did not pay */
};

/* The run as it is at a step. */
struct cadence_run {
    int64_t step, total_steps, interval;
    int64_t first;           /* step of the first stage at the earliest */
    double training_flops;   /* so far */
    double evaluation_flops; /* of one evaluation of a stage */
};

struct cadence_stage {
    int64_t tau, evaluations;
    double loss_before, loss_after; /* NaN or infinite: not finite */
    bool found_rate;
};

void cadence_init(struct cadence *c);
/* A stage follows this step. */
bool cadence_due(const struct cadence *c, const struct cadence_run *run);
/* Evaluations that the stage after this step, which is due, may make before its allowance is used
 * up: three at least. One more, for the length of a step, may follow. */
int64_t cadence_budget(const struct cadence *c, const struct cadence_run *run);
/* False where the stage neither paid nor found a rate: its jump is not to be kept. */
bool cadence_learn(struct cadence *c, const struct cadence_run *run,
                   const struct cadence_stage *stage);

#endif
