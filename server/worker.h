/* worker: the training process and its two pipes (docs/WORKER_PROTOCOL.md).
 *
 * What:    starts `ffwd worker`, writes messages to it, hands on what it says, reports its end. It
 *          holds a lock on DATA/worker.lock through an inherited descriptor, which the kernel drops
 *          when it is really gone: so an orphan of a killed server is never beside a new worker.
 * Owns:    the process, its pipes and handles; frees itself after `ended`.
 * Threads: the loop thread only.
 * Errors:  ERR_CONFLICT while an older worker lives; ERR_NOT_FOUND for a missing program. A line
 *          that is not a JSON object, or is longer than LIMIT_PIPE_LINE, ends the worker.
 */
#ifndef FFWD_SERVER_WORKER_H
#define FFWD_SERVER_WORKER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "server/config.h"

struct worker;

struct worker_events {
    void *arg;
    /* Messages in order, an array of objects. false: could not be taken now (full disk); the same
     * array comes again after a second, and nothing is read meanwhile. */
    bool (*messages)(void *arg, const json_t *messages);
    /* The process is gone and all it said was handed on. status: exit status; signal: 0 or the
     * signal that ended it. The worker is freed after this call. */
    void (*ended)(void *arg, int64_t status, int signal);
};

enum err worker_start(uv_loop_t *loop, const struct config *config,
                      const struct worker_events *events, struct worker **out,
                      struct err_msg *em) NODISCARD;
/* message_take is taken over. */
void worker_send(struct worker *w, json_t *message_take);
/* End of input: the worker stops by itself. */
void worker_close_input(struct worker *w);
/* Whether it waits for the disk. */
bool worker_is_stalled(const struct worker *w);
void worker_kill(struct worker *w);
/* Kills an older worker that still holds DATA/worker.lock. */
void worker_kill_old(const char *data_dir);

/* Spawns program with the given argument vector; stdin and stdout as given, stderr shared, lock_fd
 * (or -1) as descriptor 3. Returns libuv's code. */
int worker_spawn(uv_loop_t *loop, uv_process_t *process, char **argv, uv_stream_t *in,
                 uv_stream_t *out, int lock_fd, uv_exit_cb on_exit);

#endif
