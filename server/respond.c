/* respond: an api_response as bytes to the client. */
#include "server/respond.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
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
    if (origin == NULL)
        return;
    add(m, "Vary", "Origin");
    if (!respond_origin_allowed(r, origin))
        return;
    add(m, "Access-Control-Allow-Origin", origin);
    add(m, "Access-Control-Expose-Headers", "x-request-id, openai-processing-ms, content-range");
    if (r->method != HTTP_OPTIONS)
        return;
    add(m, "Access-Control-Allow-Methods", "GET, HEAD, POST, PATCH, DELETE");
    add(m, "Access-Control-Allow-Headers",
        "authorization, api-key, content-type, idempotency-key, last-event-id, openai-organization,"
        " openai-project, range, x-stainless-lang, x-stainless-package-version, x-stainless-os,"
        " x-stainless-arch, x-stainless-runtime, x-stainless-runtime-version, x-stainless-async,"
        " x-stainless-retry-count, x-stainless-read-timeout, x-stainless-timeout");
    add(m, "Access-Control-Max-Age", "600");
}

static void add_common(const struct request *r, const struct api_response *resp, int status,
                       struct MHD_Response *m, bool close) {
    char ms[32];
    (void)snprintf(ms, sizeof ms, "%.0f", (clock_mono() - r->start) * 1000);
    add(m, "x-request-id", r->id);
    add(m, "openai-version", "2020-10-01");
    add(m, "openai-processing-ms", ms);
    add(m, "X-Content-Type-Options", "nosniff");
    add(m, "Allow", resp->allow);
    if (resp->no_retry)
        add(m, "x-should-retry", "false");
    if (status == 401)
        add(m, "WWW-Authenticate", "Bearer realm=\"ffwd\"");
    if ((status == 429 || status == 503) && !resp->no_retry)
        add(m, "Retry-After", "5");
    if (close)
        add(m, "Connection", "close");
    add_cors(r, m);
}

static struct MHD_Response *text_body(char *text_take, const char *type) {
    struct MHD_Response *m =
        MHD_create_response_from_buffer(strlen(text_take), text_take, MHD_RESPMEM_MUST_FREE);
    add(m, "Content-Type", type);
    return m;
}

static struct MHD_Response *json_body(const struct api_response *resp) {
    char *text = json_dumps(resp->json, JSON_COMPACT | JSON_ENCODE_ANY);
    return text_body(text != NULL ? text : xstrdup("{}"), "application/json");
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
        out->mhd = text_body(xstrdup(resp->text != NULL ? resp->text : ""),
                             resp->content_type != NULL ? resp->content_type
                                                        : "text/plain; charset=utf-8");
        break;
    case API_BODY_EMPTY:
        out->mhd = empty_body(resp->content_type);
        break;
    case API_BODY_JSON:
        break;
    }
    if (out->mhd != NULL)
        return;
    out->mhd = json_body(resp);
    out->status = resp->status;
    out->streams = false;
}

static enum connection_phase phase_of(const struct respond_body *body, enum api_body kind) {
    if (body->streams && kind == API_BODY_EVENTS)
        return PHASE_STREAM;
    return body->streams ? PHASE_FILE : PHASE_REPLY;
}

enum MHD_Result respond_send(struct request *r, struct api_response *resp, bool close) {
    struct respond_body body;
    enum api_body kind = resp->kind;
    make_body(r, resp, &body);
    if (body.mhd == NULL) {
        api_response_clear(resp);
        return MHD_NO;
    }
    add_common(r, resp, body.status, body.mhd, close);
    if (body.content_range[0] != '\0')
        add(body.mhd, "Content-Range", body.content_range);
    enum MHD_Result result = MHD_queue_response(r->mhd, (unsigned)body.status, body.mhd);
    MHD_destroy_response(body.mhd);
    api_response_clear(resp);
    r->answered = true;
    r->status = body.status;
    if (r->connection != NULL)
        connection_set_phase(r->connection, phase_of(&body, kind));
    return result;
}
