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

static void write_model(struct json_text *w, const char *name, int64_t created, const char *owner) {
    json_text_open(w, '{');
    json_text_key(w, "id");
    json_text_string(w, name);
    json_text_key(w, "object");
    json_text_string(w, "model");
    json_text_key(w, "created");
    json_text_integer(w, created);
    json_text_key(w, "owned_by");
    json_text_string(w, owner);
    json_text_close(w, '}');
}

/* owned_by of a base model: the organisation in its name. */
static void write_base(struct json_text *w, const char *name, int64_t created) {
    const char *slash = strchr(name, '/');
    char *owner = slash != NULL ? xstrndup(name, (size_t)(slash - name)) : xstrdup("local");
    write_model(w, name, created, owner);
    free(owner);
}

/* Writes the object of a fine-tuned model, or of one of its checkpoints, whose job may not have
 * ended. */
static enum err write_tuned(struct api *api, const char *project, const char *name,
                            struct json_text *w, struct err_msg *em) {
    struct job_row job;
    char *folder = NULL;
    enum err e = api__model_open(api->config, api->store, project, name, &job, &folder, em);
    if (e != ERR_OK)
        return e;
    write_model(w, name, job.finished_at > 0 ? job.finished_at : job.created_at, API_ORGANIZATION);
    free(folder);
    job_row_clear(&job);
    return ERR_OK;
}

/* What other projects let this one use, as far as it still exists. */
static void write_permitted(struct api *api, const char *project, struct json_text *w) {
    struct permission_row *rows = NULL;
    int n = 0;
    if (store_permission_list_of(api->store, project, LIMIT_PAGE, &rows, &n, NULL) != ERR_OK)
        return;
    for (int i = 0; i < n; i++) {
        enum err e = write_tuned(api, project, rows[i].checkpoint, w, NULL);
        (void)e; /* one that is gone is left out */
        permission_row_clear(&rows[i]);
    }
    free(rows);
}

API_HANDLER(api__models_list) {
    (void)params;
    struct err_msg em = ERR_MSG_INIT;
    struct model_row *tuned = NULL;
    struct model_entry *entries = NULL;
    struct json_text w;
    int n_tuned = 0, n = 0;
    if (store_model_list(api->store, req->project, &tuned, &n_tuned, &em) != ERR_OK) {
        api_error_from(resp, &em);
        return;
    }
    api__list_begin(&w, LIMIT_MODELS_ANSWER);
    model_roots_list(api->config->model_roots, &entries, &n);
    for (int i = 0; i < n; i++)
        write_base(&w, entries[i].name, entries[i].created);
    model_roots_free(entries, n);
    for (int i = 0; i < n_tuned; i++) {
        write_model(&w, tuned[i].name, tuned[i].created_at, API_ORGANIZATION);
        model_row_clear(&tuned[i]);
    }
    free(tuned);
    write_permitted(api, req->project, &w);
    json_text_close(&w, ']');
    json_text_close(&w, '}');
    api__ok_text(resp, &w, false);
}

API_HANDLER(api__models_get) {
    struct err_msg em = ERR_MSG_INIT;
    const char *name = params->value[0];
    struct json_text w;
    enum err e = ERR_NOT_FOUND;
    json_text_init(&w, LIMIT_JSON_ANSWER);
    if (api__model_is_tuned(name)) {
        e = write_tuned(api, req->project, name, &w, &em);
    } else {
        char *dir = model_roots_find(api->config->model_roots, name);
        e = dir != NULL ? ERR_OK : ERR_NOT_FOUND;
        if (dir != NULL)
            write_base(&w, name, model_roots_created(dir));
        free(dir);
    }
    if (e == ERR_OK)
        api__ok_text(resp, &w, false);
    else if (e == ERR_NOT_FOUND)
        api_error(resp, 404, "model_not_found", "model", "The model '%s' does not exist", name);
    else
        api_error_from(resp, &em);
    json_text_clear(&w);
}
