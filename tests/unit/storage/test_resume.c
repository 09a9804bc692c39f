/* Resume points of jobs that have ended go, those of others stay. */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/storage/fixture.h"

TestSuite(resume, .init = set_up, .fini = tear_down);

static char id[STORE_ID_SIZE];

static char *point_of(const char *job) {
    return xasprintf("%s/jobs/%s/resume/step-3/state.json", dir, job);
}

static bool has_point(const char *job) {
    char *path = point_of(job);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

/* A job that runs, with a resume point and a checkpoint. */
static void run(void) {
    struct job_row j;
    add_job("p", "file-x", 0, NULL, id);
    cr_assert_eq(store_job_move(store, id, JOB_VALIDATING, JOB_QUEUED, 0, NULL, NULL), ERR_OK);
    cr_assert_eq(store_job_claim(store, &j, NULL), ERR_OK);
    cr_assert_str_eq(j.id, id);
    job_row_clear(&j);
    char *path = point_of(id), *kept = xasprintf("%s/jobs/%s/checkpoints/step-3", dir, id);
    *strrchr(path, '/') = '\0';
    cr_assert_eq(file_make_dirs(path, NULL), ERR_OK);
    cr_assert_eq(file_make_dirs(kept, NULL), ERR_OK);
    free(path);
    free(kept);
    path = point_of(id);
    cr_assert_eq(file_write(path, "{}", 2, NULL), ERR_OK);
    free(path);
    path = xasprintf("%s/jobs/%s/resume/metrics.csv", dir, id);
    cr_assert_eq(file_write(path, "step\n", 5, NULL), ERR_OK);
    free(path);
}

static void move(enum job_status from, enum job_status to) {
    cr_assert_eq(store_job_move(store, id, from, to, 0, NULL, NULL), ERR_OK);
}

Test(resume, points_go_when_the_job_has_ended) {
    static const enum job_status ends[] = {JOB_FAILED, JOB_CANCELLED};
    for (int i = 0; i < 2; i++) {
        run();
        store_resume_drop(store, id);
        cr_expect(has_point(id), "it runs");
        move(JOB_RUNNING, JOB_PAUSED);
        store_resume_drop(store, id);
        cr_expect(has_point(id), "it is paused");
        move(JOB_PAUSED, JOB_QUEUED);
        store_resume_drop(store, id);
        cr_expect(has_point(id), "it waits");
        move(JOB_QUEUED, ends[i]);
        cr_expect(has_point(id), "nobody has asked");
        store_resume_drop(store, id);
        cr_expect_not(has_point(id), "it has ended");
        char *kept = xasprintf("%s/jobs/%s/checkpoints/step-3", dir, id);
        cr_expect_eq(access(kept, F_OK), 0, "checkpoints stay");
        free(kept);
        kept = xasprintf("%s/jobs/%s/metrics.csv", dir, id);
        cr_expect_eq(access(kept, F_OK), 0, "metrics stay");
        free(kept);
    }
    store_resume_drop(store, "ftjob-none");
    store_resume_drop(store, "../..");
}

Test(resume, points_stay_until_the_end_is_committed) {
    run();
    cr_assert_eq(store_begin(store, NULL), ERR_OK);
    move(JOB_RUNNING, JOB_FAILED);
    store_resume_drop(store, id);
    cr_expect(has_point(id));
    store_rollback(store);
    store_resume_drop(store, id);
    cr_expect(has_point(id), "it runs on");
}

Test(resume, a_start_removes_what_a_crash_left) {
    char over[STORE_ID_SIZE];
    run();
    move(JOB_RUNNING, JOB_FAILED);
    memcpy(over, id, sizeof over);
    run();
    reopen();
    cr_assert_eq(store_resume_sweep(store, NULL), ERR_OK);
    cr_expect_not(has_point(over));
    cr_expect(has_point(id), "it may go on");
}
