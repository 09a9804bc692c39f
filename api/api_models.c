/* api_models: /v1/models: base models in the model folders and the project's fine-tuned ones. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "api/model_roots.h"
#include "base/file.h"
#include "base/mem.h"

#define TUNED_PREFIX "ft:"
#define MAX_LINE 64 /* fine-tuned from fine-tuned from … */

bool api__model_is_tuned(const char *model) {
    return strncmp(model, TUNED_PREFIX, strlen(TUNED_PREFIX)) == 0;
}

/* ---- finding -------------------------------------------------------------------------------- */

void api_model_clear(struct api_model *m) {
    free(m->dir);
    free(m->base);
    free(m->init_adapter);
    *m = (struct api_model){0};
}

static enum err unknown(const char *name, struct err_msg *em) {
    return err_set_param(em, ERR_NOT_FOUND, "model", "The model `%s` does not exist", name);
}

/* The job that made a fine-tuned model, or the one that a checkpoint of it is from. *step -1: not a
 * checkpoint. */
static enum err job_of(struct store *s, const char *project, const char *name, struct job_row *job,
                       int64_t *step, struct err_msg *em) {
    const char *mark = strstr(name, API_CHECKPOINT_MARK);
    char *model = mark == NULL ? xstrdup(name) : xstrndup(name, (size_t)(mark - name));
    *step = -1;
    *job = (struct job_row){0};
    enum err e = ERR_OK;
    if (mark != NULL && !api__integer(mark + strlen(API_CHECKPOINT_MARK), 0, INT32_MAX, step))
        e = unknown(name, em);
    if (e == ERR_OK)
        e = store_job_by_model(s, project, model, job, em);
    if (e == ERR_NOT_FOUND)
        e = unknown(name, em);
    free(model);
    return e;
}

/* Follows a fine-tuned model to the first job of its line, whose model is a base model. */
static enum err first_job(struct store *s, const char *project, const char *name,
                          struct job_row *out, struct err_msg *em) {
    struct job_row job;
    int64_t step = -1;
    enum err e = job_of(s, project, name, &job, &step, em);
    for (int i = 0; e == ERR_OK && api__model_is_tuned(job.model); i++) {
        struct job_row before;
        e = i < MAX_LINE ? job_of(s, project, job.model, &before, &step, em)
                         : err_set(em, ERR_LIMIT, "%s goes back over %d models", name, MAX_LINE);
        if (e == ERR_OK) {
            job_row_clear(&job);
            job = before;
        }
    }
    if (e == ERR_OK)
        *out = job;
    else
        job_row_clear(&job);
    return e;
}

enum err api__model_lora(struct api *api, const char *project, const char *model,
                         struct job_request *out, struct err_msg *em) {
    struct job_row job;
    enum err e = first_job(api->store, project, model, &job, em);
    if (e != ERR_OK)
        return e;
    e = job_request_parse(job.request, 0, out, em);
    job_row_clear(&job);
    return e;
}

static enum err adapter_of(const struct api_config *config, struct store *s, const char *project,
                           const char *name, char **out, struct err_msg *em) {
    struct job_row job;
    int64_t step = -1;
    enum err e = job_of(s, project, name, &job, &step, em);
    if (e != ERR_OK)
        return e;
    char *folder = blobs_job_dir(config->data_dir, job.id);
    *out = step < 0 ? xasprintf("%s/adapter", folder)
                    : xasprintf("%s/checkpoints/step-%lld", folder, (long long)step);
    char *weights = xasprintf("%s/adapter_model.safetensors", *out);
    if (file_size(weights) < 0)
        e = unknown(name, em);
    free(weights);
    free(folder);
    job_row_clear(&job);
    return e;
}

enum err api_model_find(const struct api_config *config, struct store *s, const char *project,
                        const char *name, struct api_model *out, struct err_msg *em) {
    enum err e = ERR_OK;
    *out = (struct api_model){0};
    if (api__model_is_tuned(name)) {
        struct job_row first = {0};
        e = first_job(s, project, name, &first, em);
        if (e == ERR_OK)
            e = adapter_of(config, s, project, name, &out->init_adapter, em);
        out->base = e == ERR_OK ? xstrdup(first.model) : NULL;
        job_row_clear(&first);
    } else {
        out->base = xstrdup(name);
    }
    if (e == ERR_OK)
        out->dir = model_roots_find(config->model_roots, out->base);
    if (e == ERR_OK && out->dir == NULL)
        e = unknown(out->base, em);
    if (e != ERR_OK)
        api_model_clear(out);
    return e;
}

/* ---- objects -------------------------------------------------------------------------------- */

static json_t *model_json(const char *name, int64_t created, const char *owner, size_t owner_len) {
    char *owned_by = xstrndup(owner, owner_len);
    json_t *o = json_object();
    json_object_set_new(o, "id", api__string(name));
    json_object_set_new(o, "object", json_string("model"));
    json_object_set_new(o, "created", json_integer(created));
    json_object_set_new(o, "owned_by", api__string(owned_by));
    free(owned_by);
    return o;
}

/* owned_by of a base model: the organisation in its name. */
static json_t *base_json(const char *name, int64_t created) {
    const char *slash = strchr(name, '/');
    return slash != NULL ? model_json(name, created, name, (size_t)(slash - name))
                         : model_json(name, created, "local", 5);
}

static json_t *tuned_json(const char *name, const struct job_row *job) {
    return model_json(name, job->finished_at, API_ORGANIZATION, strlen(API_ORGANIZATION));
}

API_HANDLER(api__models_list) {
    (void)params;
    struct err_msg em = ERR_MSG_INIT;
    struct job_row *jobs = NULL;
    struct model_entry *entries = NULL;
    int n_jobs = 0, n = 0;
    if (store_job_list_models(api->store, req->project, &jobs, &n_jobs, &em) != ERR_OK) {
        api_error_from(resp, &em);
        return;
    }
    json_t *data = json_array();
    model_roots_list(api->config->model_roots, &entries, &n);
    for (int i = 0; i < n; i++)
        json_array_append_new(data, base_json(entries[i].name, entries[i].created));
    model_roots_free(entries, n);
    for (int i = 0; i < n_jobs; i++) {
        json_array_append_new(data, tuned_json(jobs[i].fine_tuned_model, &jobs[i]));
        job_row_clear(&jobs[i]);
    }
    free(jobs);
    api__ok(resp, json_pack("{s:s, s:o}", "object", "list", "data", data));
}

/* The object of a fine-tuned model, or of one of its checkpoints. */
static enum err find_tuned(struct api *api, const char *project, const char *name, json_t **out,
                           struct err_msg *em) {
    struct job_row job;
    int64_t step = -1;
    char *adapter = NULL;
    enum err e = job_of(api->store, project, name, &job, &step, em);
    if (e == ERR_OK)
        e = adapter_of(api->config, api->store, project, name, &adapter, em);
    if (e == ERR_OK)
        *out = tuned_json(name, &job);
    free(adapter);
    job_row_clear(&job);
    return e;
}

API_HANDLER(api__models_get) {
    struct err_msg em = ERR_MSG_INIT;
    const char *name = params->value[0];
    json_t *model = NULL;
    enum err e = ERR_NOT_FOUND;
    if (api__model_is_tuned(name)) {
        e = find_tuned(api, req->project, name, &model, &em);
    } else {
        char *dir = model_roots_find(api->config->model_roots, name);
        e = dir != NULL ? ERR_OK : ERR_NOT_FOUND;
        model = dir != NULL ? base_json(name, model_roots_created(dir)) : NULL;
        free(dir);
    }
    if (e == ERR_NOT_FOUND)
        api_error(resp, 404, "model_not_found", "model", "The model '%s' does not exist", name);
    else if (e != ERR_OK)
        api_error_from(resp, &em);
    else
        api__ok(resp, model);
}
