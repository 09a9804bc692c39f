/* http: connections and requests on libmicrohttpd. */
#include "server/http.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/answers.h"
#include "server/connection.h"
#include "server/dispatch.h"
#include "server/form.h"
#include "server/dry_run.h"
#include "server/later.h"
#include "server/metrics.h"
#include "server/pump.h"
#include "server/request.h"
#include "server/respond.h"
#include "server/server.h"

#define SWEEP_MS 500
#define REFUSED_SECONDS 60        /* at least between two lines about refused connections */
#define CONNECTION_MEMORY 32768   /* head and body buffer of one connection */
#define SYNC_OFF_LOOP (256 << 10) /* bytes of an upload from which fsync leaves the loop */
#define LOG_PATH 512              /* bytes of a path in the log */
#define DROP_MAX (64ll << 20)     /* bytes of a refused JSON body that are read and dropped */

struct http {
    struct server *server;
    struct MHD_Daemon *daemon;
    struct pump pump;
    uv_timer_t sweep;
    struct connections connections;
    int64_t refused; /* connections, for the log's next line about them … */
    double refused_logged;
    int busy; /* uploads that are being flushed on libuv's threads */
    struct later later;
    struct dry_runs dry_runs;
    struct answers answers;
};

struct server *http_server(const struct http *h) {
    return h->server;
}

struct answers *http_answers(struct http *h) {
    return &h->answers;
}

void http_wake(struct http *h) {
    if (h != NULL)
        pump_wake(&h->pump);
}

struct dry_runs *http_dry_runs(struct http *h) {
    return &h->dry_runs;
}

struct later *http_later(struct http *h) {
    return &h->later;
}

bool http_busy(const struct http *h) {
    return h->busy > 0 || later_busy(&h->later) || dry_runs_busy(&h->dry_runs);
}

unsigned http_connections(const struct http *h) {
    return (unsigned)h->connections.count;
}

/* ---- flushing of big uploads ---------------------------------------------------------------- */

/* The handler's own fsync of the same file is then quick. */
static void sync_work(uv_work_t *work) {
    struct request *r = work->data;
    int64_t bytes;
    (void)fdatasync(form_file(r->form, &bytes));
}

static void sync_done(uv_work_t *work, int status) {
    struct request *r = work->data;
    (void)status;
    r->http->busy--;
    r->suspended = false;
    MHD_resume_connection(r->mhd);
    http_wake(r->http);
}

static bool sync_first(struct request *r) {
    int64_t bytes = 0;
    if (r->synced || r->failed || r->form == NULL || form_file(r->form, &bytes) < 0 ||
        bytes < SYNC_OFF_LOOP)
        return false;
    r->synced = true;
    r->thread.data = r;
    if (uv_queue_work(&r->http->server->loop, &r->thread, sync_work, sync_done) != 0)
        return false;
    r->http->busy++;
    r->suspended = true;
    MHD_suspend_connection(r->mhd);
    return true;
}

/* ---- libmicrohttpd's callbacks -------------------------------------------------------------- */

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd) {
    struct request *r = request_new(cls, mhd, uri);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    r->connection = info != NULL ? info->socket_context : NULL;
    return r;
}

int64_t http_largest_file(const struct http *h) {
    const struct config_limits *limits = &h->server->config->limits;
    return limits->file_bytes > limits->part_bytes ? limits->file_bytes : limits->part_bytes;
}

static enum MHD_Result add_body(struct request *r, const char *bytes, size_t *n) {
    request_add_body(r, bytes, *n);
    if (r->connection != NULL)
        r->connection->body_bytes += (int64_t)*n;
    *n = 0;
    int64_t most = DROP_MAX;
    if (r->route != NULL && r->route->accepts == API_ACCEPTS_FORM)
        most += http_largest_file(r->http);
    return r->body_bytes > most ? MHD_NO : MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *n, void **req_cls) {
    struct request *r = *req_cls;
    (void)url;
    if (r == NULL)
        *req_cls = r = on_uri(cls, NULL, mhd);
    if (!r->begun) {
        r->begun = true;
        memcpy(r->verb, method, strnlen(method, sizeof r->verb - 1));
        return dispatch_begin(r, method, version);
    }
    if (*n > 0)
        return add_body(r, bytes, n);
    if (r->answered)
        return MHD_YES;
    if (r->connection != NULL && r->connection->phase == PHASE_BODY)
        connection_set_phase(r->connection, PHASE_WORK);
    if (r->is_late)
        return respond_send(r, &r->late, false);
    return sync_first(r) ? MHD_YES : dispatch_finish(r);
}

/* The access log. A path has ids only; the query, which may say more, is left out. */
static void note_request(const struct request *r, bool whole) {
    double now = clock_mono();
    double began = r->answered ? r->answered_at : now;
    metrics_request(r->http->server->metrics, r->route, r->status, began - r->start, r->body_bytes,
                    r->bytes_out);
    size_t path = strcspn(r->uri, "?");
    path = path < LOG_PATH ? path : LOG_PATH;
    if (!r->begun) { /* libmicrohttpd could not read the head, or it never came whole */
        log_info("http.unread", "id=%s path=%.*s", r->id, (int)path, r->uri);
        return;
    }
    struct log_fields line;
    if (!log_begin(&line, LOG_INFO, "http.request"))
        return;
    log_word(&line, "id", r->id);
    log_word(&line, "method", r->verb);
    log_text(&line, "path", r->uri, path);
    log_integer(&line, "status", r->status);
    log_integer(&line, "ms", llround((now - r->start) * 1000));
    log_integer(&line, "bytes_in", r->body_bytes);
    log_integer(&line, "bytes", r->bytes_out);
    log_word(&line, "project", r->project != NULL ? r->project : "-");
    log_word(&line, "key", r->key_id[0] != '\0' ? r->key_id : "-");
    log_word(&line, "end", whole ? "sent" : "cut");
    log_end(&line);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **req_cls,
                         enum MHD_RequestTerminationCode code) {
    struct request *r = *req_cls;
    (void)cls;
    (void)mhd;
    if (r == NULL)
        return;
    note_request(r, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    if (r->connection != NULL) {
        r->connection->used = true;
        connection_set_phase(r->connection, PHASE_HEAD);
    }
    request_free(r);
    *req_cls = NULL;
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code) {
    struct http *h = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *socket_context = connection_add(&h->connections, mhd);
        metrics_connection(h->server->metrics);
    } else if (*socket_context != NULL) {
        connection_remove(&h->connections, *socket_context);
        *socket_context = NULL;
    }
}

static enum MHD_Result on_accept(void *cls, const struct sockaddr *from, socklen_t len) {
    struct http *h = cls;
    (void)len;
    struct in6_addr a = connection_address(from);
    if (connection_is_loopback(&a))
        return MHD_YES;
    int most = (int)h->server->config->limits.connections_per_address;
    if (connection_count_of(&h->connections, &a) < most)
        return MHD_YES;
    h->refused++;
    metrics_refused(h->server->metrics);
    return MHD_NO;
}

static void log_refused(struct http *h, double now) {
    if (h->refused == 0 || (h->refused_logged > 0 && now - h->refused_logged < REFUSED_SECONDS))
        return;
    log_warn("http.refused", "connections=%lld reason=limits.connections_per_address limit=%lld",
             (long long)h->refused, (long long)h->server->config->limits.connections_per_address);
    h->refused = 0;
    h->refused_logged = now;
}

static void on_log(void *cls, const char *fmt, va_list args) {
    char text[512];
    (void)cls;
    (void)vsnprintf(text, sizeof text, fmt, args);
    log_debug("http.library", "text=%s", text);
}

/* Paths and queries are read from the raw target, so libmicrohttpd has nothing to decode. */
static size_t on_unescape(void *cls, struct MHD_Connection *mhd, char *text) {
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static void on_sweep(uv_timer_t *timer) {
    struct http *h = timer->data;
    int gone = 0;
    double now = clock_mono();
    int late = connection_sweep(&h->connections, &h->server->config->limits, now, &gone);
    log_refused(h, now);
    if (late > 0) {
        log_info("http.slow", "cut=%d", late);
        metrics_slow_clients(h->server->metrics, late);
    }
    if (late + gone > 0)
        http_wake(h);
}

/* ---- life ----------------------------------------------------------------------------------- */

enum err http_open(struct server *s, struct http_address *at, struct http **out,
                   struct err_msg *em) {
    struct http *h = xcalloc(1, sizeof *h);
    h->server = s;
    const struct config_limits *limits = &s->config->limits;
    h->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, on_accept, h, on_request,
        h, MHD_OPTION_EXTERNAL_LOGGER, on_log, h, MHD_OPTION_LISTEN_SOCKET, at->fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)limits->connections, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)limits->idle_seconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_URI_LOG_CALLBACK, on_uri, h,
        MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, h, MHD_OPTION_STRICT_FOR_CLIENT, 0,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    if (h->daemon == NULL) {
        free(h);
        return err_set(em, ERR_IO, "libmicrohttpd cannot start on %s", at->text);
    }
    at->fd = -1; /* the daemon's now */
    enum err e = pump_open(&h->pump, &s->loop, h->daemon, s->store, em);
    if (e != ERR_OK) {
        MHD_stop_daemon(h->daemon);
        free(h);
        return e;
    }
    dry_runs_open(&h->dry_runs, &s->loop);
    (void)uv_timer_init(&s->loop, &h->sweep);
    h->sweep.data = h;
    (void)uv_timer_start(&h->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    *out = h;
    return ERR_OK;
}

void http_quiesce(struct http *h) {
    later_stop(&h->later);
    dry_runs_stop(&h->dry_runs);
    MHD_socket fd = MHD_quiesce_daemon(h->daemon);
    if (fd != MHD_INVALID_SOCKET)
        close(fd);
}

void http_cut(struct http *h, bool all) {
    for (struct connection *c = h->connections.first; c != NULL; c = c->next)
        if (all || c->phase == PHASE_HEAD)
            connection_cut(c);
    http_wake(h);
}

void http_close(struct http *h) {
    pump_close(&h->pump);
    MHD_stop_daemon(h->daemon);
    uv_close((uv_handle_t *)&h->sweep, NULL);
    dry_runs_close(&h->dry_runs);
}

void http_free(struct http *h) {
    if (h != NULL)
        answers_clear(&h->answers);
    free(h);
}
