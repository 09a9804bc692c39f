/* schedule: the learning rate of each optimizer step.
 *
 * What:    constant, linear and cosine schedules with linear warm-up; values are those of
 *          transformers' get_constant_schedule_with_warmup, get_linear_schedule_with_warmup and
 *          get_cosine_schedule_with_warmup (half a cosine wave).
 * Owns, Threads, Errors: none; pure functions.
 */
#ifndef FFWD_ENGINE_TRAIN_SCHEDULE_H
#define FFWD_ENGINE_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "base/job_request.h"

/* Warm-up steps of a run: ceil(ratio · total), as transformers' trainer counts them. */
int64_t schedule_warmup_steps(double ratio, int64_t total_steps);

/* Factor in [0, 1] of the peak learning rate for an optimizer step counted from 0. */
double schedule_factor(enum lr_schedule kind, int64_t step, int64_t warmup_steps,
                       int64_t total_steps);

#endif
