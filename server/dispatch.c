/* dispatch: from a request's head to a handler and its answer. */
#include "server/dispatch.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "server/answers.h"
#include "server/auth.h"
#include "server/connection.h"
#include "server/http.h"
#include "server/dry_run.h"
#include "server/later.h"
#include "server/metrics.h"
#include "server/respond.h"
#include "server/server.h"
#include "server/webhooks.h"

/* Read and dropped, so that the client reads our refusal: also of a JSON body just too large. */
#define SMALL_BODY (LIMIT_JSON_BODY + LIMIT_JSON_BODY / 16)

struct header_list {
    struct guard_header items[LIMIT_HEADERS + 1];
    size_t n;
};

static enum MHD_Result collect(void *cls, enum MHD_ValueKind kind, const char *name,
                               size_t name_len, const char *value, size_t value_len) {
    struct header_list *list = cls;
    (void)kind;
    if (list->n > LIMIT_HEADERS)
        return MHD_NO;
    list->items[list->n++] = (struct guard_header){.name = name,
                                                   .name_len = name_len,
                                                   .value = value != NULL ? value : "",
                                                   .value_len = value_len};
    return MHD_YES;
}

static void fail(struct request *r, int status, const char *code, const char *text) {
    r->failed = true;
    api_error(&r->failure, status, code, NULL, "%s", text);
}

static bool under_v1(const char *path) {
    return strncmp(path, "/v1/", 4) == 0 || strncmp(path, "/openai/", 8) == 0;
}

/* 204 with the path's methods, whoever asks. */
static void answer_options(struct request *r, const struct api_request *q) {
    struct api_response found = {0};
    (void)api_route_find(q, &r->params, &found);
    r->failed = true;
    r->failure = (struct api_response){.status = 204, .kind = API_BODY_EMPTY, .allow = found.allow};
    found.allow = NULL;
    api_response_clear(&found);
}

/* Metrics name no client and no data, but what a server does is not everybody's to know. */
static bool metrics_are_open(const struct request *r) {
    enum config_metrics who = http_server(r->http)->config->metrics;
    bool near = r->connection != NULL && r->connection->loopback;
    return strcmp(r->route->pattern, "/metrics") == 0 &&
           (who == METRICS_OPEN || (who == METRICS_LOOPBACK && near));
}

/* Takes a request out of a bucket; false: r->failure is a 429. The tightest limit is shown. */
static bool take(struct request *r, const char *kind, const char *name, int64_t per_minute) {
    struct server *s = http_server(r->http);
    if (per_minute == 0)
        return true;
    struct rate_result got = rate_take(s->rate, kind, name, per_minute, clock_mono());
    if (r->rate.limit == 0 || got.refused || got.remaining < r->rate.remaining)
        r->rate = got;
    if (!got.refused)
        return true;
    metrics_rate_limited(s->metrics);
    r->failed = true;
    api_error(&r->failure, 429, "rate_limit_exceeded", NULL,
              "Rate limit reached for this %s: %lld requests a minute. Try again in %.1f s.", kind,
              (long long)per_minute, got.retry_seconds);
    return false;
}

/* Who has no valid key is limited by address: keys cannot be guessed at speed. */
static bool check_caller(struct request *r) {
    const struct config_limits *limits = &http_server(r->http)->config->limits;
    if (auth_check(r))
        return (r->key_id[0] == '\0' ||
                take(r, "key", r->key_id, limits->key_requests_per_minute)) &&
               take(r, "project", r->project != NULL ? r->project : "default",
                    limits->project_requests_per_minute);
    char address[INET6_ADDRSTRLEN] = "";
    if (r->connection != NULL && !r->connection->loopback) {
        (void)inet_ntop(AF_INET6, &r->connection->address, address, sizeof address);
        (void)take(r, "address", address, limits->address_requests_per_minute);
    }
    return false;
}

/* Everything that can be refused before the body. */
static bool check_head(struct request *r) {
    struct server *s = http_server(r->http);
    struct api_request q = {.method = r->method, .path = r->path};
    if (r->method == HTTP_OPTIONS) {
        answer_options(r, &q);
        return false;
    }
    r->route = api_route_find(&q, &r->params, &r->failure);
    bool open = r->route != NULL ? r->route->open || metrics_are_open(r) : !under_v1(r->path);
    if (s->draining && !(open && r->route != NULL)) {
        api_response_clear(&r->failure);
        fail(r, 503, "shutting_down", "The server is shutting down; try again in a moment.");
        return false;
    }
    if (r->route == NULL) {
        struct api_response not_found = r->failure;
        r->failure = (struct api_response){0};
        r->failed = true;
        if (!open && !check_caller(r)) {
            api_response_clear(&not_found);
            return false;
        }
        r->failure = not_found;
        return false;
    }
    return (open || check_caller(r)) && request_accept_body(r);
}

/* What guard_lines_are_whole relies on; later versions refuse such heads themselves. */
static bool parses_in_place(void) {
    return strncmp(MHD_get_version(), "0.9.7", 5) == 0;
}

enum MHD_Result dispatch_begin(struct request *r, const char *method, const char *version) {
    struct header_list list;
    list.n = 0; /* the rest need not be zeroed for each request */
    (void)MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, collect, &list);
    int64_t most = http_largest_file(r->http) + SMALL_BODY;
    struct guard_result guard =
        guard_check(r->uri, list.items, list.n, strcmp(version, "HTTP/1.1") != 0, most);
    if (guard.status == 0 && list.n <= LIMIT_HEADERS && parses_in_place() &&
        !guard_lines_are_whole(version, list.items, list.n))
        guard = (struct guard_result){
            .status = 400,
            .content_len = -1,
            .reason = "every line of the head must end with CR LF, without NUL or folding"};
    r->content_len = guard.content_len;
    r->has_body = guard.chunked || guard.content_len > 0;
    if (guard.status != 0) {
        fail(r, guard.status, guard.status == 400 ? "bad_request" : "request_too_large",
             guard.reason);
        return respond_send(r, &r->failure, true);
    }
    request_read_head(r, method, list.items, list.n);
    bool fine = check_head(r);
    bool small = !guard.chunked && r->content_len <= SMALL_BODY;
    if (!fine && r->has_body && (!small || request_header(r, "expect") != NULL))
        return respond_send(r, &r->failure, true);
    if (r->connection != NULL)
        connection_set_phase(r->connection, r->has_body ? PHASE_BODY : PHASE_WORK);
    return MHD_YES;
}

/* What the same request was answered just now, if that still holds; else NULL. */
static struct answer *answered_before(const struct request *r) {
    const struct server *s = http_server(r->http);
    if (r->method != HTTP_GET)
        return NULL;
    return answers_find(http_answers(r->http), request_project(r), r->uri, store_version(s->store));
}

enum MHD_Result dispatch_finish(struct request *r) {
    struct server *s = http_server(r->http);
    struct api_request q;
    struct api_response resp = {0};
    if (!request_end_body(r))
        return respond_send(r, &r->failure, false);
    struct answer *known = answered_before(r);
    if (known != NULL)
        return respond_again(r, known);
    request_for_api(r, &q);
    r->route->handle(&s->api, &q, &r->params, &resp);
    if (resp.check != NULL) {
        dry_runs_add(http_dry_runs(r->http), r, resp.check);
        return MHD_YES;
    }
    if (resp.delivery[0] != '\0') {
        webhooks_wait(s->webhooks, r, resp.delivery);
        return MHD_YES;
    }
    if (resp.work == NULL)
        return respond_send(r, &resp, false);
    later_add(http_later(r->http), r, resp.work);
    return MHD_YES;
}
