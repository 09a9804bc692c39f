/* worker_pipe: reading, heartbeat and sending. */
#include "engine/cli/worker_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

#define HEARTBEAT_SECONDS 5

/* ---- out ------------------------------------------------------------------------------------ */

static void server_gone(struct worker_pipe *p) {
    pthread_mutex_lock(&p->lock);
    p->closed = p->leave = true;
    atomic_store(&p->signal, TRAIN_STOP);
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

static bool write_line(const char *text, size_t n) {
    while (n > 0) {
        ssize_t done = write(STDOUT_FILENO, text, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        text += done;
        n -= (size_t)done;
    }
    return true;
}

void worker_pipe_send_object(struct worker_pipe *p, json_t *object_take) {
    char *text = json_dumps(object_take, JSON_COMPACT);
    json_decref(object_take);
    if (text == NULL)
        return;
    size_t n = strlen(text);
    text[n] = '\n'; /* in the place of the NUL */
    pthread_mutex_lock(&p->out_lock);
    bool sent = write_line(text, n + 1);
    pthread_mutex_unlock(&p->out_lock);
    free(text);
    if (!sent)
        server_gone(p);
}

/* {"type", "job", "attempt"} of the job in hand; null where there is none. */
static json_t *message(struct worker_pipe *p, const char *type) {
    json_t *o = json_pack("{ss}", "type", type);
    pthread_mutex_lock(&p->lock);
    json_t *job = json_object_get(p->now, "job"), *attempt = json_object_get(p->now, "attempt");
    json_object_set_new(o, "job", job != NULL ? json_deep_copy(job) : json_null());
    json_object_set_new(o, "attempt", attempt != NULL ? json_deep_copy(attempt) : json_null());
    pthread_mutex_unlock(&p->lock);
    return o;
}

void worker_pipe_send(struct worker_pipe *p, const char *type, const char *key,
                      json_t *value_take) {
    json_t *o = message(p, type);
    if (value_take != NULL)
        json_object_set_new(o, key, value_take);
    worker_pipe_send_object(p, o);
}

/* SIGTERM is blocked in every thread and taken here: it means what end of file means. */
static void *heartbeat(void *arg) {
    struct worker_pipe *p = arg;
    const struct timespec every = {.tv_sec = HEARTBEAT_SECONDS};
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    while (!atomic_load(&p->quit)) {
        int sig = sigtimedwait(&term, NULL, &every);
        if (sig == SIGTERM)
            server_gone(p);
        else if (sig < 0 && errno == EAGAIN)
            worker_pipe_send(p, "heartbeat", "step", json_integer(atomic_load(&p->step)));
    }
    return NULL;
}

/* ---- in ------------------------------------------------------------------------------------- */

static bool same_job(const json_t *a, const json_t *b) {
    return b != NULL && json_equal(json_object_get(a, "job"), json_object_get(b, "job")) &&
           json_equal(json_object_get(a, "attempt"), json_object_get(b, "attempt"));
}

/* For the job in hand or the one that waits; one of an older attempt is refused. A pause, which may
 * wait for long, does not replace what ends the job sooner. */
static void take_signal(struct worker_pipe *p, const json_t *o, enum train_signal signal) {
    if (!same_job(o, p->now) && !same_job(o, p->next))
        log_warn("worker.refused", "reason=\"not the job in hand\"");
    else if (signal != TRAIN_PAUSE || atomic_load(&p->signal) == TRAIN_GO)
        atomic_store(&p->signal, (int)signal);
}

static void take_run(struct worker_pipe *p, const json_t *o) {
    if (!json_is_string(json_object_get(o, "job")) ||
        !json_is_integer(json_object_get(o, "attempt")) || p->now != NULL || p->next != NULL) {
        log_warn("worker.refused", "reason=\"run while busy, or without job and attempt\"");
        return;
    }
    p->next = json_deep_copy(o);
    atomic_store(&p->signal, TRAIN_GO);
}

static void take_line(struct worker_pipe *p, const char *line, size_t n) {
    json_t *o = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL);
    const char *type = json_string_value(json_object_get(o, "type"));
    pthread_mutex_lock(&p->lock);
    if (type == NULL)
        log_warn("worker.refused", "reason=\"not a message\" bytes=%zu", n);
    else if (strcmp(type, "run") == 0)
        take_run(p, o);
    else if (strcmp(type, "cancel") == 0)
        take_signal(p, o, TRAIN_CANCEL);
    else if (strcmp(type, "stop") == 0)
        take_signal(p, o, TRAIN_STOP);
    else if (strcmp(type, "pause") == 0)
        take_signal(p, o, TRAIN_PAUSE);
    else if (strcmp(type, "exit") == 0)
        p->leave = true;
    else
        log_warn("worker.refused", "reason=\"unknown type\"");
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    json_decref(o);
}

/* Hands over every whole line in buf [*used]; false if one is too long. */
static bool take_lines(struct worker_pipe *p, char *buf, size_t *used) {
    char *from = buf, *end = buf + *used;
    for (char *nl; (nl = memchr(from, '\n', (size_t)(end - from))) != NULL; from = nl + 1)
        take_line(p, from, (size_t)(nl - from));
    *used = (size_t)(end - from);
    memmove(buf, from, *used);
    return *used < LIMIT_PIPE_LINE;
}

/* Waits until there is something on standard input; false: the worker is ending. */
static bool wait_readable(const struct worker_pipe *p) {
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = p->wake[0], .events = POLLIN}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        continue;
    return fds[1].revents == 0;
}

static void *read_lines(void *arg) {
    struct worker_pipe *p = arg;
    char *buf = xmalloc(LIMIT_PIPE_LINE);
    size_t used = 0;
    while (wait_readable(p)) {
        ssize_t n = read(STDIN_FILENO, buf + used, LIMIT_PIPE_LINE - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        used += (size_t)n;
        if (!take_lines(p, buf, &used)) {
            log_error("worker.refused", "reason=\"line over %u bytes\"", LIMIT_PIPE_LINE);
            break;
        }
    }
    free(buf);
    server_gone(p);
    return NULL;
}

/* ---- the main thread's side ----------------------------------------------------------------- */

enum err worker_pipe_open(struct worker_pipe *p, struct err_msg *em) {
    *p = (struct worker_pipe){0};
    if (pipe2(p->wake, O_CLOEXEC) != 0)
        return err_set_errno(em, errno, "cannot make a pipe");
    pthread_cond_init(&p->changed, NULL);
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->out_lock, NULL);
    int failed = pthread_create(&p->heart, NULL, heartbeat, p);
    if (failed == 0)
        failed = pthread_create(&p->reader, NULL, read_lines, p);
    return failed == 0 ? ERR_OK : err_set_errno(em, failed, "cannot start a thread");
}

void worker_pipe_close(struct worker_pipe *p) {
    atomic_store(&p->quit, true);
    pthread_kill(p->heart, SIGTERM); /* wakes it */
    pthread_join(p->heart, NULL);
    close(p->wake[1]); /* wakes the reader */
    pthread_join(p->reader, NULL);
    close(p->wake[0]);
    json_decref(p->next);
    json_decref(p->now);
}

const json_t *worker_pipe_wait(struct worker_pipe *p) {
    pthread_mutex_lock(&p->lock);
    while (p->next == NULL && !p->leave)
        pthread_cond_wait(&p->changed, &p->lock);
    if (!p->closed) {
        p->now = p->next;
        p->next = NULL;
    }
    atomic_store(&p->step, 0);
    pthread_mutex_unlock(&p->lock);
    return p->now;
}

void worker_pipe_done(struct worker_pipe *p) {
    pthread_mutex_lock(&p->lock);
    json_decref(p->now);
    p->now = NULL;
    pthread_mutex_unlock(&p->lock);
}

bool worker_pipe_closed(struct worker_pipe *p) {
    pthread_mutex_lock(&p->lock);
    bool closed = p->closed;
    pthread_mutex_unlock(&p->lock);
    return closed;
}
