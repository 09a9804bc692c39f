/* store_job_text: which jobs a page has, and jobs as they are shown. */
#include "storage/store_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "storage/store_jobs.h"

/* In the order of read_text. data stands in a table of its own. */
#define ONE(data)                                                                                  \
    "SELECT id, project, model, training_file, validation_file, fine_tuned_model, "                \
    "request, resolved, progress, error, result_files, " data ", seq, status, "                    \
    "cancel_requested, pause_requested, created_at, started_at, finished_at, estimated_finish, "   \
    "seed, priority, attempt, trained_tokens FROM jobs WHERE seq = ?1"
#define DATA "(SELECT data FROM job_data WHERE job_seq = jobs.seq)"

static void read_text(sqlite3_stmt *q, struct job_text *j) {
    const char **const texts[] = {&j->id,
                                  &j->project,
                                  &j->model,
                                  &j->training_file,
                                  &j->validation_file,
                                  &j->fine_tuned_model,
                                  &j->request,
                                  &j->resolved,
                                  &j->progress,
                                  &j->error,
                                  &j->result_files,
                                  &j->data};
    enum { N = sizeof texts / sizeof texts[0] };
    *j = (struct job_text){
        .seq = sqlite3_column_int64(q, N),
        .status = (enum job_status)sqlite3_column_int(q, N + 1),
        .cancel_requested = sqlite3_column_int(q, N + 2) != 0,
        .pause_requested = sqlite3_column_int(q, N + 3) != 0,
        .created_at = sqlite3_column_int64(q, N + 4),
        .started_at = sqlite3_column_int64(q, N + 5),
        .finished_at = sqlite3_column_int64(q, N + 6),
        .estimated_finish = sqlite3_column_int64(q, N + 7),
        .seed = sqlite3_column_int64(q, N + 8),
        .priority = sqlite3_column_int64(q, N + 9),
        .attempt = sqlite3_column_int64(q, N + 10),
        .trained_tokens = sqlite3_column_int64(q, N + 11),
        .queue_position = -1,
    };
    j->memory = store__texts(q, 0, texts, N);
}

/* SQLite's hook tells of every changed row that has a number; job_data's is its job's. */
static void on_change(void *arg, int operation, const char *database, const char *table,
                      sqlite3_int64 row) {
    const struct store *s = arg;
    (void)operation;
    (void)database;
    if (strcmp(table, "jobs") == 0 || strcmp(table, "job_data") == 0)
        s->job_changed(s->job_changed_arg, row);
}

void store_watch_jobs(struct store *s, void (*changed)(void *arg, int64_t seq), void *arg) {
    s->job_changed = changed;
    s->job_changed_arg = arg;
    (void)sqlite3_update_hook(s->db, changed != NULL ? on_change : NULL, s);
}

void job_text_free(struct job_text *rows, int n) {
    for (int i = 0; rows != NULL && i < n; i++)
        free(rows[i].memory);
    free(rows);
}

enum err store_job_texts(struct store *s, const int64_t *seqs, int n, bool whole,
                         struct job_text **rows, struct err_msg *em) {
    enum err e = ERR_OK;
    *rows = xcalloc((size_t)n + 1, sizeof **rows);
    for (int i = 0; i < n && e == ERR_OK; i++) {
        sqlite3_stmt *q = NULL;
        e = store__one(s, em, &q, whole ? ONE(DATA) : ONE("NULL"), "i", seqs[i]);
        if (e == ERR_NOT_FOUND)
            e = err_set(em, ERR_BUG, "there is no job of number %lld", (long long)seqs[i]);
        if (e != ERR_OK)
            break;
        read_text(q, &(*rows)[i]);
        sqlite3_reset(q);
    }
    if (e == ERR_OK)
        e = store__job_positions(s, *rows, n, em);
    if (e != ERR_OK) {
        job_text_free(*rows, n);
        *rows = NULL;
    }
    return e;
}

/* ---- pages ---------------------------------------------------------------------------------- */

static enum err cursor_of(struct store *s, const char *project, const struct page *page,
                          int64_t *seq, struct err_msg *em) {
    *seq = page->ascending ? 0 : INT64_MAX;
    if (page->after == NULL)
        return ERR_OK;
    enum err e = store__integer(s, em, seq,
                                "SELECT seq FROM jobs INDEXED BY jobs_named "
                                "WHERE id = ?1 AND project = ?2",
                                "ss", page->after, project);
    return e == ERR_NOT_FOUND
               ? err_set_param(em, e, "after", "Could not find fine tune: %s", page->after)
               : e;
}

#define LIST_ALL "SELECT seq FROM jobs WHERE project = ?1 "
#define LIST_PLAIN "SELECT seq FROM jobs WHERE project = ?1 AND has_metadata = 0 "
/* ?4, ?5: one of the wanted pairs, in whose index the page is sought; ?6: all of them, checked job
 * by job. */
#define LIST_TAGGED                                                                                \
    "SELECT job_seq FROM job_metadata AS tag "                                                     \
    "WHERE tag.project = ?1 AND tag.key = ?4 AND tag.value = ?5 AND "                              \
    "NOT EXISTS (SELECT 1 FROM json_each(?6) AS want WHERE NOT EXISTS "                            \
    "(SELECT 1 FROM job_metadata m WHERE m.project = ?1 AND m.key = want.key AND "                 \
    "m.value = want.value AND m.job_seq = tag.job_seq)) "
#define UPWARD "AND seq > ?2 ORDER BY seq ASC LIMIT ?3"
#define DOWNWARD "AND seq < ?2 ORDER BY seq DESC LIMIT ?3"
#define TAGGED_UPWARD LIST_TAGGED "AND tag.job_seq > ?2 ORDER BY tag.job_seq ASC LIMIT ?3"
#define TAGGED_DOWNWARD LIST_TAGGED "AND tag.job_seq < ?2 ORDER BY tag.job_seq DESC LIMIT ?3"

static enum err start_list(struct store *s, const char *project, const json_t *metadata,
                           const struct page *page, int64_t seq, sqlite3_stmt **q,
                           struct err_msg *em) {
    bool up = page->ascending;
    int64_t rows = store__page_rows(page);
    if (json_is_null(metadata))
        return store__query(s, em, q, up ? LIST_PLAIN UPWARD : LIST_PLAIN DOWNWARD, "sii", project,
                            seq, rows);
    void *first = json_object_iter((json_t *)(uintptr_t)metadata);
    if (first == NULL)
        return store__query(s, em, q, up ? LIST_ALL UPWARD : LIST_ALL DOWNWARD, "sii", project, seq,
                            rows);
    return store__query(s, em, q, up ? TAGGED_UPWARD : TAGGED_DOWNWARD, "siissj", project, seq,
                        rows, json_object_iter_key(first),
                        json_string_value(json_object_iter_value(first)), metadata);
}

static enum err read_numbers(struct store *s, sqlite3_stmt *q, int64_t most, int64_t **seqs, int *n,
                             bool *more, struct err_msg *em) {
    bool row = true;
    enum err e = ERR_OK;
    while ((e = store__next(s, q, &row, em)) == ERR_OK && row) {
        if (*n == most) {
            *more = true;
            sqlite3_reset(q);
            return ERR_OK;
        }
        *seqs = store__grow(*seqs, *n, sizeof **seqs);
        (*seqs)[(*n)++] = sqlite3_column_int64(q, 0);
    }
    return e;
}

enum err store_job_page(struct store *s, const char *project, const json_t *metadata,
                        const struct page *page, int64_t **seqs, int *n, bool *more,
                        struct err_msg *em) {
    int64_t seq = 0;
    sqlite3_stmt *q = NULL;
    *seqs = NULL;
    *n = 0;
    *more = false;
    enum err e = cursor_of(s, project, page, &seq, em);
    if (e == ERR_OK)
        e = start_list(s, project, metadata, page, seq, &q, em);
    if (e == ERR_OK)
        e = read_numbers(s, q, store__page_rows(page) - 1, seqs, n, more, em);
    if (e != ERR_OK) {
        free(*seqs);
        *seqs = NULL;
        *n = 0;
    }
    return e;
}
