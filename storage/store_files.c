/* store_files: rows of uploaded files and of files that jobs made. */
#include "storage/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "storage/blobs.h"

#define COLUMNS "id, project, filename, purpose, sha256, path, bytes, created_at, expires_at"

void file_row_clear(struct file_row *f) {
    free(f->project);
    free(f->filename);
    free(f->purpose);
    free(f->sha256);
    free(f->path);
    *f = (struct file_row){0};
}

static void clear_rows(struct file_row **rows, int *n) {
    for (int i = 0; i < *n; i++)
        file_row_clear(&(*rows)[i]);
    free(*rows);
    *rows = NULL;
    *n = 0;
}

static void read_row(sqlite3_stmt *q, struct file_row *f) {
    *f = (struct file_row){
        .project = store__text(q, 1),
        .filename = store__text(q, 2),
        .purpose = store__text(q, 3),
        .sha256 = store__text(q, 4),
        .path = store__text(q, 5),
        .bytes = sqlite3_column_int64(q, 6),
        .created_at = sqlite3_column_int64(q, 7),
        .expires_at = sqlite3_column_int64(q, 8),
    };
    store__id(q, 0, f->id);
}

enum err store_file_add(struct store *s, const struct file_row *f, struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__run(s, em, NULL, "INSERT INTO files(" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                   "ssssssiii", f->id, f->project, f->filename, f->purpose, f->sha256, f->path,
                   f->bytes, f->created_at, f->expires_at);
    return store__end(s, e, em);
}

enum err store_file_get(struct store *s, const char *project, const char *id, struct file_row *out,
                        struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    *out = (struct file_row){0};
    enum err e =
        store__one(s, em, &q, "SELECT " COLUMNS " FROM files WHERE id = ?1 AND project = ?2", "ss",
                   id, project);
    if (e == ERR_NOT_FOUND)
        return err_set(em, ERR_NOT_FOUND, "No such File object: %s", id);
    if (e != ERR_OK)
        return e;
    read_row(q, out);
    sqlite3_reset(q);
    return ERR_OK;
}

/* Row number to go on from; ids of deleted files stay good cursors. */
static enum err cursor_of(struct store *s, const char *project, const struct page *page,
                          int64_t *seq, struct err_msg *em) {
    *seq = page->ascending ? 0 : INT64_MAX;
    if (page->after == NULL)
        return ERR_OK;
    enum err e = store__integer(s, em, seq,
                                "SELECT seq FROM files WHERE id = ?1 AND project = ?2 UNION ALL "
                                "SELECT seq FROM files_deleted WHERE id = ?1 AND project = ?2",
                                "ss", page->after, project);
    if (e == ERR_NOT_FOUND)
        return err_set_param(em, ERR_NOT_FOUND, "after", "No such File object: %s", page->after);
    return e;
}

#define LIST_ALL "SELECT " COLUMNS " FROM files WHERE project = ?1 AND ?2 IS NULL "
#define LIST_PURPOSE "SELECT " COLUMNS " FROM files WHERE project = ?1 AND purpose = ?2 "
#define UPWARD "AND seq > ?3 ORDER BY seq ASC LIMIT ?4"
#define DOWNWARD "AND seq < ?3 ORDER BY seq DESC LIMIT ?4"

static const char *list_sql(const char *purpose, bool ascending) {
    if (purpose == NULL)
        return ascending ? LIST_ALL UPWARD : LIST_ALL DOWNWARD;
    return ascending ? LIST_PURPOSE UPWARD : LIST_PURPOSE DOWNWARD;
}

enum err store_file_list(struct store *s, const char *project, const char *purpose,
                         const struct page *page, struct file_row **rows, int *n, bool *more,
                         struct err_msg *em) {
    int64_t seq = 0, wanted = store__page_rows(page);
    sqlite3_stmt *q = NULL;
    bool row = true;
    *rows = NULL;
    *n = 0;
    *more = false;
    enum err e = cursor_of(s, project, page, &seq, em);
    if (e == ERR_OK)
        e = store__query(s, em, &q, list_sql(purpose, page->ascending), "ssii", project, purpose,
                         seq, wanted);
    while (e == ERR_OK && (e = store__next(s, q, &row, em)) == ERR_OK && row) {
        if (*n == wanted - 1) {
            *more = true;
            sqlite3_reset(q);
            break;
        }
        *rows = store__grow(*rows, *n, sizeof **rows);
        read_row(q, &(*rows)[(*n)++]);
    }
    if (e != ERR_OK)
        clear_rows(rows, n);
    return e;
}

static enum err check_unused(struct store *s, const char *id, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__one(s, em, &q,
                            "SELECT id FROM jobs WHERE training_file = ?1 AND status < 4 UNION ALL "
                            "SELECT id FROM jobs WHERE validation_file = ?1 AND status < 4 LIMIT 1",
                            "s", id);
    if (e != ERR_OK)
        return e == ERR_NOT_FOUND ? ERR_OK : e;
    e = err_set(em, ERR_CONFLICT, "file %s is used by job %s, which has not ended", id,
                (const char *)sqlite3_column_text(q, 0));
    sqlite3_reset(q);
    return e;
}

static enum err delete_row(struct store *s, const char *project, const char *id,
                           struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    int changes = 0;
    e = check_unused(s, id, em);
    if (e == ERR_OK)
        e = store__run(s, em, &changes,
                       "INSERT INTO files_deleted(id, project, seq) "
                       "SELECT id, project, seq FROM files WHERE id = ?1 AND project = ?2",
                       "ss", id, project);
    if (e == ERR_OK && changes == 0)
        e = err_set(em, ERR_NOT_FOUND, "No such File object: %s", id);
    if (e == ERR_OK)
        e = store__run(s, em, NULL, "DELETE FROM files WHERE id = ?1", "s", id);
    return store__end(s, e, em);
}

enum err store_file_delete(struct store *s, const char *project, const char *id,
                           struct err_msg *em) {
    store__reserve(s);
    enum err e = delete_row(s, project, id, em);
    return store__make_room(s, e, em) ? delete_row(s, project, id, em) : e;
}

static enum err read_expired(struct store *s, int most, struct file_row **rows, int *n,
                             struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    bool row = true;
    enum err e = store__query(
        s, em, &q,
        "SELECT " COLUMNS " FROM files WHERE expires_at > 0 AND expires_at <= ?1 AND NOT EXISTS "
        "(SELECT 1 FROM jobs WHERE training_file = files.id AND status < 4) AND NOT EXISTS "
        "(SELECT 1 FROM jobs WHERE validation_file = files.id AND status < 4) "
        "ORDER BY expires_at LIMIT ?2",
        "ii", clock_unix(), (int64_t)most);
    while (e == ERR_OK && (e = store__next(s, q, &row, em)) == ERR_OK && row) {
        *rows = store__grow(*rows, *n, sizeof **rows);
        read_row(q, &(*rows)[(*n)++]);
    }
    return e;
}

static enum err delete_rows(struct store *s, const struct file_row *rows, int n,
                            struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    for (int i = 0; e == ERR_OK && i < n; i++)
        e = delete_row(s, rows[i].project, rows[i].id, em);
    return store__end(s, e, em);
}

enum err store_file_expire(struct store *s, int most, struct file_row **rows, int *n,
                           struct err_msg *em) {
    *rows = NULL;
    *n = 0;
    enum err e = read_expired(s, most, rows, n, em);
    if (e == ERR_OK && *n > 0) {
        store__reserve(s);
        e = delete_rows(s, *rows, *n, em);
        if (store__make_room(s, e, em))
            e = delete_rows(s, *rows, *n, em);
    }
    if (e != ERR_OK)
        clear_rows(rows, n);
    return e;
}

enum err store_file_same(struct store *s, const char *sha256, int64_t bytes, char id[STORE_ID_SIZE],
                         struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__one(s, em, &q,
                            "SELECT id FROM files WHERE sha256 = ?1 AND bytes = ?2 AND path IS "
                            "NULL ORDER BY seq DESC LIMIT 1",
                            "si", sha256, bytes);
    if (e != ERR_OK)
        return e;
    store__id(q, 0, id);
    sqlite3_reset(q);
    return ERR_OK;
}

enum err store_project_bytes(struct store *s, const char *project, int64_t *bytes,
                             struct err_msg *em) {
    *bytes = 0;
    enum err e = store__integer(s, em, bytes, "SELECT bytes FROM project_bytes WHERE project = ?1",
                                "s", project);
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

static enum err sweep_one(struct store *s, const char *id, struct err_msg *em) {
    int64_t used = 0;
    enum err e = store__integer(s, em, &used,
                                "SELECT 1 FROM files WHERE id = ?1 UNION ALL "
                                "SELECT 1 FROM uploads WHERE file_id = ?1 AND status < 2",
                                "s", id);
    return e == ERR_NOT_FOUND ? blobs_file_remove(s->dir, id, em) : e;
}

enum err store__sweep_files(struct store *s, struct err_msg *em) {
    char *folder = xasprintf("%s/files", s->dir);
    enum err e = ERR_OK;
    DIR *d = opendir(folder);
    if (d == NULL && errno != ENOENT)
        e = err_set_errno(em, errno, "cannot open folder %s", folder);
    for (struct dirent *entry; d != NULL && e == ERR_OK && (entry = readdir(d)) != NULL;) {
        char *path = blobs_file_path(s->dir, entry->d_name);
        if (path != NULL)
            e = sweep_one(s, entry->d_name, em);
        free(path);
    }
    if (d != NULL)
        closedir(d);
    free(folder);
    return e;
}
