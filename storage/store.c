/* store: the connection, the lock of the data folder, transactions, ids. */
#include "storage/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

#define ID_RANDOM 24
#define LOCK_WAIT_MS 2000
#define LOCK_PAUSE_MS 20

/* Each setting, and what reading it back must give. */
static const struct {
    const char *set, *get, *want;
} settings[] = {
    {"PRAGMA journal_mode = WAL", "PRAGMA journal_mode", "wal"},
    {"PRAGMA synchronous = FULL", "PRAGMA synchronous", "2"},
    {"PRAGMA foreign_keys = ON", "PRAGMA foreign_keys", "1"},
    {"PRAGMA busy_timeout = 5000", "PRAGMA busy_timeout", "5000"},
    {"PRAGMA trusted_schema = OFF", "PRAGMA trusted_schema", "0"},
    {"PRAGMA cell_size_check = ON", "PRAGMA cell_size_check", "1"},
    {"PRAGMA cache_size = -65536", "PRAGMA cache_size", "-65536"}, /* KiB */
    {"PRAGMA wal_autocheckpoint = 1000", "PRAGMA wal_autocheckpoint", "1000"},
};

/* One thread uses SQLite, so it needs no locks, nor a count of its memory. In vain where SQLite has
 * been used before: then it keeps them. */
static void set_up_library(void) {
    (void)sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

static enum err first_text(struct store *s, const char *sql, char **out, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    *out = NULL;
    if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK)
        return store__error(s, sql, em);
    enum err e = ERR_OK;
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        *out = store__text(q, 0);
    else if (rc != SQLITE_DONE)
        e = store__error(s, sql, em);
    sqlite3_finalize(q);
    return e;
}

static enum err apply_settings(struct store *s, struct err_msg *em) {
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        char *got = NULL;
        enum err e = first_text(s, settings[i].set, &got, em);
        free(got);
        if (e == ERR_OK)
            e = first_text(s, settings[i].get, &got, em);
        if (e != ERR_OK)
            return e;
        bool same = got != NULL && strcmp(got, settings[i].want) == 0;
        if (!same)
            e = err_set(em, ERR_IO,
                        "database: %s had no effect (%s); is %s on a network file system?",
                        settings[i].set, got == NULL ? "nothing" : got, s->dir);
        free(got);
        if (!same)
            return e;
    }
    return ERR_OK;
}

/* Of a table, or of everything (NULL). */
static enum err check_pages(struct store *s, const char *table, struct err_msg *em) {
    char *got = NULL;
    char *sql = table == NULL ? xstrdup("PRAGMA quick_check(1)")
                              : xasprintf("PRAGMA quick_check(\"%s\")", table);
    enum err e = first_text(s, sql, &got, em);
    free(sql);
    if (e == ERR_OK && (got == NULL || strcmp(got, "ok") != 0))
        e = err_set(em, ERR_IO, "%s/ffwd.db is damaged (%s): put a backup in its place", s->dir,
                    got == NULL ? "no answer" : got);
    free(got);
    return e;
}

/* After a clean end the events, most of all bytes by far, are left out: a damaged page of theirs is
 * an error when it is read. */
static enum err check_database(struct store *s, bool clean, struct err_msg *em) {
    static const char tables[] =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'events'";
    sqlite3_stmt *q = NULL;
    if (!clean)
        return check_pages(s, NULL, em);
    if (sqlite3_prepare_v2(s->db, tables, -1, &q, NULL) != SQLITE_OK)
        return store__error(s, "schema", em);
    enum err e = ERR_OK;
    int rc = SQLITE_ROW;
    while (e == ERR_OK && (rc = sqlite3_step(q)) == SQLITE_ROW)
        e = check_pages(s, (const char *)sqlite3_column_text(q, 0), em);
    if (e == ERR_OK && rc != SQLITE_DONE)
        e = store__error(s, "schema", em);
    sqlite3_finalize(q);
    return e;
}

/* The write-ahead log is removed when the database is closed. */
static bool ended_cleanly(const struct store *s) {
    char *log = xasprintf("%s/ffwd.db-wal", s->dir);
    bool clean = file_size(log) <= 0;
    free(log);
    return clean;
}

/* A server killed while it started a process leaves its lock to that process until exec. */
static bool lock_within(int fd, int ms) {
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK || ms <= 0)
            return false;
        (void)usleep(LOCK_PAUSE_MS * 1000);
        ms -= LOCK_PAUSE_MS;
    }
    return true;
}

static enum err take_lock(struct store *s, struct err_msg *em) {
    char *path = xasprintf("%s/lock", s->dir);
    enum err e = ERR_OK;
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        e = err_set_errno(em, errno, "cannot open %s", path);
    else if (!lock_within(s->lock_fd, LOCK_WAIT_MS))
        e = errno == EWOULDBLOCK
                ? err_set(em, ERR_CONFLICT, "%s is in use by another ffwd-server", s->dir)
                : err_set_errno(em, errno, "cannot lock %s", path);
    free(path);
    return e;
}

/* Created here, so that nobody else on the machine may read it; SQLite gives its other files the
 * same mode. */
static enum err create_private(const char *path, struct err_msg *em) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set_errno(em, errno, "cannot open %s", path);
    (void)close(fd);
    return ERR_OK;
}

static enum err open_database(struct store *s, struct err_msg *em) {
    char *path = xasprintf("%s/ffwd.db", s->dir);
    enum err e = create_private(path, em);
    /* The loop thread is the only user, so SQLite needs no mutex. */
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (e == ERR_OK && sqlite3_open_v2(path, &s->db, flags, NULL) != SQLITE_OK) {
        const char *reason = s->db == NULL ? "out of memory" : sqlite3_errmsg(s->db);
        e = err_set(em, ERR_IO, "cannot open %s: %s", path, reason);
    }
    free(path);
    return e;
}

enum err store_open(const char *data_dir, struct store **out, struct err_msg *em) {
    if (sodium_init() < 0)
        return err_set(em, ERR_BUG, "libsodium cannot start");
    struct store *s = xcalloc(1, sizeof *s);
    set_up_library();
    s->lock_fd = -1;
    s->dir = xstrdup(data_dir);
    enum err e = file_make_dirs(data_dir, em);
    if (e == ERR_OK)
        e = take_lock(s, em);
    bool clean = e == ERR_OK && ended_cleanly(s);
    if (e == ERR_OK)
        e = open_database(s, em);
    if (e == ERR_OK)
        e = apply_settings(s, em);
    if (e == ERR_OK)
        e = check_database(s, clean, em);
    if (e == ERR_OK)
        e = store__migrate(s, em);
    if (e == ERR_OK)
        e = file_sync_dir(data_dir, em);
    if (e == ERR_OK)
        e = store__sweep_files(s, em);
    if (e == ERR_OK)
        e = store__sweep_models(s, em);
    if (e == ERR_OK)
        e = store__sweep_uploads(s, em);
    if (e == ERR_OK) {
        store__reserve(s);
        *out = s;
    } else {
        store_close(s);
    }
    return e;
}

void store_close(struct store *s) {
    if (s == NULL)
        return;
    for (int i = 0; i < s->n_statements; i++)
        sqlite3_finalize(s->statements[i].stmt);
    if (s->db != NULL)
        (void)sqlite3_close(s->db);
    if (s->lock_fd >= 0)
        (void)close(s->lock_fd);
    free(s->dir);
    free(s);
}

int64_t store_version(const struct store *s) {
    return sqlite3_total_changes64(s->db);
}

/* SQLite itself rolls a transaction back after some errors (disk full, I/O). What a caller goes on
 * to do inside it would then be committed piece by piece, so it is refused. */
static enum err transaction_lost(struct err_msg *em) {
    return err_set(em, ERR_IO, "database: the transaction was rolled back after an error");
}

enum err store_begin(struct store *s, struct err_msg *em) {
    enum err e = ERR_OK;
    if (s->depth == 0)
        e = store__run(s, em, NULL, "BEGIN IMMEDIATE", "");
    else if (sqlite3_get_autocommit(s->db))
        return transaction_lost(em);
    else
        e = store__run(s, em, NULL, "SAVEPOINT inner_work", "");
    if (e == ERR_OK)
        s->depth++;
    return e;
}

enum err store_commit(struct store *s, struct err_msg *em) {
    enum err e = ERR_OK;
    if (s->depth == 0)
        return err_set(em, ERR_BUG, "database: commit without begin");
    if (sqlite3_get_autocommit(s->db))
        e = transaction_lost(em);
    else if (s->depth == 1)
        e = store__run(s, em, NULL, "COMMIT", "");
    else
        e = store__run(s, em, NULL, "RELEASE inner_work", "");
    if (e != ERR_OK)
        store_rollback(s);
    else
        s->depth--;
    return e;
}

void store_rollback(struct store *s) {
    if (s->depth == 0)
        return;
    s->depth--;
    if (sqlite3_get_autocommit(s->db))
        return;
    struct err_msg ignored = ERR_MSG_INIT;
    enum err e = ERR_OK;
    if (s->depth == 0) {
        e = store__run(s, &ignored, NULL, "ROLLBACK", "");
    } else {
        e = store__run(s, &ignored, NULL, "ROLLBACK TO inner_work", "");
        if (e == ERR_OK)
            e = store__run(s, &ignored, NULL, "RELEASE inner_work", "");
    }
    (void)e; /* a rollback that fails has already happened inside SQLite */
}

enum err store__end(struct store *s, enum err e, struct err_msg *em) {
    if (e == ERR_OK)
        return store_commit(s, em);
    store_rollback(s);
    return e;
}

void store_new_id(const char *prefix, char id[STORE_ID_SIZE]) {
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    enum { N_DIGITS = sizeof digits - 1, FAIR = 256 / N_DIGITS * N_DIGITS };
    /* One call of the kernel for some ids, not one for each digit. */
    static _Thread_local unsigned char bytes[32 * ID_RANDOM];
    static _Thread_local size_t next = sizeof bytes;
    size_t n = strlen(prefix);
    memcpy(id, prefix, n);
    for (size_t end = n + ID_RANDOM; n < end; next++) {
        if (next == sizeof bytes) {
            randombytes_buf(bytes, sizeof bytes);
            next = 0;
        }
        if (bytes[next] < FAIR)
            id[n++] = digits[bytes[next] % N_DIGITS];
    }
    id[n] = '\0';
}
