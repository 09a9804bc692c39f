/* scheduler: jobs from validation to their end.
 *
 * What:    validates new jobs, claims queued ones, runs them in the worker, stores what the worker
 *          says, retries after a crash, drains. While training processes do not start, or a
 *          root of models is gone, the queue waits and /readyz says why.
 * Owns:    the worker, the validation process, the state of the running job.
 * Threads: the loop thread only.
 * Errors:  a job's failure is the job's; a full disk is waited for (a training process that met one
 *          is tried again, then its job is paused); any other error of the database ends the
 *          server, which recovers at the next start.
 */
#ifndef FFWD_SERVER_SCHEDULER_H
#define FFWD_SERVER_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct scheduler;
struct server;

struct scheduler *scheduler_new(struct server *s);
/* Puts jobs that an earlier server ran back into the queue and starts work. */
enum err scheduler_start(struct scheduler *sc, struct err_msg *em) NODISCARD;
/* Something about the jobs changed: looks soon, from the loop. */
void scheduler_wake(struct scheduler *sc);
/* A client cancelled this job; if it runs, its worker is told, and a check of its files is ended.
 */
void scheduler_cancel(struct scheduler *sc, const char *job_id);
/* A client paused this job; if it runs, its worker is told. */
void scheduler_pause(struct scheduler *sc, const char *job_id);
/* Kind of the device that jobs run on, as far as it is known ("auto" before the first one). */
const char *scheduler_device(const struct scheduler *sc);
/* FLOP/s of training a base model on it, from the last job that succeeded; 0: none yet. */
double scheduler_speed(struct scheduler *sc, const char *base_model);
struct scheduler_stats {
    bool worker_up, has_job;
    bool held;               /* jobs wait for what is no job's fault */
    int64_t worker_restarts; /* processes that ended without being asked to */
    double step, total_steps, loss, tokens_per_second; /* of the running job */
};
void scheduler_stats(const struct scheduler *sc, struct scheduler_stats *out);
/* Takes on nothing more; the running job writes a resume point; then server_drained is called. */
void scheduler_drain(struct scheduler *sc);
/* Ends worker and validation now; server_drained is called when they are gone. */
void scheduler_kill(struct scheduler *sc);
/* Closes handles; after scheduler_drain has finished. */
void scheduler_close(struct scheduler *sc);
/* After the loop has ended. */
void scheduler_free(struct scheduler *sc);

#endif
