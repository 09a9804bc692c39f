/* job_request: the body of a create request, checked and typed.
 *
 * What:    one parser for `POST /v1/fine_tuning/jobs` and `ffwd train --config`: the OpenAI fields
 *          and ffwd's extensions, with defaults filled in. Unknown keys are refused with their
 *          path.
 * Owns:    its strings and JSON; free with job_request_clear.
 * Threads: plain data.
 * Errors:  ERR_INPUT with em->param = path of the field ("lora.rank") and a sentence that states
 * the range; ERR_UNSUPPORTED for methods and integrations that ffwd does not have.
 */
#ifndef FFWD_BASE_JOB_REQUEST_H
#define FFWD_BASE_JOB_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json_table.h"

struct lora_config {
    int64_t rank;           /* 1…LIMIT_RANK, 16 */
    double alpha;           /* > 0, 2 · rank */
    double dropout;         /* [0, 1), 0 */
    json_t *target_modules; /* NULL: "all-linear", else array of strings */
    bool use_rslora, use_dora;
    bool present; /* the request named lora at all */
};

enum ff_search { FF_AUTO, FF_LINEAR, FF_PAPER };

struct fast_forward_config {
    bool enabled;                /* true */
    int64_t interval;            /* optimizer steps between stages, 1…10000, 6 */
    int64_t validation_examples; /* 1…10000, 32 */
    enum ff_search search;
    int64_t max_steps; /* simulated steps of one stage, 1…100000, 1000 */
};

enum lr_schedule { LR_CONSTANT, LR_LINEAR, LR_COSINE };
enum long_policy { LONG_POLICY_TRUNCATE, LONG_POLICY_DROP, LONG_POLICY_FAIL };
enum train_on_policy { TRAIN_ON_POLICY_ASSISTANT, TRAIN_ON_POLICY_RESPONSE, TRAIN_ON_POLICY_ALL };

struct training_config {
    struct auto_number learning_rate; /* "auto" */
    enum lr_schedule lr_schedule;     /* linear */
    double warmup_ratio;              /* [0, 1], 0.03 */
    double weight_decay;              /* [0, 1], 0 */
    double max_grad_norm;             /* > 0, 1.0 */
    int64_t max_seq_len;              /* 0: min(model's, 2048) */
    bool packing, shuffle;            /* true, true */
    enum long_policy long_examples;
    enum train_on_policy train_on;
    int64_t max_steps;           /* 0: none */
    double target_loss;          /* 0: none */
    int64_t eval_interval;       /* 0: each epoch's end */
    int64_t checkpoint_interval; /* 0: each epoch's end */
    int64_t patience;            /* early stopping; 0: none */
    double min_delta;
};

struct job_request {
    char *model, *training_file; /* NULL where absent (allowed only without JOB_REQUEST_CREATE) */
    char *validation_file, *suffix;
    json_t *metadata;     /* object, or NULL */
    json_t *integrations; /* array, or NULL */
    bool has_seed;
    int64_t seed;     /* 0…2147483647 */
    int64_t priority; /* -100…100 */
    bool dry_run;
    struct auto_number n_epochs, batch_size, learning_rate_multiplier;
    struct lora_config lora;
    struct fast_forward_config fast_forward;
    struct training_config training;
};

enum { JOB_REQUEST_CREATE = 1 }; /* model and training_file are required */

/* The body as a table, for openapi.json. */
extern const struct json_table job_request_table;

/* body: a parsed JSON object. On ERR_OK *out must be cleared; otherwise it is already clear. */
enum err job_request_parse(const json_t *body, unsigned flags, struct job_request *out,
                           struct err_msg *em) NODISCARD;
/* All defaults. */
void job_request_init(struct job_request *r);
void job_request_clear(struct job_request *r);

/* Names of the choices, indexed by the enums. */
extern const char *const job_ff_search_names[3];
extern const char *const job_lr_schedule_names[3];
extern const char *const job_long_policy_names[3];
extern const char *const job_train_on_names[3];

/* New object {"lora":…,"fast_forward":…,"training":…} with every value spelled out, in the form
 * that job_request_parse reads. */
json_t *job_request_extensions(const struct job_request *r);

#endif
