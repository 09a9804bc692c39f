/* api: reading of requests and building of answers, common to all resources. */
#include "api/api_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

static const char *find_pair(const struct api_pair *pairs, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(pairs[i].name, name) == 0)
            return pairs[i].value;
    return NULL;
}

const char *api_query(const struct api_request *r, const char *name) {
    return find_pair(r->query, r->n_query, name);
}

const char *api_header(const struct api_request *r, const char *name) {
    return find_pair(r->headers, r->n_headers, name);
}

void api_response_clear(struct api_response *r) {
    json_decref(r->json);
    api_check_free(r->check);
    free(r->text);
    free(r->path);
    free(r->filename);
    free(r->etag);
    free(r->allow);
    *r = (struct api_response){0};
}

void api_clear(struct api *api) {
    api__forget_jobs(api);
    free(api->openapi);
    api->openapi = NULL;
}

json_t *api__string(const char *text) {
    if (text == NULL)
        return json_null();
    json_t *value = json_string(text);
    if (value != NULL)
        return value;
    char *ascii = xstrdup(text);
    for (char *p = ascii; *p != '\0'; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    value = json_string(ascii);
    free(ascii);
    return value;
}

/* ---- errors --------------------------------------------------------------------------------- */

const char *api__error_type(int status) {
    if (status >= 500)
        return "server_error";
    return status == 429 ? "rate_limit_error" : "invalid_request_error";
}

void api_error(struct api_response *resp, int status, const char *code, const char *param,
               const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    if (vasprintf(&text, fmt, args) < 0)
        text = NULL;
    va_end(args);
    json_t *error = json_object();
    json_object_set_new(error, "message", api__string(text != NULL ? text : "out of memory"));
    json_object_set_new(error, "type", json_string(api__error_type(status)));
    json_object_set_new(error, "param", api__string(param));
    json_object_set_new(error, "code", api__string(code));
    free(text);
    char *allow = resp->allow;
    resp->allow = NULL;
    api_response_clear(resp);
    resp->allow = allow;
    resp->status = status;
    resp->kind = API_BODY_JSON;
    resp->json = json_object();
    json_object_set_new(resp->json, "error", error);
}

void api_error_from(struct api_response *resp, const struct err_msg *em) {
    const char *param = em->param[0] != '\0' ? em->param : NULL;
    switch (em->code) {
    case ERR_USAGE:
    case ERR_INPUT:
    case ERR_UNSUPPORTED:
        api_error(resp, 400, em->code == ERR_UNSUPPORTED ? "unsupported" : NULL, param, "%s",
                  em->text);
        break;
    case ERR_CONFLICT: /* not 409, which clients repeat */
        api_error(resp, 400, "conflict", param, "%s", em->text);
        break;
    case ERR_NOT_FOUND:
        api_error(resp, 404, NULL, param, "%s", em->text);
        break;
    case ERR_LIMIT:
        api_error(resp, 413, "too_large", param, "%s", em->text);
        break;
    case ERR_NO_SPACE:
        log_error("api.disk_full", "%s", em->text);
        api_error(resp, 507, "disk_full", NULL, "The server's disk is full; nothing was stored.");
        resp->no_retry = true;
        break;
    default: /* the text may name folders of the server */
        log_error("api.error", "code=%s %s", err_name(em->code), em->text);
        api_error(resp, em->code == ERR_NO_MEMORY ? 503 : 500, err_name(em->code), NULL,
                  "The server had an error; its log says more.");
    }
}

/* ---- requests ------------------------------------------------------------------------------- */

/* Whether brackets outside of strings are nested at most LIMIT_JSON_DEPTH deep. */
static bool is_shallow(const char *text, size_t n) {
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            quoted = !quoted;
        else if (!quoted && (text[i] == '[' || text[i] == '{'))
            depth++;
        else if (!quoted && (text[i] == ']' || text[i] == '}'))
            depth--;
        if (depth > LIMIT_JSON_DEPTH)
            return false;
    }
    return true;
}

/* What the parser found wrong; its own words for a NUL name a flag of the library. */
static const char *json_fault(const json_error_t *where) {
    enum json_error_code code = json_error_code(where);
    bool nul = code == json_error_null_character || code == json_error_null_byte_in_key;
    return nul ? "a string or a key has the character \\u0000" : where->text;
}

json_t *api__body(const struct api_request *req, struct api_response *resp) {
    json_error_t where;
    if (req->body == NULL || req->body_len == 0) {
        api_error(resp, 400, NULL, NULL, "The request needs a JSON object as its body.");
        return NULL;
    }
    if (req->body_len > LIMIT_JSON_BODY) {
        api_error(resp, 413, "too_large", NULL, "The body has more than %u bytes.",
                  LIMIT_JSON_BODY);
        return NULL;
    }
    if (!is_shallow(req->body, req->body_len)) {
        api_error(resp, 400, "invalid_json", NULL, "The body is nested more than %d levels deep.",
                  LIMIT_JSON_DEPTH);
        return NULL;
    }
    json_t *body =
        json_loadb(req->body, req->body_len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (body == NULL) {
        api_error(resp, 400, "invalid_json", NULL,
                  "The body is not valid JSON: line %d, column %d: %s.", where.line, where.column,
                  json_fault(&where));
    } else if (!json_is_object(body)) {
        json_decref(body);
        body = NULL;
        api_error(resp, 400, NULL, NULL, "The body must be a JSON object.");
    }
    return body;
}

bool api__read(const struct api_request *req, const struct json_table *t, void *out,
               struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    struct json_place root = {.path = "", .em = &em};
    json_t *body = api__body(req, resp);
    if (body == NULL)
        return false;
    enum err e = json_table_read(body, t, 0, out, &root);
    if (e != ERR_OK)
        api_error_from(resp, &em);
    json_decref(body);
    return e == ERR_OK;
}

bool api__integer(const char *text, int64_t lo, int64_t hi, int64_t *out) {
    char *end = NULL;
    if (!(text[0] == '-' || (text[0] >= '0' && text[0] <= '9')))
        return false;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < lo || value > hi)
        return false;
    *out = value;
    return true;
}

bool api__is_repeat(const struct api_request *req) {
    const char *count = api_header(req, "x-stainless-retry-count");
    int64_t n = 0;
    return count != NULL && api__integer(count, 1, INT32_MAX, &n);
}

bool api__page(const struct api_request *req, int64_t default_limit, struct page *page,
               struct api_response *resp) {
    const char *limit = api_query(req, "limit"), *after = api_query(req, "after");
    *page = (struct page){.limit = default_limit};
    if (after != NULL && after[0] != '\0')
        page->after = after;
    if (limit == NULL || api__integer(limit, 1, LIMIT_PAGE, &page->limit))
        return true;
    api_error(resp, 400, NULL, "limit", "limit must be an integer from 1 to %d.", LIMIT_PAGE);
    return false;
}

bool api__flag(const struct api_request *req, const char *name, bool *out,
               struct api_response *resp) {
    const char *text = api_query(req, name);
    *out = text != NULL && (strcmp(text, "true") == 0 || strcmp(text, "1") == 0);
    if (text == NULL || *out || strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
        return true;
    api_error(resp, 400, NULL, name, "%s must be true or false.", name);
    return false;
}

/* ---- answers -------------------------------------------------------------------------------- */

void api__ok(struct api_response *resp, json_t *json_take) {
    resp->status = 200;
    resp->kind = API_BODY_JSON;
    resp->json = json_take;
}

void api__ok_text(struct api_response *resp, struct json_text *w, bool of_store) {
    struct err_msg em = ERR_MSG_INIT;
    if (json_text_take(w, &resp->text, &em) != ERR_OK) {
        api_error_from(resp, &em);
        return;
    }
    resp->status = 200;
    resp->kind = API_BODY_TEXT;
    resp->content_type = "application/json";
    resp->of_store = of_store;
}

void api__list_begin(struct json_text *w, size_t max) {
    json_text_init(w, max);
    json_text_open(w, '{');
    json_text_key(w, "object");
    json_text_string(w, "list");
    json_text_key(w, "data");
    json_text_open(w, '[');
}

bool api__list_is_full(const struct json_text *w) {
    return w->out.len >= LIMIT_PAGE_BYTES;
}

void api__list_end(struct json_text *w, bool more) {
    json_text_close(w, ']');
    json_text_key(w, "has_more");
    json_text_bool(w, more);
    json_text_close(w, '}');
}

json_t *api__list(json_t *data_take, bool more, json_t *empty_id_take) {
    json_t *list = json_object();
    size_t n = json_array_size(data_take);
    json_object_set_new(list, "object", json_string("list"));
    json_object_set_new(list, "data", data_take);
    if (empty_id_take != NULL) {
        json_t *first = json_object_get(json_array_get(data_take, 0), "id");
        json_t *last = n > 0 ? json_object_get(json_array_get(data_take, n - 1), "id") : NULL;
        json_object_set(list, "first_id", first != NULL ? first : empty_id_take);
        json_object_set(list, "last_id", last != NULL ? last : empty_id_take);
        json_decref(empty_id_take);
    }
    json_object_set_new(list, "has_more", json_boolean(more));
    return list;
}

/* ---- hooks ---------------------------------------------------------------------------------- */

void api__jobs_changed(struct api *api) {
    if (api->hooks != NULL && api->hooks->jobs_changed != NULL)
        api->hooks->jobs_changed(api->hooks->arg);
}

void api__job_cancel(struct api *api, const char *job_id) {
    if (api->hooks != NULL && api->hooks->job_cancel != NULL)
        api->hooks->job_cancel(api->hooks->arg, job_id);
}

void api__job_pause(struct api *api, const char *job_id) {
    if (api->hooks != NULL && api->hooks->job_pause != NULL)
        api->hooks->job_pause(api->hooks->arg, job_id);
}

void api__events_added(struct api *api, const char *job_id) {
    if (api->hooks != NULL && api->hooks->events_added != NULL)
        api->hooks->events_added(api->hooks->arg, job_id);
}
