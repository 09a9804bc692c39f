/* store_jobs: rows of jobs: adding, finding. Their changes of state are in store_queue.c, what is
 * shown of them in store_job_text.c. */
#include "storage/store_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "storage/blobs.h"
#include "storage/store_jobs.h"

static const char *const status_names[] = {
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled",
};

const char *job_status_name(enum job_status st) {
    return status_names[st];
}

bool job_status_ended(enum job_status st) {
    return st >= JOB_SUCCEEDED;
}

void job_row_clear(struct job_row *j) {
    free(j->project);
    free(j->model);
    free(j->training_file);
    free(j->validation_file);
    json_decref(j->request);
    json_decref(j->resolved);
    json_decref(j->progress);
    json_decref(j->error);
    json_decref(j->result_files);
    free(j->fine_tuned_model);
    free(j->idempotency_key);
    free(j->body_sha256);
    *j = (struct job_row){0};
}

/* Order of STORE_JOB_COLUMNS. */
static void read_row(sqlite3_stmt *q, struct job_row *j) {
    *j = (struct job_row){
        .seq = sqlite3_column_int64(q, 1),
        .project = store__text(q, 2),
        .model = store__text(q, 3),
        .training_file = store__text(q, 4),
        .validation_file = store__text(q, 5),
        .status = (enum job_status)sqlite3_column_int(q, 6),
        .cancel_requested = sqlite3_column_int(q, 7) != 0,
        .created_at = sqlite3_column_int64(q, 8),
        .started_at = sqlite3_column_int64(q, 9),
        .finished_at = sqlite3_column_int64(q, 10),
        .estimated_finish = sqlite3_column_int64(q, 11),
        .seed = sqlite3_column_int64(q, 12),
        .priority = sqlite3_column_int64(q, 13),
        .attempt = sqlite3_column_int64(q, 14),
        .trained_tokens = sqlite3_column_int64(q, 15),
        .request = store__json(q, 16),
        .resolved = store__json(q, 17),
        .progress = store__json(q, 18),
        .error = store__json(q, 19),
        .result_files = store__json(q, 20),
        .fine_tuned_model = store__text(q, 21),
        .idempotency_key = store__text(q, 22),
        .body_sha256 = store__text(q, 23),
        .pause_requested = sqlite3_column_int(q, 24) != 0,
        .model_deleted = sqlite3_column_int(q, 25) != 0,
    };
    store__id(q, 0, j->id);
}

enum err store__job_one(struct store *s, sqlite3_stmt *q, struct job_row *out, struct err_msg *em) {
    bool row = false;
    *out = (struct job_row){0};
    enum err e = store__next(s, q, &row, em);
    if (e != ERR_OK)
        return e;
    if (!row)
        return ERR_NOT_FOUND;
    read_row(q, out);
    sqlite3_reset(q);
    return ERR_OK;
}

enum err store__job_not_found(const char *id, struct err_msg *em) {
    return err_set(em, ERR_NOT_FOUND, "Could not find fine tune: %s", id);
}

static enum err add_metadata(struct store *s, const struct job_row *j, int64_t seq,
                             struct err_msg *em) {
    json_t *metadata = json_object_get(j->request, "metadata");
    const char *key = NULL;
    json_t *value = NULL;
    enum err e = ERR_OK;
    json_object_foreach(metadata, key, value) {
        if (e == ERR_OK && json_is_string(value))
            e = store__run(s, em, NULL,
                           "INSERT INTO job_metadata(project, key, value, job_seq) "
                           "VALUES (?, ?, ?, ?)",
                           "sssi", j->project, key, json_string_value(value), seq);
    }
    return e;
}

static enum err add_first_events(struct store *s, const struct job_row *j, struct err_msg *em) {
    char *created = xasprintf("Created fine-tuning job: %s", j->id);
    char *validating = xasprintf("Validating training file: %s", j->training_file);
    enum err e = store__event_note(s, j->id, created, em);
    if (e == ERR_OK)
        e = store__event_note(s, j->id, validating, em);
    free(created);
    free(validating);
    return e;
}

static enum err insert_row(struct store *s, const struct job_row *j, struct err_msg *em) {
    json_t *files = j->result_files != NULL ? json_incref(j->result_files) : json_array();
    json_t *metadata = json_object_get(j->request, "metadata");
    int64_t has_metadata = json_object_size(metadata) > 0;
    enum err e = store__run(
        s, em, NULL,
        "INSERT INTO jobs(id, project, model, training_file, validation_file, status, created_at,"
        " seed, priority, request, result_files, idempotency_key, body_sha256, has_metadata)"
        " VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?)",
        "sssssiiijjssi", j->id, j->project, j->model, j->training_file, j->validation_file,
        j->created_at, j->seed, j->priority, j->request, files, j->idempotency_key,
        j->body_sha256 == NULL ? "" : j->body_sha256, has_metadata);
    json_decref(files);
    return e;
}

enum err store_job_add(struct store *s, const struct job_row *j, struct err_msg *em) {
    char *folder = blobs_job_dir(s->dir, j->id);
    free(folder);
    if (folder == NULL)
        return err_set(em, ERR_INPUT, "%s is not a job id: use store_new_id", j->id);
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = insert_row(s, j, em);
    int64_t seq = sqlite3_last_insert_rowid(s->db);
    if (e == ERR_OK)
        e = add_metadata(s, j, seq, em);
    if (e == ERR_OK)
        e = add_first_events(s, j, em);
    return store__end(s, e, em);
}

enum err store_job_get(struct store *s, const char *project, const char *id, struct job_row *out,
                       struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(s, em, &q,
                              "SELECT " STORE_JOB_COLUMNS
                              " FROM jobs WHERE id = ?1 AND (?2 IS NULL OR project = ?2)",
                              "ss", id, project);
    if (e == ERR_OK)
        e = store__job_one(s, q, out, em);
    return e == ERR_NOT_FOUND ? store__job_not_found(id, em) : e;
}

enum err store_job_number(struct store *s, const char *project, const char *id, int64_t *seq,
                          struct err_msg *em) {
    enum err e = store__integer(s, em, seq,
                                "SELECT seq FROM jobs INDEXED BY jobs_named "
                                "WHERE id = ?1 AND project = ?2",
                                "ss", id, project);
    return e == ERR_NOT_FOUND ? store__job_not_found(id, em) : e;
}

enum err store_job_by_key(struct store *s, const char *project, const char *idempotency_key,
                          struct job_row *out, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(s, em, &q,
                              "SELECT " STORE_JOB_COLUMNS
                              " FROM jobs WHERE project = ?1 AND idempotency_key = ?2",
                              "ss", project, idempotency_key);
    return e == ERR_OK ? store__job_one(s, q, out, em) : e;
}

enum err store_job_by_body(struct store *s, const char *project, const char *body_sha256,
                           int64_t since, struct job_row *out, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(
        s, em, &q,
        "SELECT " STORE_JOB_COLUMNS " FROM jobs WHERE project = ?1 AND body_sha256 = ?2 AND"
        " created_at >= ?3 AND status NOT IN (?4, ?5)"
        " ORDER BY seq DESC LIMIT 1",
        "ssiii", project, body_sha256, since, (int64_t)JOB_FAILED, (int64_t)JOB_CANCELLED);
    return e == ERR_OK ? store__job_one(s, q, out, em) : e;
}

enum err store__job_seq(struct store *s, const char *job_id, int64_t *seq, struct err_msg *em) {
    enum err e = store__integer(s, em, seq, "SELECT seq FROM jobs WHERE id = ?1", "s", job_id);
    return e == ERR_NOT_FOUND ? store__job_not_found(job_id, em) : e;
}

void model_row_clear(struct model_row *m) {
    free(m->name);
    *m = (struct model_row){0};
}

enum err store_model_list(struct store *s, const char *project, struct model_row **rows, int *n,
                          struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    bool row = true;
    *rows = NULL;
    *n = 0;
    enum err e = store__query(s, em, &q,
                              "SELECT fine_tuned_model, finished_at FROM jobs WHERE project = ?1 "
                              "AND fine_tuned_model IS NOT NULL AND model_deleted = 0 ORDER BY seq",
                              "s", project);
    while (e == ERR_OK && (e = store__next(s, q, &row, em)) == ERR_OK && row) {
        *rows = store__grow(*rows, *n, sizeof **rows);
        (*rows)[(*n)++] =
            (struct model_row){.name = store__text(q, 0), .created_at = sqlite3_column_int64(q, 1)};
    }
    for (int i = 0; e != ERR_OK && i < *n; i++)
        model_row_clear(&(*rows)[i]);
    if (e != ERR_OK) {
        free(*rows);
        *rows = NULL;
        *n = 0;
    }
    return e;
}
