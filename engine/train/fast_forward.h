/* fast_forward: repeats the last optimizer step while that helps.
 *
 * What:    keeps the adapter from before a step, takes the difference the step made as direction d,
 *          and moves to w + tau · d for the tau a line search finds on a small held-out set.
 *          (Rahamim et al., "Fast Forwarding Low-Rank Training", EMNLP 2024.)
 * Owns:    two buffers of the adapter's size on the device.
 * Threads: one control thread.
 * Errors:  those of an evaluation; the adapter then holds w again, bit for bit, so that the stage
 *          can be done again from its beginning.
 */
#ifndef FFWD_ENGINE_TRAIN_FAST_FORWARD_H
#define FFWD_ENGINE_TRAIN_FAST_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/job_request.h"
#include "engine/train/evaluate.h"
#include "engine/train/line_search.h"

struct fast_forward {
    struct fast_forward_config config;
    struct device *dev;
    const struct adapter_mem *adapter; /* borrowed */
    struct evaluator *evaluator;       /* borrowed */
    const struct held_set *held;       /* borrowed */
    float *base;                       /* [n] w at the start of a stage */
    float *direction;                  /* [n] before the step: w; after it: what the step added */
};

/* Result of one stage. */
struct fast_forward_stage {
    struct line_search_result search;
    struct measurement best;   /* at search.tau */
    struct measurement before; /* at tau 0, where it was measured */
    double flops;
    double loss_one; /* at tau 1; infinite: not finite; NaN: not measured */
};

enum err fast_forward_init(struct fast_forward *ff, const struct fast_forward_config *config,
                           struct device *dev, const struct adapter_mem *adapter,
                           struct evaluator *evaluator, const struct held_set *held,
                           struct err_msg *em) NODISCARD;
void fast_forward_free(struct fast_forward *ff);

/* Around the optimizer's update of a step that a stage follows. */
void fast_forward_before_update(struct fast_forward *ff);
void fast_forward_after_update(struct fast_forward *ff);
struct fast_forward_bounds {
    int64_t guess;    /* a tau to start at, 0 if there is none */
    int64_t most_tau; /* ≥ 1 */
    int64_t budget;   /* of evaluations, with search "auto" */
};
enum err fast_forward_stage_run(struct fast_forward *ff, const struct fast_forward_bounds *bounds,
                                struct fast_forward_stage *out, struct err_msg *em) NODISCARD;
/* After a stage that went nowhere: the length from the start of the step to where a parabola
 * through the losses before the step, after it and at tau 1 is lowest, in steps; NaN where there is
 * none. *out counts the evaluation. */
enum err fast_forward_length(struct fast_forward *ff, struct fast_forward_stage *out,
                             double *length, struct err_msg *em) NODISCARD;
/* After a stage: back to where it began, bit for bit; *out says so. Not with FF_PAPER, which does
 * not measure there. */
void fast_forward_undo(struct fast_forward *ff, struct fast_forward_stage *out);

#endif
