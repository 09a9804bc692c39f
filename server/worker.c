/* worker: the training process and its two pipes. */
#include "server/worker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/worker_lock.h"

#define READ_BYTES 65536
#define STALL_MS 1000
#define REST_MS 100 /* between two transactions: what a fast job says meanwhile shares the next */
#define HANDLES 4

struct worker {
    struct worker_events events;
    uv_process_t process;
    uv_pipe_t in, out; /* the worker's stdin and stdout */
    uv_timer_t pause;  /* nothing is read while it runs */
    struct buf line;
    json_t *pending; /* messages that could not be taken */
    char chunk[READ_BYTES];
    int open_handles;
    bool exited, eof, input_open;
    int64_t status;
    int signal;
};

struct write {
    uv_write_t request;
    uv_buf_t bytes;
};

/* ---- end ------------------------------------------------------------------------------------ */

static void free_when_closed(uv_handle_t *handle) {
    struct worker *w = handle->data;
    if (--w->open_handles > 0)
        return;
    json_decref(w->pending);
    buf_clear(&w->line);
    free(w);
}

static void end_if_over(struct worker *w) {
    if (!w->exited || !w->eof || w->pending != NULL)
        return;
    w->events.ended(w->events.arg, w->status, w->signal);
    uv_close((uv_handle_t *)&w->process, free_when_closed);
    uv_close((uv_handle_t *)&w->out, free_when_closed);
    uv_close((uv_handle_t *)&w->pause, free_when_closed);
    if (w->input_open)
        uv_close((uv_handle_t *)&w->in, free_when_closed);
}

static void on_end(uv_process_t *process, int64_t status, int signal) {
    struct worker *w = process->data;
    w->exited = true;
    w->status = status;
    w->signal = signal;
    end_if_over(w);
}

/* ---- what it says --------------------------------------------------------------------------- */

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes);

static void give_chunk(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    struct worker *w = handle->data;
    (void)suggested;
    *out = uv_buf_init(w->chunk, READ_BYTES);
}

static void on_pause_end(uv_timer_t *timer);

static void pause_reading(struct worker *w, uint64_t ms) {
    (void)uv_read_stop((uv_stream_t *)&w->out);
    (void)uv_timer_start(&w->pause, on_pause_end, ms, 0);
}

static void hand_on(struct worker *w, json_t *messages_take) {
    if (json_array_size(messages_take) == 0 || w->events.messages(w->events.arg, messages_take)) {
        json_decref(messages_take);
        return;
    }
    w->pending = messages_take;
    pause_reading(w, STALL_MS);
}

static void on_pause_end(uv_timer_t *timer) {
    struct worker *w = timer->data;
    json_t *messages = w->pending;
    w->pending = NULL;
    hand_on(w, messages);
    if (w->pending != NULL)
        return;
    if (!w->eof)
        (void)uv_read_start((uv_stream_t *)&w->out, give_chunk, on_read);
    end_if_over(w);
}

/* Moves complete lines out of the buffer into messages. false: the worker speaks nonsense. */
static bool split_lines(struct worker *w, json_t *messages) {
    size_t start = 0;
    for (;;) {
        char *text = w->line.data == NULL ? NULL : w->line.data + start;
        char *end = text == NULL ? NULL : memchr(text, '\n', w->line.len - start);
        if (end == NULL)
            break;
        json_error_t je;
        size_t n = (size_t)(end - text);
        json_t *message = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
        start += n + 1;
        if (!json_is_object(message)) {
            json_decref(message);
            log_error("worker.line", "error=%s", "not a JSON object");
            return false;
        }
        (void)json_array_append_new(messages, message);
    }
    buf_consume(&w->line, start);
    return true;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes) {
    struct worker *w = stream->data;
    if (n < 0) {
        w->eof = true;
        (void)uv_read_stop(stream);
        end_if_over(w);
        return;
    }
    json_t *messages = json_array();
    bool sane = buf_add(&w->line, bytes->base, (size_t)n) == ERR_OK && split_lines(w, messages);
    if (!sane) {
        log_error("worker.pipe", "error=%s", "a line is malformed or too long; ending the worker");
        buf_reset(&w->line);
        worker_kill(w);
    }
    bool any = json_array_size(messages) > 0;
    hand_on(w, messages);
    if (any && n < READ_BYTES && w->pending == NULL)
        pause_reading(w, REST_MS);
}

/* ---- what it is told ------------------------------------------------------------------------ */

static void on_written(uv_write_t *request, int status) {
    struct write *write = request->data;
    (void)status; /* a worker that is gone is reported by its exit */
    free(write->bytes.base);
    free(write);
}

void worker_send(struct worker *w, json_t *message_take) {
    char *line = json_dumps(message_take, JSON_COMPACT);
    json_decref(message_take);
    if (line == NULL || !w->input_open) {
        free(line);
        return;
    }
    size_t n = strlen(line);
    line[n] = '\n'; /* in place of the NUL */
    struct write *write = xcalloc(1, sizeof *write);
    write->bytes = uv_buf_init(line, (unsigned)n + 1);
    write->request.data = write;
    if (uv_write(&write->request, (uv_stream_t *)&w->in, &write->bytes, 1, on_written) == 0)
        return;
    free(line);
    free(write);
}

void worker_close_input(struct worker *w) {
    if (!w->input_open)
        return;
    w->input_open = false;
    uv_close((uv_handle_t *)&w->in, free_when_closed);
}

bool worker_is_stalled(const struct worker *w) {
    return w->pending != NULL;
}

void worker_kill(struct worker *w) {
    if (!w->exited)
        (void)uv_process_kill(&w->process, SIGKILL);
}

void worker_kill_old(const char *data_dir) {
    pid_t pid = worker_lock_holder(data_dir);
    if (pid <= 0)
        return;
    log_warn("worker.kill_old", "pid=%ld", (long)pid);
    (void)kill(pid, SIGKILL);
}

/* ---- start ---------------------------------------------------------------------------------- */

int worker_spawn(uv_loop_t *loop, uv_process_t *process, char **argv, uv_stream_t *in,
                 uv_stream_t *out, int lock_fd, uv_exit_cb exit_cb) {
    uv_stdio_container_t stdio[4] = {
        {.flags = in != NULL ? (uv_stdio_flags)(UV_CREATE_PIPE | UV_READABLE_PIPE) : UV_IGNORE,
         .data.stream = in},
        {.flags = (uv_stdio_flags)(UV_CREATE_PIPE | UV_WRITABLE_PIPE), .data.stream = out},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
        {.flags = UV_INHERIT_FD, .data.fd = lock_fd},
    };
    uv_process_options_t options = {.file = argv[0],
                                    .args = argv,
                                    .exit_cb = exit_cb,
                                    .stdio = stdio,
                                    .stdio_count = lock_fd >= 0 ? 4 : 3};
    return uv_spawn(loop, process, &options);
}

static int spawn_worker(struct worker *w, uv_loop_t *loop, const struct config *config,
                        int lock_fd) {
    char threads[16];
    const char *argv[12] = {config->engine, "worker", "--device", config->device};
    int n = 4;
    (void)snprintf(threads, sizeof threads, "%lld", (long long)config->threads);
    if (config->threads > 0) {
        argv[n++] = "--threads";
        argv[n++] = threads;
    }
    if (config->log_level != LOG_INFO) {
        argv[n++] = "--log-level";
        argv[n++] = log_level_name(config->log_level);
    }
    return worker_spawn(loop, &w->process, (char **)(uintptr_t)argv, (uv_stream_t *)&w->in,
                        (uv_stream_t *)&w->out, lock_fd, on_end);
}

enum err worker_start(uv_loop_t *loop, const struct config *config,
                      const struct worker_events *events, struct worker **out, struct err_msg *em) {
    int lock_fd = -1;
    enum err e = worker_lock_take(config->data_dir, &lock_fd, em);
    if (e != ERR_OK)
        return e;
    struct worker *w = xcalloc(1, sizeof *w);
    w->events = *events;
    w->open_handles = HANDLES;
    w->input_open = true;
    buf_init(&w->line, LIMIT_PIPE_LINE + READ_BYTES);
    (void)uv_pipe_init(loop, &w->in, 0);
    (void)uv_pipe_init(loop, &w->out, 0);
    (void)uv_timer_init(loop, &w->pause);
    w->process.data = w->in.data = w->out.data = w->pause.data = w;
    int rc = spawn_worker(w, loop, config, lock_fd);
    if (rc == 0)
        worker_lock_write_pid(lock_fd, w->process.pid);
    close(lock_fd);
    if (rc != 0) {
        uv_close((uv_handle_t *)&w->process, free_when_closed);
        uv_close((uv_handle_t *)&w->in, free_when_closed);
        uv_close((uv_handle_t *)&w->out, free_when_closed);
        uv_close((uv_handle_t *)&w->pause, free_when_closed);
        return err_set(em, ERR_NOT_FOUND, "cannot start %s: %s", config->engine, uv_strerror(rc));
    }
    log_info("worker.start", "pid=%d device=%s", w->process.pid, config->device);
    (void)uv_read_start((uv_stream_t *)&w->out, give_chunk, on_read);
    *out = w;
    return ERR_OK;
}
