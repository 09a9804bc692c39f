/* state: everything a run knows between two steps, beside the tensors.
 *
 * What:    counters, totals and the results of the step in progress; as JSON for a resume point.
 * Owns:    plain values.
 * Threads: one owner at a time.
 * Errors:  ERR_INPUT naming the field a state read back lacks.
 */
#ifndef FFWD_ENGINE_TRAIN_STATE_H
#define FFWD_ENGINE_TRAIN_STATE_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/train/cadence.h"
#include "engine/train/trend.h"

/* What is to be done next. A run that is stopped inside a stage or an evaluation does that part
 * again from its beginning. */
enum run_phase { PHASE_STEP, PHASE_STAGE, PHASE_AVERAGE, PHASE_EVAL };

/* What a step found; NaN where nothing was measured. */
struct step_result {
    double train_loss, train_accuracy, learning_rate, grad_norm;
    double valid_loss, valid_accuracy;
    double full_valid_loss, full_valid_accuracy;
    double ff_loss_before, ff_loss_after, ff_flops;
    int64_t ff_tau, ff_evaluations; /* evaluations 0: no stage */
    int64_t skipped;                /* 1: loss or gradient was not finite, nothing was updated */
};

struct run_state {
    int64_t step; /* optimizer steps begun and, from PHASE_STAGE on, done */
    int64_t phase;
    int64_t updates; /* of the optimizer: steps less those skipped */
    int64_t skipped_in_a_row;
    int64_t tokens, trained_tokens; /* of all rows trained on so far; labels among them */
    double flops_training, flops_fast_forward;
    double seconds;                         /* spent by this run and those it goes on from */
    int64_t ff_last_tau;                    /* tau of the last stage */
    double ff_last_rate;                    /* and the learning rate of its direction */
    double rate_found;                      /* peak that search "auto" found; 0: as given */
    int64_t rate_settled;                   /* 1: it is not changed any more */
    int64_t averaged;                       /* steps in the average since it began anew */
    struct cadence cadence;                 /* of Fast Forward's search "auto" */
    struct trend trend;                     /* of the loss of training, with it */
    int64_t stages, simulated, evaluations; /* Fast Forward's totals */
    double first_full_loss, best_full_loss, last_full_loss; /* NaN: none yet */
    int64_t evaluations_without_gain;                       /* for early stopping */
    int64_t finished;                                       /* 1: ended before total_steps */
    int64_t capacity;                                       /* tokens of a packed batch */
    int64_t recomputed;        /* layers whose activations are computed twice */
    int64_t csv_bytes;         /* of the metrics file */
    struct step_result result; /* of `step` */
};

/* Of training and of Fast Forward, so far; and the part of the latter in them. */
double run_state_flops(const struct run_state *s);
double run_state_flops_share(const struct run_state *s);

void step_result_init(struct step_result *r);
void run_state_init(struct run_state *s);
/* New object; the caller decrefs. */
json_t *run_state_to_json(const struct run_state *s);
enum err run_state_from_json(const json_t *o, struct run_state *out, struct err_msg *em) NODISCARD;

#endif
