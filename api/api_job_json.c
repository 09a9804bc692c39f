/* api_job_json: the job object, exactly as documented; ffwd's own fields are under one key. */
#include "api/api_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- hyperparameters ------------------------------------------------------------------------ */

static json_t *auto_integer(const json_t *resolved, const struct auto_number *asked) {
    if (json_is_number(resolved))
        return json_integer((json_int_t)llround(json_number_value(resolved)));
    return asked->is_auto ? json_string("auto") : json_integer((json_int_t)asked->value);
}

static json_t *auto_real(const json_t *resolved, const struct auto_number *asked) {
    if (json_is_number(resolved))
        return json_real(json_number_value(resolved));
    return asked->is_auto ? json_string("auto") : json_real(asked->value);
}

/* What the request asks for, until the worker has resolved it to numbers. */
static json_t *hyperparameters(const struct job_row *job, const struct job_request *r) {
    const json_t *resolved = json_object_get(job->resolved, "hyperparameters");
    json_t *o = json_object();
    json_object_set_new(o, "n_epochs",
                        auto_integer(json_object_get(resolved, "n_epochs"), &r->n_epochs));
    json_object_set_new(o, "batch_size",
                        auto_integer(json_object_get(resolved, "batch_size"), &r->batch_size));
    json_object_set_new(o, "learning_rate_multiplier",
                        auto_real(json_object_get(resolved, "learning_rate_multiplier"),
                                  &r->learning_rate_multiplier));
    return o;
}

static void set_hyperparameters(json_t *o, const struct job_row *job) {
    struct job_request r;
    if (job_request_parse(job->request, 0, &r, NULL) != ERR_OK)
        job_request_init(&r); /* written by a version that knew other fields */
    json_t *numbers = hyperparameters(job, &r);
    json_object_set(o, "hyperparameters", numbers);
    json_object_set_new(o, "method",
                        json_pack("{s:s, s:{s:O}}", "type", "supervised", "supervised",
                                  "hyperparameters", numbers));
    json_decref(numbers);
    job_request_clear(&r);
}

/* ---- the key "ffwd" ------------------------------------------------------------------------- */

static json_t *copy_or_null(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return value != NULL ? json_incref(value) : json_null();
}

static json_t *progress_json(const json_t *progress) {
    const json_t *total = json_object_get(progress, "total_steps");
    double step = json_number_value(json_object_get(progress, "step"));
    double steps = json_number_value(total);
    if (progress == NULL || json_is_null(progress))
        return json_null();
    json_t *o = json_object();
    double percent = steps > 0 ? floor(1000.0 * fmin(step / steps, 1.0)) / 10.0 : 0;
    json_object_set_new(o, "step", copy_or_null(progress, "step"));
    json_object_set_new(o, "total_steps", copy_or_null(progress, "total_steps"));
    json_object_set_new(o, "percent", json_real(percent));
    return o;
}

static json_t *tokens_per_second(const json_t *progress) {
    double tokens = json_number_value(json_object_get(progress, "tokens"));
    double seconds = json_number_value(json_object_get(progress, "seconds"));
    return seconds > 0 ? json_real(tokens / seconds) : json_null();
}

/* A step's event counts all FLOPs in one number, the last event gives the two parts. */
static json_t *flops_json(const json_t *progress) {
    const json_t *flops = json_object_get(progress, "flops");
    json_t *o = json_object();
    json_t *training = json_object_get(flops, "training");
    json_t *forward = json_object_get(flops, "fast_forward");
    json_object_set_new(o, "training", copy_or_null(flops, "training"));
    json_object_set_new(o, "fast_forward", copy_or_null(flops, "fast_forward"));
    if (json_is_number(flops))
        json_object_set_new(o, "total", json_real(json_number_value(flops)));
    else if (training != NULL && forward != NULL)
        json_object_set_new(o, "total",
                            json_real(json_number_value(training) + json_number_value(forward)));
    else
        json_object_set_new(o, "total", json_null());
    return o;
}

/* A list knows the positions of its rows already. */
static json_t *queue_position(struct api *api, const struct job_row *job) {
    struct job_row row = *job; /* its members are borrowed */
    if (job->status != JOB_QUEUED)
        return json_null();
    if (row.queue_position < 0 && store_job_fill_positions(api->store, &row, 1, NULL) != ERR_OK)
        return json_null();
    return row.queue_position >= 0 ? json_integer(row.queue_position) : json_null();
}

static json_t *own_fields(struct api *api, const struct job_row *job) {
    json_t *o = json_object();
    json_object_set_new(o, "progress", progress_json(job->progress));
    json_object_set_new(o, "queue_position", queue_position(api, job));
    json_object_set_new(o, "tokens_per_second", tokens_per_second(job->progress));
    json_object_set_new(o, "flops", flops_json(job->progress));
    json_object_set_new(o, "fast_forward", copy_or_null(job->progress, "fast_forward"));
    json_object_set_new(o, "device", copy_or_null(job->progress, "device"));
    json_object_set_new(o, "attempt", json_integer(job->attempt));
    json_object_set_new(o, "priority", json_integer(job->priority));
    json_object_set_new(o, "started_at",
                        job->started_at > 0 ? json_integer(job->started_at) : json_null());
    json_object_set_new(o, "cancel_requested",
                        json_boolean(job->cancel_requested && !job_status_ended(job->status)));
    json_object_set_new(o, "pause_requested", json_boolean(job->pause_requested));
    return o;
}

/* ---- the object ----------------------------------------------------------------------------- */

static json_t *time_or_null(int64_t at) {
    return at > 0 ? json_integer(at) : json_null();
}

/* code and message are never null in the contract. */
static json_t *error_json(const json_t *error) {
    if (!json_is_object(error))
        return json_null();
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *param = json_string_value(json_object_get(error, "param"));
    json_t *o = json_object();
    json_object_set_new(o, "code", api__string(code != NULL ? code : "error"));
    json_object_set_new(o, "message", api__string(message != NULL ? message : ""));
    json_object_set_new(o, "param", api__string(param));
    return o;
}

static json_t *metadata_json(const struct job_row *job) {
    json_t *metadata = json_object_get(job->request, "metadata");
    return json_is_object(metadata) ? json_incref(metadata) : json_null();
}

static json_t *trained_tokens(const struct job_row *job) {
    bool known =
        job->status == JOB_SUCCEEDED || (job_status_ended(job->status) && job->trained_tokens > 0);
    return known ? json_integer(job->trained_tokens) : json_null();
}

json_t *api_job_json(struct api *api, const struct job_row *job) {
    json_t *o = json_object();
    const char *suffix = json_string_value(json_object_get(job->request, "suffix"));
    json_object_set_new(o, "object", json_string("fine_tuning.job"));
    json_object_set_new(o, "id", json_string(job->id));
    json_object_set_new(o, "model", api__string(job->model));
    json_object_set_new(o, "created_at", json_integer(job->created_at));
    json_object_set_new(o, "finished_at", time_or_null(job->finished_at));
    json_object_set_new(o, "fine_tuned_model", api__string(job->fine_tuned_model));
    json_object_set_new(o, "organization_id", json_string(API_ORGANIZATION));
    if (json_is_array(job->result_files))
        json_object_set(o, "result_files", job->result_files);
    else
        json_object_set_new(o, "result_files", json_array());
    json_object_set_new(o, "status", json_string(job_status_name(job->status)));
    json_object_set_new(o, "validation_file", api__string(job->validation_file));
    json_object_set_new(o, "training_file", api__string(job->training_file));
    set_hyperparameters(o, job);
    json_object_set_new(o, "trained_tokens", trained_tokens(job));
    json_object_set_new(o, "integrations", json_array());
    json_object_set_new(o, "seed", json_integer(job->seed));
    json_object_set_new(o, "estimated_finish", time_or_null(job->estimated_finish));
    json_object_set_new(o, "error", error_json(job->error));
    json_object_set_new(o, "metadata", metadata_json(job));
    json_object_set_new(o, "user_provided_suffix", api__string(suffix));
    json_object_set_new(o, "ffwd", own_fields(api, job));
    return o;
}

/* ---- names of what a job makes -------------------------------------------------------------- */

/* "ft:BASE:ORG:SUFFIX:ID" and "ft:BASE:ORG:SUFFIX:ID:ckpt-step-N" → "BASE"; another name is its own
 * base. The parts after BASE have no colon in them. */
static char *base_of(const char *model) {
    const char *end = strstr(model, API_CHECKPOINT_MARK);
    end = end != NULL ? end : model + strlen(model);
    if (!api__model_is_tuned(model))
        return xstrdup(model);
    for (int i = 0; i < 3; i++) {
        const char *colon = memrchr(model + 3, ':', (size_t)(end - (model + 3)));
        if (colon == NULL)
            return xstrdup(model);
        end = colon;
    }
    return xstrndup(model + 3, (size_t)(end - (model + 3)));
}

char *api_fine_tuned_model_name(const struct job_row *job) {
    const char *suffix = json_string_value(json_object_get(job->request, "suffix"));
    size_t n = strlen(job->id);
    char *base = base_of(job->model);
    char *name = xasprintf("ft:%s:ffwd:%s:%s", base, suffix == NULL ? "" : suffix,
                           job->id + (n > 8 ? n - 8 : 0));
    free(base);
    return name;
}
