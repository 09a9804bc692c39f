/* api_route: the route table, and finding a request's route in it.
 *
 * A path is split at '/' first and each segment is percent-decoded after that, so %2F stays inside
 * its segment. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/percent.h"

#define MAX_SEGMENTS 16
#define JOBS "/v1/fine_tuning/jobs"
#define WEBHOOKS "/v1/webhook_endpoints"
#define PERMISSIONS "/v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint...}/permissions"

#define NOTHING API_ACCEPTS_NOTHING
static const struct api_route routes[] = {
    {HTTP_POST, "/v1/files", API_ACCEPTS_FORM, false, api__files_create},
    {HTTP_GET, "/v1/files", NOTHING, false, api__files_list},
    {HTTP_GET, "/v1/files/{file_id}", NOTHING, false, api__files_get},
    {HTTP_DELETE, "/v1/files/{file_id}", NOTHING, false, api__files_delete},
    {HTTP_GET, "/v1/files/{file_id}/content", NOTHING, false, api__files_content},
    {HTTP_POST, "/v1/uploads", API_ACCEPTS_JSON, false, api__uploads_create},
    {HTTP_POST, "/v1/uploads/{upload_id}/parts", API_ACCEPTS_FORM, false, api__uploads_add_part},
    {HTTP_POST, "/v1/uploads/{upload_id}/complete", API_ACCEPTS_JSON, false, api__uploads_complete},
    {HTTP_POST, "/v1/uploads/{upload_id}/cancel", API_ACCEPTS_JSON, false, api__uploads_cancel},
    {HTTP_POST, JOBS, API_ACCEPTS_JSON, false, api__jobs_create},
    {HTTP_GET, JOBS, NOTHING, false, api__jobs_list},
    {HTTP_GET, JOBS "/{fine_tuning_job_id}", NOTHING, false, api__jobs_get},
    {HTTP_PATCH, JOBS "/{fine_tuning_job_id}", API_ACCEPTS_JSON, false, api__jobs_update},
    {HTTP_POST, JOBS "/{fine_tuning_job_id}/cancel", API_ACCEPTS_JSON, false, api__jobs_cancel},
    {HTTP_POST, JOBS "/{fine_tuning_job_id}/pause", API_ACCEPTS_JSON, false, api__jobs_pause},
    {HTTP_POST, JOBS "/{fine_tuning_job_id}/resume", API_ACCEPTS_JSON, false, api__jobs_resume},
    {HTTP_GET, JOBS "/{fine_tuning_job_id}/events", NOTHING, false, api__events_list},
    /* Azure's clients ask for these two lists with POST. */
    {HTTP_POST, JOBS "/{fine_tuning_job_id}/events", API_ACCEPTS_JSON, false, api__events_list},
    {HTTP_GET, JOBS "/{fine_tuning_job_id}/checkpoints", NOTHING, false, api__checkpoints_list},
    {HTTP_POST, JOBS "/{fine_tuning_job_id}/checkpoints", API_ACCEPTS_JSON, false,
     api__checkpoints_list},
    {HTTP_GET, JOBS "/{fine_tuning_job_id}/plot", NOTHING, false, api__jobs_plot},
    {HTTP_GET, JOBS "/{fine_tuning_job_id}/adapter", NOTHING, false, api__adapter_tar},
    {HTTP_GET, JOBS "/{fine_tuning_job_id}/adapter/{file}", NOTHING, false, api__adapter_file},
    {HTTP_GET, "/v1/models", NOTHING, false, api__models_list},
    {HTTP_GET, "/v1/models/{model...}", NOTHING, false, api__models_get},
    {HTTP_DELETE, "/v1/models/{model...}", NOTHING, false, api__models_delete},
    {HTTP_GET, PERMISSIONS, NOTHING, false, api__permissions_list},
    {HTTP_POST, PERMISSIONS, API_ACCEPTS_JSON, false, api__permissions_create},
    {HTTP_DELETE, PERMISSIONS "/{permission_id}", NOTHING, false, api__permissions_delete},
    {HTTP_POST, WEBHOOKS, API_ACCEPTS_JSON, false, api__webhooks_create},
    {HTTP_GET, WEBHOOKS, NOTHING, false, api__webhooks_list},
    {HTTP_GET, WEBHOOKS "/{webhook_endpoint_id}", NOTHING, false, api__webhooks_get},
    {HTTP_POST, WEBHOOKS "/{webhook_endpoint_id}", API_ACCEPTS_JSON, false, api__webhooks_update},
    {HTTP_DELETE, WEBHOOKS "/{webhook_endpoint_id}", NOTHING, false, api__webhooks_delete},
    {HTTP_POST, WEBHOOKS "/{webhook_endpoint_id}/rotate_secret", API_ACCEPTS_JSON, false,
     api__webhooks_rotate},
    {HTTP_POST, WEBHOOKS "/{webhook_endpoint_id}/test", API_ACCEPTS_JSON, false,
     api__webhooks_test},
    {HTTP_GET, "/v1/webhook_event_types", NOTHING, false, api__webhooks_event_types},
    {HTTP_GET, "/healthz", NOTHING, true, api__system_health},
    {HTTP_GET, "/readyz", NOTHING, true, api__system_ready},
    {HTTP_GET, "/metrics", NOTHING, false, api__system_metrics},
    {HTTP_GET, "/openapi.json", NOTHING, true, api__system_openapi},
};
enum { N_ROUTES = sizeof routes / sizeof routes[0] };

const struct api_route *api_routes(int *n) {
    *n = N_ROUTES;
    return routes;
}

void api_params_clear(struct api_params *params) {
    for (int i = 0; i < API_MAX_PARAMS; i++) {
        free(params->value[i]);
        params->value[i] = NULL;
    }
}

/* ---- the path of a request ------------------------------------------------------------------ */

struct segments {
    const char *text[MAX_SEGMENTS]; /* parts of the path, which is split and decoded in place */
    int n;
};

/* In place; false for an escape that is not %XX or is %00. */
static bool decode(char *s) {
    char *put = strchrnul(s, '%');
    for (const char *p = put; *p != '\0'; p++) {
        if (*p != '%') {
            *put++ = *p;
            continue;
        }
        int byte = percent_byte(p);
        if (byte <= 0)
            return false;
        *put++ = (char)byte;
        p += 2;
    }
    *put = '\0';
    return true;
}

/* 0, or the status to refuse the path with. */
static int split(char *path, struct segments *out) {
    out->n = 0;
    if (path[0] != '/')
        return 400;
    for (char *at = path + 1, *next = at; next != NULL; at = next) {
        char *end = strchrnul(at, '/');
        next = *end == '/' ? end + 1 : NULL;
        *end = '\0';
        if (out->n == MAX_SEGMENTS)
            return 404;
        if (!decode(at))
            return 400;
        out->text[out->n++] = at;
    }
    return 0;
}

/* "/openai/v1/x" and "/openai/x" are "/v1/x": Azure's spelling. */
static char *plain_path(const char *path) {
    static const char prefix[] = "/openai";
    size_t n = sizeof prefix - 1;
    if (strncmp(path, prefix, n) != 0 || path[n] != '/')
        return xstrdup(path);
    const char *rest = path + n;
    bool has_version = strncmp(rest, "/v1/", 4) == 0 || strcmp(rest, "/v1") == 0;
    return xasprintf("%s%s", has_version ? "" : "/v1", rest);
}

/* ---- matching ------------------------------------------------------------------------------- */

static char *join(const struct segments *p, int from, int to) {
    char *out = xstrdup(p->text[from]);
    for (int i = from + 1; i < to; i++) {
        char *longer = xasprintf("%s/%s", out, p->text[i]);
        free(out);
        out = longer;
    }
    return out;
}

static int count_segments(const char *pattern) {
    int n = 0;
    for (; *pattern != '\0'; pattern++)
        n += *pattern == '/';
    return n;
}

/* Moves *at over a pattern's literal segment; false: the path's is another one. */
static bool is_literal(const char **at, const char *segment) {
    const char *p = *at;
    for (; *p != '\0' && *p != '/' && *p == *segment; p++)
        segment++;
    *at = p;
    return (*p == '\0' || *p == '/') && *segment == '\0';
}

/* "{name...}" takes the segments up to those that the rest of the pattern needs. params: what the
 * braces stand for, or NULL to ask only whether the path fits. */
static bool match(const char *pattern, const struct segments *p, struct api_params *params) {
    int value = 0, i = 0;
    for (const char *at = pattern; *at != '\0'; i++) {
        at++;
        if (i >= p->n)
            return false;
        if (at[0] != '{') {
            if (!is_literal(&at, p->text[i]))
                return false;
            continue;
        }
        size_t n = (size_t)(strchrnul(at, '/') - at);
        bool rest = n > 4 && strncmp(at + n - 4, "...}", 4) == 0;
        int end = rest ? p->n - count_segments(at + n) : i + 1;
        if (end <= i || p->text[i][0] == '\0' || value == API_MAX_PARAMS)
            return false;
        if (params != NULL)
            params->value[value] = join(p, i, end);
        value++;
        i = end - 1;
        at += n;
    }
    return i == p->n;
}

const char *api_method_name(enum http_method m) {
    static const char *const names[] = {"GET",   "HEAD",   "POST",    "PUT",
                                        "PATCH", "DELETE", "OPTIONS", "OTHER"};
    return names[m];
}

/* Adds a method to the Allow header's value; GET brings HEAD. */
static void allow(char **list, enum http_method m) {
    const char *names = m == HTTP_GET ? "GET, HEAD" : api_method_name(m);
    char *longer = *list == NULL ? xstrdup(names) : xasprintf("%s, %s", *list, names);
    free(*list);
    *list = longer;
}

static void refuse(const struct api_request *req, int status, char *allowed,
                   struct api_response *resp) {
    if (status == 400) {
        api_error(resp, 400, "invalid_path", NULL, "The path has an invalid percent escape.");
    } else if (allowed != NULL) {
        api_error(resp, 405, "method_not_allowed", NULL, "%s is not available on %s; it has %s.",
                  api_method_name(req->method), req->path, allowed);
        resp->allow = allowed;
    } else {
        api_error(resp, 404, "unknown_url", NULL, "Invalid URL (%s %s)",
                  api_method_name(req->method), req->path);
    }
}

/* How many segments a route's paths have; 0: any number. Most routes are passed over by it. */
static int segments_of(int route) {
    static int known[N_ROUTES]; /* plus 1 */
    if (known[route] == 0) {
        const char *pattern = routes[route].pattern;
        known[route] = 1 + (strstr(pattern, "...}") != NULL ? 0 : count_segments(pattern));
    }
    return known[route] - 1;
}

const struct api_route *api_route_find(const struct api_request *req, struct api_params *params,
                                       struct api_response *resp) {
    enum http_method method = req->method == HTTP_HEAD ? HTTP_GET : req->method;
    const struct api_route *found = NULL;
    struct segments p;
    char *allowed = NULL, *path = plain_path(req->path);
    *params = (struct api_params){0};
    int status = split(path, &p);
    for (int i = 0; status == 0 && i < N_ROUTES && found == NULL; i++) {
        int segments = segments_of(i);
        if ((segments != 0 && segments != p.n) || !match(routes[i].pattern, &p, NULL))
            continue;
        if (routes[i].method == method)
            found = &routes[i];
        else
            allow(&allowed, routes[i].method);
    }
    if (found == NULL) {
        refuse(req, status, allowed, resp);
    } else {
        (void)match(found->pattern, &p, params);
        free(allowed);
    }
    free(path);
    return found;
}
