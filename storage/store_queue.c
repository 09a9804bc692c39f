/* store_queue: the jobs table as the queue: changes of state, progress. Whose turn it is:
 * store_fair.c.
 *
 * A job goes validating → queued → running → succeeded, failed or cancelled; it may be paused on
 * the way, which is left to queued. Running goes back to queued when its worker or the server is
 * gone. Every change names the
 * state it expects, and a worker's change the attempt, so a late one changes nothing.
 */
#include "storage/store_internal.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "storage/store_jobs.h"

#define BIT(st) (1u << (st))

/* For each state, those it may go to. JOB_SUCCEEDED comes only from store_job_succeed. */
static const unsigned allowed[] = {
    [JOB_VALIDATING] = BIT(JOB_QUEUED) | BIT(JOB_PAUSED) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED),
    [JOB_QUEUED] = BIT(JOB_RUNNING) | BIT(JOB_PAUSED) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED),
    [JOB_RUNNING] = BIT(JOB_QUEUED) | BIT(JOB_PAUSED) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED),
    [JOB_PAUSED] = BIT(JOB_QUEUED) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED),
    [JOB_SUCCEEDED] = 0,
    [JOB_FAILED] = 0,
    [JOB_CANCELLED] = 0,
};

/* Says why an UPDATE of job id changed nothing. */
enum err store__job_refused(struct store *s, const char *id, const char *wish, struct err_msg *em) {
    struct job_row j;
    enum err e = store_job_get(s, NULL, id, &j, em);
    if (e == ERR_OK)
        e = err_set(em, ERR_CONFLICT, "job %s cannot be %s: it is %s (attempt %lld)", id, wish,
                    job_status_name(j.status), (long long)j.attempt);
    job_row_clear(&j);
    return e;
}

enum err store_job_move(struct store *s, const char *id, enum job_status from, enum job_status to,
                        int64_t attempt, const json_t *error, struct err_msg *em) {
    if ((allowed[from] & BIT(to)) == 0)
        return err_set(em, ERR_CONFLICT, "a job does not go from %s to %s", job_status_name(from),
                       job_status_name(to));
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    int64_t now = clock_unix();
    int changes = 0;
    e = store__run(
        s, em, &changes,
        "UPDATE jobs SET status = ?3, error = ?5, finished_at = ?6, pause_requested = 0, "
        "estimated_finish = CASE WHEN ?3 = 2 THEN estimated_finish ELSE 0 END, "
        "started_at = CASE WHEN ?3 = 2 AND started_at = 0 THEN ?7 ELSE started_at END "
        "WHERE id = ?1 AND status = ?2 AND (?4 <= 0 OR attempt = ?4)",
        "siiijii", id, (int64_t)from, (int64_t)to, attempt, error,
        job_status_ended(to) ? now : (int64_t)0, now);
    if (e == ERR_OK && changes == 0)
        e = store__job_refused(s, id, job_status_name(to), em);
    if (e == ERR_OK && from == JOB_RUNNING && to == JOB_QUEUED)
        e = store__give_turn_back(s, id, em);
    return store__end(s, e, em);
}

enum err store_job_request_cancel(struct store *s, const char *id, struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    int changes = 0;
    e = store__run(s, em, &changes,
                   "UPDATE jobs SET cancel_requested = 1 WHERE id = ?1 AND status < 4", "s", id);
    if (e == ERR_OK && changes == 0)
        e = store__job_refused(s, id, "cancelled", em);
    return store__end(s, e, em);
}

enum err store_job_request_pause(struct store *s, const char *id, bool pause, struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    int changes = 0;
    e = store__run(s, em, &changes,
                   "UPDATE jobs SET pause_requested = ?2 WHERE id = ?1 AND status IN (0, 2)", "si",
                   id, (int64_t)pause);
    if (e == ERR_OK && changes == 0)
        e = store__job_refused(s, id, pause ? "paused" : "resumed", em);
    return store__end(s, e, em);
}

enum err store_job_set_priority(struct store *s, const char *id, int64_t priority,
                                struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    int changes = 0;
    e = store__run(s, em, &changes,
                   "UPDATE jobs SET priority = ?2 WHERE id = ?1 AND status IN (0, 1, 3)", "si", id,
                   priority);
    if (e == ERR_OK && changes == 0)
        e = store__job_refused(s, id, "given another priority", em);
    return store__end(s, e, em);
}

enum err store_job_set_resolved(struct store *s, const char *id, int64_t attempt,
                                const json_t *resolved, struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    int changes = 0;
    e = store__run(s, em, &changes,
                   "UPDATE jobs SET resolved = ?3 WHERE id = ?1 AND attempt = ?2 AND status = 2",
                   "sij", id, attempt, resolved);
    if (e == ERR_OK && changes == 0)
        e = store__job_refused(s, id, "resolved", em);
    return store__end(s, e, em);
}

enum err store_job_set_data(struct store *s, const char *id, const json_t *data,
                            struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__run(s, em, NULL,
                   "INSERT INTO job_data SELECT seq, ?2 FROM jobs WHERE id = ?1 "
                   "ON CONFLICT DO UPDATE SET data = excluded.data",
                   "sj", id, data);
    return store__end(s, e, em);
}

enum err store_job_data(struct store *s, const char *id, json_t **out, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    *out = NULL;
    enum err e = store__one(s, em, &q,
                            "SELECT data FROM job_data WHERE job_seq = "
                            "(SELECT seq FROM jobs WHERE id = ?1)",
                            "s", id);
    if (e != ERR_OK)
        return e == ERR_NOT_FOUND ? ERR_OK : e;
    *out = store__json(q, 0);
    sqlite3_reset(q);
    return ERR_OK;
}

enum err store_job_set_progress(struct store *s, const char *id, int64_t attempt,
                                const json_t *progress, int64_t trained_tokens,
                                int64_t estimated_finish, struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    int changes = 0;
    e = store__run(s, em, &changes,
                   "UPDATE jobs SET progress = ?3, trained_tokens = ?4, estimated_finish = ?5 "
                   "WHERE id = ?1 AND attempt = ?2 AND status = 2",
                   "sijii", id, attempt, progress, trained_tokens, estimated_finish);
    if (e == ERR_OK && changes == 0)
        e = store__job_refused(s, id, "updated", em);
    return store__end(s, e, em);
}

enum err store_job_succeed(struct store *s, const char *id, int64_t attempt,
                           const char *fine_tuned_model, const json_t *result_files,
                           int64_t trained_tokens, struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    int changes = 0;
    e = store__run(s, em, &changes,
                   "UPDATE jobs SET status = 4, fine_tuned_model = ?3, result_files = ?4, "
                   "trained_tokens = ?5, finished_at = ?6, estimated_finish = 0, error = NULL "
                   "WHERE id = ?1 AND attempt = ?2 AND status = 2",
                   "sisjii", id, attempt, fine_tuned_model, result_files, trained_tokens,
                   clock_unix());
    if (e == ERR_OK && changes == 0)
        e = store__job_refused(s, id, "succeeded", em);
    return store__end(s, e, em);
}

static enum err recover_one(struct store *s, const struct job_row *j, struct err_msg *em) {
    enum job_status to = JOB_QUEUED;
    const char *note = "The server was restarted; the job is in the queue again";
    if (j->cancel_requested) {
        to = JOB_CANCELLED;
        note = "Job cancelled";
    } else if (j->pause_requested) {
        to = JOB_PAUSED;
        note = "The server was restarted; the job is paused";
    }
    enum err e = store_job_move(s, j->id, JOB_RUNNING, to, 0, NULL, em);
    return e == ERR_OK ? store__event_note(s, j->id, note, em) : e;
}

enum err store_job_recover(struct store *s, int *n, struct err_msg *em) {
    *n = 0;
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    while (e == ERR_OK) {
        sqlite3_stmt *q = NULL;
        struct job_row j = {0};
        e = store__query(s, em, &q,
                         "SELECT " STORE_JOB_COLUMNS " FROM jobs WHERE status = 2 LIMIT 1", "");
        if (e == ERR_OK)
            e = store__job_one(s, q, &j, em);
        if (e == ERR_OK)
            e = recover_one(s, &j, em);
        if (e == ERR_OK)
            (*n)++;
        job_row_clear(&j);
    }
    return store__end(s, e == ERR_NOT_FOUND ? ERR_OK : e, em);
}

enum err store_job_counts(struct store *s, int64_t counts[JOB_CANCELLED + 1], struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    bool row = true;
    for (int i = 0; i <= JOB_CANCELLED; i++)
        counts[i] = 0;
    enum err e = store__query(s, em, &q, "SELECT status, jobs FROM job_counts", "");
    while (e == ERR_OK && (e = store__next(s, q, &row, em)) == ERR_OK && row) {
        int status = sqlite3_column_int(q, 0);
        if (status >= 0 && status <= JOB_CANCELLED)
            counts[status] = sqlite3_column_int64(q, 1);
    }
    return e;
}
