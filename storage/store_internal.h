/* store_internal: what the files of the store share; nobody else includes it.
 *
 * What:    the connection, its cache of prepared statements, and a query helper with typed values.
 * Owns:    statements belong to the store; whoever stops reading rows early resets the statement
 *          (an open read keeps the write-ahead log from being folded in).
 * Threads: the loop thread only.
 * Errors:  store__error turns SQLite's state into an err_msg.
 */
#ifndef FFWD_STORAGE_STORE_INTERNAL_H
#define FFWD_STORAGE_STORE_INTERNAL_H

#include <sqlite3.h>

#include "storage/store.h"

#define STORE_STATEMENTS 192

struct store {
    sqlite3 *db;
    int lock_fd;
    char *dir;
    bool has_reserve;    /* see store_reserve.c */
    int depth;           /* open transactions: BEGIN and the savepoints inside it */
    bool shares, shared; /* see store_share_reads; a transaction for reads is open */
    void (*job_changed)(void *arg, int64_t seq); /* see store_watch_jobs */
    void *job_changed_arg;
    int n_statements;
    struct {
        const char *sql; /* compared by address: always a string literal */
        sqlite3_stmt *stmt;
    } statements[STORE_STATEMENTS];
};

/* ERR_NO_SPACE, ERR_IO, ERR_CONFLICT (constraint), … with SQLite's text after `what`. */
enum err store__error(struct store *s, const char *what, struct err_msg *em);

/* Prepares (or reuses) sql and binds one value per letter of types:
 *   s  const char *, NULL becomes NULL      i  int64_t      j  const json_t *, NULL becomes NULL */
enum err store__query(struct store *s, struct err_msg *em, sqlite3_stmt **q, const char *sql,
                      const char *types, ...) NODISCARD;
/* The next row; *row false at the end, and the statement is reset then (and on errors). */
enum err store__next(struct store *s, sqlite3_stmt *q, bool *row, struct err_msg *em) NODISCARD;
/* A query of one row at most: the row, after which the caller resets *q, or ERR_NOT_FOUND (without
 * a message). */
enum err store__one(struct store *s, struct err_msg *em, sqlite3_stmt **q, const char *sql,
                    const char *types, ...) NODISCARD;
/* The same for a row of one integer, with nothing to reset; *out is left alone without a row. */
enum err store__integer(struct store *s, struct err_msg *em, int64_t *out, const char *sql,
                        const char *types, ...) NODISCARD;
/* A statement without rows. *changes (may be NULL): rows it changed. */
enum err store__run(struct store *s, struct err_msg *em, int *changes, const char *sql,
                    const char *types, ...) NODISCARD;

/* Columns of the current row. New strings and references; NULL for SQL NULL. */
char *store__text(sqlite3_stmt *q, int column);
#define STORE_TEXTS 16
/* n text columns (STORE_TEXTS at most), copied behind one another into new memory; *texts[i] points
 * into it. */
char *store__texts(sqlite3_stmt *q, int column, const char **const *texts, int n);
json_t *store__json(sqlite3_stmt *q, int column);

void store__id(sqlite3_stmt *q, int column, char id[STORE_ID_SIZE]);

/* Ends the transaction that reads share, before a change. */
enum err store__end_reads(struct store *s, struct err_msg *em) NODISCARD;
/* Commits if e is ERR_OK, else rolls back; returns the outcome. Ends what store_begin began. */
enum err store__end(struct store *s, enum err e, struct err_msg *em) NODISCARD;

/* Rows asked for by a page, plus one that tells whether there are more. */
int64_t store__page_rows(const struct page *page);
/* Room for one more row of the given size in an array of n rows that grows by doubling. */
void *store__grow(void *rows, int n, size_t size);

/* Takes disk space for bad times, if it has none yet and there is some. */
void store__reserve(struct store *s);
/* After a change that makes room ended with e: true if it failed for want of room, no transaction
 * is open and the reserve was given up, so that it may succeed now; *em is clear then. */
bool store__make_room(struct store *s, enum err e, struct err_msg *em);

/* Brings the schema to this program's version. */
enum err store__migrate(struct store *s, struct err_msg *em) NODISCARD;

/* Removes blobs without a row, which a crash between rename and commit leaves. */
enum err store__sweep_files(struct store *s, struct err_msg *em) NODISCARD;
/* The same for uploads: folders of those that ended, parts without a row. */
enum err store__sweep_uploads(struct store *s, struct err_msg *em) NODISCARD;

/* Removes the files of models that were deleted, which a crash right after leaves. */
enum err store__sweep_models(struct store *s, struct err_msg *em) NODISCARD;

/* Row number of a job of any project; ERR_NOT_FOUND. */
enum err store__job_seq(struct store *s, const char *job_id, int64_t *seq,
                        struct err_msg *em) NODISCARD;
/* An event of type message and level info. */
enum err store__event_note(struct store *s, const char *job_id, const char *text,
                           struct err_msg *em) NODISCARD;

#endif
