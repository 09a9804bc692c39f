/* request: one HTTP request from its request line to its completion.
 *
 * What:    the request's parts in the api's form; its body read into a bounded buffer or a form.
 * Owns:    all strings, the body, the form's spool, the answer decided early.
 * Threads: the loop thread only.
 * Errors:  a body that breaks a limit or is malformed sets `failure`, the answer that is sent when
 *          the body has ended; the rest of the body is dropped.
 */
#ifndef FFWD_SERVER_REQUEST_H
#define FFWD_SERVER_REQUEST_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "api/api.h"
#include "base/buf.h"
#include "server/guard.h"
#include "server/rate.h"

struct connection;
struct form;
struct http;

struct request {
    struct http *http;
    struct MHD_Connection *mhd;
    struct connection *connection;
    char id[STORE_ID_SIZE];
    double start;
    bool begun, head, answered;

    char verb[16]; /* as sent, for the log */
    enum http_method method;
    char *uri, *path; /* raw; path without the query */
    char *query_text, *header_text;
    struct api_pair *query, *headers;
    int n_query, n_headers;
    char *project;
    char key_id[STORE_ID_SIZE]; /* "": none was needed */
    struct rate_result rate;    /* limit 0: no rate limit applies */
    const struct api_route *route;
    struct api_params params;
    int64_t content_len;
    bool has_body;

    int64_t body_bytes;
    struct buf body;
    struct form *form;
    bool failed;
    struct api_response failure;

    uv_work_t thread; /* flushing a big upload off the loop, then the handler's work */
    bool synced, suspended;
    struct api_work *work; /* see later.h */
    struct request *work_next;
    bool is_late; /* the work is done: `late` is the answer */
    struct api_response late;
    int status;
    double answered_at; /* when the answer began */
    int64_t bytes_out;  /* of the answer's body */
};

struct request *request_new(struct http *http, struct MHD_Connection *mhd, const char *uri);
void request_free(struct request *r);
/* Copies headers, splits path and query, after guard_check. */
void request_read_head(struct request *r, const char *method, const struct guard_header *headers,
                       size_t n);
/* NULL if absent. */
const char *request_header(const struct request *r, const char *name);
/* Says what the route accepts of the body, before the first byte of it. false: r->failure is the
 * answer. */
bool request_accept_body(struct request *r);
void request_add_body(struct request *r, const char *bytes, size_t n);
/* The body has ended; false: r->failure is the answer. */
bool request_end_body(struct request *r);
/* The project that asks. */
const char *request_project(const struct request *r);
/* Fills q with what a handler sees; valid as long as r is. */
void request_for_api(struct request *r, struct api_request *q);

#endif
