/* store_models: fine-tuned models by name, and their end.
 *
 * A model has no row of its own: its name ends with the last eight characters of the job that made
 * it. A deleted model's job stays, as do its events and its table of metrics. The row says that the
 * model is gone before its files are removed; what a crash leaves behind is removed at the next
 * start.
 */
#include "storage/store_internal.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "storage/blobs.h"
#include "storage/store_jobs.h"
#include "storage/trash.h"

#define KEPT "metrics.csv"

enum err store_job_by_end(struct store *s, const char *end, int64_t after_seq, struct job_row *out,
                          struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(s, em, &q,
                              "SELECT " STORE_JOB_COLUMNS
                              " FROM jobs WHERE substr(id, -8) = ?1 AND seq > ?2 "
                              "ORDER BY seq LIMIT 1",
                              "si", end, after_seq);
    return e == ERR_OK ? store__job_one(s, q, out, em) : e;
}

enum err store_job_last_of(struct store *s, const char *model, struct job_row *out,
                           struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(s, em, &q,
                              "SELECT " STORE_JOB_COLUMNS
                              " FROM jobs WHERE seq > (SELECT max(seq) FROM jobs) - 1000 AND "
                              "status = 4 AND model = ?1 ORDER BY seq DESC LIMIT 1",
                              "s", model);
    return e == ERR_OK ? store__job_one(s, q, out, em) : e;
}

/* ---- deleting ------------------------------------------------------------------------------- */

/* A live job goes on from the model or, if `checkpoints`, from a checkpoint of it. */
static enum err check_unused(struct store *s, const char *model, bool checkpoints,
                             struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    /* ':' < ';', so the range holds all names that start with MODEL:ckpt-step- */
    enum err e = store__one(
        s, em, &q,
        "SELECT id FROM jobs WHERE status < 4 AND model = ?1 UNION ALL "
        "SELECT id FROM jobs WHERE status < 4 AND ?2 AND model >= ?1 || ':ckpt-step-' AND "
        "model < ?1 || ':ckpt-step.' LIMIT 1",
        "si", model, (int64_t)checkpoints);
    if (e != ERR_OK)
        return e == ERR_NOT_FOUND ? ERR_OK : e;
    char *id = store__text(q, 0);
    sqlite3_reset(q);
    e = err_set(em, ERR_CONFLICT, "job %s goes on from %s; wait for its end or cancel it", id,
                model);
    free(id);
    return e;
}

enum err store_checkpoint_delete(struct store *s, const char *checkpoint, struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = check_unused(s, checkpoint, false, em);
    if (e == ERR_OK)
        e = store__run(s, em, NULL, "DELETE FROM permissions WHERE checkpoint = ?1", "s",
                       checkpoint);
    return store__end(s, e, em);
}

static enum err delete_results(struct store *s, const struct job_row *j, struct err_msg *em) {
    char *folder = xasprintf("jobs/%s/adapter/", j->id), *kept = xasprintf("%s" KEPT, folder);
    json_t *left = json_array();
    enum err e = ERR_OK;
    for (size_t i = 0; e == ERR_OK && i < json_array_size(j->result_files); i++) {
        const char *id = json_string_value(json_array_get(j->result_files, i));
        int gone = 0;
        e = store__run(s, em, &gone,
                       "INSERT INTO files_deleted(id, project, seq) SELECT id, project, seq FROM "
                       "files WHERE id = ?1 AND project = ?2 AND substr(path, 1, length(?3)) = ?3 "
                       "AND path <> ?4",
                       "ssss", id, j->project, folder, kept);
        if (e == ERR_OK && gone > 0)
            e = store__run(s, em, NULL, "DELETE FROM files WHERE id = ?1", "s", id);
        else
            json_array_append(left, json_array_get(j->result_files, i));
    }
    if (e == ERR_OK)
        e = store__run(s, em, NULL,
                       "UPDATE jobs SET model_deleted = 1, result_files = ?2 "
                       "WHERE seq = ?1",
                       "ij", j->seq, left);
    json_decref(left);
    free(folder);
    free(kept);
    return e;
}

/* Removes all of a folder but one file. */
static enum err remove_but(const struct store *s, const char *folder, const char *kept,
                           struct err_msg *em) {
    enum err e = ERR_OK;
    DIR *d = opendir(folder);
    if (d == NULL)
        return ERR_OK;
    for (struct dirent *entry; e == ERR_OK && (entry = readdir(d)) != NULL;) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, kept) == 0)
            continue;
        char *path = xasprintf("%s/%s", folder, name);
        e = trash_put(s->dir, path, em);
        free(path);
    }
    closedir(d);
    return e;
}

static enum err remove_files(struct store *s, const char *job_id, struct err_msg *em) {
    static const char *const folders[] = {"checkpoints", "resume"};
    char *dir = blobs_job_dir(s->dir, job_id), *adapter = xasprintf("%s/adapter", dir);
    enum err e = remove_but(s, adapter, KEPT, em);
    for (int i = 0; e == ERR_OK && i < 2; i++) {
        char *path = xasprintf("%s/%s", dir, folders[i]);
        e = trash_put(s->dir, path, em);
        free(path);
    }
    free(adapter);
    free(dir);
    if (e != ERR_OK)
        return e;
    return store__run(s, em, NULL, "UPDATE jobs SET model_deleted = 2 WHERE id = ?1", "s", job_id);
}

enum err store_model_delete(struct store *s, const struct job_row *j, struct err_msg *em) {
    const char *model = j->fine_tuned_model;
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = check_unused(s, model, true, em);
    if (e == ERR_OK)
        e = delete_results(s, j, em);
    if (e == ERR_OK)
        e = store__run(s, em, NULL,
                       "DELETE FROM permissions WHERE checkpoint = ?1 OR (checkpoint >= ?1 || "
                       "':ckpt-step-' AND checkpoint < ?1 || ':ckpt-step.')",
                       "s", model);
    if (e == ERR_OK)
        e = store__event_note(s, j->id, "Fine-tuned model deleted", em);
    e = store__end(s, e, em);
    return e == ERR_OK ? remove_files(s, j->id, em) : e;
}

enum err store__sweep_models(struct store *s, struct err_msg *em) {
    for (;;) {
        sqlite3_stmt *q = NULL;
        char id[STORE_ID_SIZE];
        enum err e =
            store__one(s, em, &q, "SELECT id FROM jobs WHERE model_deleted = 1 LIMIT 1", "");
        if (e != ERR_OK)
            return e == ERR_NOT_FOUND ? ERR_OK : e;
        store__id(q, 0, id);
        sqlite3_reset(q);
        e = remove_files(s, id, em);
        if (e != ERR_OK)
            return e;
    }
}
