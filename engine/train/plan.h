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
    double typical;       /* learning rate by size and adapter, multiplier included; see below */
    double asked;         /* the learning rate of the request, or the automatic one */
    double learning_rate; /* peak of the schedule: that, with search "auto" rate_start of it */
    int64_t total_steps;  /* optimizer steps, max_steps included */
    int64_t warmup_steps; /* none where the rate is not the one asked for; with search "auto" at
                             most one where it is low */
};

/* min(the model's, 2048) unless asked for; more than the model has positions is ERR_INPUT. */
enum err plan_max_seq_len(const struct job_request *r, const struct model_config *c, int32_t *out,
                          struct err_msg *em) NODISCARD;

/* How many rows each part of a run gets. */
struct row_shares {
    int64_t held, full, trained; /* for Fast Forward, for full_valid_loss, for training */
};
/* train, valid: rows of the files (valid -1: no file). Without a validation file Fast Forward's
 * rows are set apart from the training file. */
struct row_shares plan_shares(const struct fast_forward_config *ff, int64_t train, int64_t valid);

/* Tokens of a packed batch: enough to keep the matrix products busy, little enough that the
 * activations of a large model fit; at least the longest row, at most the rows of a step. */
int32_t plan_capacity(bool cpu, const struct model_config *c, int32_t longest, int64_t batch_size);
/* The same for an evaluation, which keeps no activations; and the rows that it packs at once. */
int32_t plan_eval_capacity(bool cpu, int32_t longest);
int32_t plan_eval_rows(void);

/* rows: of the training file; trained: those left after some were set apart (≥ 1).
 * Epochs: the rule published for the hosted service (3; more for fewer than 34 rows, fewer for more
 * than 8333). Batch: rows / 64, from 1 to 16. reach: plan_reach of the adapter that is trained. */
enum err plan_make(const struct job_request *r, const struct model_config *c, double reach,
                   int64_t rows, int64_t trained, struct plan *out, struct err_msg *em) NODISCARD;

/* Of the held rows, those that a stage measures on. With search "auto" an evaluation costs half a
 * training step at most, and less in a short run. */
int64_t plan_rows_measured(const struct fast_forward_config *ff, const struct plan *p,
                           int64_t held);

/* How far an adapter's product moves for a step of its entries, all ranks pulling alike: scale ·
 * rank, so alpha, or alpha · sqrt(rank) with rsLoRA. */
double plan_reach(double alpha, int64_t rank, bool use_rslora);

/* "auto" learning rate before the multiplier: 5e-4 · (2000 / hidden)^0.78, from 1e-4 to 5e-3, times
 * 32 / reach where that is below 1. */
double plan_auto_learning_rate(const struct model_config *c, double reach);
/* The same, but times 32 / reach up to 2, or sqrt(batch_size) / 2 with 4 to 15 rows, 1 with fewer:
 * an adapter of small reach may be raised further than it starts by itself. */
double plan_typical_learning_rate(const struct model_config *c, double reach, int64_t batch_size);

#endif
