/* api_jobs: /v1/fine_tuning/jobs: list, one. Creating is in api_job_create.c, what changes a job in
 * api_job_control.c. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

bool api__job(struct api *api, const struct api_request *req, const char *id, struct job_row *out,
              struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    enum err e = store_job_get(api->store, req->project, id, out, &em);
    if (e == ERR_NOT_FOUND)
        api_error(resp, 404, "fine_tune_not_found", "fine_tune_id", "Could not find fine tune: %s",
                  id);
    else if (e != ERR_OK)
        api_error_from(resp, &em);
    return e == ERR_OK;
}

/* metadata[k]=v… → object, metadata=null → JSON null, absent → NULL. */
static bool read_filter(const struct api_request *req, json_t **out, struct api_response *resp) {
    static const char head[] = "metadata[";
    *out = NULL;
    for (int i = 0; i < req->n_query; i++) {
        const char *name = req->query[i].name;
        size_t n = strlen(name), h = sizeof head - 1;
        bool none = strcmp(name, "metadata") == 0 && strcmp(req->query[i].value, "null") == 0;
        bool pair = n > h && strncmp(name, head, h) == 0 && name[n - 1] == ']';
        json_t *value = pair ? json_string(req->query[i].value) : NULL;
        if (none && *out == NULL) {
            *out = json_null();
        } else if (value != NULL && !json_is_null(*out)) {
            *out = *out == NULL ? json_object() : *out;
            char *key = xstrndup(name + h, n - h - 1);
            if (json_object_set_new(*out, key, value) != 0)
                pair = false;
            free(key);
        } else {
            json_decref(value);
            pair = false;
        }
        if (!none && !pair && strncmp(name, "metadata", 8) == 0) {
            json_decref(*out);
            *out = NULL;
            api_error(resp, 400, NULL, "metadata", "metadata must be metadata[key]=value or null.");
            return false;
        }
    }
    return true;
}

API_HANDLER(api__jobs_list) {
    (void)params;
    struct err_msg em = ERR_MSG_INIT;
    struct page page;
    struct job_row *rows = NULL;
    int n = 0;
    bool more = false;
    json_t *filter = NULL;
    if (!api__page(req, 20, &page, resp) || !read_filter(req, &filter, resp))
        return;
    enum err e = store_job_list(api->store, req->project, filter, &page, &rows, &n, &more, &em);
    json_decref(filter);
    if (e == ERR_OK)
        e = store_job_fill_positions(api->store, rows, n, &em);
    json_t *data = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(data, api_job_json(api, &rows[i]));
        job_row_clear(&rows[i]);
    }
    free(rows);
    if (e == ERR_OK) {
        api__ok(resp, api__list(data, more, NULL));
        resp->of_store = true;
    } else {
        json_decref(data);
        api_error_from(resp, &em);
    }
}

json_t *api__job_object(struct api *api, const struct job_row *job) {
    json_t *object = api_job_json(api, job), *data = NULL;
    if (store_job_data(api->store, job->id, &data, NULL) != ERR_OK || data == NULL)
        data = json_null();
    json_object_set_new(json_object_get(object, "ffwd"), "data", data);
    return object;
}

API_HANDLER(api__jobs_get) {
    struct job_row job;
    if (!api__job(api, req, params->value[0], &job, resp))
        return;
    api__ok(resp, api__job_object(api, &job));
    resp->of_store = resp->status == 200;
    job_row_clear(&job);
}
