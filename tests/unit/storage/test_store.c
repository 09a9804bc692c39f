/* Opening, locking, transactions, the cost of a page, a full disk. */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/store_uploads.h"
#include "tests/unit/storage/fixture.h"

TestSuite(store, .init = set_up, .fini = tear_down);

static void expect_pragma(const char *name, const char *want) {
    char *sql = xasprintf("PRAGMA %s", name), *got = first_text(sql);
    cr_expect_str_eq(got, want, "%s is %s", name, got);
    free(got);
    free(sql);
}

Test(store, settings_are_in_force) {
    expect_pragma("journal_mode", "wal");
    expect_pragma("synchronous", "2");
    expect_pragma("foreign_keys", "1");
    expect_pragma("trusted_schema", "0");
    expect_pragma("cell_size_check", "1");
    expect_pragma("integrity_check", "ok");
}

Test(store, files_are_for_their_owner_only) {
    static const char *const names[] = {"ffwd.db", "ffwd.db-wal", "lock"};
    for (int i = 0; i < 3; i++) {
        struct stat st;
        char *path = xasprintf("%s/%s", dir, names[i]);
        cr_assert_eq(stat(path, &st), 0);
        cr_expect_eq(st.st_mode & 0077, 0, "%s", names[i]);
        free(path);
    }
}

Test(store, second_opener_is_refused_until_the_first_closes) {
    struct store *other = NULL;
    struct err_msg em = ERR_MSG_INIT;
    cr_expect_eq(store_open(dir, &other, &em), ERR_CONFLICT);
    cr_expect_not_null(strstr(em.text, "in use"));
    cr_expect_null(other);
    reopen();
}

/* Seen by somebody else. */
static int64_t jobs_on_disk(void) {
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    char *path = xasprintf("%s/ffwd.db", dir);
    cr_assert_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(db, "SELECT count(*) FROM jobs", -1, &q, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_step(q), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    free(path);
    return n;
}

Test(store, reads_share_a_transaction_that_a_change_ends) {
    char id[STORE_ID_SIZE];
    int64_t waiting = 0;
    add_job("p", "file-x", 0, NULL, id);
    store_share_reads(store, true);
    cr_expect_eq(status_of(id), JOB_VALIDATING);
    cr_expect_eq(sqlite3_get_autocommit(store->db), 0, "a transaction is open");
    add_job("p", "file-x", 0, NULL, id);
    cr_expect_eq(jobs_on_disk(), 2);
    cr_assert_eq(store_job_waiting(store, "p", &waiting, NULL), ERR_OK);
    cr_expect_eq(waiting, 2);
    cr_assert_eq(store_begin(store, NULL), ERR_OK);
    add_job("p", "file-x", 0, NULL, id);
    cr_expect_eq(status_of(id), JOB_VALIDATING);
    store_rollback(store);
    cr_expect_eq(jobs_on_disk(), 2);
    cr_expect_eq(store_job_number(store, "p", id, &waiting, NULL), ERR_NOT_FOUND);
    store_share_reads(store, false);
    cr_expect_neq(sqlite3_get_autocommit(store->db), 0);
    add_job("p", "file-x", 0, NULL, id);
    cr_expect_eq(jobs_on_disk(), 3);
}

Test(store, rollback_undoes_and_commit_keeps) {
    char id[STORE_ID_SIZE];
    struct file_row f;
    cr_assert_eq(store_begin(store, NULL), ERR_OK);
    add_file("p", id, 1);
    store_rollback(store);
    cr_expect_eq(store_file_get(store, "p", id, &f, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_begin(store, NULL), ERR_OK);
    add_file("p", id, 1);
    cr_assert_eq(store_commit(store, NULL), ERR_OK);
    reopen();
    cr_assert_eq(store_file_get(store, "p", id, &f, NULL), ERR_OK);
    file_row_clear(&f);
}

Test(store, refused_change_inside_a_transaction_leaves_the_rest) {
    char job[STORE_ID_SIZE], file[STORE_ID_SIZE];
    struct file_row f;
    add_job("p", "file-x", 0, NULL, job);
    cr_assert_eq(store_begin(store, NULL), ERR_OK);
    add_file("p", file, 1);
    cr_expect_eq(store_job_move(store, job, JOB_QUEUED, JOB_PAUSED, 0, NULL, NULL), ERR_CONFLICT);
    cr_assert_eq(store_commit(store, NULL), ERR_OK);
    cr_assert_eq(store_file_get(store, "p", file, &f, NULL), ERR_OK);
    file_row_clear(&f);
}

/* SQLite rolls back by itself after some errors; what follows must not be committed alone. */
Test(store, transaction_that_sqlite_ended_is_an_error_to_the_end) {
    char id[STORE_ID_SIZE];
    cr_assert_eq(store_begin(store, NULL), ERR_OK);
    cr_assert_eq(sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    cr_expect_eq(store_begin(store, NULL), ERR_IO);
    cr_expect_eq(try_job("p", "file-x", 0, NULL, id, NULL), ERR_IO);
    cr_expect_eq(store_commit(store, NULL), ERR_IO);
    cr_expect_eq(store->depth, 0);
    cr_expect_eq(store_commit(store, NULL), ERR_BUG);
    cr_expect_eq(try_job("p", "file-x", 0, NULL, id, NULL), ERR_OK);
}

Test(store, ids_are_well_formed_and_differ) {
    char a[STORE_ID_SIZE], b[STORE_ID_SIZE];
    store_new_id("ftjob-", a);
    store_new_id("ftjob-", b);
    cr_expect_eq(strlen(a), strlen("ftjob-") + 24);
    cr_expect_eq(strspn(a + 6, "abcdefghijklmnopqrstuvwxyz0123456789"), 24);
    cr_expect_str_neq(a, b);
}

/* ---- cost of a page ------------------------------------------------------------------------- */

static void use_lists(const char *job, bool ascending) {
    static const char *const filters[] = {"{\"k\":\"v\"}", "null", "{}"};
    struct page page = {.limit = 1, .ascending = ascending};
    struct file_row *files = NULL;
    struct job_text *jobs = NULL;
    bool more = false;
    int n = 0;
    for (int k = 0; k < 2; k++) {
        const char *purpose = k ? "x" : NULL;
        cr_assert_eq(store_file_list(store, "p", purpose, &page, &files, &n, &more, NULL), ERR_OK);
        for (int i = 0; i < n; i++)
            file_row_clear(&files[i]);
        free(files);
    }
    for (int k = 0; k < 3; k++) {
        json_t *filter = json_loads(filters[k], JSON_DECODE_ANY, NULL);
        cr_assert_eq(list_jobs("p", filter, &page, &jobs, &n, &more, NULL), ERR_OK);
        job_text_free(jobs, n);
        json_decref(filter);
    }
    cr_assert_eq(store_event_list(store, "p", job, &page, see, NULL, &more, NULL), ERR_OK);
    n_events_seen = 0;
    cr_assert_eq(store_event_at_step(store, job, 1, see, NULL, NULL), ERR_OK);
    cr_assert_eq(n_events_seen, 0);
}

static void use_permissions(void) {
    struct page page = {.limit = 1};
    struct permission_row *rows = NULL, row;
    int n = 0;
    bool more = false, yes = false;
    cr_assert_eq(store_permission_add(store, "ft:x", "q", &row, NULL), ERR_OK);
    cr_assert_eq(store_permission_check(store, "ft:x", "q", &yes, NULL), ERR_OK);
    cr_expect(yes);
    for (int up = 0; up < 4; up++) {
        page.ascending = up % 2 == 1;
        const char *project = up < 2 ? "q" : NULL;
        cr_assert_eq(store_permission_list(store, "ft:x", project, &page, &rows, &n, &more, NULL),
                     ERR_OK);
        cr_assert_eq(n, 1);
        permission_row_clear(&rows[0]);
        free(rows);
    }
    cr_assert_eq(store_permission_list_of(store, "q", 10, &rows, &n, NULL), ERR_OK);
    cr_assert_eq(n, 1);
    permission_row_clear(&rows[0]);
    free(rows);
    cr_assert_eq(store_checkpoint_delete(store, "ft:x", NULL), ERR_OK);
    cr_expect_eq(store_permission_delete(store, "ft:x", row.id, NULL), ERR_NOT_FOUND);
    permission_row_clear(&row);
}

/* Runs the statements that read jobs, files and events. */
static void use_all_reads(void) {
    char job[STORE_ID_SIZE], file[STORE_ID_SIZE];
    struct job_row row;
    struct file_row *expired;
    struct upload_row *uploads, upload;
    int64_t waiting = 0, bytes = 0;
    int n = 0;
    add_file("p", file, 1);
    add_queued(0, job);
    use_lists(job, false);
    use_lists(job, true);
    cr_assert_eq(store_job_by_body(store, "p", "aa", 0, &row, NULL), ERR_OK);
    job_row_clear(&row);
    cr_assert_eq(store_job_by_key(store, "p", "k", &row, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_job_by_end(store, "12345678", 0, &row, NULL), ERR_NOT_FOUND);
    use_permissions();
    cr_assert_eq(store_job_next_validating(store, &row, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_job_waiting(store, "p", &waiting, NULL), ERR_OK);
    cr_assert_eq(store_job_claim(store, &row, NULL), ERR_OK);
    job_row_clear(&row);
    cr_assert_eq(store_file_expire(store, 10, &expired, &n, NULL), ERR_OK);
    cr_assert_eq(store_file_same(store, "aa", 1, file, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_project_bytes(store, "p", &bytes, NULL), ERR_OK);
    cr_assert_eq(store_upload_get(store, "p", "upload_x", &upload, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_upload_part_bytes(store, "upload_x", "part_x", &bytes, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_upload_expired(store, 10, &uploads, &n, NULL), ERR_OK);
    cr_assert_eq(store_file_delete(store, "p", file, NULL), ERR_OK);
}

/* No read may go through a whole table or sort: its cost would grow with the table or with the
 * page's position. (json_each goes through the filter of the request; the table `queue` has a row
 * for each project that waits.) */
Test(store, every_read_is_a_seek_in_an_index) {
    use_all_reads();
    int checked = 0;
    for (int i = 0; i < store->n_statements; i++) {
        const char *sql = store->statements[i].sql;
        char *explain = xasprintf("EXPLAIN QUERY PLAN %s", sql);
        sqlite3_stmt *q = NULL;
        if (strncmp(sql, "PRAGMA", 6) != 0 &&
            sqlite3_prepare_v2(store->db, explain, -1, &q, NULL) == SQLITE_OK) {
            for (checked++; sqlite3_step(q) == SQLITE_ROW;) {
                const char *plan = (const char *)sqlite3_column_text(q, 3);
                bool filter = strncmp(plan, "SCAN want VIRTUAL", 17) == 0;
                bool constant = strcmp(plan, "SCAN CONSTANT ROW") == 0;
                bool small = strcmp(plan, "SCAN q") == 0 || strcmp(plan, "SCAN queue") == 0 ||
                             (strstr(sql, "FROM queue AS q") != NULL &&
                              strcmp(plan, "USE TEMP B-TREE FOR ORDER BY") == 0);
                /* SQLite skips this part unless a foreign key is violated. */
                bool skipped = strncmp(sql, "INSERT INTO jobs(", 17) == 0 &&
                               strcmp(plan, "SCAN job_metadata") == 0;
                cr_expect(
                    filter || constant || small || skipped ||
                        (strncmp(plan, "SCAN", 4) != 0 && strstr(plan, "TEMP B-TREE") == NULL),
                    "%s: %s", sql, plan);
            }
        }
        sqlite3_finalize(q);
        free(explain);
    }
    cr_expect_gt(checked, 30);
}

/* What a crash between the row and the files leaves. */
Test(store, files_of_a_deleted_model_are_removed_at_the_next_start) {
    char id[STORE_ID_SIZE];
    static const char *const files[] = {"adapter/adapter_model.safetensors", "adapter/metrics.csv",
                                        "checkpoints/step-1/adapter_model.safetensors"};
    add_running(id);
    for (int i = 0; i < 3; i++) {
        char *path = xasprintf("%s/jobs/%s/%s", dir, id, files[i]), *slash = strrchr(path, '/');
        *slash = '\0';
        cr_assert_eq(file_make_dirs(path, NULL), ERR_OK);
        *slash = '/';
        cr_assert_eq(file_write(path, "x", 1, NULL), ERR_OK);
        free(path);
    }
    cr_assert_eq(sqlite3_exec(store->db, "UPDATE jobs SET model_deleted = 1", NULL, NULL, NULL),
                 SQLITE_OK);
    for (int round = 0; round < 2; round++) {
        reopen();
        for (int i = 0; i < 3; i++) {
            char *path = xasprintf("%s/jobs/%s/%s", dir, id, files[i]);
            cr_expect_eq(file_size(path), i == 1 ? 1 : -1, "%s", files[i]);
            free(path);
        }
    }
}

/* ---- a full disk ---------------------------------------------------------------------------- */

static int64_t count(const char *sql) {
    char *text = first_text(sql);
    int64_t n = strtoll(text, NULL, 10);
    free(text);
    return n;
}

/* The database may not grow: at some point a job cannot be added. What was told to be stored is
 * there, what was refused left nothing, and the store works again when there is room. */
Test(store, full_disk_is_a_clean_error_without_half_rows) {
    char *pages = first_text("PRAGMA page_count"), id[STORE_ID_SIZE];
    char *sql = xasprintf("PRAGMA max_page_count = %ld", strtol(pages, NULL, 10) + 3);
    free(first_text(sql));
    int64_t stored = 0;
    struct err_msg em = ERR_MSG_INIT;
    while (try_job("p", "file-x", 0, "{\"k\":\"v\"}", id, &em) == ERR_OK && stored < 100000)
        stored++;
    cr_expect_eq(em.code, ERR_NO_SPACE, "%s", em.text);
    cr_expect_gt(stored, 0);
    cr_expect_eq(count("SELECT count(*) FROM jobs"), stored);
    cr_expect_eq(count("SELECT count(*) FROM events"), 2 * stored);
    cr_expect_eq(count("SELECT count(*) FROM job_metadata"), stored);
    expect_pragma("integrity_check", "ok");
    free(first_text("PRAGMA max_page_count = 1000000"));
    add_job("p", "file-x", 0, NULL, id);
    cr_expect_eq(count("SELECT count(*) FROM jobs"), stored + 1);
    free(pages);
    free(sql);
}

Test(store, transaction_that_the_disk_ended_cannot_be_committed) {
    char id[STORE_ID_SIZE];
    struct err_msg em = ERR_MSG_INIT;
    char *pages = first_text("PRAGMA page_count");
    char *sql = xasprintf("PRAGMA max_page_count = %ld", strtol(pages, NULL, 10) + 3);
    free(first_text(sql));
    enum err e = ERR_OK;
    cr_assert_eq(store_begin(store, NULL), ERR_OK);
    for (int i = 0; i < 100000 && e == ERR_OK; i++)
        e = try_job("p", "file-x", 0, NULL, id, &em);
    cr_expect_eq(e, ERR_NO_SPACE, "%s", em.text);
    store_rollback(store);
    cr_expect_eq(count("SELECT count(*) FROM jobs"), 0);
    free(first_text("PRAGMA max_page_count = 1000000"));
    add_job("p", "file-x", 0, NULL, id);
    cr_expect_eq(count("SELECT count(*) FROM jobs"), 1);
    free(pages);
    free(sql);
}

/* ---- kill -9 -------------------------------------------------------------------------------- */

/* Adds jobs for ever; each id goes through the pipe after the store said it is stored. */
static void write_until_killed(int fd) {
    char id[STORE_ID_SIZE];
    if (store_open(dir, &store, NULL) != ERR_OK)
        _exit(3);
    for (;;) {
        if (try_job("p", "file-x", 0, NULL, id, NULL) != ERR_OK ||
            write(fd, id, STORE_ID_SIZE) != STORE_ID_SIZE)
            _exit(4);
    }
}

static void check_acknowledged(const char *id) {
    cr_expect_eq(status_of(id), JOB_VALIDATING);
    cr_expect_eq(see_after(id, 0, 10), 2);
}

/* Kills the writer `delay` microseconds after its first acknowledgements; then all that came
 * through the pipe must be in the store. Returns how many that were. */
static int kill_once(int wait_for, useconds_t delay) {
    char ids[4][STORE_ID_SIZE], id[STORE_ID_SIZE];
    int fds[2], acked = wait_for;
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    store_close(store);
    store = NULL;
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0)
        write_until_killed(fds[1]);
    close(fds[1]);
    for (int i = 0; i < wait_for; i++)
        cr_assert_eq(read(fds[0], ids[i], STORE_ID_SIZE), STORE_ID_SIZE);
    usleep(delay);
    kill(child, SIGKILL);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    reopen();
    for (int i = 0; i < wait_for; i++)
        check_acknowledged(ids[i]);
    for (; read(fds[0], id, sizeof id) == sizeof id; acked++)
        check_acknowledged(id);
    close(fds[0]);
    cr_expect_eq(count("SELECT count(*) FROM events"), 2 * count("SELECT count(*) FROM jobs"));
    return acked;
}

Test(store, killed_writer_loses_nothing_it_acknowledged, .timeout = 300) {
    int acked = 0;
    unsigned noise = 1;
    for (int round = 0; round < 100; round++) {
        noise = noise * 1103515245u + 12345u;
        acked += kill_once((int)(noise >> 16) % 5, noise >> 8 & 8191);
    }
    cr_expect_geq(acked, 100, "only %d rows", acked);
    expect_pragma("integrity_check", "ok");
}

/* ---- a backup ------------------------------------------------------------------------------- */

Test(store, backup_is_a_database_of_its_own) {
    char id[STORE_ID_SIZE], later[STORE_ID_SIZE], *path = NULL;
    struct err_msg em = ERR_MSG_INIT;
    add_job("p", "file-x", 0, NULL, id);
    for (int i = 0; i < 2; i++) { /* the second in the place of the first */
        cr_assert_eq(store_backup(store, &path, &em), ERR_OK, "%s", em.text);
        cr_expect_str_eq(strrchr(path, '/'), "/" STORE_BACKUP);
        free(path);
    }
    add_job("p", "file-x", 0, NULL, later);
    char *copy = xasprintf("%s/copy", dir), *from = xasprintf("%s/" STORE_BACKUP, dir);
    char *to = xasprintf("%s/ffwd.db", copy);
    cr_assert_eq(file_make_dirs(copy, NULL), ERR_OK);
    cr_assert_eq(rename(from, to), 0);
    struct store *other = NULL;
    struct job_row j;
    cr_assert_eq(store_open(copy, &other, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(store_job_get(other, "p", id, &j, NULL), ERR_OK);
    job_row_clear(&j);
    cr_expect_eq(store_job_get(other, "p", later, &j, NULL), ERR_NOT_FOUND);
    store_close(other);
    cr_assert_eq(store_begin(store, NULL), ERR_OK);
    cr_expect_eq(store_backup(store, &path, &em), ERR_BUG, "not half a transaction");
    cr_expect_null(path);
    store_rollback(store);
    free(copy);
    free(from);
    free(to);
}
