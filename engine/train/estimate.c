/* estimate: the plan of a job without its data in memory. */
#include "engine/train/estimate.h"

#include <math.h>
#include <stdlib.h>

#include "engine/train/memory.h"
#include "engine/train/cadence.h"
#include "engine/train/plan.h"

/* Evaluations for each stage that is due, as seen in runs: the automatic search takes three, and
 * stays near its allowance; the paper's search takes one for each simulated step. */
#define EVALUATIONS_AUTO 3.0
#define EVALUATIONS_LINEAR 12.0
/* And of stages whose jumps pay, which are not in the allowance. */
#define EVALUATIONS_PAID 4.0

struct counts {
    struct plan plan;
    struct row_shares shares;
    int64_t train_rows, valid_rows; /* that can be used */
    int64_t steps_per_epoch;
    int32_t longest, max_seq_len, capacity;
    double epochs; /* of training rows, as far as the steps reach */
    double train_tokens, train_pairs, held_tokens, held_pairs, full_tokens, full_pairs; /* once */
};

static int64_t usable(const struct dataset_report *r) {
    return r->rows - r->dropped - r->untrained;
}

static int32_t longest(const struct estimate *in, int32_t max_seq_len) {
    int64_t n = in->train->max_tokens;
    if (in->valid != NULL && in->valid->max_tokens > n)
        n = in->valid->max_tokens;
    n = n < 1 ? 1 : n;
    return n < max_seq_len ? (int32_t)n : max_seq_len;
}

/* Part of a file's tokens: rows are taken as if they were all alike. */
static void part(const struct dataset_report *r, int64_t rows, double *tokens, double *pairs) {
    double share = usable(r) > 0 ? (double)rows / (double)usable(r) : 0;
    *tokens = share * (double)r->tokens;
    *pairs = share * r->token_pairs;
}

static enum err count(const struct estimate *in, struct counts *c, struct err_msg *em) {
    const struct job_request *q = in->request;
    c->train_rows = usable(in->train);
    c->valid_rows = in->valid != NULL ? usable(in->valid) : -1;
    c->shares = plan_shares(&q->fast_forward, c->train_rows, c->valid_rows);
    if (c->shares.trained < 1)
        return err_set_param(em, ERR_INPUT, "training_file", "no row is left to train on");
    enum err e = plan_max_seq_len(q, in->config, &c->max_seq_len, em);
    if (e == ERR_OK)
        e = plan_make(q, in->config, plan_reach(q->lora.alpha, q->lora.rank, q->lora.use_rslora),
                      c->train_rows, c->shares.trained, &c->plan, em);
    if (e != ERR_OK)
        return e;
    int64_t batch = c->plan.batch_size;
    c->longest = longest(in, c->max_seq_len);
    c->capacity = plan_capacity(in->cpu, in->config, c->longest, batch);
    c->steps_per_epoch = (c->shares.trained + batch - 1) / batch;
    c->epochs = fmin((double)(c->plan.total_steps * batch) / (double)c->shares.trained,
                     (double)c->plan.n_epochs);
    part(in->train, c->shares.trained, &c->train_tokens, &c->train_pairs);
    part(in->valid != NULL ? in->valid : in->train,
         plan_rows_measured(&q->fast_forward, &c->plan, c->shares.held), &c->held_tokens,
         &c->held_pairs);
    if (in->valid != NULL)
        part(in->valid, c->shares.full, &c->full_tokens, &c->full_pairs);
    return ERR_OK;
}

/* ---- arithmetic ----------------------------------------------------------------------------- */

/* model_forward_flops for sums over many rows. */
static double forward(const struct model_config *c, double tokens, double pairs) {
    return 2.0 * (double)model_config_matmul_weights(c) * tokens +
           4.0 * c->layers * c->heads * c->head_dim * pairs;
}

static double evaluations(const struct estimate *in, const struct counts *c) {
    const struct fast_forward_config *ff = &in->request->fast_forward;
    double each = ff->search == FF_AUTO ? EVALUATIONS_AUTO : EVALUATIONS_LINEAR;
    if (!ff->enabled || c->shares.held == 0)
        return 0;
    double stages = floor((double)c->plan.total_steps / (double)ff->interval);
    if (ff->search == FF_AUTO)
        stages += 1.0; /* the first follows the first step */
    return stages * fmin(each, (double)ff->max_steps + 1);
}

/* Measurements of full_valid_loss. */
static double full_evaluations(const struct estimate *in, const struct counts *c) {
    int64_t every = in->request->training.eval_interval, steps = c->plan.total_steps;
    if (c->shares.full <= 0)
        return 0;
    return every > 0 ? (double)((steps + every - 1) / every) : ceil(c->epochs);
}

static json_t *work_json(const struct estimate *in, const struct counts *c, json_t *o) {
    double training = 2.0 * c->epochs * forward(in->config, c->train_tokens, c->train_pairs);
    double each = forward(in->config, c->held_tokens, c->held_pairs);
    double stages = evaluations(in, c) * each;
    if (in->request->fast_forward.search == FF_AUTO)
        stages = fmin(stages, (CADENCE_START + CADENCE_SHARE) * training + EVALUATIONS_PAID * each);
    double full = full_evaluations(in, c) * forward(in->config, c->full_tokens, c->full_pairs);
    double seconds =
        in->flops_per_second > 0 ? (training + stages + full) / in->flops_per_second : NAN;
    json_object_set_new(o, "flops",
                        json_pack("{s:f, s:f, s:f}", "training", training, "fast_forward", stages,
                                  "validation", full));
    json_object_set_new(o, "seconds", isfinite(seconds) ? json_real(seconds) : json_null());
    json_object_set_new(o, "seconds_basis",
                        isfinite(seconds) ? json_string(in->basis) : json_null());
    return o;
}

/* ---- memory --------------------------------------------------------------------------------- */

static enum err plan_memory(const struct estimate *in, const struct counts *c,
                            struct memory_plan *out, struct err_msg *em) {
    const struct lora_config *q = &in->request->lora;
    size_t n = json_array_size(q->target_modules);
    const char **targets = calloc(n + 1, sizeof *targets);
    if (targets == NULL)
        return err_set(em, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++)
        targets[i] = json_string_value(json_array_get(q->target_modules, i));
    const struct lora_options o = {.rank = (int32_t)q->rank,
                                   .alpha = (float)q->alpha,
                                   .dropout = (float)q->dropout,
                                   .use_rslora = q->use_rslora,
                                   .use_dora = q->use_dora,
                                   .targets = n > 0 ? targets : NULL,
                                   .n_targets = (int)n};
    const struct memory_ask ask = {
        .dev = in->dev,
        .config = in->config,
        .dtype = in->dtype,
        .lora = &o,
        .training = {c->capacity, (int32_t)c->plan.batch_size, c->capacity, true, 0},
        .eval = {.tokens = plan_eval_capacity(in->cpu, c->longest), .seqs = plan_eval_rows()},
        .fast_forward = in->request->fast_forward.enabled,
        .average = in->request->fast_forward.search == FF_AUTO,
        .process = in->process,
    };
    enum err e = memory_plan_make(&ask, out, em);
    free(targets);
    return e;
}

/* ---- the whole ------------------------------------------------------------------------------ */

enum err estimate_make(const struct estimate *in, json_t **out, struct err_msg *em) {
    struct counts c = {0};
    struct memory_plan memory;
    *out = NULL;
    enum err e = count(in, &c, em);
    if (e == ERR_OK)
        e = plan_memory(in, &c, &memory, em);
    if (e != ERR_OK)
        return e;
    bool exact = in->train->sampled == 0 && (in->valid == NULL || in->valid->sampled == 0);
    json_t *o = json_object();
    json_object_set_new(o, "exact", json_boolean(exact));
    json_object_set_new(o, "hyperparameters",
                        json_pack("{s:I, s:I, s:f}", "n_epochs", (json_int_t)c.plan.n_epochs,
                                  "batch_size", (json_int_t)c.plan.batch_size,
                                  "learning_rate_multiplier", c.plan.multiplier));
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {{"total_steps", c.plan.total_steps},
                   {"steps_per_epoch", c.steps_per_epoch},
                   {"warmup_steps", c.plan.warmup_steps},
                   {"max_seq_len", c.max_seq_len},
                   {"training_rows", c.shares.trained},
                   {"fast_forward_rows", c.shares.held},
                   {"validation_rows", c.shares.full},
                   {"tokens_per_epoch", llround(c.train_tokens)},
                   {"tokens", llround(c.epochs * c.train_tokens)},
                   {"evaluations", llround(full_evaluations(in, &c))},
                   {"trainable_parameters", memory.trainable}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        json_object_set_new(o, numbers[i].key, json_integer((json_int_t)numbers[i].value));
    json_object_set_new(o, "learning_rate", json_real(c.plan.learning_rate));
    json_object_set_new(o, "memory_bytes", memory_plan_json(&memory));
    *out = work_json(in, &c, o);
    return ERR_OK;
}
