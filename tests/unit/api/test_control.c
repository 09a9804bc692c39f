/* Pause, resume and their repeats. */
#include "tests/unit/api/fixture.h"

#define JOBS "/v1/fine_tuning/jobs"

static json_t *job;
static const char *id;

static void set_up_with_job(void) {
    char file[STORE_ID_SIZE];
    set_up();
    add_file("{\"text\":\"x\"}\n", file);
    job = add_job("tiny", file, "");
    id = text_of(job, "id");
}
static void tear_down_with_job(void) {
    json_decref(job);
    tear_down();
}
TestSuite(control, .init = set_up_with_job, .fini = tear_down_with_job);

static struct api_response act(const char *action) {
    char *path = xasprintf(JOBS "/%s/%s", id, action);
    struct api_response resp = send_request(HTTP_POST, path, NULL, NULL);
    free(path);
    return resp;
}

static void expect_after(const char *action, const char *status, bool wish) {
    json_t *now = expect(act(action), 200);
    cr_expect_str_eq(text_of(now, "status"), status, "%s: %s", action, text_of(now, "status"));
    cr_expect_eq(json_is_true(json_object_get(json_object_get(now, "ffwd"), "pause_requested")),
                 wish);
    json_decref(now);
}

Test(control, queued_job_pauses_at_once_and_goes_back_to_its_place) {
    cr_assert_eq(store_job_move(api.store, id, JOB_VALIDATING, JOB_QUEUED, 0, NULL, NULL), ERR_OK);
    expect_after("pause", "paused", false);
    cr_expect_eq(events_added, 1);
    expect_after("pause", "paused", false);
    cr_expect_eq(events_added, 1, "a repeat adds nothing");
    expect_after("resume", "queued", false);
    expect_after("resume", "queued", false);
    cr_expect_eq(events_added, 2);
    cr_expect_eq(jobs_paused, 0);
}

Test(control, job_in_validation_pauses_when_it_is_validated) {
    expect_after("pause", "validating_files", true);
    expect_after("resume", "validating_files", false);
    expect_after("pause", "validating_files", true);
    cr_assert_eq(store_job_move(api.store, id, JOB_VALIDATING, JOB_PAUSED, 0, NULL, NULL), ERR_OK);
    expect_after("resume", "queued", false);
}

Test(control, running_job_is_asked_and_keeps_its_state) {
    start(id);
    expect_after("pause", "running", true);
    cr_expect_eq(jobs_paused, 1);
    expect_after("resume", "running", false);
    expect_after("pause", "running", true);
    int n = 0;
    cr_assert_eq(store_job_recover(api.store, &n, NULL), ERR_OK);
    expect_after("pause", "paused", false);
    json_t *gone = expect(act("cancel"), 200);
    cr_expect_str_eq(text_of(gone, "status"), "cancelled");
    json_decref(gone);
}

Test(control, ended_job_is_400_and_anothers_is_404) {
    finish(id);
    expect_error(act("pause"), 400, NULL);
    expect_error(act("resume"), 400, NULL);
    project = "q";
    expect_error(act("pause"), 404, "fine_tune_id");
    expect_error(act("resume"), 404, "fine_tune_id");
}

/* ---- priority ------------------------------------------------------------------------------- */

static struct api_response update(const char *body) {
    char *path = xasprintf(JOBS "/%s", id);
    struct api_response resp = send_request(HTTP_PATCH, path, NULL, body);
    free(path);
    return resp;
}

Test(control, priority_of_a_waiting_job_changes) {
    static const char *const wrong[][2] = {{"{\"priority\":101}", "priority"},
                                           {"{\"priority\":\"high\"}", "priority"},
                                           {"{\"priority\":null}", "priority"},
                                           {"{\"priority\":1.5}", "priority"},
                                           {"{}", "priority"},
                                           {"{\"priority\":1,\"suffix\":\"x\"}", "suffix"},
                                           {"{\"model\":\"tiny\"}", "model"},
                                           {"[]", NULL},
                                           {"", NULL},
                                           {"{\"priority\":1,\"priority\":2}", NULL}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        expect_error(update(wrong[i][0]), 400, wrong[i][1]);
    json_t *now = expect(update("{\"priority\":-7}"), 200);
    cr_expect_eq(json_integer_value(json_object_get(json_object_get(now, "ffwd"), "priority")), -7);
    cr_expect_eq(events_added, 1);
    json_decref(now);
    start(id);
    expect_error(update("{\"priority\":3}"), 400, "priority");
    project = "q";
    expect_error(update("{\"priority\":3}"), 404, "fine_tune_id");
}

Test(control, queue_of_a_project_has_a_limit) {
    const char *file = text_of(job, "training_file");
    config.max_waiting_jobs = 2;
    json_decref(add_job("tiny", file, ""));
    char *body = job_body("tiny", file, "");
    struct api_response resp = send_request(HTTP_POST, JOBS, NULL, body);
    cr_expect_eq(resp.status, 429);
    cr_expect(resp.no_retry);
    cr_expect_str_eq(text_of(json_object_get(resp.json, "error"), "code"), "queue_full");
    api_response_clear(&resp);
    struct call c;
    call_init(&c, HTTP_POST, JOBS, NULL, body);
    call_header(&c, "x-stainless-retry-count", "1");
    json_decref(expect(call_send(&c), 200)); /* a repeat makes no job */
    start(id);
    json_decref(expect(send_request(HTTP_POST, JOBS, NULL, body), 200));
    free(body);
}

Test(control, resuming_goes_by_the_limit_of_the_queue_too) {
    const char *file = text_of(job, "training_file");
    char *pause = xasprintf(JOBS "/%s/pause", id), *resume = xasprintf(JOBS "/%s/resume", id);
    config.max_waiting_jobs = 1;
    cr_assert_eq(store_job_move(api.store, id, JOB_VALIDATING, JOB_QUEUED, 0, NULL, NULL), ERR_OK);
    json_decref(post(pause, NULL));
    json_t *other = add_job("tiny", file, "");
    struct api_response resp = send_request(HTTP_POST, resume, NULL, NULL);
    cr_expect_eq(resp.status, 429);
    cr_expect(resp.no_retry);
    cr_expect_str_eq(text_of(json_object_get(resp.json, "error"), "code"), "queue_full");
    api_response_clear(&resp);
    char *cancel = xasprintf(JOBS "/%s/cancel", text_of(other, "id"));
    json_decref(post(cancel, NULL));
    json_t *resumed = post(resume, NULL);
    cr_expect_str_eq(text_of(resumed, "status"), "queued");
    json_decref(post(resume, NULL)); /* once more: it waits already */
    json_decref(resumed);
    json_decref(other);
    free(cancel);
    free(pause);
    free(resume);
}
