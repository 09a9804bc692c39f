/* http: connections and requests on libmicrohttpd.
 *
 * What:    the listening socket, limits and deadlines of connections, the path of a request from
 *          guard and key to handler and answer.
 * Owns:    the daemon and its pump, every connection and request.
 * Threads: the loop thread only; flushing of big uploads runs on libuv's threads.
 * Errors:  http_open names the address that cannot be listened on.
 */
#ifndef FFWD_SERVER_HTTP_H
#define FFWD_SERVER_HTTP_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct answers;
struct http;
struct dry_runs;
struct later;
struct request;
struct server;

enum connection_phase {
    PHASE_HEAD,   /* waiting for a complete head */
    PHASE_BODY,   /* a body is coming in */
    PHASE_WORK,   /* nothing is expected of the client */
    PHASE_REPLY,  /* a small answer is going out */
    PHASE_FILE,   /* a file is going out */
    PHASE_STREAM, /* an event stream */
};

/* Where `--listen` points. */
struct http_address {
    char text[96]; /* ADDR:PORT as shown to people */
    bool loopback;
    int fd; /* bound, listening; taken over by http_open */
};
/* Resolves ADDR:PORT ([::1]:8080 for IPv6) without a name server and binds it. */
enum err http_bind(const char *listen_text, struct http_address *out, struct err_msg *em) NODISCARD;

enum err http_open(struct server *s, struct http_address *at, struct http **out,
                   struct err_msg *em) NODISCARD;
struct server *http_server(const struct http *h);
/* Bytes of the largest file or part that a form may bring. */
int64_t http_largest_file(const struct http *h);
struct answers *http_answers(struct http *h);
/* Runs the daemon soon; after a resume. */
void http_wake(struct http *h);
/* Refuses new connections, ends work under way. */
void http_quiesce(struct http *h);
/* Open connections. */
unsigned http_connections(const struct http *h);
/* Ends connections: those that wait for a request, or all. */
void http_cut(struct http *h, bool all);
/* Where handlers' work waits and runs. */
struct later *http_later(struct http *h);
struct dry_runs *http_dry_runs(struct http *h);
/* Whether a request is on a libuv thread: then http_close must wait. */
bool http_busy(const struct http *h);
/* No request may be suspended. Stops the daemon and closes handles. */
void http_close(struct http *h);
/* After the loop has ended. */
void http_free(struct http *h);

#endif
