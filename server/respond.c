/* respond: an api_response as bytes to the client. */
#include "server/respond.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/decimal.h"
#include "base/mem.h"
#include "server/answers.h"
#include "server/connection.h"
#include "server/http.h"
#include "server/server.h"
#include "server/streams.h"

bool respond_origin_allowed(const struct request *r, const char *origin) {
    for (char **o = http_server(r->http)->config->cors_origins; *o != NULL; o++)
        if (strcmp(*o, origin) == 0)
            return true;
    return false;
}

static void add(struct MHD_Response *m, const char *name, const char *value) {
    if (value != NULL)
        (void)MHD_add_response_header(m, name, value);
}

static void add_cors(const struct request *r, struct MHD_Response *m) {
    const char *origin = request_header(r, "origin");
    /* Also without an origin, so that no cache gives this answer to a page of another one. */
    if (origin != NULL || http_server(r->http)->config->cors_origins[0] != NULL)
        add(m, "Vary", "Origin");
    if (origin == NULL)
        return;
    if (!respond_origin_allowed(r, origin))
        return;
    add(m, "Access-Control-Allow-Origin", origin);
    add(m, "Access-Control-Expose-Headers",
        "x-request-id, openai-processing-ms, openai-version, openai-organization, retry-after,"
        " retry-after-ms, x-should-retry, x-ratelimit-limit-requests,"
        " x-ratelimit-remaining-requests, x-ratelimit-reset-requests, accept-ranges, allow,"
        " content-disposition, content-range, etag");
    if (r->method != HTTP_OPTIONS)
        return;
    add(m, "Access-Control-Allow-Methods", "GET, HEAD, POST, PATCH, DELETE");
    add(m, "Access-Control-Allow-Headers",
        "authorization, api-key, cache-control, content-type, idempotency-key, if-none-match,"
        " if-range, last-event-id, openai-beta, openai-organization, openai-project, range,"
        " x-stainless-custom-poll-interval, x-stainless-helper-method, x-stainless-poll-helper,"
        " x-stainless-lang, x-stainless-package-version, x-stainless-os,"
        " x-stainless-arch, x-stainless-runtime, x-stainless-runtime-version, x-stainless-async,"
        " x-stainless-retry-count, x-stainless-read-timeout, x-stainless-timeout");
    add(m, "Access-Control-Max-Age", "600");
}

static void add_rate(const struct request *r, int status, bool again, struct MHD_Response *m) {
    char text[32];
    const struct rate_result *rate = &r->rate;
    if (rate->limit > 0) {
        (void)snprintf(text, sizeof text, "%lld", (long long)rate->limit);
        add(m, "x-ratelimit-limit-requests", text);
        (void)snprintf(text, sizeof text, "%lld", (long long)rate->remaining);
        add(m, "x-ratelimit-remaining-requests", text);
        rate_write_duration(rate->reset_seconds, text);
        add(m, "x-ratelimit-reset-requests", text);
    }
    if (status == 429 && rate->refused) {
        double ms = ceil(rate->retry_seconds * 1000);
        (void)snprintf(text, sizeof text, "%.0f", ceil(rate->retry_seconds));
        add(m, "Retry-After", text);
        (void)snprintf(text, sizeof text, "%.0f", ms);
        add(m, "retry-after-ms", text);
    } else if ((status == 429 || status == 503) && again) {
        add(m, "Retry-After", "5");
    }
}

static void add_common(const struct request *r, const struct api_response *resp, int status,
                       struct MHD_Response *m, bool close) {
    char ms[DECIMAL_MAX + 1] = "";
    (void)decimal_put(ms, llround((clock_mono() - r->start) * 1000));
    add(m, "x-request-id", r->id);
    add(m, "openai-version", "2020-10-01");
    add(m, "openai-organization", API_ORGANIZATION);
    add(m, "openai-processing-ms", ms);
    add(m, "X-Content-Type-Options", "nosniff");
    add(m, "Allow", resp->allow);
    if (resp->no_retry)
        add(m, "x-should-retry", "false");
    if (status == 401)
        add(m, "WWW-Authenticate", "Bearer realm=\"ffwd\"");
    add_rate(r, status, !resp->no_retry, m);
    if (close)
        add(m, "Connection", "close");
    add_cors(r, m);
}

static void text_body(struct respond_body *out, char *text_take, const char *type) {
    size_t n = strlen(text_take);
    out->mhd = MHD_create_response_from_buffer(n, text_take, MHD_RESPMEM_MUST_FREE);
    out->bytes = (int64_t)n;
    add(out->mhd, "Content-Type", type);
}

static void let_go(void *answer) {
    answer_let_go(answer);
}

static void answer_body(struct respond_body *out, struct answer *answer) {
    out->mhd = MHD_create_response_from_buffer_with_free_callback_cls(answer->len, answer->text,
                                                                      let_go, answer_hold(answer));
    if (out->mhd == NULL)
        answer_let_go(answer);
    out->bytes = (int64_t)answer->len;
    add(out->mhd, "Content-Type", "application/json");
}

/* What is read from the store alone is kept, so that the same request is answered without looking
 * again as long as nothing changes. */
static void stored_body(const struct request *r, struct api_response *resp,
                        struct respond_body *out) {
    struct server *s = http_server(r->http);
    struct answer *answer = answer_new(resp->text, strlen(resp->text));
    resp->text = NULL;
    if (resp->status == 200 && r->method == HTTP_GET)
        answers_keep(http_answers(r->http), request_project(r), r->uri, store_version(s->store),
                     answer);
    answer_body(out, answer);
    answer_let_go(answer);
}

static void json_body(struct respond_body *out, const struct api_response *resp) {
    char *text = json_dumps(resp->json, JSON_COMPACT | JSON_ENCODE_ANY);
    text_body(out, text != NULL ? text : xstrdup("{}"), "application/json");
}

static struct MHD_Response *empty_body(const char *type) {
    struct MHD_Response *m = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    add(m, "Content-Type", type);
    return m;
}

static void stream_body(struct request *r, struct api_response *resp, struct respond_body *out) {
    struct err_msg em = ERR_MSG_INIT;
    out->status = resp->status;
    if (r->head) {
        out->mhd = empty_body("text/event-stream");
        return;
    }
    enum err e = streams_open(http_server(r->http)->streams, r, resp->job_id, resp->after_seq,
                              &out->mhd, &em);
    if (e != ERR_OK) {
        api_response_clear(resp);
        api_error(resp, 429, "too_many_streams", NULL, "%s", em.text);
        return;
    }
    out->streams = true;
    add(out->mhd, "Content-Type", "text/event-stream; charset=utf-8");
    add(out->mhd, "Cache-Control", "no-store");
    add(out->mhd, "X-Accel-Buffering", "no");
}

static void make_body(struct request *r, struct api_response *resp, struct respond_body *out) {
    *out = (struct respond_body){.status = resp->status};
    switch (resp->kind) {
    case API_BODY_FILE:
    case API_BODY_TAR:
        respond_file(r, resp, out);
        break;
    case API_BODY_EVENTS:
        stream_body(r, resp, out);
        break;
    case API_BODY_TEXT:
        if (resp->of_store) {
            stored_body(r, resp, out);
            break;
        }
        text_body(out, resp->text != NULL ? resp->text : xstrdup(""),
                  resp->content_type != NULL ? resp->content_type : "text/plain; charset=utf-8");
        resp->text = NULL;
        break;
    case API_BODY_EMPTY:
        out->mhd = empty_body(resp->content_type);
        break;
    case API_BODY_JSON:
        break;
    }
    if (out->mhd != NULL)
        return;
    json_body(out, resp);
    out->status = resp->status;
    out->streams = false;
}

static enum connection_phase phase_of(const struct respond_body *body, enum api_body kind) {
    if (body->streams && kind == API_BODY_EVENTS)
        return PHASE_STREAM;
    return body->streams ? PHASE_FILE : PHASE_REPLY;
}

static enum MHD_Result queue(struct request *r, const struct api_response *resp,
                             const struct respond_body *body, enum connection_phase phase,
                             bool close) {
    add_common(r, resp, body->status, body->mhd, close);
    if (body->content_range[0] != '\0')
        add(body->mhd, "Content-Range", body->content_range);
    enum MHD_Result result = MHD_queue_response(r->mhd, (unsigned)body->status, body->mhd);
    MHD_destroy_response(body->mhd);
    r->answered = true;
    r->answered_at = clock_mono();
    r->status = body->status;
    r->bytes_out = r->head ? 0 : body->bytes;
    if (r->connection != NULL)
        connection_set_phase(r->connection, phase);
    return result;
}

enum MHD_Result respond_send(struct request *r, struct api_response *resp, bool close) {
    struct respond_body body;
    enum api_body kind = resp->kind;
    make_body(r, resp, &body);
    enum MHD_Result result = MHD_NO;
    if (body.mhd != NULL)
        result = queue(r, resp, &body, phase_of(&body, kind), close);
    api_response_clear(resp);
    return result;
}

enum MHD_Result respond_again(struct request *r, struct answer *known) {
    const struct api_response resp = {.status = 200, .kind = API_BODY_TEXT};
    struct respond_body body = {.status = 200};
    answer_body(&body, known);
    return body.mhd != NULL ? queue(r, &resp, &body, PHASE_REPLY, false) : MHD_NO;
}
