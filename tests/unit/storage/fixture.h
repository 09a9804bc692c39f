/* fixture: a store in a temporary folder, and rows to put into it.
 *
 * What:    state that each test of a file under this folder starts from.
 * Owns:    the folder; removed after the test.
 * Threads: one test, one process.
 * Errors:  a failed call fails the test.
 */
#ifndef FFWD_TESTS_STORAGE_FIXTURE_H
#define FFWD_TESTS_STORAGE_FIXTURE_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "storage/blobs.h"
#include "storage/store_internal.h"

static char *dir;
static struct store *store;

static inline void reopen(void) {
    struct err_msg em = ERR_MSG_INIT;
    store_close(store);
    store = NULL;
    cr_assert_eq(store_open(dir, &store, &em), ERR_OK, "%s", em.text);
}

static inline void set_up(void) {
    dir = xstrdup("/tmp/ffwd-test-store-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(blobs_open(dir, NULL), ERR_OK);
    reopen();
}

static inline void tear_down(void) {
    store_close(store);
    cr_expect_eq(file_remove_tree(dir, NULL), ERR_OK);
    free(dir);
}

static inline void add_file(const char *project, char id[STORE_ID_SIZE], int64_t created_at) {
    struct err_msg em = ERR_MSG_INIT;
    struct file_row f = {.project = xstrdup(project),
                         .filename = xstrdup("train.jsonl"),
                         .purpose = xstrdup("fine-tune"),
                         .sha256 = xstrdup("00"),
                         .bytes = 12,
                         .created_at = created_at};
    store_new_id("file-", f.id);
    cr_assert_eq(store_file_add(store, &f, &em), ERR_OK, "%s", em.text);
    (void)snprintf(id, STORE_ID_SIZE, "%s", f.id);
    file_row_clear(&f);
}

/* metadata: JSON text of an object, or NULL. */
static inline enum err try_job(const char *project, const char *file, int64_t priority,
                               const char *metadata, char id[STORE_ID_SIZE], struct err_msg *em) {
    struct job_row j = {.project = xstrdup(project),
                        .model = xstrdup("tiny"),
                        .training_file = xstrdup(file),
                        .created_at = 1700000000,
                        .seed = 7,
                        .priority = priority,
                        .request = json_object(),
                        .body_sha256 = xstrdup("aa")};
    if (metadata != NULL)
        json_object_set_new(j.request, "metadata", json_loads(metadata, 0, NULL));
    store_new_id("ftjob-", j.id);
    enum err e = store_job_add(store, &j, em);
    (void)snprintf(id, STORE_ID_SIZE, "%s", j.id);
    job_row_clear(&j);
    return e;
}

static inline void add_job(const char *project, const char *file, int64_t priority,
                           const char *metadata, char id[STORE_ID_SIZE]) {
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(try_job(project, file, priority, metadata, id, &em), ERR_OK, "%s", em.text);
}

static inline void add_queued(int64_t priority, char id[STORE_ID_SIZE]) {
    add_job("p", "file-x", priority, NULL, id);
    cr_assert_eq(store_job_move(store, id, JOB_VALIDATING, JOB_QUEUED, 0, NULL, NULL), ERR_OK);
}

static inline void add_running(char id[STORE_ID_SIZE]) {
    struct job_row j;
    add_queued(0, id);
    cr_assert_eq(store_job_claim(store, &j, NULL), ERR_OK);
    cr_assert_str_eq(j.id, id);
    job_row_clear(&j);
}

static inline enum job_status status_of(const char *id) {
    struct job_row j;
    cr_assert_eq(store_job_get(store, NULL, id, &j, NULL), ERR_OK);
    enum job_status st = j.status;
    job_row_clear(&j);
    return st;
}

/* A metrics event of a step. */
static inline int64_t add_step(const char *job, int64_t step, const char *data) {
    struct event ev;
    int64_t seq = -1;
    struct err_msg em = ERR_MSG_INIT;
    event_init(&ev, EVENT_INFO, EVENT_METRICS, "Step", json_loads(data, 0, NULL));
    cr_assert_eq(store_event_add(store, job, &ev, step, &seq, &em), ERR_OK, "%s", em.text);
    event_clear(&ev);
    return seq;
}

/* Events as they were read. */
#define MOST_SEEN 64
static struct event_seen {
    char id[STORE_ID_SIZE];
    int64_t seq;
    char line[512];
} events_seen[MOST_SEEN];
static int n_events_seen;

static inline bool see(void *arg, const struct event_row *row) {
    (void)arg;
    cr_assert_lt(n_events_seen, MOST_SEEN);
    struct event_seen *to = &events_seen[n_events_seen++];
    cr_assert_lt(row->len, sizeof to->line);
    cr_assert_eq(strlen(row->line), row->len);
    (void)snprintf(to->id, sizeof to->id, "%s", row->id);
    (void)snprintf(to->line, sizeof to->line, "%s", row->line);
    to->seq = row->seq;
    return true;
}

static inline int see_after(const char *job, int64_t after_seq, int limit) {
    n_events_seen = 0;
    cr_assert_eq(store_event_after(store, job, after_seq, limit, see, NULL, NULL), ERR_OK);
    return n_events_seen;
}

/* One page of jobs. */
static inline enum err list_jobs(const char *project, const json_t *metadata,
                                 const struct page *page, struct job_text **rows, int *n,
                                 bool *more, struct err_msg *em) {
    int64_t *seqs = NULL;
    *rows = NULL;
    enum err e = store_job_page(store, project, metadata, page, &seqs, n, more, em);
    if (e == ERR_OK)
        e = store_job_texts(store, seqs, *n, false, rows, em);
    free(seqs);
    return e;
}

/* The first column of the first row; the caller frees. */
static inline char *first_text(const char *sql) {
    sqlite3_stmt *q = NULL;
    cr_assert_eq(sqlite3_prepare_v2(store->db, sql, -1, &q, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_step(q), SQLITE_ROW);
    char *text = store__text(q, 0);
    sqlite3_finalize(q);
    return text;
}

#endif
