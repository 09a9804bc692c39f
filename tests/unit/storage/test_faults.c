/* The n-th operation on the disk fails, for every n: nothing acknowledged is lost, nothing is half
 * there, and the store works again afterwards. */
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/storage/faulty_disk.h"
#include "tests/unit/storage/fixture.h"

TestSuite(faults, .init = set_up, .fini = tear_down, .timeout = 300);

/* What the store said it has done. */
struct told {
    char job[STORE_ID_SIZE], file[STORE_ID_SIZE];
    bool has_file, has_job, queued, running, has_step, succeeded;
};

static enum err try_file(char id[STORE_ID_SIZE]) {
    struct file_row f = {.project = xstrdup("p"),
                         .filename = xstrdup("x"),
                         .purpose = xstrdup("fine-tune"),
                         .sha256 = xstrdup("00")};
    store_new_id("file-", f.id);
    memcpy(id, f.id, STORE_ID_SIZE);
    enum err e = store_file_add(store, &f, NULL);
    file_row_clear(&f);
    return e;
}

static bool try_step(const char *job) {
    struct event ev;
    int64_t seq = 0;
    event_init(&ev, EVENT_INFO, EVENT_METRICS, "Step", json_pack("{s:f}", "train_loss", 1.0));
    enum err e = store_event_add(store, job, &ev, 1, &seq, NULL);
    event_clear(&ev);
    return e == ERR_OK && seq > 0;
}

/* A job's life; it stops at the first error. */
static struct told live(void) {
    struct told t = {0};
    struct job_row j = {0};
    t.has_file = try_file(t.file) == ERR_OK;
    t.has_job = t.has_file && try_job("p", t.file, 0, "{\"k\":\"v\"}", t.job, NULL) == ERR_OK;
    t.queued = t.has_job &&
               store_job_move(store, t.job, JOB_VALIDATING, JOB_QUEUED, 0, NULL, NULL) == ERR_OK;
    t.running = t.queued && store_job_claim(store, &j, NULL) == ERR_OK;
    t.has_step = t.running && try_step(t.job);
    if (t.has_step) {
        json_t *files = json_array();
        char *name = xasprintf("ft:%s", t.job);
        t.succeeded = store_job_succeed(store, t.job, 1, name, files, 1, NULL) == ERR_OK;
        free(name);
        json_decref(files);
    }
    job_row_clear(&j);
    return t;
}

static int64_t count(const char *sql) {
    sqlite3_stmt *q = NULL;
    cr_assert_eq(sqlite3_prepare_v2(store->db, sql, -1, &q, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_step(q), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return n;
}

/* After an error a change may have happened, but never half of it; what was acknowledged has. */
static void check(const struct told *t, int n) {
    struct file_row f = {0};
    struct job_row j = {0};
    cr_expect_eq(count("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"),
                 1, "at %d", n);
    cr_expect_eq(count("SELECT count(*) FROM jobs j WHERE 2 > (SELECT count(*) FROM events e WHERE "
                       "e.place >> 32 = j.seq)"),
                 0, "job without its events at %d", n);
    cr_expect_eq(count("SELECT count(*) FROM jobs"), count("SELECT count(*) FROM job_metadata"));
    cr_expect_eq(count("SELECT count(*) FROM events e WHERE e.place & 0xffffffff > "
                       "(SELECT count(*) FROM events x WHERE x.place >> 32 = e.place >> 32)"),
                 0, "gap at %d", n);
    if (t->has_file)
        cr_expect_eq(store_file_get(store, "p", t->file, &f, NULL), ERR_OK, "at %d", n);
    if (t->has_job) {
        cr_assert_eq(store_job_get(store, "p", t->job, &j, NULL), ERR_OK, "at %d", n);
        cr_expect(!t->queued || j.status >= JOB_QUEUED, "at %d", n);
        cr_expect(!t->running || j.status >= JOB_RUNNING, "at %d", n);
        cr_expect(!t->succeeded || j.status == JOB_SUCCEEDED, "at %d", n);
    }
    if (t->has_step)
        cr_expect_eq(try_step(t->job), false, "lost step at %d", n);
    file_row_clear(&f);
    job_row_clear(&j);
}

/* Takes what is running out of the way of the next round. */
static void settle(void) {
    int n = 0;
    struct job_row j;
    cr_assert_eq(store_job_recover(store, &n, NULL), ERR_OK);
    while (store_job_claim(store, &j, NULL) == ERR_OK) {
        cr_assert_eq(store_job_move(store, j.id, JOB_RUNNING, JOB_CANCELLED, 0, NULL, NULL),
                     ERR_OK);
        job_row_clear(&j);
    }
}

/* Fails operation 1, 2, … of a job's life until a life passes without reaching the fault. */
static int fail_each_operation(int code, bool reopen_first) {
    int n = 1;
    for (bool reached = true; reached && n < 1000; n++) {
        fault_code = code;
        fault_hits = 0;
        fault_countdown = n;
        struct told t = live();
        reached = fault_hits > 0;
        fault_countdown = 0;
        if (reopen_first)
            reopen();
        check(&t, n);
        settle();
    }
    cr_expect_lt(n, 1000);
    return n - 2;
}

static void restart_on_faulty_disk(void) {
    faulty_disk_install();
    reopen();
}

Test(faults, each_failing_operation_when_the_disk_is_full) {
    restart_on_faulty_disk();
    cr_expect_gt(fail_each_operation(SQLITE_FULL, false), 10);
}

Test(faults, each_failing_operation_when_the_disk_is_broken) {
    restart_on_faulty_disk();
    cr_expect_gt(fail_each_operation(SQLITE_IOERR_WRITE, false), 10);
}

Test(faults, each_failing_operation_followed_by_a_restart) {
    restart_on_faulty_disk();
    cr_expect_gt(fail_each_operation(SQLITE_IOERR_FSYNC, true), 10);
}

/* The first start too: creating the schema, at every operation. */
Test(faults, each_failing_operation_of_the_first_start) {
    bool opened = false;
    int n = 1;
    faulty_disk_install();
    for (; !opened && n < 1000; n++) {
        struct err_msg em = ERR_MSG_INIT;
        store_close(store);
        store = NULL;
        cr_assert_eq(file_remove_tree(dir, NULL), ERR_OK);
        fault_code = n % 2 ? SQLITE_FULL : SQLITE_IOERR_WRITE;
        fault_hits = 0;
        fault_countdown = n;
        enum err e = store_open(dir, &store, &em);
        cr_expect_eq(e == ERR_OK, em.code == ERR_OK);
        opened = fault_hits == 0;
        fault_countdown = 0;
        reopen();
        struct told t = live();
        cr_expect(t.succeeded, "after a failed start at %d", n);
    }
    cr_expect_gt(n, 10);
    cr_expect_lt(n, 1000);
}

static void add_expired(int n) {
    for (int i = 0; i < n; i++) {
        struct file_row f = {.project = xstrdup("p"),
                             .filename = xstrdup("x"),
                             .purpose = xstrdup("fine-tune"),
                             .sha256 = xstrdup("00"),
                             .created_at = 1,
                             .expires_at = 2};
        store_new_id("file-", f.id);
        cr_assert_eq(store_file_add(store, &f, NULL), ERR_OK);
        file_row_clear(&f);
    }
}

/* The reserve is given up for it, so the second try finds room. */
Test(faults, expiry_makes_room_on_a_full_disk) {
    restart_on_faulty_disk();
    add_expired(3);
    for (int first = 1; first < 3; first++) {
        struct file_row *rows = NULL;
        struct err_msg em = ERR_MSG_INIT;
        int n = 0;
        fault_code = SQLITE_FULL;
        fault_hits = 0;
        fault_countdown = first;
        cr_expect_eq(store_file_expire(store, 10, &rows, &n, &em), ERR_OK, "%s", em.text);
        cr_expect_eq(fault_hits, 1, "there was a full disk");
        cr_expect_eq(em.code, ERR_OK);
        cr_expect_eq(n, 3);
        for (int i = 0; i < n; i++)
            file_row_clear(&rows[i]);
        free(rows);
        fault_countdown = 0;
        cr_expect_eq(count("SELECT count(*) FROM files"), 0);
        add_expired(3); /* there is room again: so is the reserve */
    }
}

/* ---- blobs ---------------------------------------------------------------------------------- */

static void limit_file_size(rlim_t bytes) {
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

Test(faults, upload_that_the_disk_refuses_leaves_nothing) {
    struct spool sp;
    struct err_msg em = ERR_MSG_INIT;
    static const char piece[4096];
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(spool_open(&sp, dir, 1 << 20, NULL), ERR_OK);
    char *temp = xstrdup(sp.temp);
    limit_file_size(10000);
    cr_assert_eq(spool_write(&sp, piece, sizeof piece, &em), ERR_OK);
    cr_assert_eq(spool_write(&sp, piece, sizeof piece, &em), ERR_OK);
    cr_expect_neq(spool_write(&sp, piece, sizeof piece, &em), ERR_OK);
    limit_file_size(RLIM_INFINITY);
    cr_expect_gt(strlen(em.text), 0);
    cr_expect_eq(access(temp, F_OK), -1);
    cr_expect_neq(spool_write(&sp, piece, sizeof piece, NULL), ERR_OK);
    cr_expect_neq(spool_publish(&sp, dir, "file-aaaaaaaaaaaaaaaaaaaaaaaa", NULL), ERR_OK);
    free(temp);
}
