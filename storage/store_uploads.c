/* store_uploads: uploads in parts, from their creation to the file they become. */
#include "storage/store_uploads.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "storage/blobs.h"
#include "storage/store_internal.h"
#include "storage/trash.h"
#include "storage/upload_parts.h"

#define COLUMNS                                                                                    \
    "id, project, filename, purpose, mime_type, bytes, created_at, expires_at, "                   \
    "file_expires_after, status, stored, parts, part_ids, md5, sha256, file_id"

void upload_row_clear(struct upload_row *u) {
    free(u->project);
    free(u->filename);
    free(u->purpose);
    free(u->mime_type);
    free(u->md5);
    free(u->sha256);
    json_decref(u->part_ids);
    *u = (struct upload_row){0};
}

static void read_row(sqlite3_stmt *q, struct upload_row *u) {
    *u = (struct upload_row){
        .project = store__text(q, 1),
        .filename = store__text(q, 2),
        .purpose = store__text(q, 3),
        .mime_type = store__text(q, 4),
        .bytes = sqlite3_column_int64(q, 5),
        .created_at = sqlite3_column_int64(q, 6),
        .expires_at = sqlite3_column_int64(q, 7),
        .file_expires_after = sqlite3_column_int64(q, 8),
        .status = (enum upload_status)sqlite3_column_int(q, 9),
        .stored = sqlite3_column_int64(q, 10),
        .parts = sqlite3_column_int64(q, 11),
        .part_ids = store__json(q, 12),
        .md5 = store__text(q, 13),
        .sha256 = store__text(q, 14),
    };
    store__id(q, 0, u->id);
    store__id(q, 15, u->file_id);
}

enum err store_upload_add(struct store *s, const struct upload_row *u, struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__run(s, em, NULL,
                   "INSERT INTO uploads(id, project, filename, purpose, mime_type, bytes, "
                   "created_at, expires_at, file_expires_after, status) "
                   "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                   "sssssiiii", u->id, u->project, u->filename, u->purpose, u->mime_type, u->bytes,
                   u->created_at, u->expires_at, u->file_expires_after);
    return store__end(s, e, em);
}

enum err store_upload_get(struct store *s, const char *project, const char *id,
                          struct upload_row *out, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    *out = (struct upload_row){0};
    enum err e =
        store__one(s, em, &q, "SELECT " COLUMNS " FROM uploads WHERE id = ?1 AND project = ?2",
                   "ss", id, project);
    if (e == ERR_NOT_FOUND)
        return err_set(em, ERR_NOT_FOUND, "No such Upload object: %s", id);
    if (e != ERR_OK)
        return e;
    read_row(q, out);
    sqlite3_reset(q);
    return ERR_OK;
}

/* ---- parts ---------------------------------------------------------------------------------- */

enum err store_upload_add_part(struct store *s, const char *upload_id, const char *part_id,
                               int64_t bytes, int64_t created_at, struct err_msg *em) {
    int changes = 0;
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__run(s, em, &changes,
                   "UPDATE uploads SET stored = stored + ?2, parts = parts + 1 "
                   "WHERE id = ?1 AND status = 0",
                   "si", upload_id, bytes);
    if (e == ERR_OK && changes == 0)
        e = err_set(em, ERR_CONFLICT, "upload %s takes no more parts", upload_id);
    if (e == ERR_OK)
        e = store__run(s, em, NULL,
                       "INSERT INTO upload_parts(id, upload_id, project, bytes, created_at) "
                       "SELECT ?1, id, project, ?3, ?4 FROM uploads WHERE id = ?2",
                       "ssii", part_id, upload_id, bytes, created_at);
    return store__end(s, e, em);
}

enum err store_upload_part_bytes(struct store *s, const char *upload_id, const char *part_id,
                                 int64_t *bytes, struct err_msg *em) {
    enum err e = store__integer(s, em, bytes,
                                "SELECT bytes FROM upload_parts WHERE id = ?1 AND upload_id = ?2",
                                "ss", part_id, upload_id);
    if (e == ERR_NOT_FOUND)
        return err_set_param(em, ERR_NOT_FOUND, "part_ids", "upload %s has no part %s", upload_id,
                             part_id);
    return e;
}

/* ---- ends ----------------------------------------------------------------------------------- */

enum err store_upload_begin(struct store *s, const char *id, const json_t *part_ids,
                            const char *md5, const char *sha256, const char *file_id,
                            struct err_msg *em) {
    int changes = 0;
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__run(
        s, em, &changes,
        "UPDATE uploads SET status = 1, part_ids = ?2, md5 = ?3, sha256 = ?4, file_id = ?5 "
        "WHERE id = ?1 AND status = 0",
        "sjsss", id, part_ids, md5, sha256, file_id);
    if (e == ERR_OK && changes == 0)
        e = err_set(em, ERR_CONFLICT, "upload %s is not pending", id);
    return store__end(s, e, em);
}

static enum err leave(struct store *s, const char *id, enum upload_status to, int most_from,
                      struct err_msg *em) {
    int changes = 0;
    enum err e = store__run(s, em, &changes,
                            "UPDATE uploads SET status = ?2, stored = 0, parts = 0 "
                            "WHERE id = ?1 AND status <= ?3",
                            "sii", id, (int64_t)to, (int64_t)most_from);
    if (e == ERR_OK && changes == 0)
        e = err_set(em, ERR_CONFLICT, "upload %s has ended", id);
    if (e == ERR_OK)
        e = store__run(s, em, NULL, "DELETE FROM upload_parts WHERE upload_id = ?1", "s", id);
    return e;
}

enum err store_upload_finish(struct store *s, const char *id, const struct file_row *file,
                             struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = leave(s, id, UPLOAD_COMPLETED, UPLOAD_COMPLETING, em);
    if (e == ERR_OK)
        e = store_file_add(s, file, em);
    return store__end(s, e, em);
}

static enum err end_row(struct store *s, const char *id, enum upload_status to,
                        struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = leave(s, id, to, UPLOAD_COMPLETING, em);
    return store__end(s, e, em);
}

enum err store_upload_end(struct store *s, const char *id, enum upload_status to,
                          struct err_msg *em) {
    store__reserve(s);
    enum err e = end_row(s, id, to, em);
    return store__make_room(s, e, em) ? end_row(s, id, to, em) : e;
}

static enum err read_rows(struct store *s, enum err e, sqlite3_stmt *q, struct upload_row **rows,
                          int *n, struct err_msg *em) {
    bool row = true;
    *rows = NULL;
    *n = 0;
    while (e == ERR_OK && (e = store__next(s, q, &row, em)) == ERR_OK && row) {
        *rows = store__grow(*rows, *n, sizeof **rows);
        read_row(q, &(*rows)[(*n)++]);
    }
    if (e != ERR_OK) {
        for (int i = 0; i < *n; i++)
            upload_row_clear(&(*rows)[i]);
        free(*rows);
        *rows = NULL;
        *n = 0;
    }
    return e;
}

enum err store_upload_expired(struct store *s, int most, struct upload_row **rows, int *n,
                              struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(s, em, &q,
                              "SELECT " COLUMNS " FROM uploads WHERE status < 2 AND "
                              "expires_at <= ?1 ORDER BY expires_at LIMIT ?2",
                              "ii", clock_unix(), (int64_t)most);
    return read_rows(s, e, q, rows, n, em);
}

enum err store_upload_completing(struct store *s, int most, struct upload_row **rows, int *n,
                                 struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(
        s, em, &q, "SELECT " COLUMNS " FROM uploads WHERE status = 1 LIMIT ?1", "i", (int64_t)most);
    return read_rows(s, e, q, rows, n, em);
}

/* ---- at start ------------------------------------------------------------------------------- */

static enum err exists(struct store *s, const char *sql, const char *id, bool *out,
                       struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(s, em, &q, sql, "s", id);
    if (e == ERR_OK)
        e = store__next(s, q, out, em);
    if (e == ERR_OK)
        sqlite3_reset(q);
    return e;
}

static enum err sweep_part(struct store *s, const char *folder, const char *name,
                           struct err_msg *em) {
    bool known = false;
    if (!blobs_id_is_valid(name, "part_"))
        return ERR_OK;
    enum err e = exists(s, "SELECT 1 FROM upload_parts WHERE id = ?1", name, &known, em);
    if (e != ERR_OK || known)
        return e;
    char *path = xasprintf("%s/%s", folder, name);
    e = trash_put(s->dir, path, em);
    free(path);
    return e;
}

/* A folder without an open upload goes; of an open one, the parts that have no row. */
static enum err sweep_upload(struct store *s, const char *id, struct err_msg *em) {
    char *folder = upload_parts_dir(s->dir, id);
    bool open = false;
    if (folder == NULL)
        return ERR_OK;
    enum err e = exists(s, "SELECT 1 FROM uploads WHERE id = ?1 AND status < 2", id, &open, em);
    DIR *d = NULL;
    if (e == ERR_OK && !open)
        e = trash_put(s->dir, folder, em);
    else if (e == ERR_OK && (d = opendir(folder)) == NULL)
        e = err_set_errno(em, errno, "cannot open folder %s", folder);
    for (struct dirent *entry; d != NULL && e == ERR_OK && (entry = readdir(d)) != NULL;)
        e = sweep_part(s, folder, entry->d_name, em);
    if (d != NULL)
        closedir(d);
    free(folder);
    return e;
}

enum err store__sweep_uploads(struct store *s, struct err_msg *em) {
    char *folder = xasprintf("%s/uploads", s->dir);
    enum err e = ERR_OK;
    DIR *d = opendir(folder);
    if (d == NULL && errno != ENOENT)
        e = err_set_errno(em, errno, "cannot open folder %s", folder);
    for (struct dirent *entry; d != NULL && e == ERR_OK && (entry = readdir(d)) != NULL;)
        e = sweep_upload(s, entry->d_name, em);
    if (d != NULL)
        closedir(d);
    free(folder);
    return e;
}
