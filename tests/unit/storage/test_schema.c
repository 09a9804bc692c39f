/* Versions of the schema: from each of them to the newest, with what was stored; damaged files. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/storage/fixture.h"

TestSuite(schema, .init = set_up, .fini = tear_down);

Test(schema, version_0_is_migrated_and_reopening_changes_nothing) {
    char *first = first_text("SELECT group_concat(sql, ';') FROM sqlite_schema");
    char *version = first_text("PRAGMA user_version");
    cr_expect_gt(atol(version), 0);
    reopen();
    char *second = first_text("SELECT group_concat(sql, ';') FROM sqlite_schema");
    cr_expect_str_eq(first, second);
    free(first);
    free(second);
    free(version);
}

/* The trigger as it was before endpoints had event types. */
#define ENDED_BEFORE                                                                               \
    "CREATE TRIGGER jobs_ended AFTER UPDATE OF status ON jobs"                                     \
    " WHEN new.status >= 4 AND old.status < 4 BEGIN SELECT 1; END"

/* Events before they were lines. */
#define EVENTS_BEFORE                                                                              \
    "CREATE TABLE events ("                                                                        \
    " job_seq INTEGER NOT NULL REFERENCES jobs(seq), seq INTEGER NOT NULL,"                        \
    " created_at INTEGER NOT NULL, level INTEGER NOT NULL, type INTEGER NOT NULL,"                 \
    " step INTEGER NOT NULL, kind INTEGER NOT NULL, message TEXT NOT NULL, data TEXT NOT NULL,"    \
    " PRIMARY KEY (job_seq, seq)) STRICT, WITHOUT ROWID;"                                          \
    "CREATE UNIQUE INDEX events_step ON events(job_seq, step, kind) WHERE step > 0;"

/* Each version in between is what a server that was killed during its migration leaves. */
Test(schema, migration_goes_on_from_every_version) {
    char *whole = first_text("SELECT group_concat(sql, ';') FROM (SELECT * FROM sqlite_schema "
                             "ORDER BY name)");
    char *version = first_text("PRAGMA user_version");
    long last = strtol(version, NULL, 10);
    static const char *const undo[] = {
        "DROP INDEX jobs_named; DROP TABLE events;" EVENTS_BEFORE,
        "ALTER TABLE webhook_endpoints DROP COLUMN updated_at; DROP TRIGGER jobs_ended;"
        "ALTER TABLE webhook_endpoints DROP COLUMN events;"
        "ALTER TABLE webhook_endpoints DROP COLUMN name; " ENDED_BEFORE,
        "DROP TRIGGER jobs_counted; DROP TRIGGER jobs_recounted; DROP TABLE job_counts",
        "DROP TABLE job_data",
        "DROP TRIGGER jobs_ended; DROP TABLE webhook_deliveries; DROP TABLE webhook_endpoints",
        "DROP TABLE permissions; DROP INDEX jobs_end; DROP INDEX jobs_live_model;"
        "DROP INDEX jobs_model_deleted;"
        "ALTER TABLE jobs DROP COLUMN model_deleted",
        "DROP TRIGGER jobs_moved; DROP TRIGGER jobs_added; DROP TABLE turns; DROP TABLE queue;"
        "DROP INDEX jobs_waiting; CREATE INDEX jobs_queue ON "
        "jobs(status, priority DESC, seq)",
        "ALTER TABLE jobs DROP COLUMN pause_requested",
        "DROP TABLE upload_parts; DROP TABLE uploads; DROP TRIGGER files_added;"
        "DROP TRIGGER files_removed; DROP TABLE project_bytes; DROP INDEX files_content",
        "DROP TABLE keys",
        "DROP TABLE events",
        "DROP TABLE job_metadata; DROP TABLE jobs",
        "DROP TABLE files_deleted; DROP TABLE files"};
    cr_assert_eq(last, 13, "a new step needs its undo here");
    for (long v = last - 1; v >= 0; v--) {
        for (long k = 0; k < last - v; k++)
            cr_assert_eq(sqlite3_exec(store->db, undo[k], NULL, NULL, NULL), SQLITE_OK);
        char *set = xasprintf("PRAGMA user_version = %ld", v);
        cr_assert_eq(sqlite3_exec(store->db, set, NULL, NULL, NULL), SQLITE_OK);
        free(set);
        reopen();
        char *again = first_text("SELECT group_concat(sql, ';') FROM (SELECT * FROM sqlite_schema "
                                 "ORDER BY name)");
        cr_expect_str_eq(again, whole);
        free(again);
    }
    free(whole);
    free(version);
}

Test(schema, newer_schema_is_refused) {
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(sqlite3_exec(store->db, "PRAGMA user_version = 999", NULL, NULL, NULL), SQLITE_OK);
    store_close(store);
    cr_expect_eq(store_open(dir, &store, &em), ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(em.text, "999"));
    store = NULL;
}

Test(schema, database_of_another_program_is_refused) {
    cr_assert_eq(sqlite3_exec(store->db, "PRAGMA application_id = 1", NULL, NULL, NULL), SQLITE_OK);
    store_close(store);
    cr_expect_eq(store_open(dir, &store, NULL), ERR_UNSUPPORTED);
    store = NULL;
}

Test(schema, damaged_database_is_refused) {
    char *path = xasprintf("%s/ffwd.db", dir);
    store_close(store);
    store = NULL;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    for (off_t at = 4096; at < 40960; at += 64)
        cr_assert_eq(pwrite(fd, "damage damage damage", 20, at), 20);
    close(fd);
    cr_expect_neq(store_open(dir, &store, NULL), ERR_OK);
    store = NULL;
    free(path);
}

/* Where the events are, of which a server has millions: looked at only after a crash. */
static void damage_events(const char *path) {
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(db, "SELECT rootpage FROM sqlite_schema WHERE name = 'events'",
                                    -1, &q, NULL),
                 SQLITE_OK);
    cr_assert_eq(sqlite3_step(q), SQLITE_ROW);
    off_t at = (off_t)(sqlite3_column_int(q, 0) - 1) * 4096;
    sqlite3_finalize(q);
    sqlite3_close(db);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    cr_assert_eq(pwrite(fd, "damage damage damage", 20, at), 20);
    close(fd);
}

Test(schema, damaged_events_are_found_after_a_crash_and_else_when_read) {
    char id[STORE_ID_SIZE], *path = xasprintf("%s/ffwd.db", dir);
    char *log = xasprintf("%s/ffwd.db-wal", dir);
    add_job("p", "file-x", 0, NULL, id);
    store_close(store);
    damage_events(path);
    cr_assert_eq(store_open(dir, &store, NULL), ERR_OK);
    cr_expect_eq(store_event_after(store, id, 0, 5, see, NULL, NULL), ERR_IO);
    cr_expect_eq(status_of(id), JOB_VALIDATING);
    store_close(store);
    cr_assert_eq(file_write(log, "x", 1, NULL), ERR_OK);
    cr_expect_eq(store_open(dir, &store, NULL), ERR_IO);
    store = NULL;
    free(log);
    free(path);
}

Test(schema, events_are_shown_the_same_after_their_migration) {
    static const char message[] = "a \"b\"\\ \n\x1b\x7f \xc3\xa9";
    char id[STORE_ID_SIZE];
    struct event ev = {.created_at = 7, .level = EVENT_ERROR, .type = EVENT_METRICS};
    add_job("p", "file-x", 0, NULL, id);
    cr_assert_eq(sqlite3_exec(store->db,
                              "DROP INDEX jobs_named; DROP TABLE events;" EVENTS_BEFORE
                              "PRAGMA user_version = 12",
                              NULL, NULL, NULL),
                 SQLITE_OK);
    char *insert =
        sqlite3_mprintf("INSERT INTO events VALUES (1, 1, 7, 2, 1, 5, 0, %Q, '{\"x\":1}'),"
                        " (1, 2, 8, 0, 0, 0, 3, 'm', '{}')",
                        message);
    cr_assert_eq(sqlite3_exec(store->db, insert, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_free(insert);
    reopen();
    cr_assert_eq(see_after(id, 0, 10), 2);
    ev.message = xstrdup(message);
    ev.data = json_pack("{s:i}", "x", 1);
    char *want = event_to_line(&ev, NULL);
    cr_expect_str_eq(events_seen[0].line, want);
    free(want);
    event_clear(&ev);
    event_init(&ev, EVENT_INFO, EVENT_MESSAGE, "m", NULL);
    ev.created_at = 8;
    want = event_to_line(&ev, NULL);
    cr_expect_str_eq(events_seen[1].line, want);
    free(want);
    event_clear(&ev);
    cr_expect_eq(add_step(id, 5, "{\"train_loss\":1}"), 0, "the step is known");
    cr_expect_eq(add_step(id, 6, "{\"train_loss\":1}"), 3);
}
