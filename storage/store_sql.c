/* store_sql: prepared statements, bound values, columns. */
#include "storage/store_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

static enum err code_of(int rc) {
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return ERR_NO_SPACE;
    case SQLITE_CONSTRAINT:
        return ERR_CONFLICT;
    case SQLITE_NOMEM:
        return ERR_NO_MEMORY;
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
    case SQLITE_ERROR:
        return ERR_BUG;
    default:
        return ERR_IO;
    }
}

enum err store__error(struct store *s, const char *what, struct err_msg *em) {
    enum err code = code_of(sqlite3_extended_errcode(s->db));
    return err_set(em, code, "database: %s: %s", what, sqlite3_errmsg(s->db));
}

static enum err prepare(struct store *s, const char *sql, sqlite3_stmt **out, struct err_msg *em) {
    for (int i = 0; i < s->n_statements; i++) {
        if (s->statements[i].sql == sql) {
            *out = s->statements[i].stmt;
            sqlite3_reset(*out);
            return ERR_OK;
        }
    }
    if (s->n_statements == STORE_STATEMENTS)
        return err_set(em, ERR_BUG, "database: more than %d statements", STORE_STATEMENTS);
    if (sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) != SQLITE_OK)
        return store__error(s, "prepare", em);
    s->statements[s->n_statements].sql = sql;
    s->statements[s->n_statements].stmt = *out;
    s->n_statements++;
    return ERR_OK;
}

/* ---- reads that share a transaction --------------------------------------------------------- */

static enum err run_plain(struct store *s, const char *sql, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = prepare(s, sql, &q, em);
    if (e == ERR_OK && sqlite3_step(q) != SQLITE_DONE)
        e = store__error(s, sql, em);
    sqlite3_reset(q);
    return e;
}

static enum err begin_reads(struct store *s, struct err_msg *em) {
    if (!s->shares || s->shared || s->depth > 0)
        return ERR_OK;
    enum err e = run_plain(s, "BEGIN DEFERRED", em);
    s->shared = e == ERR_OK;
    return e;
}

enum err store__end_reads(struct store *s, struct err_msg *em) {
    if (!s->shared)
        return ERR_OK;
    s->shared = false;
    /* After some errors SQLite has ended it itself. */
    return sqlite3_get_autocommit(s->db) ? ERR_OK : run_plain(s, "END", em);
}

void store_share_reads(struct store *s, bool share) {
    struct err_msg ignored = ERR_MSG_INIT;
    s->shares = share;
    if (!share && store__end_reads(s, &ignored) != ERR_OK)
        log_error("store.reads", "%s", ignored.text);
}

/* ---- statements ----------------------------------------------------------------------------- */

static int bind_text(sqlite3_stmt *q, int at, const char *text) {
    if (text == NULL)
        return sqlite3_bind_null(q, at);
    return sqlite3_bind_text(q, at, text, -1, SQLITE_TRANSIENT);
}

static int bind_json(sqlite3_stmt *q, int at, const json_t *value) {
    if (value == NULL)
        return sqlite3_bind_null(q, at);
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text == NULL)
        return SQLITE_MISUSE;
    return sqlite3_bind_text(q, at, text, -1, free);
}

static enum err query_va(struct store *s, struct err_msg *em, sqlite3_stmt **q, const char *sql,
                         const char *types, va_list values) {
    enum err e = prepare(s, sql, q, em);
    if (e != ERR_OK)
        return e;
    int rc = SQLITE_OK;
    for (int i = 0; types[i] != '\0' && rc == SQLITE_OK; i++) {
        if (types[i] == 's')
            rc = bind_text(*q, i + 1, va_arg(values, const char *));
        else if (types[i] == 'i')
            rc = sqlite3_bind_int64(*q, i + 1, va_arg(values, int64_t));
        else
            rc = bind_json(*q, i + 1, va_arg(values, const json_t *));
    }
    return rc == SQLITE_OK ? ERR_OK : err_set(em, ERR_BUG, "database: cannot bind: %s", sql);
}

enum err store__query(struct store *s, struct err_msg *em, sqlite3_stmt **q, const char *sql,
                      const char *types, ...) {
    va_list values;
    va_start(values, types);
    enum err e = begin_reads(s, em);
    if (e == ERR_OK)
        e = query_va(s, em, q, sql, types, values);
    va_end(values);
    return e;
}

enum err store__next(struct store *s, sqlite3_stmt *q, bool *row, struct err_msg *em) {
    int rc = sqlite3_step(q);
    *row = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW)
        return ERR_OK;
    enum err e = rc == SQLITE_DONE ? ERR_OK : store__error(s, "step", em);
    sqlite3_reset(q);
    return e;
}

static enum err first_row(struct store *s, sqlite3_stmt *q, struct err_msg *em) {
    bool row = false;
    enum err e = store__next(s, q, &row, em);
    return e == ERR_OK && !row ? ERR_NOT_FOUND : e;
}

static enum err one_va(struct store *s, struct err_msg *em, sqlite3_stmt **q, const char *sql,
                       const char *types, va_list values) {
    enum err e = begin_reads(s, em);
    if (e == ERR_OK)
        e = query_va(s, em, q, sql, types, values);
    return e == ERR_OK ? first_row(s, *q, em) : e;
}

enum err store__one(struct store *s, struct err_msg *em, sqlite3_stmt **q, const char *sql,
                    const char *types, ...) {
    va_list values;
    va_start(values, types);
    enum err e = one_va(s, em, q, sql, types, values);
    va_end(values);
    return e;
}

enum err store__integer(struct store *s, struct err_msg *em, int64_t *out, const char *sql,
                        const char *types, ...) {
    sqlite3_stmt *q = NULL;
    va_list values;
    va_start(values, types);
    enum err e = one_va(s, em, &q, sql, types, values);
    va_end(values);
    if (e != ERR_OK)
        return e;
    *out = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return ERR_OK;
}

enum err store__run(struct store *s, struct err_msg *em, int *changes, const char *sql,
                    const char *types, ...) {
    sqlite3_stmt *q = NULL;
    va_list values;
    va_start(values, types);
    enum err e = store__end_reads(s, em);
    if (e == ERR_OK)
        e = query_va(s, em, &q, sql, types, values);
    va_end(values);
    bool row = true;
    while (e == ERR_OK && row)
        e = store__next(s, q, &row, em);
    if (e == ERR_OK && changes != NULL)
        *changes = sqlite3_changes(s->db);
    return e;
}

char *store__text(sqlite3_stmt *q, int column) {
    const unsigned char *text = sqlite3_column_text(q, column);
    return text == NULL ? NULL : xstrdup((const char *)text);
}

char *store__texts(sqlite3_stmt *q, int column, const char **const *texts, int n) {
    size_t sizes[STORE_TEXTS] = {0}, total = 1;
    for (int i = 0; i < n; i++) {
        *texts[i] = (const char *)sqlite3_column_text(q, column + i);
        if (*texts[i] != NULL)
            sizes[i] = (size_t)sqlite3_column_bytes(q, column + i) + 1;
        total += sizes[i];
    }
    char *memory = xmalloc(total), *to = memory;
    for (int i = 0; i < n; i++) {
        if (*texts[i] == NULL)
            continue;
        memcpy(to, *texts[i], sizes[i]);
        *texts[i] = to;
        to += sizes[i];
    }
    return memory;
}

json_t *store__json(sqlite3_stmt *q, int column) {
    const unsigned char *text = sqlite3_column_text(q, column);
    return text == NULL ? NULL : json_loads((const char *)text, JSON_DECODE_ANY, NULL);
}

void store__id(sqlite3_stmt *q, int column, char id[STORE_ID_SIZE]) {
    const unsigned char *text = sqlite3_column_text(q, column);
    (void)snprintf(id, STORE_ID_SIZE, "%s", text == NULL ? "" : (const char *)text);
}

int64_t store__page_rows(const struct page *page) {
    int64_t limit = page->limit < 1 ? 1 : page->limit > LIMIT_PAGE ? LIMIT_PAGE : page->limit;
    return limit + 1;
}

void *store__grow(void *rows, int n, size_t size) {
    bool full = n == 0 || (n >= 8 && (n & (n - 1)) == 0);
    if (!full)
        return rows;
    return xreallocarray(rows, n == 0 ? 8 : 2 * (size_t)n, size);
}
