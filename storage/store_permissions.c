/* store_permissions: which other projects may use a checkpoint. */
#include "storage/store_internal.h"

#include <stdlib.h>

#include "base/clock.h"

void permission_row_clear(struct permission_row *p) {
    free(p->checkpoint);
    free(p->project);
    *p = (struct permission_row){0};
}

#define COLUMNS "id, seq, checkpoint, project, created_at"

static void read_row(sqlite3_stmt *q, struct permission_row *p) {
    *p = (struct permission_row){.seq = sqlite3_column_int64(q, 1),
                                 .checkpoint = store__text(q, 2),
                                 .project = store__text(q, 3),
                                 .created_at = sqlite3_column_int64(q, 4)};
    store__id(q, 0, p->id);
}

static enum err read_rows(struct store *s, sqlite3_stmt *q, int64_t most,
                          struct permission_row **rows, int *n, bool *more, struct err_msg *em) {
    bool row = true;
    enum err e = ERR_OK;
    *rows = NULL;
    *n = 0;
    *more = false;
    while ((e = store__next(s, q, &row, em)) == ERR_OK && row) {
        if (*n == most) {
            *more = true;
            sqlite3_reset(q);
            return ERR_OK;
        }
        *rows = store__grow(*rows, *n, sizeof **rows);
        read_row(q, &(*rows)[(*n)++]);
    }
    if (e == ERR_OK)
        return ERR_OK;
    for (int i = 0; i < *n; i++)
        permission_row_clear(&(*rows)[i]);
    free(*rows);
    *rows = NULL;
    *n = 0;
    return e;
}

enum err store_permission_add(struct store *s, const char *checkpoint, const char *project,
                              struct permission_row *out, struct err_msg *em) {
    char id[STORE_ID_SIZE];
    sqlite3_stmt *q = NULL;
    *out = (struct permission_row){0};
    store_new_id("cp_", id);
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__run(s, em, NULL,
                   "INSERT INTO permissions(id, checkpoint, project, created_at) "
                   "VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                   "sssi", id, checkpoint, project, clock_unix());
    if (e == ERR_OK)
        e = store__one(s, em, &q,
                       "SELECT " COLUMNS " FROM permissions WHERE checkpoint = ?1 AND project = ?2",
                       "ss", checkpoint, project);
    if (e == ERR_OK) {
        read_row(q, out);
        sqlite3_reset(q);
    }
    return store__end(s, e, em);
}

enum err store_permission_check(struct store *s, const char *checkpoint, const char *project,
                                bool *out, struct err_msg *em) {
    int64_t one = 0;
    enum err e = store__integer(s, em, &one,
                                "SELECT 1 FROM permissions WHERE checkpoint = ?1 AND project = ?2",
                                "ss", checkpoint, project);
    *out = e == ERR_OK;
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

static enum err cursor_of(struct store *s, const char *checkpoint, const struct page *page,
                          int64_t *seq, struct err_msg *em) {
    *seq = page->ascending ? 0 : INT64_MAX;
    if (page->after == NULL)
        return ERR_OK;
    enum err e =
        store__integer(s, em, seq, "SELECT seq FROM permissions WHERE id = ?1 AND checkpoint = ?2",
                       "ss", page->after, checkpoint);
    if (e == ERR_NOT_FOUND)
        return err_set_param(em, ERR_NOT_FOUND, "after", "there is no permission %s", page->after);
    return e;
}

#define LIST                                                                                       \
    "SELECT " COLUMNS " FROM permissions WHERE checkpoint = ?1 AND (?2 IS NULL OR project = ?2) "

enum err store_permission_list(struct store *s, const char *checkpoint, const char *project,
                               const struct page *page, struct permission_row **rows, int *n,
                               bool *more, struct err_msg *em) {
    int64_t seq = 0;
    sqlite3_stmt *q = NULL;
    *rows = NULL;
    *n = 0;
    enum err e = cursor_of(s, checkpoint, page, &seq, em);
    if (e == ERR_OK)
        e = store__query(s, em, &q,
                         page->ascending ? LIST "AND seq > ?3 ORDER BY seq LIMIT ?4"
                                         : LIST "AND seq < ?3 ORDER BY seq DESC LIMIT ?4",
                         "ssii", checkpoint, project, seq, store__page_rows(page));
    return e == ERR_OK ? read_rows(s, q, page->limit, rows, n, more, em) : e;
}

enum err store_permission_list_of(struct store *s, const char *project, int64_t limit,
                                  struct permission_row **rows, int *n, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    bool more = false;
    *rows = NULL;
    *n = 0;
    enum err e = store__query(s, em, &q,
                              "SELECT " COLUMNS " FROM permissions WHERE project = ?1 "
                              "ORDER BY seq LIMIT ?2",
                              "si", project, limit);
    return e == ERR_OK ? read_rows(s, q, limit, rows, n, &more, em) : e;
}

enum err store_permission_delete(struct store *s, const char *checkpoint, const char *id,
                                 struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    int changes = 0;
    e = store__run(s, em, &changes, "DELETE FROM permissions WHERE id = ?1 AND checkpoint = ?2",
                   "ss", id, checkpoint);
    if (e == ERR_OK && changes == 0)
        e = err_set_param(em, ERR_NOT_FOUND, "permission_id", "there is no permission %s", id);
    return store__end(s, e, em);
}
