/* api_job_create: POST /v1/fine_tuning/jobs.
 *
 * A request that was sent before must not make a second job: one with a known Idempotency-Key, and
 * one that a client says it repeats (x-stainless-retry-count) with the body of a recent job, give
 * that job. */
#include "api/api_internal.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/sha256.h"

#define RETRY_WINDOW 900 /* seconds; the SDKs wait 600 for an answer before they repeat */
#define KEY_MAX 255

struct create {
    struct api *api;
    const struct api_request *req;
    struct api_response *resp;
    json_t *body;
    struct job_request request;
    char sha256[SHA256_HEX_SIZE]; /* of the body in canonical form */
    const char *key;              /* Idempotency-Key, or NULL */
};

/* Order of keys and white space do not make a body another one. */
static void hash_body(struct create *c) {
    char *text = json_dumps(c->body, JSON_COMPACT | JSON_SORT_KEYS);
    struct sha256 h;
    sha256_init(&h);
    if (text != NULL)
        sha256_add(&h, text, strlen(text));
    sha256_hex(&h, c->sha256);
    free(text);
}

/* ---- a request that was sent before --------------------------------------------------------- */

static bool read_key(struct create *c) {
    c->key = api_header(c->req, "idempotency-key");
    if (c->key == NULL)
        return true;
    size_t n = strlen(c->key);
    bool good = n > 0 && n <= KEY_MAX;
    for (const char *p = c->key; good && *p != '\0'; p++)
        good = *p >= 0x20 && *p < 0x7f;
    if (!good)
        api_error(c->resp, 400, NULL, "Idempotency-Key",
                  "Idempotency-Key must be 1 to %d printable ASCII characters.", KEY_MAX);
    return good;
}

/* true: go on; false: *resp holds the first job or an error. */
static bool is_first(struct create *c) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job = {0};
    enum err e = ERR_NOT_FOUND;
    if (c->key != NULL)
        e = store_job_by_key(c->api->store, c->req->project, c->key, &job, &em);
    else if (api__is_repeat(c->req))
        e = store_job_by_body(c->api->store, c->req->project, c->sha256,
                              clock_unix() - RETRY_WINDOW, &job, &em);
    if (e == ERR_NOT_FOUND)
        return true;
    if (e != ERR_OK)
        api_error_from(c->resp, &em);
    else if (strcmp(job.body_sha256, c->sha256) != 0)
        api_error(c->resp, 422, "idempotency_key_reused", "Idempotency-Key",
                  "This Idempotency-Key was used for job %s with another body.", job.id);
    else
        api__job_answer(c->api, c->req->project, job.id, c->resp);
    job_row_clear(&job);
    return false;
}

/* ---- what the request names ----------------------------------------------------------------- */

static bool check_file(struct create *c, const char *param, const char *id) {
    struct err_msg em = ERR_MSG_INIT;
    struct file_row f;
    if (id == NULL)
        return true;
    (void)api_expire(c->api);
    enum err e = store_file_get(c->api->store, c->req->project, id, &f, &em);
    bool good = e == ERR_OK && strcmp(f.purpose, "fine-tune") == 0;
    if (e == ERR_NOT_FOUND)
        api_error(c->resp, 400, "file_not_found", param, "No such File object: %s", id);
    else if (e != ERR_OK)
        api_error_from(c->resp, &em);
    else if (!good)
        api_error(c->resp, 400, "wrong_purpose", param,
                  "File %s has purpose '%s'; a job needs one with purpose 'fine-tune'.", id,
                  f.purpose);
    file_row_clear(&f);
    return good;
}

static bool same_targets(const json_t *a, const json_t *b) {
    size_t n = json_array_size(a);
    bool same = n == json_array_size(b);
    for (size_t i = 0; same && i < n; i++) {
        bool found = false;
        for (size_t k = 0; k < n; k++)
            found = found || json_equal(json_array_get(a, i), json_array_get(b, k)) != 0;
        same = found;
    }
    return same;
}

/* Name of a lora field of the request that differs from the model's adapter, or NULL. What the
 * request does not name comes from the adapter. */
static const char *lora_conflict(const json_t *named, const struct lora_config *want,
                                 const struct lora_config *have) {
    if (json_object_get(named, "rank") != NULL && want->rank != have->rank)
        return "lora.rank";
    if (json_object_get(named, "alpha") != NULL && want->alpha != have->alpha)
        return "lora.alpha";
    if (json_object_get(named, "target_modules") != NULL &&
        !same_targets(want->target_modules, have->target_modules))
        return "lora.target_modules";
    if (json_object_get(named, "use_rslora") != NULL && want->use_rslora != have->use_rslora)
        return "lora.use_rslora";
    if (json_object_get(named, "use_dora") != NULL && want->use_dora != have->use_dora)
        return "lora.use_dora";
    return NULL;
}

static bool check_lora(struct create *c) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_request first;
    const json_t *named = json_object_get(c->body, "lora");
    if (!c->request.lora.present || !api__model_is_tuned(c->request.model))
        return true;
    if (api__model_lora(c->api->store, c->request.model, &first, &em) != ERR_OK) {
        api_error_from(c->resp, &em);
        return false;
    }
    const char *field = lora_conflict(named, &c->request.lora, &first.lora);
    if (field != NULL)
        api_error(c->resp, 400, "lora_conflict", field,
                  "%s differs from the adapter of %s, which the job goes on with; leave it out.",
                  field, c->request.model);
    job_request_clear(&first);
    return field == NULL;
}

static bool check_model(struct create *c) {
    struct err_msg em = ERR_MSG_INIT;
    struct api_model model;
    enum err e = api_model_find(c->api->config, c->api->store, c->req->project, c->request.model,
                                &model, &em);
    api_model_clear(&model);
    if (e == ERR_NOT_FOUND)
        api_error(c->resp, 400, "model_not_found", "model",
                  "The model `%s` does not exist; GET /v1/models lists those that do.",
                  c->request.model);
    else if (e != ERR_OK)
        api_error_from(c->resp, &em);
    return e == ERR_OK && check_lora(c);
}

/* ---- the job -------------------------------------------------------------------------------- */

/* Waiting for a moment does not help, so clients are told not to repeat. */
bool api__queue_has_room(struct api *api, const char *project, struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    int64_t most = api->config->max_waiting_jobs, n = 0;
    enum err e = store_job_waiting(api->store, project, &n, &em);
    if (e != ERR_OK) {
        api_error_from(resp, &em);
    } else if (most > 0 && n >= most) {
        api_error(resp, 429, "queue_full", NULL,
                  "This project has %lld jobs waiting, and this server lets it have %lld; wait "
                  "until one has started, or cancel one.",
                  (long long)n, (long long)most);
        resp->no_retry = true;
    }
    return resp->status == 0;
}

static void insert(struct create *c) {
    struct err_msg em = ERR_MSG_INIT;
    const struct job_request *r = &c->request;
    struct job_row job = {
        .project = xstrdup(c->req->project),
        .model = xstrdup(r->model),
        .training_file = xstrdup(r->training_file),
        .validation_file = r->validation_file != NULL ? xstrdup(r->validation_file) : NULL,
        .created_at = clock_unix(),
        .seed = r->has_seed ? r->seed : (int64_t)randombytes_uniform(INT32_MAX),
        .priority = r->priority,
        .request = json_incref(c->body),
        .result_files = json_array(),
        .idempotency_key = c->key != NULL ? xstrdup(c->key) : NULL,
        .body_sha256 = xstrdup(c->sha256),
    };
    store_new_id("ftjob-", job.id);
    if (store_job_add(c->api->store, &job, &em) == ERR_OK) {
        api__job_answer(c->api, c->req->project, job.id, c->resp);
        api__jobs_changed(c->api);
    } else {
        api_error_from(c->resp, &em);
    }
    job_row_clear(&job);
}

API_HANDLER(api__jobs_create) {
    (void)params;
    struct err_msg em = ERR_MSG_INIT;
    struct create c = {.api = api, .req = req, .resp = resp};
    c.body = api__body(req, resp);
    if (c.body == NULL)
        return;
    if (job_request_parse(c.body, JOB_REQUEST_CREATE, &c.request, &em) != ERR_OK) {
        api_error_from(resp, &em);
        json_decref(c.body);
        return;
    }
    hash_body(&c);
    bool dry = c.request.dry_run;
    if (read_key(&c) && (dry || is_first(&c)) && check_model(&c) &&
        check_file(&c, "training_file", c.request.training_file) &&
        check_file(&c, "validation_file", c.request.validation_file) &&
        (dry || api__queue_has_room(api, req->project, resp))) {
        if (dry)
            api__dry_run(api, req, c.body, &c.request, resp);
        else
            insert(&c);
    }
    job_request_clear(&c.request);
    json_decref(c.body);
}
