/* plan: the numbers behind a request.
 *
 * What:    turns "auto" into numbers and counts the steps, once rows and model are known.
 * Owns:    plain values.
 * Threads: pure functions.
 * Errors:  ERR_INPUT naming the field whose value does not fit this model or data set.
 */
#ifndef FFWD_ENGINE_TRAIN_PLAN_H
#define FFWD_ENGINE_TRAIN_PLAN_H

#include <stdint.h>

#include "base/err.h"
#include "base/job_request.h"
#include "engine/model/config.h"

struct plan {
    int64_t n_epochs, batch_size;
    double multiplier;
    double learning_rate; /* peak of the schedule, multiplier included where it applies */
    int64_t total_steps;  /* optimizer steps, max_steps included */
    int64_t warmup_steps;
};

/* min(the model's, 2048) unless asked for; more than the model has positions is ERR_INPUT. */
enum err plan_max_seq_len(const struct job_request *r, const struct model_config *c, int32_t *out,
                          struct err_msg *em) NODISCARD;

/* rows: of the training file; trained: those left after some were set apart (≥ 1).
 * Epochs: the rule published for the hosted service (3; more for fewer than 34 rows, fewer for more
 * than 8333). Batch: rows / 64, from 1 to 16. */
enum err plan_make(const struct job_request *r, const struct model_config *c, int64_t rows,
                   int64_t trained, struct plan *out, struct err_msg *em) NODISCARD;

/* "auto" learning rate before the multiplier: 5e-4 · (2000 / hidden)^0.78, from 1e-4 to 5e-3. */
double plan_auto_learning_rate(const struct model_config *c);

#endif
