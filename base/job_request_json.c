/* job_request_json: a request's extensions spelled out again, for reports and checkpoints. */
#include "base/job_request.h"

const char *const job_ff_search_names[3] = {"auto", "linear", "paper"};
const char *const job_lr_schedule_names[3] = {"constant", "linear", "cosine"};
const char *const job_long_policy_names[3] = {"truncate", "drop", "fail"};
const char *const job_train_on_names[3] = {"assistant", "response", "all"};

static json_t *auto_number(struct auto_number n) {
    return n.is_auto ? json_string("auto") : json_real(n.value);
}

static json_t *lora_json(const struct lora_config *c) {
    json_t *targets =
        c->target_modules != NULL ? json_deep_copy(c->target_modules) : json_string("all-linear");
    return json_pack("{s:I, s:f, s:f, s:o, s:b, s:b}", "rank", (json_int_t)c->rank, "alpha",
                     c->alpha, "dropout", c->dropout, "target_modules", targets, "use_rslora",
                     c->use_rslora, "use_dora", c->use_dora);
}

static json_t *fast_forward_json(const struct fast_forward_config *c) {
    return json_pack("{s:b, s:I, s:I, s:s, s:I}", "enabled", c->enabled, "interval",
                     (json_int_t)c->interval, "validation_examples",
                     (json_int_t)c->validation_examples, "search", job_ff_search_names[c->search],
                     "max_steps", (json_int_t)c->max_steps);
}

static json_t *training_json(const struct training_config *c) {
    json_t *o = json_pack(
        "{s:o, s:s, s:f, s:f, s:f, s:b, s:b, s:s, s:s, s:I, s:I}", "learning_rate",
        auto_number(c->learning_rate), "lr_schedule", job_lr_schedule_names[c->lr_schedule],
        "warmup_ratio", c->warmup_ratio, "weight_decay", c->weight_decay, "max_grad_norm",
        c->max_grad_norm, "packing", c->packing, "shuffle", c->shuffle, "long_examples",
        job_long_policy_names[c->long_examples], "train_on", job_train_on_names[c->train_on],
        "eval_interval", (json_int_t)c->eval_interval, "checkpoint_interval",
        (json_int_t)c->checkpoint_interval);
    if (c->max_seq_len > 0)
        json_object_set_new(o, "max_seq_len", json_integer(c->max_seq_len));
    if (c->max_steps > 0)
        json_object_set_new(o, "max_steps", json_integer(c->max_steps));
    if (c->target_loss > 0)
        json_object_set_new(o, "target_loss", json_real(c->target_loss));
    if (c->patience > 0)
        json_object_set_new(o, "early_stopping",
                            json_pack("{s:I, s:f}", "patience", (json_int_t)c->patience,
                                      "min_delta", c->min_delta));
    return o;
}

json_t *job_request_extensions(const struct job_request *r) {
    return json_pack("{s:o, s:o, s:o}", "lora", lora_json(&r->lora), "fast_forward",
                     fast_forward_json(&r->fast_forward), "training", training_json(&r->training));
}
