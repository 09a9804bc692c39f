/* worker_pipe: the worker's end of the two pipes (docs/WORKER_PROTOCOL.md).
 *
 * What:    a thread reads lines from standard input and a thread sends a heartbeat every 5 seconds;
 *          the main thread waits for jobs and sends lines.
 * Owns:    the threads and the job in hand; worker_pipe_close ends both.
 * Threads: every function may be called from the main thread; sending is safe from any thread.
 * Errors:  a line that is not understood is logged and dropped. End of file on standard input, or
 *          nobody reading standard output, is a stop; so is SIGTERM, which the caller blocks in all
 *          threads before.
 */
#ifndef FFWD_ENGINE_CLI_WORKER_PIPE_H
#define FFWD_ENGINE_CLI_WORKER_PIPE_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/train/job.h"

struct worker_pipe {
    pthread_mutex_t lock; /* of everything below but the atomics */
    pthread_cond_t changed;
    pthread_mutex_t out_lock; /* one line at a time on standard output */
    pthread_t reader, heart;
    int wake[2];        /* closing [1] wakes the reader */
    json_t *next;       /* a `run` message that waits, or NULL */
    json_t *now;        /* the one in hand, or NULL */
    bool leave;         /* exit when idle */
    bool closed;        /* the server is gone */
    _Atomic int signal; /* enum train_signal for the job in hand */
    _Atomic int64_t step;
    _Atomic bool quit; /* worker_pipe_close was called */
};

enum err worker_pipe_open(struct worker_pipe *p, struct err_msg *em) NODISCARD;
void worker_pipe_close(struct worker_pipe *p);

/* Waits for a job; NULL: the worker shall end. Borrowed until worker_pipe_done. */
const json_t *worker_pipe_wait(struct worker_pipe *p);
/* The job in hand has ended and another one may come. */
void worker_pipe_done(struct worker_pipe *p);
/* The server is gone: end with ERR_STOPPED's code. */
bool worker_pipe_closed(struct worker_pipe *p);

/* Sends {"type":type, "job":…, "attempt":…, key: value}, with the job in hand; value_take may be
 * NULL (no such key). */
void worker_pipe_send(struct worker_pipe *p, const char *type, const char *key, json_t *value_take);
/* Sends an object as it is. */
void worker_pipe_send_object(struct worker_pipe *p, json_t *object_take);

#endif
