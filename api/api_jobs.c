/* api_jobs: /v1/fine_tuning/jobs: list, one. Creating is in api_job_create.c, what changes a job in
 * api_job_control.c. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "api/job_texts.h"
#include "base/limits.h"
#include "base/mem.h"

#define AT_ONCE 64 /* jobs whose rows are read together */

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

/* ---- texts ---------------------------------------------------------------------------------- */

static void on_job_changed(void *arg, int64_t seq) {
    job_texts_drop(arg, seq);
}

static struct job_texts *texts_of(struct api *api) {
    if (api->texts == NULL) {
        api->texts = job_texts_new(LIMIT_JOB_TEXTS);
        store_watch_jobs(api->store, on_job_changed, api->texts);
    }
    return api->texts;
}

void api__forget_jobs(struct api *api) {
    if (api->texts == NULL)
        return;
    store_watch_jobs(api->store, NULL, NULL);
    job_texts_free(api->texts);
    api->texts = NULL;
}

struct place {
    size_t from, len;
};

/* Writes the jobs of these numbers until the page is full; rows: those whose texts are not kept.
 * *written: where each of the rows' texts is. Returns how many of the n, and in *used how many of
 * the rows. */
static int write_jobs(struct json_text *w, const struct job_texts *texts, const int64_t *seqs,
                      int n, bool whole, const struct job_text *rows, struct place *written,
                      int *used) {
    int i = 0, k = 0;
    for (; i < n && !api__list_is_full(w); i++) {
        struct json_part text = {0};
        text.at = job_texts_find(texts, seqs[i], whole, &text.len);
        if (text.at != NULL) {
            json_text_part(w, text);
            continue;
        }
        written[k].from = w->out.len + w->comma;
        api__job_write(w, &rows[k], whole);
        written[k].len = w->out.len - written[k].from;
        k++;
    }
    *used = k;
    return i;
}

/* Only now, since a text that is kept may take the place of another one. */
static void keep_jobs(struct job_texts *texts, const struct json_text *w, bool whole,
                      const struct job_text *rows, int n, const struct place *written) {
    for (int i = 0; i < n && !w->full; i++)
        if (job_status_ended(rows[i].status))
            job_texts_keep(texts, rows[i].seq, whole, w->out.data + written[i].from,
                           written[i].len);
}

/* The objects of the n jobs of these numbers, as store_job_texts, until the page is full; *put: of
 * how many. No transaction is open: what is shown of a job that has ended will be shown again. */
static enum err put_some(struct api *api, const int64_t *seqs, int n, bool whole,
                         struct json_text *w, int *put, struct err_msg *em) {
    struct job_texts *texts = texts_of(api);
    struct job_text *rows = NULL;
    int64_t *missing = xcalloc((size_t)n + 1, sizeof *missing);
    size_t len = 0;
    int k = 0;
    for (int i = 0; i < n; i++)
        if (job_texts_find(texts, seqs[i], whole, &len) == NULL)
            missing[k++] = seqs[i];
    enum err e = store_job_texts(api->store, missing, k, whole, &rows, em);
    if (e == ERR_OK) {
        struct place *written = xcalloc((size_t)k + 1, sizeof *written);
        int used = 0;
        *put = write_jobs(w, texts, seqs, n, whole, rows, written, &used);
        keep_jobs(texts, w, whole, rows, used, written);
        free(written);
    }
    job_text_free(rows, k);
    free(missing);
    return e;
}

/* As put_some, a few at a time, so that the rows of a page are never all in memory. */
static enum err put_jobs(struct api *api, const int64_t *seqs, int n, struct json_text *w, int *put,
                         struct err_msg *em) {
    enum err e = ERR_OK;
    for (*put = 0; e == ERR_OK && *put < n && !api__list_is_full(w);) {
        int some = n - *put < AT_ONCE ? n - *put : AT_ONCE, done = 0;
        e = put_some(api, seqs + *put, some, false, w, &done, em);
        *put += done;
    }
    return e;
}

/* ---- handlers ------------------------------------------------------------------------------- */

API_HANDLER(api__jobs_list) {
    (void)params;
    struct err_msg em = ERR_MSG_INIT;
    struct page page;
    struct json_text w;
    int64_t *seqs = NULL;
    int n = 0, put = 0;
    bool more = false;
    json_t *filter = NULL;
    if (!api__page(req, 20, &page, resp) || !read_filter(req, &filter, resp))
        return;
    api__list_begin(&w, LIMIT_JSON_ANSWER);
    enum err e = store_job_page(api->store, req->project, filter, &page, &seqs, &n, &more, &em);
    if (e == ERR_OK)
        e = put_jobs(api, seqs, n, &w, &put, &em);
    api__list_end(&w, more || put < n);
    if (e == ERR_OK) {
        api__ok_text(resp, &w, true);
    } else {
        json_text_clear(&w);
        api_error_from(resp, &em);
    }
    free(seqs);
    json_decref(filter);
}

void api__job_answer(struct api *api, const char *project, const char *id,
                     struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    struct json_text w;
    int64_t seq = 0;
    int put = 0;
    enum err e = store_job_number(api->store, project, id, &seq, &em);
    json_text_init(&w, LIMIT_JSON_ANSWER);
    if (e == ERR_OK)
        e = put_some(api, &seq, 1, true, &w, &put, &em);
    if (e == ERR_OK) {
        api__ok_text(resp, &w, true);
    } else {
        json_text_clear(&w);
        api__job_refuse(resp, id, &em);
    }
}

API_HANDLER(api__jobs_get) {
    api__job_answer(api, req->project, params->value[0], resp);
}
