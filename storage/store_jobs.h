/* store_jobs: what the two files about jobs share; nobody else includes it.
 *
 * What:    the columns of a job row in the order they are read, and reading one.
 * Owns:    nothing.
 * Threads: the loop thread only.
 * Errors:  as store.h.
 */
#ifndef FFWD_STORAGE_STORE_JOBS_H
#define FFWD_STORAGE_STORE_JOBS_H

#include "storage/store_internal.h"

#define STORE_JOB_COLUMNS                                                                          \
    "id, seq, jobs.project, model, training_file, validation_file, status, cancel_requested, "     \
    "created_at, started_at, finished_at, estimated_finish, seed, priority, attempt, "             \
    "trained_tokens, request, resolved, progress, error, result_files, fine_tuned_model, "         \
    "idempotency_key, body_sha256, pause_requested, model_deleted"

/* Reads the only row of q and resets it; ERR_NOT_FOUND (without a message) if there is none. */
enum err store__job_one(struct store *s, sqlite3_stmt *q, struct job_row *out,
                        struct err_msg *em) NODISCARD;
/* "Could not find fine tune: ID" */
enum err store__job_not_found(const char *id, struct err_msg *em);
/* Sets queue_position of those of the n rows that are queued: the jobs that are claimed before, if
 * none comes or goes meanwhile; 0 for the next. The rows rise or fall in seq. */
enum err store__job_positions(struct store *s, struct job_text *rows, int n,
                              struct err_msg *em) NODISCARD;
/* The project of a job that was interrupted is served before the others. */
enum err store__give_turn_back(struct store *s, const char *id, struct err_msg *em) NODISCARD;
/* The error of a change that the job's state does not allow; wish: "cancelled", "paused", … */
enum err store__job_refused(struct store *s, const char *id, const char *wish,
                            struct err_msg *em) NODISCARD;

#endif
