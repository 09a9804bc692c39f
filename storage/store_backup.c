/* store_backup: a copy of the database as it is between two changes.
 *
 * By SQLite's backup on the one connection there is, in one go: until it is made, nothing else is
 * read or changed. It appears by a rename, so who opens it finds all of it. */
#include "storage/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

static enum err copy_into(struct store *s, const char *path, struct err_msg *em) {
    sqlite3 *to = NULL;
    int rc = sqlite3_open_v2(path, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    /* Whoever keeps the copy flushes it. */
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(to, "PRAGMA synchronous = OFF", NULL, NULL, NULL);
    sqlite3_backup *backup =
        rc == SQLITE_OK ? sqlite3_backup_init(to, "main", s->db, "main") : NULL;
    if (backup != NULL) {
        (void)sqlite3_backup_step(backup, -1);
        rc = sqlite3_backup_finish(backup);
    } else if (rc == SQLITE_OK) {
        rc = sqlite3_errcode(to);
    }
    enum err e = ERR_OK;
    if (rc != SQLITE_OK)
        e = err_set(em, (rc & 0xff) == SQLITE_FULL ? ERR_NO_SPACE : ERR_IO,
                    "cannot copy the database to %s: %s", path, sqlite3_errstr(rc));
    (void)sqlite3_close(to);
    return e;
}

enum err store_backup(struct store *s, char **path, struct err_msg *em) {
    *path = NULL;
    if (s->depth > 0)
        return err_set(em, ERR_BUG, "a backup inside a transaction");
    char *part = xasprintf("%s/" STORE_BACKUP ".part", s->dir);
    char *whole = xasprintf("%s/" STORE_BACKUP, s->dir);
    (void)unlink(part);
    int fd = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    enum err e = fd < 0 ? err_set_errno(em, errno, "cannot create %s", part) : ERR_OK;
    if (fd >= 0)
        (void)close(fd);
    if (e == ERR_OK)
        e = store__end_reads(s, em);
    if (e == ERR_OK)
        e = copy_into(s, part, em);
    if (e == ERR_OK && rename(part, whole) != 0)
        e = err_set_errno(em, errno, "cannot rename to %s", whole);
    if (e == ERR_OK) {
        *path = whole;
        whole = NULL;
    } else {
        (void)unlink(part);
    }
    free(part);
    free(whole);
    return e;
}
