/* api_models: /v1/models: base models in the model folders and the project's fine-tuned ones. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "api/model_roots.h"
#include "base/file.h"
#include "base/limits.h"
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

/* The job of any project that made a fine-tuned model (it may be deleted), or the one that a
 * checkpoint of it is from. */
static enum err model_job(struct store *s, const char *name, struct job_row *job, int64_t *step,
                          struct err_msg *em) {
    const char *mark = strstr(name, API_CHECKPOINT_MARK);
    char *model = mark == NULL ? xstrdup(name) : xstrndup(name, (size_t)(mark - name));
    const char *end = strrchr(model, ':');
    int64_t after = 0;
    *step = -1;
    *job = (struct job_row){0};
    enum err e = end != NULL ? ERR_OK : unknown(name, em);
    if (mark != NULL && !api__integer(mark + strlen(API_CHECKPOINT_MARK), 0, INT32_MAX, step))
        e = unknown(name, em);
    for (bool found = false; e == ERR_OK && !found;) {
        e = store_job_by_end(s, end + 1, after, job, em);
        char *made = e == ERR_OK ? api_fine_tuned_model_name(job) : NULL;
        found = e == ERR_OK && strcmp(made, model) == 0 &&
                (mark != NULL || job->fine_tuned_model != NULL);
        after = job->seq;
        if (!found)
            job_row_clear(job);
        free(made);
    }
    if (e == ERR_NOT_FOUND)
        e = unknown(name, em);
    free(model);
    return e;
}

/* Follows a fine-tuned model to the first job of its line, whose model is a base model. */
static enum err first_job(struct store *s, const char *name, struct job_row *out,
                          struct err_msg *em) {
    struct job_row job;
    int64_t step = -1;
    enum err e = model_job(s, name, &job, &step, em);
    for (int i = 0; e == ERR_OK && api__model_is_tuned(job.model); i++) {
        struct job_row before;
        e = i < MAX_LINE ? model_job(s, job.model, &before, &step, em)
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

enum err api__model_lora(struct store *s, const char *model, struct job_request *out,
                         struct err_msg *em) {
    struct job_row job;
    enum err e = first_job(s, model, &job, em);
    if (e != ERR_OK)
        return e;
    e = job_request_parse(job.request, 0, out, em);
    job_row_clear(&job);
    return e;
}

/* Folder of the adapter (step -1) or a checkpoint, new string; NULL: it is not there. */
static char *model_folder(const struct api_config *config, const struct job_row *job,
                          int64_t step) {
    char *dir = blobs_job_dir(config->data_dir, job->id);
    char *folder = step < 0 ? xasprintf("%s/adapter", dir)
                            : xasprintf("%s/checkpoints/step-%lld", dir, (long long)step);
    char *weights = xasprintf("%s/adapter_model.safetensors", folder);
    if ((step < 0 && job->model_deleted) || file_size(weights) < 0) {
        free(folder);
        folder = NULL;
    }
    free(weights);
    free(dir);
    return folder;
}

enum err api__model_open(const struct api_config *config, struct store *s, const char *project,
                         const char *name, struct job_row *job, char **folder, struct err_msg *em) {
    int64_t step = -1;
    bool allowed = false;
    *folder = NULL;
    enum err e = model_job(s, name, job, &step, em);
    if (e != ERR_OK)
        return e;
    allowed = strcmp(job->project, project) == 0;
    if (!allowed)
        e = store_permission_check(s, name, project, &allowed, em);
    if (e == ERR_OK && allowed)
        *folder = model_folder(config, job, step);
    if (e == ERR_OK && *folder == NULL)
        e = unknown(name, em);
    if (e != ERR_OK)
        job_row_clear(job);
    return e;
}

enum err api_model_find(const struct api_config *config, struct store *s, const char *project,
                        const char *name, struct api_model *out, struct err_msg *em) {
    enum err e = ERR_OK;
    *out = (struct api_model){0};
    if (api__model_is_tuned(name)) {
        struct job_row job = {0}, first = {0};
        e = api__model_open(config, s, project, name, &job, &out->init_adapter, em);
        if (e == ERR_OK)
            e = first_job(s, name, &first, em);
        out->base = e == ERR_OK ? xstrdup(first.model) : NULL;
        job_row_clear(&job);
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

/* A checkpoint may be of a job that has not ended. */
static json_t *tuned_json(const char *name, const struct job_row *job) {
    int64_t created = job->finished_at > 0 ? job->finished_at : job->created_at;
    return model_json(name, created, API_ORGANIZATION, strlen(API_ORGANIZATION));
}

/* The object of a fine-tuned model, or of one of its checkpoints. */
static enum err find_tuned(struct api *api, const char *project, const char *name, json_t **out,
                           struct err_msg *em) {
    struct job_row job;
    char *folder = NULL;
    enum err e = api__model_open(api->config, api->store, project, name, &job, &folder, em);
    if (e != ERR_OK)
        return e;
    *out = tuned_json(name, &job);
    free(folder);
    job_row_clear(&job);
    return ERR_OK;
}

/* What other projects let this one use, as far as it still exists. */
static void add_permitted(struct api *api, const char *project, json_t *data) {
    struct permission_row *rows = NULL;
    int n = 0;
    if (store_permission_list_of(api->store, project, LIMIT_PAGE, &rows, &n, NULL) != ERR_OK)
        return;
    for (int i = 0; i < n; i++) {
        json_t *model = NULL;
        if (find_tuned(api, project, rows[i].checkpoint, &model, NULL) == ERR_OK)
            json_array_append_new(data, model);
        permission_row_clear(&rows[i]);
    }
    free(rows);
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
    add_permitted(api, req->project, data);
    api__ok(resp, json_pack("{s:s, s:o}", "object", "list", "data", data));
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
