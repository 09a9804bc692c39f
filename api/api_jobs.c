/* api_jobs: /v1/fine_tuning/jobs: list, one. Creating is in api_job_create.c, what changes a job in
 * api_job_control.c. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

void api__job_refuse(struct api_response *resp, const char *id, const struct err_msg *em) {
    if (em->code == ERR_NOT_FOUND)
        api_error(resp, 404, "fine_tune_not_found", "fine_tune_id", "Could not find fine tune: %s",
                  id);
    else
        api_error_from(resp, em);
}

bool api__job(struct api *api, const struct api_request *req, const char *id, struct job_row *out,
              struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    enum err e = store_job_get(api->store, req->project, id, out, &em);
    if (e != ERR_OK)
        api__job_refuse(resp, id, &em);
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
    struct job_text *rows = NULL;
    struct json_text w;
    int n = 0;
    bool more = false;
    json_t *filter = NULL;
    if (!api__page(req, 20, &page, resp) || !read_filter(req, &filter, resp))
        return;
    enum err e = store_job_list(api->store, req->project, filter, &page, &rows, &n, &more, &em);
    json_decref(filter);
    if (e != ERR_OK) {
        api_error_from(resp, &em);
        return;
    }
    api__list_begin(&w);
    for (int i = 0; i < n; i++) {
        api__job_write(&w, &rows[i], false);
        job_text_clear(&rows[i]);
    }
    free(rows);
    api__list_end(&w, more);
    api__ok_text(resp, &w, true);
}

void api__job_answer(struct api *api, const char *project, const char *id,
                     struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_text job;
    struct json_text w;
    enum err e = store_job_text(api->store, project, id, &job, &em);
    if (e != ERR_OK) {
        api__job_refuse(resp, id, &em);
        return;
    }
    json_text_init(&w, LIMIT_JSON_ANSWER);
    api__job_write(&w, &job, true);
    job_text_clear(&job);
    api__ok_text(resp, &w, true);
}

API_HANDLER(api__jobs_get) {
    api__job_answer(api, req->project, params->value[0], resp);
}
