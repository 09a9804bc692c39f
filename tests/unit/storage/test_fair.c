/* Whose turn it is: fair between projects, and positions that say what will happen. */
#include "tests/unit/storage/fixture.h"

TestSuite(fair, .init = set_up, .fini = tear_down);

static void queued(const char *project, int64_t priority, char id[STORE_ID_SIZE]) {
    add_job(project, "file-x", priority, NULL, id);
    cr_assert_eq(store_job_move(store, id, JOB_VALIDATING, JOB_QUEUED, 0, NULL, NULL), ERR_OK);
}

static struct job_row claim(void) {
    struct job_row j;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(store_job_claim(store, &j, &em), ERR_OK, "%s", em.text);
    return j;
}

static void expect_claim(const char *project, const char *id) {
    struct job_row j = claim();
    cr_expect_str_eq(j.project, project);
    if (id != NULL)
        cr_expect_str_eq(j.id, id);
    job_row_clear(&j);
}

static int64_t number(const char *sql) {
    sqlite3_stmt *q = NULL;
    cr_assert_eq(sqlite3_prepare_v2(store->db, sql, -1, &q, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_step(q), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return n;
}

Test(fair, one_project_with_many_jobs_does_not_starve_the_other) {
    char id[STORE_ID_SIZE], one[STORE_ID_SIZE], two[STORE_ID_SIZE];
    for (int i = 0; i < 100; i++)
        queued("many", 0, id);
    expect_claim("many", NULL);
    queued("few", 0, one);
    queued("few", 0, two);
    expect_claim("few", one);
    expect_claim("many", NULL);
    expect_claim("few", two);
    expect_claim("many", NULL);
    queued("many", 1, id);
    queued("few", 0, one);
    expect_claim("many", id);
    expect_claim("few", one);
}

Test(fair, interrupted_job_goes_on_first) {
    char a[STORE_ID_SIZE], b[STORE_ID_SIZE], c[STORE_ID_SIZE];
    queued("p", 0, a);
    queued("q", 0, b);
    queued("r", 0, c);
    expect_claim("p", a);
    cr_assert_eq(store_job_move(store, a, JOB_RUNNING, JOB_QUEUED, 1, NULL, NULL), ERR_OK);
    expect_claim("p", a);
    int n = 0;
    cr_assert_eq(store_job_recover(store, &n, NULL), ERR_OK);
    cr_expect_eq(n, 1);
    expect_claim("p", a);
    expect_claim("q", b);
}

Test(fair, validation_takes_turns_too) {
    char ids[4][STORE_ID_SIZE];
    struct job_row j;
    static const char *const projects[] = {"p", "p", "p", "q"};
    static const int order[] = {0, 3, 1, 2};
    for (int i = 0; i < 4; i++)
        add_job(projects[i], "file-x", 0, NULL, ids[i]);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(store_job_next_validating(store, &j, NULL), ERR_OK);
        cr_expect_str_eq(j.id, ids[order[i]]);
        cr_assert_eq(store_job_move(store, j.id, JOB_VALIDATING, JOB_QUEUED, 0, NULL, NULL),
                     ERR_OK);
        job_row_clear(&j);
    }
}

Test(fair, waiting_jobs_are_counted) {
    char a[STORE_ID_SIZE], b[STORE_ID_SIZE];
    int64_t n = -1;
    add_job("p", "file-x", 0, NULL, a);
    queued("p", 3, b);
    queued("q", 3, b);
    cr_assert_eq(store_job_waiting(store, "p", &n, NULL), ERR_OK);
    cr_expect_eq(n, 2);
    cr_assert_eq(store_job_waiting(store, NULL, &n, NULL), ERR_OK);
    cr_expect_eq(n, 2, "queued, of all projects");
    cr_assert_eq(store_job_set_priority(store, b, -100, NULL), ERR_OK);
    cr_assert_eq(store_job_move(store, a, JOB_VALIDATING, JOB_FAILED, 0, NULL, NULL), ERR_OK);
    cr_assert_eq(store_job_waiting(store, "p", &n, NULL), ERR_OK);
    cr_expect_eq(n, 1);
    cr_expect_eq(store_job_set_priority(store, a, 1, NULL), ERR_CONFLICT);
}

/* ---- positions say what will happen --------------------------------------------------------- */

#define PROJECTS 4
static const char *const names[PROJECTS] = {"a", "b", "c", "d"};

static uint32_t seed = 12345;
static uint32_t draw(uint32_t n) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 16) % n;
}

/* Something happens to the queue. */
static void disturb(void) {
    char id[STORE_ID_SIZE];
    struct job_row j;
    uint32_t what = draw(10);
    if (what < 5) {
        queued(names[draw(2) ? 0 : draw(PROJECTS)], (int64_t)draw(3), id);
        return;
    }
    if (store_job_claim(store, &j, NULL) != ERR_OK)
        return;
    if (what == 6)
        cr_assert_eq(store_job_move(store, j.id, JOB_RUNNING, JOB_QUEUED, 0, NULL, NULL), ERR_OK);
    else
        cr_assert_eq(store_job_move(store, j.id, JOB_RUNNING, what == 7 ? JOB_PAUSED : JOB_FAILED,
                                    0, NULL, NULL),
                     ERR_OK);
    if (what == 7)
        cr_assert_eq(store_job_set_priority(store, j.id, (int64_t)draw(3), NULL), ERR_OK);
    if (what == 7)
        cr_assert_eq(store_job_move(store, j.id, JOB_PAUSED, JOB_QUEUED, 0, NULL, NULL), ERR_OK);
    job_row_clear(&j);
}

/* Ids of all queued jobs by position. */
static int predict(char (*ids)[STORE_ID_SIZE]) {
    int total = 0;
    for (int p = 0; p < PROJECTS; p++) {
        struct page page = {.limit = 1000, .ascending = p % 2 == 0};
        struct job_text *rows = NULL;
        bool more = false;
        int n = 0;
        cr_assert_eq(list_jobs(names[p], NULL, &page, &rows, &n, &more, NULL), ERR_OK);
        for (int i = 0; i < n; i++) {
            cr_expect_eq(rows[i].queue_position >= 0, rows[i].status == JOB_QUEUED);
            if (rows[i].status == JOB_QUEUED) {
                total++;
                (void)snprintf(ids[rows[i].queue_position], STORE_ID_SIZE, "%s", rows[i].id);
            }
        }
        job_text_free(rows, n);
    }
    return total;
}

Test(fair, positions_are_the_order_of_the_claims) {
    static char ids[2000][STORE_ID_SIZE];
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < 40; i++)
            disturb();
        memset(ids, 0, sizeof ids);
        int n = predict(ids);
        cr_assert_eq(number("SELECT coalesce(sum(jobs), 0) FROM queue WHERE status = 1"), n);
        cr_assert_eq(number("SELECT count(*) FROM (SELECT status, priority, project, count(*) FROM "
                            "jobs WHERE status < 2 GROUP BY 1, 2, 3 EXCEPT SELECT * FROM queue)"),
                     0);
        cr_assert_eq(number("SELECT count(*) FROM (SELECT status, count(*) FROM jobs GROUP BY 1 "
                            "EXCEPT SELECT status, jobs FROM job_counts)"),
                     0);
        cr_assert_eq(number("SELECT sum(jobs) FROM job_counts"),
                     number("SELECT count(*) FROM jobs"));
        for (int i = 0; i < n; i++) {
            struct job_row j = claim();
            cr_assert_str_eq(j.id, ids[i], "round %d, claim %d of %d", round, i, n);
            cr_assert_eq(store_job_move(store, j.id, JOB_RUNNING, JOB_FAILED, 0, NULL, NULL),
                         ERR_OK);
            job_row_clear(&j);
        }
    }
}
