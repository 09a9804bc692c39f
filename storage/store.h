/* store: files, jobs, events, checkpoints and keys in one SQLite database (DATA/ffwd.db).
 *
 * What:    the jobs table is the queue and the events table is the stream. Every change that a
 *          client is told about is committed (WAL, synchronous=FULL) before the function returns.
 * Owns:    the one connection and the lock of the data folder (one process serves).
 * Threads: the loop thread only.
 * Errors:  ERR_NOT_FOUND for unknown ids; ERR_CONFLICT for a state that does not allow the change;
 *          ERR_NO_SPACE, ERR_IO from the disk: after one, a commit may or may not have happened.
 */
#ifndef FFWD_STORAGE_STORE_H
#define FFWD_STORAGE_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/event.h"

struct store;

#define STORE_ID_SIZE 48 /* "ftjob-" + 24 characters and room */

/* Takes DATA's lock (ERR_CONFLICT if another process has it), opens or creates the database, checks
 * it, migrates an older schema; a newer schema is ERR_UNSUPPORTED. */
enum err store_open(const char *data_dir, struct store **out, struct err_msg *em) NODISCARD;
void store_close(struct store *s);
enum err store_begin(struct store *s, struct err_msg *em) NODISCARD; /* BEGIN IMMEDIATE; may nest */
enum err store_commit(struct store *s, struct err_msg *em) NODISCARD;
void store_rollback(struct store *s);

#define STORE_BACKUP "backup.db" /* in DATA */
/* Leaves a copy of the database, as it is now, in DATA/STORE_BACKUP (replaced; not flushed; *path:
 * new string). Nothing else happens meanwhile; no transaction may be open. */
enum err store_backup(struct store *s, char **path, struct err_msg *em) NODISCARD;

/* From share to !share the reads have one transaction, which a change ends: it is cheaper than one
 * for each. To be ended soon, since it keeps the write-ahead log from being folded in. */
void store_share_reads(struct store *s, bool share);

/* Another number after every change of a row: what was read before is what would be read now as
 * long as this stays the same. */
int64_t store_version(const struct store *s);

/* prefix + 24 random lower-case letters and digits, e.g. store_new_id("file-", id). */
void store_new_id(const char *prefix, char id[STORE_ID_SIZE]);

/* A page of a list. after: id of the last row of the page before, NULL from the start. */
struct page {
    const char *after;
    int64_t limit;
    bool ascending; /* false: newest first */
};

/* ---- files ---------------------------------------------------------------------------------- */

struct file_row {
    char id[STORE_ID_SIZE];
    char *project, *filename, *purpose, *sha256;
    char *path; /* NULL: DATA/files/<id>; else a file of a job, relative to DATA */
    int64_t bytes, created_at, expires_at; /* expires_at 0: never */
};
void file_row_clear(struct file_row *f);
enum err store_file_add(struct store *s, const struct file_row *f, struct err_msg *em) NODISCARD;
enum err store_file_get(struct store *s, const char *project, const char *id, struct file_row *out,
                        struct err_msg *em) NODISCARD;
/* *rows: new array of *n (caller clears each and frees it); *more: the list goes on. An unknown
 * `after` is ERR_NOT_FOUND. purpose NULL: all. */
enum err store_file_list(struct store *s, const char *project, const char *purpose,
                         const struct page *page, struct file_row **rows, int *n, bool *more,
                         struct err_msg *em) NODISCARD;
/* ERR_CONFLICT while a job that has not ended uses it. The caller removes the blob afterwards. The
 * id stays a good `after` for a client that deletes while it pages. */
enum err store_file_delete(struct store *s, const char *project, const char *id,
                           struct err_msg *em) NODISCARD;
/* Deletes files past their expires_at that no live job uses, at most `most` of them at once, and
 * returns their rows, as store_file_list does; the caller removes the blobs. */
enum err store_file_expire(struct store *s, int most, struct file_row **rows, int *n,
                           struct err_msg *em) NODISCARD;
/* The newest uploaded file of any project with this content. ERR_NOT_FOUND (without a message). */
enum err store_file_same(struct store *s, const char *sha256, int64_t bytes, char id[STORE_ID_SIZE],
                         struct err_msg *em) NODISCARD;
/* Bytes that a project has stored: its uploaded files, each in full, and the parts of uploads. */
enum err store_project_bytes(struct store *s, const char *project, int64_t *bytes,
                             struct err_msg *em) NODISCARD;

/* ---- jobs ----------------------------------------------------------------------------------- */

enum job_status {
    JOB_VALIDATING,
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_PAUSED,
    JOB_SUCCEEDED,
    JOB_FAILED,
    JOB_CANCELLED
};
const char *job_status_name(enum job_status st); /* "validating_files", "queued", … */
bool job_status_ended(enum job_status st);

struct job_row {
    char id[STORE_ID_SIZE];
    int64_t seq;                                             /* order of creation */
    char *project, *model, *training_file, *validation_file; /* validation_file NULL: none */
    enum job_status status;
    bool cancel_requested, pause_requested;
    int64_t created_at, started_at, finished_at, estimated_finish; /* 0: not yet */
    int64_t seed, priority, attempt, trained_tokens;
    json_t *request;        /* the create request's body */
    json_t *resolved;       /* from the worker, or NULL */
    json_t *progress;       /* last step's data: step, total_steps, tokens, seconds, flops, … */
    json_t *error;          /* {code,message,param} or NULL */
    json_t *result_files;   /* array of file ids */
    char *fine_tuned_model; /* NULL until succeeded */
    bool model_deleted;     /* that model exists no more */
    char *idempotency_key;  /* NULL: none */
    char *body_sha256;      /* of the create request's body */
};
void job_row_clear(struct job_row *j);

/* Inserts a job with status JOB_VALIDATING and its first events, in one transaction. */
enum err store_job_add(struct store *s, const struct job_row *j, struct err_msg *em) NODISCARD;
enum err store_job_get(struct store *s, const char *project, const char *id, struct job_row *out,
                       struct err_msg *em) NODISCARD; /* project NULL: any */
enum err store_job_by_key(struct store *s, const char *project, const char *idempotency_key,
                          struct job_row *out, struct err_msg *em) NODISCARD;
/* Its number in the order of creation. */
enum err store_job_number(struct store *s, const char *project, const char *id, int64_t *seq,
                          struct err_msg *em) NODISCARD;
/* The newest job made from this body at `since` (Unix seconds) or later that has neither failed nor
 * been cancelled. ERR_NOT_FOUND (without a
 * message), as by_key and by_end. */
enum err store_job_by_body(struct store *s, const char *project, const char *body_sha256,
                           int64_t since, struct job_row *out, struct err_msg *em) NODISCARD;
/* The newest job from this model that succeeded, as far as it is among the last thousand jobs.
 * ERR_NOT_FOUND (without a message). */
enum err store_job_last_of(struct store *s, const char *model, struct job_row *out,
                           struct err_msg *em) NODISCARD;
/* The first job after row after_seq whose id ends with these eight characters. */
enum err store_job_by_end(struct store *s, const char *end, int64_t after_seq, struct job_row *out,
                          struct err_msg *em) NODISCARD;
/* The numbers of a page of jobs (new array). metadata: object of key/value pairs a job must have,
 * JSON null for jobs without any, or NULL. */
enum err store_job_page(struct store *s, const char *project, const json_t *metadata,
                        const struct page *page, int64_t **seqs, int *n, bool *more,
                        struct err_msg *em) NODISCARD;
/* A job as it is shown: what is stored as JSON stays text, as in job_row, or NULL. */
struct job_text {
    const char *id, *project, *model, *training_file, *validation_file, *fine_tuned_model;
    const char *request, *resolved, *progress, *error, *result_files;
    const char *data; /* as store_job_data, where it was asked for */
    int64_t seq;
    enum job_status status;
    bool cancel_requested, pause_requested;
    int64_t created_at, started_at, finished_at, estimated_finish;
    int64_t seed, priority, attempt, trained_tokens;
    int64_t queue_position; /* jobs that are claimed before it; -1: it is not queued */
    char *memory;           /* of all its strings */
};
/* The n jobs of these numbers, which rise or fall and are of one project. whole: with data. */
enum err store_job_texts(struct store *s, const int64_t *seqs, int n, bool whole,
                         struct job_text **rows, struct err_msg *em) NODISCARD;
void job_text_free(struct job_text *rows, int n); /* rows NULL: nothing */
/* changed (NULL: nobody any more) is told the number of each job of which anything that is shown
 * may have changed, also if that is then rolled back. It may not use the store. */
void store_watch_jobs(struct store *s, void (*changed)(void *arg, int64_t seq), void *arg);

/* ---- whose turn it is (store_fair.c says the rule) ---- */
/* The next job to be validated, which stays as it is, and whose project has had its turn; the next
 * queued job, which becomes JOB_RUNNING with attempt + 1. ERR_NOT_FOUND (without a message): none.
 */
enum err store_job_next_validating(struct store *s, struct job_row *out,
                                   struct err_msg *em) NODISCARD;
enum err store_job_claim(struct store *s, struct job_row *out, struct err_msg *em) NODISCARD;
/* The queued job that would be claimed, which changes nothing; ERR_NOT_FOUND as above. */
enum err store_job_next_queued(struct store *s, struct job_row *out, struct err_msg *em) NODISCARD;
/* Jobs that are validated or queued: of a project, or of all (project NULL, queued ones only). */
enum err store_job_waiting(struct store *s, const char *project, int64_t *out,
                           struct err_msg *em) NODISCARD;
/* Of a job that is validated, queued or paused; ERR_CONFLICT otherwise. */
enum err store_job_set_priority(struct store *s, const char *id, int64_t priority,
                                struct err_msg *em) NODISCARD;

/* from → to, only if the job is in `from` (and, if attempt > 0, in that attempt): else
 * ERR_CONFLICT. Sets finished_at when `to` has ended, started_at at the first JOB_RUNNING. error:
 * NULL or {code,message,param}, borrowed. */
enum err store_job_move(struct store *s, const char *id, enum job_status from, enum job_status to,
                        int64_t attempt, const json_t *error, struct err_msg *em) NODISCARD;
enum err store_job_request_cancel(struct store *s, const char *id, struct err_msg *em) NODISCARD;
/* A job that is being validated or runs shall be paused as soon as it can be (pause), or not after
 * all (!pause). Every change of state ends the wish. */
enum err store_job_request_pause(struct store *s, const char *id, bool pause,
                                 struct err_msg *em) NODISCARD;
enum err store_job_set_resolved(struct store *s, const char *id, int64_t attempt,
                                const json_t *resolved, struct err_msg *em) NODISCARD;
/* What checking the files found, kept beside the row: {"training","validation","estimate"}. */
enum err store_job_set_data(struct store *s, const char *id, const json_t *data,
                            struct err_msg *em) NODISCARD;
/* *out: new reference, NULL if there is none. */
enum err store_job_data(struct store *s, const char *id, json_t **out,
                        struct err_msg *em) NODISCARD;
enum err store_job_set_progress(struct store *s, const char *id, int64_t attempt,
                                const json_t *progress, int64_t trained_tokens,
                                int64_t estimated_finish, struct err_msg *em) NODISCARD;
/* JOB_RUNNING → JOB_SUCCEEDED with what the job made. */
enum err store_job_succeed(struct store *s, const char *id, int64_t attempt,
                           const char *fine_tuned_model, const json_t *result_files,
                           int64_t trained_tokens, struct err_msg *em) NODISCARD;
/* At start: running jobs go back to the queue (cancelled or paused, where that was asked for), with
 * an event.
 * *n: how many. */
enum err store_job_recover(struct store *s, int *n, struct err_msg *em) NODISCARD;
/* Removes the resume points of a job if it has ended and that is committed; otherwise, or inside a
 * transaction, does nothing. What cannot be removed is logged. */
void store_resume_drop(struct store *s, const char *job_id);
/* The same for every job: at start, after store_job_recover. */
enum err store_resume_sweep(struct store *s, struct err_msg *em) NODISCARD;
enum err store_job_counts(struct store *s, int64_t counts[JOB_CANCELLED + 1],
                          struct err_msg *em) NODISCARD;

/* ---- models and who may use them ------------------------------------------------------------ */

struct model_row {
    char *name;
    int64_t created_at; /* the end of the job that made it */
};
void model_row_clear(struct model_row *m);
/* All models of a project that exist, oldest first. */
enum err store_model_list(struct store *s, const char *project, struct model_row **rows, int *n,
                          struct err_msg *em) NODISCARD;

/* The model that job j made: with its checkpoints, resume points, result files (but the metrics)
 * and permissions. ERR_CONFLICT while a live job goes on from it or from one of its checkpoints. */
enum err store_model_delete(struct store *s, const struct job_row *j, struct err_msg *em) NODISCARD;
/* What the database knows of one checkpoint; its folder is the caller's. ERR_CONFLICT as above. */
enum err store_checkpoint_delete(struct store *s, const char *checkpoint,
                                 struct err_msg *em) NODISCARD;

struct permission_row {
    char id[STORE_ID_SIZE];
    int64_t seq, created_at;
    char *checkpoint, *project; /* name of a model or a checkpoint; who may use it */
};
void permission_row_clear(struct permission_row *p);
/* *out: the new row, or the one there was. */
enum err store_permission_add(struct store *s, const char *checkpoint, const char *project,
                              struct permission_row *out, struct err_msg *em) NODISCARD;
enum err store_permission_check(struct store *s, const char *checkpoint, const char *project,
                                bool *out, struct err_msg *em) NODISCARD;
/* Of a checkpoint; project NULL: of all projects. */
enum err store_permission_list(struct store *s, const char *checkpoint, const char *project,
                               const struct page *page, struct permission_row **rows, int *n,
                               bool *more, struct err_msg *em) NODISCARD;
/* What a project was given, oldest first. */
enum err store_permission_list_of(struct store *s, const char *project, int64_t limit,
                                  struct permission_row **rows, int *n,
                                  struct err_msg *em) NODISCARD;
enum err store_permission_delete(struct store *s, const char *checkpoint, const char *id,
                                 struct err_msg *em) NODISCARD;

/* ---- events --------------------------------------------------------------------------------- */

struct event_row {
    char id[STORE_ID_SIZE];
    int64_t seq;      /* per job, from 1, without gaps */
    const char *line; /* as event_to_line without an id */
    size_t len;
};
/* Is given one event after another, each good until it returns; it may not use the store. false:
 * that is enough. */
typedef bool store_event_reader(void *arg, const struct event_row *row);
/* step > 0: a metrics event of that step; one of a step already stored (an attempt repeated it) is
 * dropped and *seq is 0. The step itself, its Fast Forward stage and its evaluation count apart. */
enum err store_event_add(struct store *s, const char *job_id, const struct event *ev, int64_t step,
                         int64_t *seq, struct err_msg *em) NODISCARD;
/* ERR_NOT_FOUND: no such job of the project, or (with param "after") no such event. */
enum err store_event_list(struct store *s, const char *project, const char *job_id,
                          const struct page *page, store_event_reader *read, void *arg, bool *more,
                          struct err_msg *em) NODISCARD;
/* Oldest first, seq > after_seq: what a stream reads. */
enum err store_event_after(struct store *s, const char *job_id, int64_t after_seq, int limit,
                           store_event_reader *read, void *arg, struct err_msg *em) NODISCARD;
/* seq of an event id of this job; ERR_NOT_FOUND. */
enum err store_event_seq(struct store *s, const char *job_id, const char *event_id, int64_t *seq,
                         struct err_msg *em) NODISCARD;
/* The metrics events of one optimizer step (a few at most). */
enum err store_event_at_step(struct store *s, const char *job_id, int64_t step,
                             store_event_reader *read, void *arg, struct err_msg *em) NODISCARD;

/* ---- keys ----------------------------------------------------------------------------------- */

struct key_row {
    char id[STORE_ID_SIZE];
    char *name, *project, *prefix; /* prefix: the first characters of the key, for people */
    int64_t created_at, revoked_at;
};
void key_row_clear(struct key_row *k);
/* key: 64 bytes at least; receives "sk-ffwd-…", shown once; the hash is stored. */
enum err store_key_create(struct store *s, const char *name, const char *project, char key[64],
                          struct key_row *out, struct err_msg *em) NODISCARD;
enum err store_key_list(struct store *s, struct key_row **rows, int *n,
                        struct err_msg *em) NODISCARD;
enum err store_key_revoke(struct store *s, const char *id, struct err_msg *em) NODISCARD;
/* The row of a valid key, ERR_NOT_FOUND otherwise. */
enum err store_key_check(struct store *s, const char *key, struct key_row *out,
                         struct err_msg *em) NODISCARD;
enum err store_key_count(struct store *s, int64_t *active, struct err_msg *em) NODISCARD;

#endif
