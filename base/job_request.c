/* job_request: the body of a create request, checked and typed.
 *
 * Every object of the body is a table (base/json_table.h), which openapi.json shows too. */
#include "base/job_request.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

#define FIELD_COUNT(a) (sizeof(a) / sizeof(a)[0])
#define AT(member) .at = offsetof(struct job_request, member)
#define INT(lowest, highest) .kind = JSON_KIND_INT, .lo = (lowest), .hi = (highest)
#define REAL(lowest, highest) .kind = JSON_KIND_REAL, .lo = (lowest), .hi = (highest)
#define ABOVE(lowest, highest) REAL(lowest, highest), .lo_open = true
#define BOOL .kind = JSON_KIND_BOOL
#define TEXT(most) .kind = JSON_KIND_TEXT, .hi = (most)
#define CHOICE(list) .kind = JSON_KIND_CHOICE, .names = (list), .n_names = FIELD_COUNT(list)
#define OBJECT(of) .kind = JSON_KIND_OBJECT, .table = &(of)

_Static_assert(sizeof(enum ff_search) == sizeof(int) && sizeof(enum lr_schedule) == sizeof(int) &&
                   sizeof(enum long_policy) == sizeof(int) &&
                   sizeof(enum train_on_policy) == sizeof(int),
               "a choice is stored as an int");

/* ---- lora, fast_forward, training ------------------------------------------------------------ */

/* clang-format off */
static const struct json_rule lora_rules[] = {
    {"rank", INT(1, LIMIT_RANK), AT(lora.rank)},
    {"alpha", ABOVE(0, 65536), AT(lora.alpha), .about = "twice the rank if absent"},
    {"dropout", REAL(0, 1), .hi_open = true, AT(lora.dropout)},
    {"target_modules", .kind = JSON_KIND_TEXTS, .lo = 1, .hi = 64, .item_hi = 64, .word = "all-linear",
     AT(lora.target_modules)},
    {"use_rslora", BOOL, AT(lora.use_rslora)},
    {"use_dora", BOOL, AT(lora.use_dora)},
};
static const struct json_table lora_table = {"Lora", lora_rules, FIELD_COUNT(lora_rules)};

static const struct json_rule fast_forward_rules[] = {
    {"enabled", BOOL, AT(fast_forward.enabled)},
    {"interval", INT(1, 10000), AT(fast_forward.interval), .about = "optimizer steps between stages"},
    {"validation_examples", INT(1, 10000), AT(fast_forward.validation_examples)},
    {"search", CHOICE(job_ff_search_names), AT(fast_forward.search)},
    {"max_steps", INT(1, 100000), AT(fast_forward.max_steps), .about = "simulated steps of one stage"},
};
static const struct json_table fast_forward_table = {"FastForward", fast_forward_rules,
                                                     FIELD_COUNT(fast_forward_rules)};

static const struct json_rule early_stopping_rules[] = {
    {"patience", INT(1, 10000), AT(training.patience), .required = true},
    {"min_delta", REAL(0, 1e6), AT(training.min_delta)},
};
static const struct json_table early_stopping_table = {NULL, early_stopping_rules,
                                                       FIELD_COUNT(early_stopping_rules)};

static const struct json_rule training_rules[] = {
    {"learning_rate", .kind = JSON_KIND_AUTO_REAL, .lo = 0, .lo_open = true, .hi = 1, .nullable = true,
     AT(training.learning_rate)},
    {"lr_schedule", CHOICE(job_lr_schedule_names), AT(training.lr_schedule)},
    {"warmup_ratio", REAL(0, 1), AT(training.warmup_ratio)},
    {"weight_decay", REAL(0, 1), AT(training.weight_decay)},
    {"max_grad_norm", ABOVE(0, 1e9), AT(training.max_grad_norm)},
    {"max_seq_len", INT(2, LIMIT_SEQ), AT(training.max_seq_len)},
    {"packing", BOOL, AT(training.packing)},
    {"shuffle", BOOL, AT(training.shuffle)},
    {"long_examples", CHOICE(job_long_policy_names), AT(training.long_examples)},
    {"train_on", CHOICE(job_train_on_names), AT(training.train_on)},
    {"max_steps", INT(1, LIMIT_STEPS), .nullable = true, AT(training.max_steps)},
    {"target_loss", ABOVE(0, 1e6), .nullable = true, AT(training.target_loss)},
    {"eval_interval", INT(0, LIMIT_STEPS), AT(training.eval_interval), .about = "0: each epoch's end"},
    {"checkpoint_interval", INT(0, LIMIT_STEPS), AT(training.checkpoint_interval),
     .about = "0: each epoch's end"},
    {"early_stopping", OBJECT(early_stopping_table), .nullable = true},
};
static const struct json_table training_table = {"Training", training_rules,
                                                 FIELD_COUNT(training_rules)};

/* ---- hyperparameters and method -------------------------------------------------------------- */

static const struct json_rule hyper_rules[] = {
    {"n_epochs", .kind = JSON_KIND_AUTO_INT, .lo = 1, .hi = LIMIT_EPOCHS, .nullable = true, AT(n_epochs)},
    {"batch_size", .kind = JSON_KIND_AUTO_INT, .lo = 1, .hi = LIMIT_BATCH, .nullable = true,
     AT(batch_size)},
    {"learning_rate_multiplier", .kind = JSON_KIND_AUTO_REAL, .lo = 0, .lo_open = true, .hi = 1e6,
     .nullable = true, AT(learning_rate_multiplier)},
};
/* clang-format on */
static const struct json_table hyper_table = {"Hyperparameters", hyper_rules,
                                              FIELD_COUNT(hyper_rules)};

static const struct json_rule supervised_rules[] = {
    {"hyperparameters", OBJECT(hyper_table), .nullable = true}};
static const struct json_table supervised_table = {NULL, supervised_rules,
                                                   FIELD_COUNT(supervised_rules)};

static enum err read_method_type(const json_t *v, void *out, const struct json_place *at) {
    (void)out;
    const char *type = json_string_value(v);
    if (type != NULL && strcmp(type, "supervised") == 0)
        return ERR_OK;
    if (type != NULL && (strcmp(type, "dpo") == 0 || strcmp(type, "reinforcement") == 0))
        return err_set_param(at->em, ERR_UNSUPPORTED, at->path,
                             "method \"%s\" is not available here; use \"supervised\"", type);
    return json_field_wrong(at, "\"supervised\"");
}

static const struct json_rule method_rules[] = {
    {"type", .kind = JSON_KIND_OWN, .read = read_method_type, .schema = "{'const':'supervised'}",
     .required = true},
    {"supervised", OBJECT(supervised_table), .nullable = true}};
static const struct json_table method_table = {"Method", method_rules, FIELD_COUNT(method_rules)};

/* ---- the body -------------------------------------------------------------------------------- */

static enum err read_metadata(const json_t *v, void *out, const struct json_place *at) {
    struct job_request *r = out;
    const char *key;
    json_t *value;
    if (!json_is_object(v) || json_object_size(v) > LIMIT_METADATA_PAIRS)
        return json_field_wrong(at, "an object of at most 16 pairs");
    json_object_foreach((json_t *)(uintptr_t)v, key, value) {
        struct json_place child;
        json_place_child(at, key, &child);
        if (json_table_characters(key) > LIMIT_METADATA_KEY)
            return json_field_wrong(&child, "a key of at most 64 characters");
        if (!json_is_string(value) ||
            json_table_characters(json_string_value(value)) > LIMIT_METADATA_VALUE)
            return json_field_wrong(&child, "a string of at most 512 characters");
    }
    json_decref(r->metadata);
    r->metadata = json_deep_copy(v);
    return ERR_OK;
}

static enum err read_integrations(const json_t *v, void *out, const struct json_place *at) {
    struct job_request *r = out;
    if (!json_is_array(v))
        return json_field_wrong(at, "an array");
    if (json_array_size(v) > 0)
        return err_set_param(at->em, ERR_UNSUPPORTED, at->path,
                             "integrations are not available here; leave the list empty");
    json_decref(r->integrations);
    r->integrations = json_deep_copy(v);
    return ERR_OK;
}

/* clang-format off */
static const struct json_rule body_rules[] = {
    {"model", TEXT(LIMIT_FILENAME), .required = true, AT(model)},
    {"training_file", TEXT(LIMIT_FILENAME), .required = true, AT(training_file)},
    {"validation_file", TEXT(LIMIT_FILENAME), .nullable = true, AT(validation_file)},
    {"suffix", TEXT(LIMIT_SUFFIX), .refused = "/:\\", .nullable = true, AT(suffix)},
    {"seed", INT(0, INT32_MAX), .nullable = true, AT(seed),
     .mark = offsetof(struct job_request, has_seed)},
    {"metadata", .kind = JSON_KIND_OWN, .nullable = true, .read = read_metadata, .schema =
        "{'type':'object','maxProperties':16,'propertyNames':{'maxLength':64,'pattern':'^[^\\\\u0000]*$'},"
        "'additionalProperties':{'type':'string','maxLength':512,'pattern':'^[^\\\\u0000]*$'}}"},
    {"integrations", .kind = JSON_KIND_OWN, .nullable = true, .read = read_integrations,
     .schema = "{'type':'array','maxItems':0}"},
    {"method", OBJECT(method_table), .nullable = true},
    {"hyperparameters", OBJECT(hyper_table), .nullable = true,
     .about = "deprecated; method says the same"},
    {"lora", OBJECT(lora_table), .mark = offsetof(struct job_request, lora.present)},
    {"fast_forward", OBJECT(fast_forward_table)},
    {"training", OBJECT(training_table)},
    {"priority", INT(-LIMIT_PRIORITY, LIMIT_PRIORITY), AT(priority), .about = "higher goes first"},
    {"dry_run", BOOL, AT(dry_run), .about = "say what the job would take; make none"},
};
/* clang-format on */
const struct json_table job_request_table = {"JobCreate", body_rules, FIELD_COUNT(body_rules)};

static bool contradict(const json_t *a, const json_t *b) {
    if (a == NULL || b == NULL || json_is_null(a) || json_is_null(b))
        return false;
    if (json_is_string(a) || json_is_string(b)) /* "auto" */
        return json_equal(a, b) == 0;
    return json_number_value(a) != json_number_value(b);
}

/* The deprecated place may repeat what the other one says. Both have been read without an error. */
static enum err check_hyperparameters(const json_t *body, struct err_msg *em) {
    const json_t *supervised = json_object_get(json_object_get(body, "method"), "supervised");
    const json_t *one = json_object_get(supervised, "hyperparameters");
    const json_t *other = json_object_get(body, "hyperparameters");
    for (size_t i = 0; i < hyper_table.n; i++) {
        const char *name = hyper_rules[i].name;
        if (contradict(json_object_get(one, name), json_object_get(other, name)))
            return err_set_param(em, ERR_INPUT, "hyperparameters",
                                 "hyperparameters.%s and method.supervised.hyperparameters.%s "
                                 "differ; leave out hyperparameters, which is deprecated",
                                 name, name);
    }
    return ERR_OK;
}

/* A checkpoint of a model is named MODEL:ckpt-step-N. */
static enum err check_suffix(const char *suffix, struct err_msg *em) {
    static const char mark[] = "ckpt-step-";
    if (suffix == NULL || strncmp(suffix, mark, sizeof mark - 1) != 0)
        return ERR_OK;
    return err_set_param(em, ERR_INPUT, "suffix",
                         "suffix must not begin with \"%s\", which names checkpoints", mark);
}

/* ---- the whole ------------------------------------------------------------------------------- */

void job_request_init(struct job_request *r) {
    *r = (struct job_request){
        .n_epochs = {.is_auto = true},
        .batch_size = {.is_auto = true},
        .learning_rate_multiplier = {.is_auto = true},
        .lora = {.rank = 16, .alpha = 32},
        .fast_forward = {.enabled = true,
                         .interval = 6,
                         .validation_examples = 32,
                         .search = FF_AUTO,
                         .max_steps = 1000},
        .training = {.learning_rate = {.is_auto = true},
                     .lr_schedule = LR_LINEAR,
                     .warmup_ratio = 0.03,
                     .max_grad_norm = 1.0,
                     .packing = true,
                     .shuffle = true},
    };
}

void job_request_clear(struct job_request *r) {
    free(r->model);
    free(r->training_file);
    free(r->validation_file);
    free(r->suffix);
    json_decref(r->metadata);
    json_decref(r->integrations);
    json_decref(r->lora.target_modules);
    *r = (struct job_request){0};
}

enum err job_request_parse(const json_t *body, unsigned flags, struct job_request *out,
                           struct err_msg *em) {
    struct err_msg local = ERR_MSG_INIT;
    struct json_place root = {.path = "", .em = em != NULL ? em : &local};
    unsigned how = (flags & JOB_REQUEST_CREATE) != 0 ? 0 : JSON_TABLE_PARTIAL;
    job_request_init(out);
    out->lora.alpha = 0; /* twice the rank, once that is known */
    enum err e = ERR_OK;
    if (!json_is_object(body))
        e = err_set(root.em, ERR_INPUT, "the body must be a JSON object");
    if (e == ERR_OK)
        e = json_table_read(body, &job_request_table, how, out, &root);
    if (e == ERR_OK)
        e = check_hyperparameters(body, root.em);
    if (e == ERR_OK)
        e = check_suffix(out->suffix, root.em);
    if (e == ERR_OK && out->lora.alpha == 0)
        out->lora.alpha = 2.0 * (double)out->lora.rank;
    if (e != ERR_OK)
        job_request_clear(out);
    return e;
}
