/* store_fair: whose turn it is.
 *
 * The rule: the highest priority first. Among the projects with a job waiting at that priority, the
 * one that was served longest ago, whatever the length of the jobs it was served with; those never
 * served by the age of their oldest job. Of the project its oldest job at that priority. So one
 * project's hundred jobs and another's one take turns. A job whose run was interrupted gives its
 * project the next turn. Validation has turns of its own, by the same rule.
 *
 * Triggers keep the table `queue` (jobs waiting by state, priority and project), so that a claim
 * seeks once for each project that waits, and a position costs that and the project's own jobs.
 */
#include "storage/store_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "storage/store_jobs.h"

#define OLDEST                                                                                     \
    "(SELECT min(seq) FROM jobs WHERE status = q.status AND priority = q.priority AND project = "  \
    "q.project)"

static enum err find_next(struct store *s, enum job_status status, struct job_row *out,
                          struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(
        s, em, &q,
        "SELECT " STORE_JOB_COLUMNS " FROM jobs WHERE seq = (SELECT " OLDEST
        " FROM queue AS q LEFT JOIN turns AS t ON t.status = q.status AND t.project = q.project "
        "WHERE q.status = ?1 AND q.priority = (SELECT max(priority) FROM queue WHERE status = ?1) "
        "ORDER BY coalesce(t.turn, 0), " OLDEST " LIMIT 1)",
        "i", (int64_t)status);
    return e == ERR_OK ? store__job_one(s, q, out, em) : e;
}

static enum err take_turn(struct store *s, enum job_status status, const char *project,
                          struct err_msg *em) {
    return store__run(s, em, NULL,
                      "INSERT INTO turns SELECT ?1, ?2, coalesce(max(turn), 0) + 1 FROM turns "
                      "WHERE status = ?1 ON CONFLICT DO UPDATE SET turn = excluded.turn",
                      "is", (int64_t)status, project);
}

enum err store__give_turn_back(struct store *s, const char *id, struct err_msg *em) {
    return store__run(s, em, NULL,
                      "UPDATE turns SET turn = -1 WHERE status = 1 AND "
                      "project = (SELECT project FROM jobs WHERE id = ?1)",
                      "s", id);
}

/* The next job of a state, whose project has then had its turn. */
static enum err take_next(struct store *s, enum job_status status, struct job_row *out,
                          struct err_msg *em) {
    enum err e = find_next(s, status, out, em);
    return e == ERR_OK ? take_turn(s, status, out->project, em) : e;
}

enum err store_job_next_validating(struct store *s, struct job_row *out, struct err_msg *em) {
    *out = (struct job_row){0};
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__end(s, take_next(s, JOB_VALIDATING, out, em), em);
    if (e != ERR_OK)
        job_row_clear(out);
    return e;
}

enum err store_job_next_queued(struct store *s, struct job_row *out, struct err_msg *em) {
    *out = (struct job_row){0};
    return find_next(s, JOB_QUEUED, out, em);
}

enum err store_job_claim(struct store *s, struct job_row *out, struct err_msg *em) {
    *out = (struct job_row){0};
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = take_next(s, JOB_QUEUED, out, em);
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

/* ---- positions ------------------------------------------------------------------------------ */

/* The jobs of a project that wait at one priority. */
struct share {
    int64_t priority, jobs;
    int64_t turn, oldest; /* order in which the projects are served */
    char *project;
};

struct shares {
    struct share *all;
    int n;
};

static void shares_clear(struct shares *sh) {
    for (int i = 0; i < sh->n; i++)
        free(sh->all[i].project);
    free(sh->all);
}

static bool before(const struct share *a, const struct share *b) {
    return a->turn != b->turn ? a->turn < b->turn : a->oldest < b->oldest;
}

static enum err read_shares(struct store *s, struct shares *out, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    bool row = true;
    *out = (struct shares){0};
    enum err e = store__query(s, em, &q,
                              "SELECT q.priority, q.jobs, coalesce(t.turn, 0), " OLDEST
                              ", q.project FROM queue AS q LEFT JOIN turns AS t "
                              "ON t.status = q.status AND t.project = q.project "
                              "WHERE q.status = 1 ORDER BY q.priority DESC",
                              "");
    while (e == ERR_OK && (e = store__next(s, q, &row, em)) == ERR_OK && row) {
        out->all = store__grow(out->all, out->n, sizeof *out->all);
        out->all[out->n++] = (struct share){.priority = sqlite3_column_int64(q, 0),
                                            .jobs = sqlite3_column_int64(q, 1),
                                            .turn = sqlite3_column_int64(q, 2),
                                            .oldest = sqlite3_column_int64(q, 3),
                                            .project = store__text(q, 4)};
    }
    return e;
}

/* After a priority's jobs have all been claimed, its projects come last in the order they were last
 * served in: those with fewer jobs first. Their turns at the lower priorities follow. */
static void pass_turns(struct shares *sh, int from, int to, int64_t *last_turn) {
    int64_t base = *last_turn;
    for (int i = from; i < to; i++) {
        int64_t rank = 1;
        for (int k = from; k < to; k++)
            rank += sh->all[k].jobs < sh->all[i].jobs ||
                    (sh->all[k].jobs == sh->all[i].jobs && before(&sh->all[k], &sh->all[i]));
        for (int k = to; k < sh->n; k++)
            if (strcmp(sh->all[k].project, sh->all[i].project) == 0)
                sh->all[k].turn = base + rank;
        *last_turn = base + rank > *last_turn ? base + rank : *last_turn;
    }
}

/* Jobs claimed before the one that has `ahead` of its own project's before it at its priority. */
static int64_t position_of(const struct shares *sh, const struct share *mine, int64_t ahead) {
    int64_t n = ahead;
    for (int i = 0; i < sh->n; i++) {
        const struct share *other = &sh->all[i];
        if (other->priority > mine->priority)
            n += other->jobs;
        if (other->priority != mine->priority || other == mine)
            continue;
        int64_t rounds = ahead + before(other, mine);
        n += other->jobs < rounds ? other->jobs : rounds;
    }
    return n;
}

/* Index of the row with this seq among rows that rise or fall in seq; -1: none. */
static int find_row(const struct job_text *rows, int n, int64_t seq) {
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

static enum err fill_share(struct store *s, const struct shares *sh, const struct share *mine,
                           struct job_text *rows, int n, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    bool row = true;
    enum err e = store__query(s, em, &q,
                              "SELECT seq FROM jobs WHERE status = 1 AND priority = ?1 AND "
                              "project = ?2 ORDER BY seq",
                              "is", mine->priority, mine->project);
    for (int64_t ahead = 0; e == ERR_OK && (e = store__next(s, q, &row, em)) == ERR_OK && row;
         ahead++) {
        int at = find_row(rows, n, sqlite3_column_int64(q, 0));
        if (at >= 0)
            rows[at].queue_position = position_of(sh, mine, ahead);
    }
    return e;
}

enum err store__job_positions(struct store *s, struct job_text *rows, int n, struct err_msg *em) {
    bool any = false;
    struct shares sh;
    int64_t last_turn = INT64_MAX / 2; /* after every turn there has been */
    for (int i = 0; i < n; i++)
        any = any || rows[i].status == JOB_QUEUED;
    if (!any)
        return ERR_OK;
    enum err e = read_shares(s, &sh, em);
    for (int from = 0, to = 0; from < sh.n; from = to) {
        while (to < sh.n && sh.all[to].priority == sh.all[from].priority)
            to++;
        pass_turns(&sh, from, to, &last_turn);
    }
    for (int i = 0; e == ERR_OK && i < sh.n; i++)
        if (strcmp(sh.all[i].project, rows[0].project) == 0)
            e = fill_share(s, &sh, &sh.all[i], rows, n, em);
    shares_clear(&sh);
    return e;
}

enum err store_job_waiting(struct store *s, const char *project, int64_t *out, struct err_msg *em) {
    *out = 0;
    return store__integer(s, em, out,
                          "SELECT coalesce(sum(jobs), 0) FROM queue "
                          "WHERE project = ?1 OR (?1 IS NULL AND status = 1)",
                          "s", project);
}
