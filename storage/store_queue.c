/* store_queue: the jobs table as the queue: claims, changes of state, progress.
 *
 * A job goes validating → queued → running → succeeded, failed or cancelled; paused is left to
 * queued. Running goes back to queued when its worker or the server is gone. Every change names the
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
    [JOB_VALIDATING] = BIT(JOB_QUEUED) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED),
    [JOB_QUEUED] = BIT(JOB_RUNNING) | BIT(JOB_PAUSED) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED),
    [JOB_RUNNING] = BIT(JOB_QUEUED) | BIT(JOB_PAUSED) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED),
    [JOB_PAUSED] = BIT(JOB_QUEUED) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED),
    [JOB_SUCCEEDED] = 0,
    [JOB_FAILED] = 0,
    [JOB_CANCELLED] = 0,
};

enum err store_job_next_validating(struct store *s, struct job_row *out, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(s, em, &q,
                              "SELECT " STORE_JOB_COLUMNS
                              " FROM jobs WHERE status = 0 ORDER BY priority DESC, seq LIMIT 1",
                              "");
    return e == ERR_OK ? store__job_one(s, q, out, em) : e;
}

static enum err find_queued(struct store *s, struct job_row *out, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(s, em, &q,
                              "SELECT " STORE_JOB_COLUMNS
                              " FROM jobs WHERE status = 1 ORDER BY priority DESC, seq LIMIT 1",
                              "");
    return e == ERR_OK ? store__job_one(s, q, out, em) : e;
}

enum err store_job_claim(struct store *s, struct job_row *out, struct err_msg *em) {
    *out = (struct job_row){0};
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = find_queued(s, out, em);
    if (e == ERR_OK) {
        out->status = JOB_RUNNING;
        out->attempt++;
        out->started_at = out->started_at != 0 ? out->started_at : clock_unix();
        e = store__run(s, em, NULL,
                       "UPDATE jobs SET status = 2, attempt = ?2, started_at = ?3 WHERE seq = ?1",
                       "iii", out->seq, out->attempt, out->started_at);
    }
    e = store__end(s, e, em);
    if (e != ERR_OK)
        job_row_clear(out);
    return e;
}

enum err store_job_queue_position(struct store *s, const char *id, int64_t *out,
                                  struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    bool row = false;
    *out = -1;
    enum err e = store__query(
        s, em, &q,
        "SELECT (SELECT count(*) FROM jobs WHERE status = 1 AND priority > me.priority) + "
        "(SELECT count(*) FROM jobs WHERE status = 1 AND priority = me.priority AND seq < me.seq) "
        "FROM jobs AS me WHERE id = ?1 AND status = 1",
        "s", id);
    if (e == ERR_OK)
        e = store__next(s, q, &row, em);
    if (e == ERR_OK && row) {
        *out = sqlite3_column_int64(q, 0);
        sqlite3_reset(q);
    }
    return e;
}

/* Index of the row with this seq among rows that rise or fall in seq; -1: none. */
static int find_row(const struct job_row *rows, int n, int64_t seq) {
    bool rising = rows[0].seq < rows[n - 1].seq;
    int lo = 0, hi = n - 1;
    while (lo <= hi) {
        int mid = lo + (hi - lo) / 2;
        if (rows[mid].seq == seq)
            return mid;
        if ((rows[mid].seq < seq) == rising)
            lo = mid + 1;
        else
            hi = mid - 1;
    }
    return -1;
}

enum err store_job_fill_positions(struct store *s, struct job_row *rows, int n,
                                  struct err_msg *em) {
    bool any = false, row = true;
    for (int i = 0; i < n; i++)
        any = any || rows[i].status == JOB_QUEUED;
    if (!any)
        return ERR_OK;
    sqlite3_stmt *q = NULL;
    enum err e = store__query(
        s, em, &q, "SELECT seq FROM jobs WHERE status = 1 ORDER BY priority DESC, seq", "");
    for (int64_t ahead = 0; e == ERR_OK && (e = store__next(s, q, &row, em)) == ERR_OK && row;
         ahead++) {
        int at = find_row(rows, n, sqlite3_column_int64(q, 0));
        if (at >= 0)
            rows[at].queue_position = ahead;
    }
    return e;
}

/* Says why an UPDATE of job id changed nothing. */
static enum err refused(struct store *s, const char *id, const char *wish, struct err_msg *em) {
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
    e = store__run(s, em, &changes,
                   "UPDATE jobs SET status = ?3, error = ?5, finished_at = ?6, "
                   "estimated_finish = CASE WHEN ?3 = 2 THEN estimated_finish ELSE 0 END, "
                   "started_at = CASE WHEN ?3 = 2 AND started_at = 0 THEN ?7 ELSE started_at END "
                   "WHERE id = ?1 AND status = ?2 AND (?4 <= 0 OR attempt = ?4)",
                   "siiijii", id, (int64_t)from, (int64_t)to, attempt, error,
                   job_status_ended(to) ? now : (int64_t)0, now);
    if (e == ERR_OK && changes == 0)
        e = refused(s, id, job_status_name(to), em);
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
        e = refused(s, id, "cancelled", em);
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
        e = refused(s, id, "resolved", em);
    return store__end(s, e, em);
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
        e = refused(s, id, "updated", em);
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
        e = refused(s, id, "succeeded", em);
    return store__end(s, e, em);
}

static enum err recover_one(struct store *s, const struct job_row *j, struct err_msg *em) {
    enum job_status to = j->cancel_requested ? JOB_CANCELLED : JOB_QUEUED;
    const char *note = j->cancel_requested
                           ? "Job cancelled"
                           : "The server was restarted; the job is in the queue again";
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
    enum err e = store__query(s, em, &q, "SELECT status, count(*) FROM jobs GROUP BY status", "");
    while (e == ERR_OK && (e = store__next(s, q, &row, em)) == ERR_OK && row) {
        int status = sqlite3_column_int(q, 0);
        if (status >= 0 && status <= JOB_CANCELLED)
            counts[status] = sqlite3_column_int64(q, 1);
    }
    return e;
}
