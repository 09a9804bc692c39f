/* job_request: the body of a create request, checked and typed.
 *
 * Every object of the body is a table of fields; a field knows its reader. What no table names is
 * refused with its path. */
#include "base/job_request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_field.h"
#include "base/limits.h"
#include "base/mem.h"

typedef enum err (*reader)(const json_t *value, struct job_request *r, const struct json_place *at);

struct field {
    const char *name;
    reader read;
};

/* ---- "auto" or a number -----------------------------------------------------------------------
 */

static bool is_auto(const json_t *v) {
    const char *s = json_string_value(v);
    return s != NULL && strcmp(s, "auto") == 0;
}

static enum err read_auto_int(const json_t *v, int64_t hi, struct auto_number *out,
                              const struct json_place *at) {
    int64_t n = 0;
    if (json_is_null(v)) /* as if it were not there */
        return ERR_OK;
    if (is_auto(v)) {
        *out = (struct auto_number){.is_auto = true};
        return ERR_OK;
    }
    if (json_is_string(v))
        return json_field_wrong(at, "\"auto\" or an integer");
    enum err e = json_field_int(v, 1, hi, &n, at);
    if (e == ERR_OK)
        *out = (struct auto_number){.value = (double)n};
    return e;
}

static enum err read_auto_real(const json_t *v, double hi, struct auto_number *out,
                               const struct json_place *at) {
    double d = 0;
    if (json_is_null(v))
        return ERR_OK;
    if (is_auto(v)) {
        *out = (struct auto_number){.is_auto = true};
        return ERR_OK;
    }
    if (json_is_string(v))
        return json_field_wrong(at, "\"auto\" or a number");
    enum err e =
        json_field_real(v, 0, true, hi, false, hi <= 1 ? "above 0, at most 1" : "above 0", &d, at);
    if (e == ERR_OK)
        *out = (struct auto_number){.value = d};
    return e;
}

/* ---- objects --------------------------------------------------------------------------------- */

static enum err read_object(const json_t *v, const struct field *fields, size_t n,
                            struct job_request *r, const struct json_place *at) {
    if (!json_is_object(v))
        return json_field_wrong(at, "an object");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)v, key, value) {
        struct json_place child;
        json_place_child(at, key, &child);
        const struct field *f = NULL;
        for (size_t i = 0; i < n && f == NULL; i++)
            if (strcmp(fields[i].name, key) == 0)
                f = &fields[i];
        if (f == NULL)
            return err_set_param(at->em, ERR_INPUT, child.path, "unknown field %s", child.path);
        enum err e = f->read(value, r, &child);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

#define FIELD_COUNT(a) (sizeof(a) / sizeof(a)[0])
/* A reader is a function of the value v, the request r and the place at. */
#define READER(name)                                                                               \
    static enum err name(const json_t *v, struct job_request *r, const struct json_place *at)

/* ---- lora ------------------------------------------------------------------------------------ */

READER(lora_rank) {
    return json_field_int(v, 1, LIMIT_RANK, &r->lora.rank, at);
}
READER(lora_alpha) {
    return json_field_real(v, 0, true, 65536, false, "above 0, at most 65536", &r->lora.alpha, at);
}
READER(lora_dropout) {
    return json_field_real(v, 0, false, 1, true, "from 0 to below 1", &r->lora.dropout, at);
}
READER(lora_rslora) {
    return json_field_bool(v, &r->lora.use_rslora, at);
}
READER(lora_dora) {
    return json_field_bool(v, &r->lora.use_dora, at);
}

READER(lora_targets) {
    json_decref(r->lora.target_modules);
    r->lora.target_modules = NULL;
    const char *s = json_string_value(v);
    if (s != NULL && strcmp(s, "all-linear") == 0)
        return ERR_OK;
    bool good = json_is_array(v) && json_array_size(v) > 0 && json_array_size(v) <= 64;
    for (size_t i = 0; good && i < json_array_size(v); i++) {
        const char *name = json_string_value(json_array_get(v, i));
        good = name != NULL && name[0] != '\0' && strlen(name) <= 64;
    }
    if (!good)
        return json_field_wrong(at, "\"all-linear\" or an array of 1 to 64 module names");
    r->lora.target_modules = json_deep_copy(v);
    return ERR_OK;
}

READER(read_lora) {
    static const struct field fields[] = {
        {"rank", lora_rank},         {"alpha", lora_alpha},
        {"dropout", lora_dropout},   {"target_modules", lora_targets},
        {"use_rslora", lora_rslora}, {"use_dora", lora_dora},
    };
    enum err e = read_object(v, fields, FIELD_COUNT(fields), r, at);
    r->lora.present = true;
    return e;
}

/* ---- fast_forward ---------------------------------------------------------------------------- */

READER(ff_enabled) {
    return json_field_bool(v, &r->fast_forward.enabled, at);
}
READER(ff_interval) {
    return json_field_int(v, 1, 10000, &r->fast_forward.interval, at);
}
READER(ff_examples) {
    return json_field_int(v, 1, 10000, &r->fast_forward.validation_examples, at);
}
READER(ff_max_steps) {
    return json_field_int(v, 1, 100000, &r->fast_forward.max_steps, at);
}
READER(ff_search) {
    int i = 0;
    enum err e = json_field_choice(v, job_ff_search_names, 3, &i, at);
    r->fast_forward.search = (enum ff_search)i;
    return e;
}

READER(read_fast_forward) {
    static const struct field fields[] = {
        {"enabled", ff_enabled}, {"interval", ff_interval},   {"validation_examples", ff_examples},
        {"search", ff_search},   {"max_steps", ff_max_steps},
    };
    return read_object(v, fields, FIELD_COUNT(fields), r, at);
}

/* ---- training -------------------------------------------------------------------------------- */

READER(tr_learning_rate) {
    return read_auto_real(v, 1, &r->training.learning_rate, at);
}
READER(tr_schedule) {
    int i = 0;
    enum err e = json_field_choice(v, job_lr_schedule_names, 3, &i, at);
    r->training.lr_schedule = (enum lr_schedule)i;
    return e;
}
READER(tr_warmup) {
    return json_field_real(v, 0, false, 1, false, "from 0 to 1", &r->training.warmup_ratio, at);
}
READER(tr_decay) {
    return json_field_real(v, 0, false, 1, false, "from 0 to 1", &r->training.weight_decay, at);
}
READER(tr_grad_norm) {
    return json_field_real(v, 0, true, 1e9, false, "above 0", &r->training.max_grad_norm, at);
}
READER(tr_seq_len) {
    return json_field_int(v, 2, LIMIT_SEQ, &r->training.max_seq_len, at);
}
READER(tr_packing) {
    return json_field_bool(v, &r->training.packing, at);
}
READER(tr_shuffle) {
    return json_field_bool(v, &r->training.shuffle, at);
}
READER(tr_long) {
    int i = 0;
    enum err e = json_field_choice(v, job_long_policy_names, 3, &i, at);
    r->training.long_examples = (enum long_policy)i;
    return e;
}
READER(tr_train_on) {
    int i = 0;
    enum err e = json_field_choice(v, job_train_on_names, 3, &i, at);
    r->training.train_on = (enum train_on_policy)i;
    return e;
}
READER(tr_max_steps) {
    return json_is_null(v) ? ERR_OK : json_field_int(v, 1, LIMIT_STEPS, &r->training.max_steps, at);
}
READER(tr_target_loss) {
    return json_is_null(v)
               ? ERR_OK
               : json_field_real(v, 0, true, 1e6, false, "above 0", &r->training.target_loss, at);
}
READER(tr_eval_interval) {
    return json_field_int(v, 0, LIMIT_STEPS, &r->training.eval_interval, at);
}
READER(tr_checkpoint_interval) {
    return json_field_int(v, 0, LIMIT_STEPS, &r->training.checkpoint_interval, at);
}
READER(stop_patience) {
    return json_field_int(v, 1, 10000, &r->training.patience, at);
}
READER(stop_min_delta) {
    return json_field_real(v, 0, false, 1e6, false, "of at least 0", &r->training.min_delta, at);
}

READER(tr_early_stopping) {
    static const struct field fields[] = {{"patience", stop_patience},
                                          {"min_delta", stop_min_delta}};
    if (json_is_null(v))
        return ERR_OK;
    enum err e = read_object(v, fields, FIELD_COUNT(fields), r, at);
    if (e == ERR_OK && r->training.patience == 0)
        return err_set_param(at->em, ERR_INPUT, at->path, "%s needs patience", at->path);
    return e;
}

READER(read_training) {
    static const struct field fields[] = {
        {"learning_rate", tr_learning_rate},
        {"lr_schedule", tr_schedule},
        {"warmup_ratio", tr_warmup},
        {"weight_decay", tr_decay},
        {"max_grad_norm", tr_grad_norm},
        {"max_seq_len", tr_seq_len},
        {"packing", tr_packing},
        {"shuffle", tr_shuffle},
        {"long_examples", tr_long},
        {"train_on", tr_train_on},
        {"max_steps", tr_max_steps},
        {"target_loss", tr_target_loss},
        {"eval_interval", tr_eval_interval},
        {"checkpoint_interval", tr_checkpoint_interval},
        {"early_stopping", tr_early_stopping},
    };
    return read_object(v, fields, FIELD_COUNT(fields), r, at);
}

/* ---- the OpenAI fields ----------------------------------------------------------------------- */

READER(hyper_epochs) {
    return read_auto_int(v, LIMIT_EPOCHS, &r->n_epochs, at);
}
READER(hyper_batch) {
    return read_auto_int(v, LIMIT_BATCH, &r->batch_size, at);
}
READER(hyper_multiplier) {
    return read_auto_real(v, 1e6, &r->learning_rate_multiplier, at);
}

static const struct field hyper_fields[] = {{"n_epochs", hyper_epochs},
                                            {"batch_size", hyper_batch},
                                            {"learning_rate_multiplier", hyper_multiplier}};

READER(read_hyperparameters) {
    return json_is_null(v) ? ERR_OK
                           : read_object(v, hyper_fields, FIELD_COUNT(hyper_fields), r, at);
}

READER(read_supervised) {
    static const struct field fields[] = {{"hyperparameters", read_hyperparameters}};
    return json_is_null(v) ? ERR_OK : read_object(v, fields, FIELD_COUNT(fields), r, at);
}

READER(method_type) {
    (void)r;
    const char *type = json_string_value(v);
    if (type == NULL)
        return json_field_wrong(at, "\"supervised\"");
    if (strcmp(type, "supervised") == 0)
        return ERR_OK;
    if (strcmp(type, "dpo") == 0 || strcmp(type, "reinforcement") == 0)
        return err_set_param(at->em, ERR_UNSUPPORTED, at->path,
                             "method \"%s\" is not available here; use \"supervised\"", type);
    return json_field_wrong(at, "\"supervised\"");
}

READER(read_method) {
    static const struct field fields[] = {{"type", method_type}, {"supervised", read_supervised}};
    if (json_is_null(v))
        return ERR_OK;
    if (!json_is_object(v))
        return json_field_wrong(at, "an object");
    struct json_place type;
    json_place_child(at, "type", &type);
    if (json_object_get(v, "type") == NULL)
        return err_set_param(at->em, ERR_INPUT, type.path, "%s is missing", type.path);
    enum err e = method_type(json_object_get(v, "type"), r, &type);
    return e != ERR_OK ? e : read_object(v, fields, FIELD_COUNT(fields), r, at);
}

static bool contradict(const json_t *a, const json_t *b) {
    if (a == NULL || b == NULL || json_is_null(a) || json_is_null(b) || (is_auto(a) && is_auto(b)))
        return false;
    return is_auto(a) || is_auto(b) || json_number_value(a) != json_number_value(b);
}

/* The deprecated place may repeat what the other one says. Both have been read without an error. */
static enum err check_hyperparameters(const json_t *body, struct err_msg *em) {
    const json_t *supervised = json_object_get(json_object_get(body, "method"), "supervised");
    const json_t *one = json_object_get(supervised, "hyperparameters");
    const json_t *other = json_object_get(body, "hyperparameters");
    for (size_t i = 0; i < FIELD_COUNT(hyper_fields); i++) {
        const char *name = hyper_fields[i].name;
        if (contradict(json_object_get(one, name), json_object_get(other, name)))
            return err_set_param(em, ERR_INPUT, "hyperparameters",
                                 "hyperparameters.%s and method.supervised.hyperparameters.%s "
                                 "differ; leave out hyperparameters, which is deprecated",
                                 name, name);
    }
    return ERR_OK;
}

READER(read_model) {
    return json_field_string(v, LIMIT_FILENAME, &r->model, at);
}
READER(read_training_file) {
    return json_field_string(v, LIMIT_FILENAME, &r->training_file, at);
}
READER(read_validation_file) {
    return json_is_null(v) ? ERR_OK : json_field_string(v, LIMIT_FILENAME, &r->validation_file, at);
}

/* The contract counts characters. */
static size_t characters(const char *utf8) {
    size_t n = 0;
    for (; *utf8 != '\0'; utf8++)
        n += ((unsigned char)*utf8 & 0xc0) != 0x80;
    return n;
}

READER(read_suffix) {
    if (json_is_null(v))
        return ERR_OK;
    enum err e = json_field_string(v, (size_t)LIMIT_SUFFIX * 4, &r->suffix, at);
    if (e == ERR_OK && characters(r->suffix) > LIMIT_SUFFIX)
        return json_field_wrong(at, "a string of 1 to 64 characters");
    for (const char *p = r->suffix; e == ERR_OK && *p != '\0'; p++)
        if (strchr("/:\\", *p) != NULL || (unsigned char)*p < 0x20 || *p == 0x7f)
            return json_field_wrong(at, "a name without '/', ':', '\\' or control characters");
    return e;
}

READER(read_seed) {
    if (json_is_null(v))
        return ERR_OK;
    r->has_seed = true;
    return json_field_int(v, 0, INT32_MAX, &r->seed, at);
}
READER(read_priority) {
    return json_field_int(v, -100, 100, &r->priority, at);
}
READER(read_dry_run) {
    return json_field_bool(v, &r->dry_run, at);
}

READER(read_metadata) {
    if (json_is_null(v))
        return ERR_OK;
    if (!json_is_object(v) || json_object_size(v) > LIMIT_METADATA_PAIRS)
        return json_field_wrong(at, "an object of at most 16 pairs");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)v, key, value) {
        struct json_place child;
        json_place_child(at, key, &child);
        if (characters(key) > LIMIT_METADATA_KEY)
            return json_field_wrong(&child, "a key of at most 64 characters");
        if (!json_is_string(value) || characters(json_string_value(value)) > LIMIT_METADATA_VALUE)
            return json_field_wrong(&child, "a string of at most 512 characters");
    }
    json_decref(r->metadata);
    r->metadata = json_deep_copy(v);
    return ERR_OK;
}

READER(read_integrations) {
    if (json_is_null(v))
        return ERR_OK;
    if (!json_is_array(v))
        return json_field_wrong(at, "an array");
    if (json_array_size(v) > 0)
        return err_set_param(at->em, ERR_UNSUPPORTED, at->path,
                             "integrations are not available here; leave the list empty");
    json_decref(r->integrations);
    r->integrations = json_deep_copy(v);
    return ERR_OK;
}

static const struct field body_fields[] = {
    {"model", read_model},
    {"training_file", read_training_file},
    {"validation_file", read_validation_file},
    {"suffix", read_suffix},
    {"seed", read_seed},
    {"metadata", read_metadata},
    {"integrations", read_integrations},
    {"method", read_method},
    {"hyperparameters", read_hyperparameters},
    {"lora", read_lora},
    {"fast_forward", read_fast_forward},
    {"training", read_training},
    {"priority", read_priority},
    {"dry_run", read_dry_run},
};

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

static enum err check_required(const struct job_request *r, struct err_msg *em) {
    const char *missing = r->model == NULL           ? "model"
                          : r->training_file == NULL ? "training_file"
                                                     : NULL;
    if (missing == NULL)
        return ERR_OK;
    return err_set_param(em, ERR_INPUT, missing, "%s is required", missing);
}

enum err job_request_parse(const json_t *body, unsigned flags, struct job_request *out,
                           struct err_msg *em) {
    struct err_msg local = ERR_MSG_INIT;
    struct json_place root = {.path = "", .em = em != NULL ? em : &local};
    job_request_init(out);
    out->lora.alpha = 0; /* twice the rank, once that is known */
    enum err e = ERR_OK;
    if (!json_is_object(body))
        e = err_set(root.em, ERR_INPUT, "the body must be a JSON object");
    if (e == ERR_OK)
        e = read_object(body, body_fields, FIELD_COUNT(body_fields), out, &root);
    if (e == ERR_OK)
        e = check_hyperparameters(body, root.em);
    if (e == ERR_OK && (flags & JOB_REQUEST_CREATE) != 0)
        e = check_required(out, root.em);
    if (e == ERR_OK && out->lora.alpha == 0)
        out->lora.alpha = 2.0 * (double)out->lora.rank;
    if (e != ERR_OK)
        job_request_clear(out);
    return e;
}
