/* scheduler_internal: what the scheduler's files share; nobody else includes it.
 *
 * What:    the state of the one worker and of the job it runs.
 * Owns:    see scheduler.h.
 * Threads: the loop thread only.
 * Errors:  see scheduler__failed.
 */
#ifndef FFWD_SERVER_SCHEDULER_INTERNAL_H
#define FFWD_SERVER_SCHEDULER_INTERNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "server/check.h"
#include "server/pace.h"
#include "server/scheduler.h"
#include "server/server.h"
#include "server/worker.h"
#include "storage/store.h"

/* The job the worker has. */
struct running {
    char id[STORE_ID_SIZE]; /* "": none */
    char *model;            /* its base */
    int64_t attempt;
    int64_t first_step, step; /* when the attempt began, and now */
    struct pace pace;
    json_t *progress;     /* newest, NULL before the first step */
    json_t *fast_forward; /* totals of the stages */
    int64_t new_tokens;   /* of messages that are not committed yet */
    bool progress_dirty;
    double progress_stored;
    double heard; /* last sign of life */
    bool cancel_sent, pause_sent, stop_sent;
    double told;                /* when cancel or stop was sent */
    json_t *done;               /* the closing message, until it has been acted on */
    struct result_files *files; /* of the job that succeeded (publish.c) */
};

/* How fast a base model was trained here. */
struct speed {
    char *model;
    double flops_per_second;
};

/* Attempts in a row that ended without a step. */
struct strikes {
    char id[STORE_ID_SIZE];
    int64_t count;
    int64_t best_step; /* most steps any attempt reached */
};

/* What the queue waits for, whose absence is no job's fault. */
enum hold_kind { HOLD_WORKER, HOLD_CHECKS, HOLD_MODELS, HOLDS };

struct hold {
    int64_t times; /* tries in a row that failed; 0: it does not wait */
    double until;  /* no try before */
    bool told;     /* the log, a job's event and /readyz say so */
};

struct scheduler {
    struct server *server;
    uv_timer_t tick;
    uv_timer_t soon;
    struct worker *worker;
    bool worker_ready, exit_sent;
    double exit_since;
    int64_t ended_status; /* how the last worker ended */
    int ended_signal;
    double worker_since; /* start of the process */
    double lock_since;   /* waiting for an older worker since; 0: not */
    int64_t worker_restarts;
    json_t *device;
    struct running running;
    struct strikes *strikes;
    size_t n_strikes;
    struct speed *speeds;
    size_t n_speeds;
    struct hold holds[HOLDS];
    bool *roots_used;     /* of each root: a job's model was found in it; NULL: none yet */
    double hold_until;    /* nothing is started before */
    double validate_hold; /* nothing is validated before */
    struct check *check;
    char check_id[STORE_ID_SIZE];
    bool draining, drained;
};

/* An error of the store: says so, waits or ends the server. */
void scheduler__failed(struct scheduler *sc, enum err e, const struct err_msg *em,
                       const char *where);
/* Adds a message event and wakes its readers after the commit (scheduler_note wakes at once). */
enum err scheduler__event(struct scheduler *sc, const char *job_id, enum event_level level,
                          const char *text, struct err_msg *em) NODISCARD;
void scheduler__wake_readers(struct scheduler *sc, const char *job_id);
/* Moves a job and says why, in one transaction. error: {code,message,param} or NULL. */
enum err scheduler__move(struct scheduler *sc, const char *id, enum job_status from,
                         enum job_status to, int64_t attempt, const json_t *error,
                         enum event_level level, const char *text, struct err_msg *em) NODISCARD;

/* ---- waiting (scheduler_hold.c) ------------------------------------------------------------- */
/* Seconds before try `count` + 1 of a thing that failed so often in a row: retry_seconds, doubled
 * each time, 60 at most. */
double scheduler__pause(const struct scheduler *sc, int64_t count);
/* A try failed: waits longer each time. From the first one on (training processes: after
 * limits.attempts) says so in the log, on /readyz, and in an event of job_id (NULL: of none).
 * detail: for the log only, since it may name folders. */
void scheduler__hold(struct scheduler *sc, enum hold_kind kind, const char *detail,
                     const char *job_id);
/* A try succeeded. */
void scheduler__release(struct scheduler *sc, enum hold_kind kind);
/* Whether the next try is still to come. */
bool scheduler__holds(const struct scheduler *sc, enum hold_kind kind);
/* Why jobs wait, for clients; NULL: they do not. */
const char *scheduler__why_held(const struct scheduler *sc);
/* HOLD_WORKER, told to the job that would be next. */
void scheduler__start_failed(struct scheduler *sc, const char *detail);
/* A job's model was found in this folder. */
void scheduler__note_root(struct scheduler *sc, const char *model_dir);
/* A root of models that cannot be read, or has none any more; NULL: there is none, so that a model
 * which was not found is its job's fault. */
const char *scheduler__root_gone(const struct scheduler *sc);
/* Ends HOLD_MODELS once every root is back. */
void scheduler__look_for_models(struct scheduler *sc);

/* ---- validation (scheduler_validate.c) ------------------------------------------------------ */
void scheduler__validate_next(struct scheduler *sc);
/* Path of an uploaded file; the caller frees. */
enum err scheduler__file_path(struct scheduler *sc, const struct job_row *job, const char *file_id,
                              char **out, struct err_msg *em) NODISCARD;

/* ---- the worker's messages (scheduler_messages.c) ------------------------------------------- */
bool scheduler__messages(void *arg, const json_t *messages);
enum err scheduler__store_progress(struct scheduler *sc, struct err_msg *em) NODISCARD;

/* ---- ends of jobs (scheduler_end.c) --------------------------------------------------------- */
/* Acts on running.done; false: try again later. */
bool scheduler__finish(struct scheduler *sc);
/* The worker ended without saying how the job did. false: try again later. */
bool scheduler__crashed(struct scheduler *sc, int64_t status, int signal);
void scheduler__clear_running(struct scheduler *sc);
/* One more attempt of the job in a row failed without a step; how many now. */
int64_t scheduler__strike(struct scheduler *sc, const char *id);
void scheduler__forget_strikes(struct scheduler *sc, const char *id);
/* Of a whole run ("flops", "seconds"), evaluations included: what the next job of the model can
 * expect. */
void scheduler__note_speed(struct scheduler *sc, const char *model, const json_t *result);
/* Files of a job that succeeded (publish.c). false: they are being read; the scheduler is woken. */
bool scheduler__files_ready(struct scheduler *sc);
void scheduler__forget_files(struct scheduler *sc);
/* Once they are ready: rows for the adapter folder; *ids: their ids. */
enum err scheduler__publish(struct scheduler *sc, const struct job_row *job, json_t **ids,
                            struct err_msg *em) NODISCARD;

#endif
