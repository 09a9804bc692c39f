/* store_job_text: jobs as they are shown, one or in pages. */
#include "storage/store_internal.h"

#include <stdlib.h>
#include <string.h>

#include "storage/store_jobs.h"

/* In the order of read_text. data stands in a table of its own; pages leave it out. */
#define COLUMNS(data)                                                                              \
    "SELECT jobs.id, jobs.project, model, training_file, validation_file, fine_tuned_model, "      \
    "request, resolved, progress, error, result_files, " data ", jobs.seq, status, "               \
    "cancel_requested, pause_requested, created_at, started_at, finished_at, estimated_finish, "   \
    "seed, priority, attempt, trained_tokens FROM "
#define ONE COLUMNS("(SELECT data FROM job_data WHERE job_seq = jobs.seq)") "jobs "
#define LISTED COLUMNS("NULL")

void job_text_clear(struct job_text *j) {
    free(j->memory);
    *j = (struct job_text){0};
}

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

enum err store_job_text(struct store *s, const char *project, const char *id, struct job_text *out,
                        struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    *out = (struct job_text){0};
    enum err e = store__one(s, em, &q, ONE "WHERE id = ?1 AND project = ?2", "ss", id, project);
    if (e == ERR_NOT_FOUND)
        return store__job_not_found(id, em);
    if (e != ERR_OK)
        return e;
    read_text(q, out);
    sqlite3_reset(q);
    e = store__job_positions(s, out, 1, em);
    if (e != ERR_OK)
        job_text_clear(out);
    return e;
}

/* ---- pages ---------------------------------------------------------------------------------- */

static enum err cursor_of(struct store *s, const char *project, const struct page *page,
                          int64_t *seq, struct err_msg *em) {
    *seq = page->ascending ? 0 : INT64_MAX;
    if (page->after == NULL)
        return ERR_OK;
    enum err e = store__integer(s, em, seq, "SELECT seq FROM jobs WHERE id = ?1 AND project = ?2",
                                "ss", page->after, project);
    return e == ERR_NOT_FOUND
               ? err_set_param(em, e, "after", "Could not find fine tune: %s", page->after)
               : e;
}

#define LIST_ALL LISTED "jobs WHERE project = ?1 "
#define LIST_PLAIN LISTED "jobs WHERE project = ?1 AND has_metadata = 0 "
/* ?4, ?5: one of the wanted pairs, in whose index the page is sought; ?6: all of them, checked job
 * by job. */
#define LIST_TAGGED                                                                                \
    LISTED                                                                                         \
    "job_metadata AS tag CROSS JOIN jobs "                                                         \
    "ON jobs.seq = tag.job_seq WHERE tag.project = ?1 AND tag.key = ?4 AND tag.value = ?5 AND "    \
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

static void clear_rows(struct job_text **rows, int *n) {
    for (int i = 0; i < *n; i++)
        job_text_clear(&(*rows)[i]);
    free(*rows);
    *rows = NULL;
    *n = 0;
}

static enum err read_list(struct store *s, sqlite3_stmt *q, int64_t wanted, struct job_text **rows,
                          int *n, bool *more, struct err_msg *em) {
    bool row = true;
    enum err e = ERR_OK;
    while ((e = store__next(s, q, &row, em)) == ERR_OK && row) {
        if (*n == wanted - 1) {
            *more = true;
            sqlite3_reset(q);
            return ERR_OK;
        }
        *rows = store__grow(*rows, *n, sizeof **rows);
        read_text(q, &(*rows)[(*n)++]);
    }
    return e;
}

enum err store_job_list(struct store *s, const char *project, const json_t *metadata,
                        const struct page *page, struct job_text **rows, int *n, bool *more,
                        struct err_msg *em) {
    int64_t seq = 0;
    sqlite3_stmt *q = NULL;
    *rows = NULL;
    *n = 0;
    *more = false;
    enum err e = cursor_of(s, project, page, &seq, em);
    if (e == ERR_OK)
        e = start_list(s, project, metadata, page, seq, &q, em);
    if (e == ERR_OK)
        e = read_list(s, q, store__page_rows(page), rows, n, more, em);
    if (e == ERR_OK)
        e = store__job_positions(s, *rows, *n, em);
    if (e != ERR_OK)
        clear_rows(rows, n);
    return e;
}
