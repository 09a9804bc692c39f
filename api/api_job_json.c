/* api_job_json: the job object, exactly as documented; ffwd's own fields are under one key.
 *
 * Written straight as text: what is stored as JSON is copied, not parsed and built again. */
#include "api/api_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static void put_string(struct json_text *w, const char *key, const char *text) {
    json_text_key(w, key);
    json_text_string(w, text);
}

static void put_integer(struct json_text *w, const char *key, int64_t value) {
    json_text_key(w, key);
    json_text_integer(w, value);
}

static void put_bool(struct json_text *w, const char *key, bool value) {
    json_text_key(w, key);
    json_text_bool(w, value);
}

static void put_time(struct json_text *w, const char *key, int64_t at) {
    json_text_key(w, key);
    if (at > 0)
        json_text_integer(w, at);
    else
        json_text_null(w);
}

static void put_part(struct json_text *w, const char *key, struct json_part p) {
    json_text_key(w, key);
    json_text_part(w, p);
}

/* ---- hyperparameters ------------------------------------------------------------------------ */

enum { N_HYPER = 3 };
static const char *const hyper_names[N_HYPER] = {"n_epochs", "batch_size",
                                                 "learning_rate_multiplier"};

/* The request may name them in two places; what stands later counts, as where it is read. */
static void asked_for(const char *request, struct json_part out[N_HYPER]) {
    static const char *const places[] = {"hyperparameters", "method"};
    struct json_part at[2], other[N_HYPER];
    json_parts(request, places, 2, at);
    json_parts(at[0].at, hyper_names, N_HYPER, out);
    struct json_part method = json_part_of(at[1].at, "supervised");
    method = json_part_of(method.at, "hyperparameters");
    json_parts(method.at, hyper_names, N_HYPER, other);
    for (int i = 0; i < N_HYPER; i++)
        if (other[i].at != NULL && (out[i].at == NULL || other[i].at > out[i].at))
            out[i] = other[i];
}

/* What is stored is printed as it is shown, but for a real that was given as a whole number. */
static void write_real(struct json_text *w, struct json_part value) {
    bool whole =
        memchr(value.at, '.', value.len) == NULL && memchr(value.at, 'e', value.len) == NULL;
    if (whole)
        json_text_real(w, json_part_number(value));
    else
        json_text_part(w, value);
}

/* What the request asks for, until the worker has resolved it to numbers. */
static void write_hyperparameters(struct json_text *w, const struct job_text *job) {
    struct json_part asked[N_HYPER], resolved[N_HYPER];
    asked_for(job->request, asked);
    json_parts(json_part_of(job->resolved, "hyperparameters").at, hyper_names, N_HYPER, resolved);
    json_text_open(w, '{');
    for (int i = 0; i < N_HYPER; i++) {
        struct json_part value = json_part_kind(resolved[i]) == '0' ? resolved[i] : asked[i];
        json_text_key(w, hyper_names[i]);
        if (json_part_kind(value) != '0')
            json_text_string(w, "auto");
        else if (i == N_HYPER - 1)
            write_real(w, value);
        else
            json_text_integer(w, llround(json_part_number(value)));
    }
    json_text_close(w, '}');
}

static void put_hyperparameters(struct json_text *w, const struct job_text *job) {
    json_text_key(w, "hyperparameters");
    size_t from = w->out.len;
    write_hyperparameters(w, job);
    size_t len = w->out.len - from;
    json_text_key(w, "method");
    json_text_open(w, '{');
    put_string(w, "type", "supervised");
    json_text_key(w, "supervised");
    json_text_open(w, '{');
    json_text_key(w, "hyperparameters");
    json_text_repeat(w, from, len);
    json_text_close(w, '}');
    json_text_close(w, '}');
}

/* ---- the key "ffwd" ------------------------------------------------------------------------- */

enum { STEP, TOTAL_STEPS, TOKENS, SECONDS, FLOPS, FAST_FORWARD, DEVICE, N_PROGRESS };

static void put_progress(struct json_text *w, const struct json_part of[N_PROGRESS], bool any) {
    double step = json_part_number(of[STEP]), steps = json_part_number(of[TOTAL_STEPS]);
    json_text_key(w, "progress");
    if (!any) {
        json_text_null(w);
        return;
    }
    json_text_open(w, '{');
    put_part(w, "step", of[STEP]);
    put_part(w, "total_steps", of[TOTAL_STEPS]);
    json_text_key(w, "percent");
    json_text_real(w, steps > 0 ? floor(1000.0 * fmin(step / steps, 1.0)) / 10.0 : 0);
    json_text_close(w, '}');
}

static void put_tokens_per_second(struct json_text *w, const struct json_part of[N_PROGRESS]) {
    double seconds = json_part_number(of[SECONDS]);
    json_text_key(w, "tokens_per_second");
    if (seconds > 0)
        json_text_real(w, json_part_number(of[TOKENS]) / seconds);
    else
        json_text_null(w);
}

/* A step's event counts all FLOPs in one number, the last event gives the two parts. */
static void put_flops(struct json_text *w, struct json_part flops) {
    static const char *const names[] = {"training", "fast_forward"};
    struct json_part of[2];
    json_parts(flops.at, names, 2, of);
    json_text_key(w, "flops");
    json_text_open(w, '{');
    put_part(w, "training", of[0]);
    put_part(w, "fast_forward", of[1]);
    json_text_key(w, "total");
    if (json_part_kind(flops) == '0')
        json_text_real(w, json_part_number(flops));
    else if (of[0].at != NULL && of[1].at != NULL)
        json_text_real(w, json_part_number(of[0]) + json_part_number(of[1]));
    else
        json_text_null(w);
    json_text_close(w, '}');
}

/* whole: with what checking the files found. */
static void put_own_fields(struct json_text *w, const struct job_text *job, bool whole) {
    static const char *const names[N_PROGRESS] = {"step",  "total_steps",  "tokens", "seconds",
                                                  "flops", "fast_forward", "device"};
    struct json_part of[N_PROGRESS];
    json_parts(job->progress, names, N_PROGRESS, of);
    json_text_key(w, "ffwd");
    json_text_open(w, '{');
    put_progress(w, of, job->progress != NULL && job->progress[0] == '{');
    json_text_key(w, "queue_position");
    if (job->queue_position >= 0)
        json_text_integer(w, job->queue_position);
    else
        json_text_null(w);
    put_tokens_per_second(w, of);
    put_flops(w, of[FLOPS]);
    put_part(w, "fast_forward", of[FAST_FORWARD]);
    put_part(w, "device", of[DEVICE]);
    put_integer(w, "attempt", job->attempt);
    put_integer(w, "priority", job->priority);
    put_time(w, "started_at", job->started_at);
    put_bool(w, "cancel_requested", job->cancel_requested && !job_status_ended(job->status));
    put_bool(w, "pause_requested", job->pause_requested);
    if (whole)
        put_part(w, "data", json_part_whole(job->data));
    json_text_close(w, '}');
}

/* ---- the object ----------------------------------------------------------------------------- */

/* code and message are never null in the contract. */
static void put_error(struct json_text *w, const struct job_text *job) {
    static const char *const names[] = {"code", "message", "param"};
    struct json_part of[3];
    json_text_key(w, "error");
    if (job->error == NULL || job->error[0] != '{') {
        json_text_null(w);
        return;
    }
    json_parts(job->error, names, 3, of);
    json_text_open(w, '{');
    for (int i = 0; i < 3; i++) {
        json_text_key(w, names[i]);
        if (json_part_kind(of[i]) == '"')
            json_text_part(w, of[i]);
        else
            json_text_string(w, i == 0 ? "error" : i == 1 ? "" : NULL);
    }
    json_text_close(w, '}');
}

static void put_result_files(struct json_text *w, const struct job_text *job) {
    bool listed = job->result_files != NULL && job->result_files[0] == '[';
    put_part(w, "result_files", json_part_whole(listed ? job->result_files : "[]"));
}

static void put_trained_tokens(struct json_text *w, const struct job_text *job) {
    bool known =
        job->status == JOB_SUCCEEDED || (job_status_ended(job->status) && job->trained_tokens > 0);
    json_text_key(w, "trained_tokens");
    if (known)
        json_text_integer(w, job->trained_tokens);
    else
        json_text_null(w);
}

/* Where the request has a value of this kind: its text. */
static struct json_part only(struct json_part p, char kind) {
    return json_part_kind(p) == kind ? p : (struct json_part){0};
}

void api__job_write(struct json_text *w, const struct job_text *job, bool whole) {
    static const char *const names[] = {"metadata", "suffix"};
    struct json_part of[2];
    json_parts(job->request, names, 2, of);
    json_text_open(w, '{');
    put_string(w, "object", "fine_tuning.job");
    put_string(w, "id", job->id);
    put_string(w, "model", job->model);
    put_integer(w, "created_at", job->created_at);
    put_time(w, "finished_at", job->finished_at);
    put_string(w, "fine_tuned_model", job->fine_tuned_model);
    put_string(w, "organization_id", API_ORGANIZATION);
    put_result_files(w, job);
    put_string(w, "status", job_status_name(job->status));
    put_string(w, "validation_file", job->validation_file);
    put_string(w, "training_file", job->training_file);
    put_hyperparameters(w, job);
    put_trained_tokens(w, job);
    put_part(w, "integrations", json_part_whole("[]"));
    put_integer(w, "seed", job->seed);
    put_time(w, "estimated_finish", job->estimated_finish);
    put_error(w, job);
    put_part(w, "metadata", only(of[0], '{'));
    put_part(w, "user_provided_suffix", only(of[1], '"'));
    put_own_fields(w, job, whole);
    json_text_close(w, '}');
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
