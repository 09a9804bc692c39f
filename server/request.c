/* request: one HTTP request from its request line to its completion. */
#include "server/request.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "server/form.h"
#include "server/http.h"
#include "server/multipart.h"
#include "server/params.h"
#include "server/server.h"

#define MAX_QUERY_PAIRS 64
#define FORM_OVERHEAD (1 << 20) /* boundaries, headers and text fields beside the file */

struct request *request_new(struct http *http, struct MHD_Connection *mhd, const char *uri) {
    struct request *r = xcalloc(1, sizeof *r);
    r->http = http;
    r->mhd = mhd;
    r->uri = xstrdup(uri != NULL ? uri : "");
    r->start = clock_mono();
    r->content_len = -1;
    store_new_id("req_", r->id);
    buf_init(&r->body, LIMIT_JSON_BODY);
    return r;
}

void request_free(struct request *r) {
    if (r == NULL)
        return;
    free(r->headers);
    free(r->header_text);
    free(r->query);
    free(r->query_text);
    free(r->uri);
    free(r->path);
    free(r->project);
    api_params_clear(&r->params);
    api_response_clear(&r->failure);
    api_response_clear(&r->late);
    buf_clear(&r->body);
    form_free(r->form);
    free(r);
}

/* ---- head ----------------------------------------------------------------------------------- */

static enum http_method method_of(const char *name) {
    static const struct {
        const char *name;
        enum http_method method;
    } known[] = {{"GET", HTTP_GET},        {"HEAD", HTTP_HEAD},   {"POST", HTTP_POST},
                 {"PUT", HTTP_PUT},        {"PATCH", HTTP_PATCH}, {"DELETE", HTTP_DELETE},
                 {"OPTIONS", HTTP_OPTIONS}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].method;
    return HTTP_OTHER;
}

static void split_query(struct request *r) {
    const char *mark = strchr(r->uri, '?');
    r->path = mark == NULL ? xstrdup(r->uri) : xstrndup(r->uri, (size_t)(mark - r->uri));
    if (mark == NULL)
        return;
    r->query_text = xstrdup(mark + 1);
    r->query = xcalloc(MAX_QUERY_PAIRS, sizeof *r->query);
    char *rest = r->query_text;
    for (char *item; (item = strsep(&rest, "&")) != NULL;) {
        if (*item == '\0' || r->n_query == MAX_QUERY_PAIRS)
            continue;
        char *value = strchr(item, '=');
        if (value != NULL)
            *value++ = '\0';
        else
            value = item + strlen(item);
        params_percent_decode(item, true);
        params_percent_decode(value, true);
        r->query[r->n_query++] = (struct api_pair){.name = item, .value = value};
    }
}

/* Copies a name in lower case, and its value behind it; returns what follows both. */
static char *copy_header(char *to, const struct guard_header *h, struct api_pair *out) {
    out->name = to;
    for (size_t i = 0; i < h->name_len; i++) {
        char c = h->name[i];
        *to++ = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    *to++ = '\0';
    out->value = to;
    memcpy(to, h->value, h->value_len);
    to[h->value_len] = '\0';
    return to + h->value_len + 1;
}

void request_read_head(struct request *r, const char *method, const struct guard_header *headers,
                       size_t n) {
    r->method = method_of(method);
    r->head = r->method == HTTP_HEAD;
    if (r->head)
        r->method = HTTP_GET;
    split_query(r);
    size_t bytes = 1;
    for (size_t i = 0; i < n; i++)
        bytes += headers[i].name_len + headers[i].value_len + 2;
    r->headers = xcalloc(n + 1, sizeof *r->headers);
    r->header_text = xmalloc(bytes);
    char *to = r->header_text;
    for (size_t i = 0; i < n; i++)
        to = copy_header(to, &headers[i], &r->headers[r->n_headers++]);
}

const char *request_header(const struct request *r, const char *name) {
    for (int i = 0; i < r->n_headers; i++)
        if (strcmp(r->headers[i].name, name) == 0)
            return r->headers[i].value;
    return NULL;
}

/* ---- body ----------------------------------------------------------------------------------- */

static void fail(struct request *r, int status, const char *code, const char *param,
                 const char *text) {
    if (r->failed)
        return;
    r->failed = true;
    api_error(&r->failure, status, code, param, "%s", text);
}

static void fail_from(struct request *r, const struct err_msg *em) {
    if (r->failed)
        return;
    r->failed = true;
    api_error_from(&r->failure, em);
}

static bool accept_form(struct request *r, const char *content_type) {
    struct err_msg em = ERR_MSG_INIT;
    char boundary[MULTIPART_BOUNDARY_MAX + 1];
    enum err e = multipart_boundary(content_type, boundary, &em);
    if (e == ERR_UNSUPPORTED)
        fail(r, 415, "unsupported_media_type", NULL,
             "This address takes a form: send it with Content-Type: multipart/form-data.");
    else if (e != ERR_OK)
        fail_from(r, &em);
    if (r->failed)
        return false;
    struct api_form_rule rule;
    struct api_request q;
    struct server *s = http_server(r->http);
    request_for_api(r, &q);
    if (!api_form_rule(&s->api, &q, r->route, &r->params, &rule, &r->failure)) {
        r->failed = true;
        return false;
    }
    if (r->content_len > FORM_OVERHEAD && r->content_len - FORM_OVERHEAD > rule.max_bytes) {
        fail(r, 413, rule.code, rule.file_part, rule.too_large);
        return false;
    }
    r->form = form_new(s->config->data_dir, boundary, &rule);
    return true;
}

bool request_accept_body(struct request *r) {
    const char *content_type = request_header(r, "content-type");
    if (r->route->accepts == API_ACCEPTS_FORM)
        return accept_form(r, content_type);
    if (r->route->accepts == API_ACCEPTS_JSON && r->has_body && content_type != NULL &&
        !params_is_json(content_type))
        fail(r, 415, "unsupported_media_type", NULL,
             "This address takes JSON: send it with Content-Type: application/json.");
    else if (r->content_len > LIMIT_JSON_BODY)
        fail(r, 413, "body_too_large", NULL, "A JSON body can have at most 1 MiB.");
    return !r->failed;
}

void request_add_body(struct request *r, const char *bytes, size_t n) {
    struct err_msg em = ERR_MSG_INIT;
    r->body_bytes += (int64_t)n;
    if (r->failed)
        return;
    if (r->form != NULL) {
        if (form_feed(r->form, bytes, n, &em) == ERR_OK)
            return;
        if (em.code == ERR_LIMIT)
            fail(r, 413, form_limit_code(r->form), em.param, em.text);
        else
            fail_from(r, &em);
        form_free(r->form); /* an upload that failed leaves nothing on the disk */
        r->form = NULL;
    } else if (buf_add(&r->body, bytes, n) != ERR_OK) {
        fail(r, 413, "body_too_large", NULL, "A JSON body can have at most 1 MiB.");
    }
}

bool request_end_body(struct request *r) {
    struct err_msg em = ERR_MSG_INIT;
    if (!r->failed && r->form != NULL && form_finish(r->form, &em) != ERR_OK)
        fail_from(r, &em);
    return !r->failed;
}

const char *request_project(const struct request *r) {
    return r->project != NULL ? r->project : "default";
}

void request_for_api(struct request *r, struct api_request *q) {
    bool json = r->form == NULL && r->body.len > 0 && r->route->accepts == API_ACCEPTS_JSON;
    *q = (struct api_request){
        .method = r->method,
        .path = r->path,
        .query = r->query,
        .n_query = r->n_query,
        .headers = r->headers,
        .n_headers = r->n_headers,
        .project = request_project(r),
        .body = json ? r->body.data : NULL,
        .body_len = json ? r->body.len : 0,
        .form = r->form != NULL ? form_for_api(r->form) : NULL,
    };
}
