/* api_dry_run: what a job would find in its files and take, without a job. */
#include "api/api_internal.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"

void api_check_free(struct api_check *c) {
    if (c == NULL)
        return;
    free(c->model_dir);
    free(c->base);
    free(c->train);
    free(c->valid);
    json_decref(c->request);
    json_decref(c->answer);
    free(c);
}

/* ---- what the engine is asked --------------------------------------------------------------- */

static json_t *auto_number(const struct auto_number *n) {
    return n->is_auto ? json_string("auto") : json_real(n->value);
}

static json_t *auto_count(const struct auto_number *n) {
    return n->is_auto ? json_string("auto") : json_integer((json_int_t)n->value);
}

enum err api_check_request(struct store *s, const char *model, const json_t *body, json_t **out,
                           struct err_msg *em) {
    struct job_request r, first;
    *out = NULL;
    enum err e = job_request_parse(body, 0, &r, em);
    if (e != ERR_OK)
        return e;
    *out = job_request_extensions(&r);
    json_object_set_new(*out, "hyperparameters",
                        json_pack("{s:o, s:o, s:o}", "n_epochs", auto_count(&r.n_epochs),
                                  "batch_size", auto_count(&r.batch_size),
                                  "learning_rate_multiplier",
                                  auto_number(&r.learning_rate_multiplier)));
    if (api__model_is_tuned(model) && (e = api__model_lora(s, model, &first, em)) == ERR_OK) {
        json_t *its = job_request_extensions(&first);
        json_object_set(*out, "lora", json_object_get(its, "lora"));
        json_decref(its);
        job_request_clear(&first);
    }
    job_request_clear(&r);
    if (e != ERR_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return e;
}

static enum err file_path(struct api *api, const char *project, const char *id, char **out,
                          struct err_msg *em) {
    struct file_row f;
    enum err e = store_file_get(api->store, project, id, &f, em);
    if (e != ERR_OK)
        return e;
    *out = f.path != NULL ? xasprintf("%s/%s", api->config->data_dir, f.path)
                          : blobs_file_path(api->config->data_dir, f.id);
    file_row_clear(&f);
    return ERR_OK;
}

void api__dry_run(struct api *api, const struct api_request *req, const json_t *body,
                  const struct job_request *request, struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    struct api_check *c = xcalloc(1, sizeof *c);
    struct api_model model = {0};
    enum err e = api_model_find(api->config, api->store, req->project, request->model, &model, &em);
    if (e == ERR_OK)
        e = api_check_request(api->store, request->model, body, &c->request, &em);
    if (e == ERR_OK)
        e = file_path(api, req->project, request->training_file, &c->train, &em);
    if (e == ERR_OK && request->validation_file != NULL)
        e = file_path(api, req->project, request->validation_file, &c->valid, &em);
    if (e != ERR_OK) {
        api_error_from(resp, &em);
        api_check_free(c);
    } else {
        c->model_dir = xstrdup(model.dir);
        c->base = xstrdup(model.base);
        c->answer = json_pack("{s:s, s:o, s:o, s:o}", "object", "fine_tuning.job.estimate", "model",
                              api__string(request->model), "training_file",
                              api__string(request->training_file), "validation_file",
                              api__string(request->validation_file));
        resp->check = c;
    }
    api_model_clear(&model);
}

/* ---- the answer ----------------------------------------------------------------------------- */

static void refuse(enum err e, const struct err_msg *em, struct api_response *resp) {
    if (e == ERR_CANCELLED) {
        api_error(resp, 503, "shutting_down", NULL, "The server is shutting down.");
        return;
    }
    if (e == ERR_CONFLICT) {
        api_error(resp, 429, "too_many_dry_runs", NULL, "%s", em->text);
        return;
    }
    log_error("dry_run.failed", "error=%s", em->text);
    if (e == ERR_LIMIT)
        api_error(resp, 504, "dry_run_timeout", NULL, "The files could not be checked in time: %s.",
                  em->text);
    else
        api_error(resp, 500, "check_failed", NULL, "The files could not be checked: %s.", em->text);
    resp->no_retry = true; /* the same files would end the same way */
}

void api_check_answer(struct api_check *c, enum err e, const struct err_msg *em,
                      const json_t *report, struct api_response *resp) {
    if (report == NULL) {
        refuse(e, em, resp);
        return;
    }
    json_t *o = json_incref(c->answer);
    json_object_set_new(o, "valid", json_boolean(e == ERR_OK));
    json_object_set_new(o, "message", e == ERR_OK ? json_null() : api__string(em->text));
    json_object_update(o, (json_t *)(uintptr_t)report);
    api__ok(resp, o);
}
