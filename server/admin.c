/* admin: administration commands, asked of the running server through a socket in DATA. */
#include "server/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/server.h"
#include "server/streams.h"

#define BACKLOG 16
#define CLIENT_MS 10000

struct admin {
    struct server *server;
    uv_pipe_t listener;
    int dir_fd;
    struct admin_client *clients;
};

struct admin_client {
    struct admin_client *next;
    struct admin *admin;
    uv_pipe_t pipe;
    uv_timer_t timer;
    uv_write_t write;
    struct buf line;
    char chunk[4096];
    char *answer;
    int open_handles;
};

void admin_socket_path(int dir_fd, char out[64]) {
    (void)snprintf(out, 64, "/proc/self/fd/%d/admin.sock", dir_fd);
}

/* ---- clients -------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle) {
    struct admin_client *c = handle->data;
    if (--c->open_handles > 0)
        return;
    for (struct admin_client **p = &c->admin->clients; *p != NULL; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            break;
        }
    buf_clear(&c->line);
    free(c->answer);
    free(c);
}

static void end_client(struct admin_client *c) {
    if (uv_is_closing((uv_handle_t *)&c->pipe))
        return;
    uv_close((uv_handle_t *)&c->pipe, on_closed);
    uv_close((uv_handle_t *)&c->timer, on_closed);
}

static void on_written(uv_write_t *request, int status) {
    (void)status;
    end_client(request->data);
}

static void answer(struct admin_client *c) {
    struct server *s = c->admin->server;
    struct err_msg em = ERR_MSG_INIT;
    json_error_t je;
    json_t *request = json_loadb(c->line.data, c->line.len, JSON_REJECT_DUPLICATES, &je);
    json_t *reply = admin_execute(s->store, request);
    const char *revoked = json_string_value(json_object_get(reply, "revoked"));
    if (revoked != NULL)
        streams_revoke(s->streams, revoked);
    if (server_read_keys(s, &em) != ERR_OK)
        log_error("admin.keys", "error=%s", em.text);
    log_info("admin.command", "command=%s",
             json_string_value(json_object_get(request, "command")) != NULL
                 ? json_string_value(json_object_get(request, "command"))
                 : "?");
    char *text = json_dumps(reply, JSON_COMPACT);
    c->answer = xasprintf("%s\n", text != NULL ? text : "{}");
    uv_buf_t bytes = uv_buf_init(c->answer, (unsigned)strlen(c->answer));
    free(text);
    json_decref(reply);
    json_decref(request);
    c->write.data = c;
    if (uv_write(&c->write, (uv_stream_t *)&c->pipe, &bytes, 1, on_written) != 0)
        end_client(c);
}

static void give_chunk(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    struct admin_client *c = handle->data;
    (void)suggested;
    *out = uv_buf_init(c->chunk, sizeof c->chunk);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes) {
    struct admin_client *c = stream->data;
    if (n < 0 || buf_add(&c->line, bytes->base, (size_t)n) != ERR_OK) {
        end_client(c);
    } else if (memchr(c->line.data, '\n', c->line.len) != NULL) {
        (void)uv_read_stop(stream);
        answer(c);
    }
}

static void on_late(uv_timer_t *timer) {
    end_client(timer->data);
}

static void on_connection(uv_stream_t *listener, int status) {
    struct admin *a = listener->data;
    if (status != 0)
        return;
    struct admin_client *c = xcalloc(1, sizeof *c);
    c->admin = a;
    c->open_handles = 2;
    c->next = a->clients;
    a->clients = c;
    buf_init(&c->line, ADMIN_LINE_MAX);
    (void)uv_pipe_init(&a->server->loop, &c->pipe, 0);
    (void)uv_timer_init(&a->server->loop, &c->timer);
    c->pipe.data = c->timer.data = c;
    if (uv_accept(listener, (uv_stream_t *)&c->pipe) != 0 ||
        uv_read_start((uv_stream_t *)&c->pipe, give_chunk, on_read) != 0) {
        end_client(c);
        return;
    }
    (void)uv_timer_start(&c->timer, on_late, CLIENT_MS, 0);
}

/* ---- life ----------------------------------------------------------------------------------- */

enum err admin_open(struct server *s, struct admin **out, struct err_msg *em) {
    struct admin *a = xcalloc(1, sizeof *a);
    char path[64];
    a->server = s;
    a->dir_fd = open(s->config->data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (a->dir_fd < 0) {
        enum err e = err_set_errno(em, errno, "cannot open %s", s->config->data_dir);
        free(a);
        return e;
    }
    admin_socket_path(a->dir_fd, path);
    (void)unlinkat(a->dir_fd, "admin.sock", 0); /* ours: we hold the lock of DATA */
    (void)uv_pipe_init(&s->loop, &a->listener, 0);
    a->listener.data = a;
    *out = a;
    mode_t old = umask(0177);
    int rc = uv_pipe_bind(&a->listener, path);
    (void)umask(old);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&a->listener, BACKLOG, on_connection);
    return rc == 0 ? ERR_OK
                   : err_set(em, ERR_IO, "cannot listen on %s/admin.sock: %s", s->config->data_dir,
                             uv_strerror(rc));
}

void admin_close(struct admin *a) {
    (void)unlinkat(a->dir_fd, "admin.sock", 0);
    uv_close((uv_handle_t *)&a->listener, NULL);
    for (struct admin_client *c = a->clients; c != NULL; c = c->next)
        end_client(c);
}

void admin_free(struct admin *a) {
    if (a == NULL)
        return;
    close(a->dir_fd);
    free(a);
}
