/* Rows of jobs: lists and filters, the queue, changes of state. */
#include "tests/unit/storage/fixture.h"

TestSuite(jobs, .init = set_up, .fini = tear_down);

Test(jobs, row_is_read_back_after_reopening) {
    char id[STORE_ID_SIZE];
    struct job_row j;
    add_job("p", "file-x", 3, "{\"a\":\"b\"}", id);
    reopen();
    cr_assert_eq(store_job_get(store, "p", id, &j, NULL), ERR_OK);
    cr_expect_eq(j.status, JOB_VALIDATING);
    cr_expect_eq(j.priority, 3);
    cr_expect_eq(j.seed, 7);
    cr_expect_eq(j.created_at, 1700000000);
    cr_expect_eq(j.attempt, 0);
    cr_expect_str_eq(j.model, "tiny");
    cr_expect_null(j.validation_file);
    cr_expect_null(j.fine_tuned_model);
    cr_expect(json_is_array(j.result_files));
    cr_expect_str_eq(
        json_string_value(json_object_get(json_object_get(j.request, "metadata"), "a")), "b");
    job_row_clear(&j);
    cr_expect_eq(store_job_get(store, "q", id, &j, NULL), ERR_NOT_FOUND);
}

Test(jobs, id_of_another_form_is_refused) {
    struct job_row j = {.id = "ftjob-1"};
    cr_expect_eq(store_job_add(store, &j, NULL), ERR_INPUT);
}

Test(jobs, begin_with_two_events) {
    char id[STORE_ID_SIZE];
    add_job("p", "file-x", 0, NULL, id);
    cr_assert_eq(see_after(id, 0, 10), 2);
    char *first = xasprintf("Created fine-tuning job: %s", id);
    cr_expect_not_null(strstr(events_seen[0].line, first));
    cr_expect_not_null(strstr(events_seen[1].line, "\"Validating training file: file-x\""));
    free(first);
}

/* ---- lists ---------------------------------------------------------------------------------- */

/* Walks all pages; seq must fall. Returns the number of rows. */
static int walk(const char *metadata, int64_t limit) {
    char after[STORE_ID_SIZE] = "";
    json_t *filter = metadata == NULL ? NULL : json_loads(metadata, JSON_DECODE_ANY, NULL);
    int64_t last = INT64_MAX;
    int seen = 0;
    for (bool more = true; more;) {
        struct page page = {.after = after[0] ? after : NULL, .limit = limit};
        struct job_text *rows = NULL;
        int n = 0;
        cr_assert_eq(list_jobs("p", filter, &page, &rows, &n, &more, NULL), ERR_OK);
        cr_assert(n <= limit);
        for (int i = 0; i < n; i++, seen++) {
            cr_expect_lt(rows[i].seq, last);
            cr_expect_str_eq(rows[i].project, "p");
            last = rows[i].seq;
            (void)snprintf(after, STORE_ID_SIZE, "%s", rows[i].id);
        }
        job_text_free(rows, n);
    }
    json_decref(filter);
    return seen;
}

Test(jobs, pages_with_and_without_a_filter_are_complete) {
    char id[STORE_ID_SIZE];
    for (int i = 0; i < 30; i++) {
        static const char *const tags[] = {"{\"k\":\"v\",\"team\":\"a\"}",
                                           "{\"k\":\"v\",\"team\":\"b\"}", NULL};
        add_job("p", "file-x", 0, tags[i % 3], id);
        add_job("q", "file-x", 0, "{\"k\":\"v\"}", id);
    }
    for (int64_t limit = 1; limit < 40; limit += 6) {
        cr_expect_eq(walk(NULL, limit), 30);
        cr_expect_eq(walk("{\"k\":\"v\"}", limit), 20);
        cr_expect_eq(walk("{\"k\":\"v\",\"team\":\"b\"}", limit), 10);
        cr_expect_eq(walk("{\"k\":\"w\"}", limit), 0);
        cr_expect_eq(walk("null", limit), 10);
    }
    struct page page = {.after = id, .limit = 5}; /* a job of the other project */
    struct job_text *rows = NULL;
    struct err_msg em = ERR_MSG_INIT;
    int n = 0;
    bool more = false;
    cr_expect_eq(list_jobs("p", NULL, &page, &rows, &n, &more, &em), ERR_NOT_FOUND);
    cr_expect_str_eq(em.param, "after");
}

Test(jobs, found_by_body_only_in_the_window) {
    char id[STORE_ID_SIZE];
    struct job_row j;
    add_job("p", "file-x", 0, NULL, id);
    cr_expect_eq(store_job_by_body(store, "p", "aa", 1700000000, &j, NULL), ERR_OK);
    cr_expect_str_eq(j.id, id);
    job_row_clear(&j);
    cr_expect_eq(store_job_by_body(store, "p", "aa", 1700000001, &j, NULL), ERR_NOT_FOUND);
    cr_expect_eq(store_job_by_body(store, "p", "bb", 0, &j, NULL), ERR_NOT_FOUND);
    cr_expect_eq(store_job_by_body(store, "q", "aa", 0, &j, NULL), ERR_NOT_FOUND);
}

Test(jobs, one_that_failed_is_not_found_by_body) {
    const enum job_status ends[] = {JOB_FAILED, JOB_CANCELLED};
    for (size_t i = 0; i < 2; i++) {
        char id[STORE_ID_SIZE];
        struct job_row j;
        add_job("p", "file-x", 0, NULL, id);
        cr_expect_eq(store_job_by_body(store, "p", "aa", 0, &j, NULL), ERR_OK);
        job_row_clear(&j);
        cr_expect_eq(store_job_move(store, id, JOB_VALIDATING, ends[i], 0, NULL, NULL), ERR_OK);
        cr_expect_eq(store_job_by_body(store, "p", "aa", 0, &j, NULL), ERR_NOT_FOUND);
    }
}

Test(jobs, idempotency_key_is_unique_in_its_project) {
    struct job_row in = {.project = xstrdup("p"),
                         .model = xstrdup("tiny"),
                         .training_file = xstrdup("file-x"),
                         .request = json_object(),
                         .idempotency_key = xstrdup("k1")};
    struct job_row out;
    store_new_id("ftjob-", in.id);
    cr_assert_eq(store_job_add(store, &in, NULL), ERR_OK);
    cr_assert_eq(store_job_by_key(store, "p", "k1", &out, NULL), ERR_OK);
    cr_expect_str_eq(out.id, in.id);
    job_row_clear(&out);
    cr_expect_eq(store_job_by_key(store, "q", "k1", &out, NULL), ERR_NOT_FOUND);
    store_new_id("ftjob-", in.id);
    cr_expect_eq(store_job_add(store, &in, NULL), ERR_CONFLICT);
    cr_expect_eq(store_job_get(store, NULL, in.id, &out, NULL), ERR_NOT_FOUND);
    job_row_clear(&in);
}

/* ---- the queue ------------------------------------------------------------------------------ */

Test(jobs, are_claimed_by_priority_then_age) {
    char ids[6][STORE_ID_SIZE];
    static const int64_t priority[6] = {0, 5, -3, 5, 0, 100};
    static const int order[6] = {5, 1, 3, 0, 4, 2};
    struct job_row j;
    for (int i = 0; i < 6; i++)
        add_queued(priority[i], ids[i]);
    for (int up = 0; up < 2; up++) {
        struct page page = {.limit = 10, .ascending = up != 0};
        struct job_text *rows = NULL;
        int n = 0;
        bool more = false;
        cr_assert_eq(list_jobs("p", NULL, &page, &rows, &n, &more, NULL), ERR_OK);
        for (int i = 0; i < n; i++) {
            cr_expect_str_eq(rows[i].id, ids[order[rows[i].queue_position]]);
        }
        job_text_free(rows, n);
    }
    for (int i = 0; i < 6; i++) {
        cr_assert_eq(store_job_claim(store, &j, NULL), ERR_OK);
        cr_expect_str_eq(j.id, ids[order[i]]);
        cr_expect_eq(j.status, JOB_RUNNING);
        cr_expect_eq(j.attempt, 1);
        cr_expect_gt(j.started_at, 0);
        job_row_clear(&j);
    }
    cr_expect_eq(store_job_claim(store, &j, NULL), ERR_NOT_FOUND);
}

Test(jobs, are_validated_by_priority_then_age) {
    static const int64_t priority[4] = {0, 3, 3, -1};
    static const int order[4] = {1, 2, 0, 3};
    char ids[4][STORE_ID_SIZE];
    struct job_row j;
    for (int i = 0; i < 4; i++)
        add_job("p", "file-x", priority[i], NULL, ids[i]);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(store_job_next_validating(store, &j, NULL), ERR_OK);
        cr_expect_str_eq(j.id, ids[order[i]]);
        cr_expect_eq(j.status, JOB_VALIDATING);
        cr_assert_eq(store_job_move(store, j.id, JOB_VALIDATING, JOB_QUEUED, 0, NULL, NULL),
                     ERR_OK);
        job_row_clear(&j);
    }
    cr_expect_eq(store_job_next_validating(store, &j, NULL), ERR_NOT_FOUND);
}

/* ---- changes of state ----------------------------------------------------------------------- */

/* Puts a job into a state by the ways there are. */
static void reach(enum job_status st, char id[STORE_ID_SIZE]) {
    static const enum job_status from[] = {
        [JOB_PAUSED] = JOB_QUEUED, [JOB_FAILED] = JOB_QUEUED, [JOB_CANCELLED] = JOB_QUEUED};
    if (st == JOB_VALIDATING) {
        add_job("p", "file-x", 0, NULL, id);
    } else if (st == JOB_RUNNING || st == JOB_SUCCEEDED) {
        add_running(id);
        if (st == JOB_SUCCEEDED) {
            char *name = xasprintf("ft:%s", id);
            json_t *files = json_array();
            cr_assert_eq(store_job_succeed(store, id, 1, name, files, 1, NULL), ERR_OK);
            json_decref(files);
            free(name);
        }
    } else {
        add_queued(0, id);
        if (st != JOB_QUEUED)
            cr_assert_eq(store_job_move(store, id, from[st], st, 0, NULL, NULL), ERR_OK);
    }
    cr_assert_eq(status_of(id), st);
}

Test(jobs, every_move_is_allowed_exactly_as_designed) {
    static const char *const table[] = {
        /* to: vqrpsfc */
        [JOB_VALIDATING] = ".x.x.xx", [JOB_QUEUED] = "..xx.xx",    [JOB_RUNNING] = ".x.x.xx",
        [JOB_PAUSED] = ".x...xx",     [JOB_SUCCEEDED] = ".......", [JOB_FAILED] = ".......",
        [JOB_CANCELLED] = ".......",
    };
    for (int from = JOB_VALIDATING; from <= JOB_CANCELLED; from++) {
        for (int to = JOB_VALIDATING; to <= JOB_CANCELLED; to++) {
            char id[STORE_ID_SIZE];
            reach((enum job_status)from, id);
            enum err e = store_job_move(store, id, (enum job_status)from, (enum job_status)to, 0,
                                        NULL, NULL);
            bool allowed = table[from][to] == 'x';
            cr_expect_eq(e, allowed ? ERR_OK : ERR_CONFLICT, "%s to %s",
                         job_status_name((enum job_status)from),
                         job_status_name((enum job_status)to));
            cr_expect_eq(status_of(id), (enum job_status)(allowed ? to : from));
            if (status_of(id) == JOB_QUEUED) /* out of the way of the next claim */
                cr_assert_eq(store_job_move(store, id, JOB_QUEUED, JOB_PAUSED, 0, NULL, NULL),
                             ERR_OK);
        }
    }
}

Test(jobs, are_moved_only_from_the_state_and_attempt_named) {
    char id[STORE_ID_SIZE];
    struct err_msg em = ERR_MSG_INIT;
    add_running(id);
    cr_expect_eq(store_job_move(store, id, JOB_QUEUED, JOB_CANCELLED, 0, NULL, NULL), ERR_CONFLICT);
    cr_expect_eq(store_job_move(store, id, JOB_RUNNING, JOB_FAILED, 2, NULL, &em), ERR_CONFLICT);
    cr_expect_not_null(strstr(em.text, "running"));
    cr_expect_eq(status_of(id), JOB_RUNNING);
    cr_expect_eq(store_job_move(store, "ftjob-none", JOB_QUEUED, JOB_PAUSED, 0, NULL, NULL),
                 ERR_NOT_FOUND);
    cr_expect_eq(store_job_move(store, id, JOB_RUNNING, JOB_FAILED, 1, NULL, NULL), ERR_OK);
}

Test(jobs, failure_keeps_its_error_and_its_time) {
    char id[STORE_ID_SIZE];
    struct job_row j;
    add_running(id);
    json_t *error = json_pack("{s:s, s:s, s:n}", "code", "diverged", "message", "m", "param");
    cr_assert_eq(store_job_move(store, id, JOB_RUNNING, JOB_FAILED, 1, error, NULL), ERR_OK);
    cr_assert_eq(store_job_get(store, "p", id, &j, NULL), ERR_OK);
    cr_expect(json_equal(j.error, error));
    cr_expect_gt(j.finished_at, 0);
    job_row_clear(&j);
    json_decref(error);
}

/* A worker that was given up goes on reporting: nothing of it may arrive. */
Test(jobs, old_attempt_changes_nothing) {
    char id[STORE_ID_SIZE];
    struct job_row j;
    json_t *data = json_pack("{s:i}", "step", 1);
    add_running(id);
    cr_assert_eq(store_job_move(store, id, JOB_RUNNING, JOB_QUEUED, 1, NULL, NULL), ERR_OK);
    cr_expect_eq(store_job_set_progress(store, id, 1, data, 5, 6, NULL), ERR_CONFLICT);
    cr_assert_eq(store_job_claim(store, &j, NULL), ERR_OK);
    cr_expect_eq(j.attempt, 2);
    job_row_clear(&j);
    cr_expect_eq(store_job_set_resolved(store, id, 1, data, NULL), ERR_CONFLICT);
    cr_expect_eq(store_job_set_progress(store, id, 1, data, 5, 6, NULL), ERR_CONFLICT);
    cr_expect_eq(store_job_succeed(store, id, 1, "ft:x", data, 5, NULL), ERR_CONFLICT);
    cr_expect_eq(store_job_set_resolved(store, id, 2, data, NULL), ERR_OK);
    cr_expect_eq(store_job_set_progress(store, id, 2, data, 5, 6, NULL), ERR_OK);
    cr_assert_eq(store_job_get(store, "p", id, &j, NULL), ERR_OK);
    cr_expect(json_equal(j.progress, data));
    cr_expect_eq(j.trained_tokens, 5);
    cr_expect_eq(j.estimated_finish, 6);
    job_row_clear(&j);
    json_decref(data);
}

Test(jobs, success_stores_what_was_made) {
    char id[STORE_ID_SIZE];
    struct job_row j;
    struct model_row *rows = NULL;
    int n = 0;
    json_t *files = json_pack("[s]", "file-y");
    add_running(id);
    cr_assert_eq(store_job_succeed(store, id, 1, "ft:tiny:ffwd::12345678", files, 99, NULL),
                 ERR_OK);
    reopen();
    cr_assert_eq(store_job_by_end(store, id + strlen(id) - 8, 0, &j, NULL), ERR_OK);
    cr_expect_str_eq(j.id, id);
    cr_expect_str_eq(j.fine_tuned_model, "ft:tiny:ffwd::12345678");
    int64_t seq = j.seq;
    cr_expect_eq(j.status, JOB_SUCCEEDED);
    cr_expect_eq(j.trained_tokens, 99);
    cr_expect(json_equal(j.result_files, files));
    cr_expect_gt(j.finished_at, 0);
    job_row_clear(&j);
    cr_expect_eq(store_job_by_end(store, id + strlen(id) - 8, seq, &j, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_model_list(store, "p", &rows, &n, NULL), ERR_OK);
    cr_assert_eq(n, 1);
    cr_expect_str_eq(rows[0].name, "ft:tiny:ffwd::12345678");
    cr_expect_gt(rows[0].created_at, 0);
    model_row_clear(&rows[0]);
    free(rows);
    json_decref(files);
}

Test(jobs, cancel_is_asked_for_once_ended_ones_refuse) {
    char id[STORE_ID_SIZE];
    struct job_row j;
    add_running(id);
    cr_expect_eq(store_job_request_cancel(store, id, NULL), ERR_OK);
    cr_assert_eq(store_job_get(store, "p", id, &j, NULL), ERR_OK);
    cr_expect(j.cancel_requested);
    job_row_clear(&j);
    cr_assert_eq(store_job_move(store, id, JOB_RUNNING, JOB_CANCELLED, 1, NULL, NULL), ERR_OK);
    cr_expect_eq(store_job_request_cancel(store, id, NULL), ERR_CONFLICT);
}

Test(jobs, running_ones_return_to_the_queue_at_a_restart) {
    char go_on[STORE_ID_SIZE], cancelled[STORE_ID_SIZE], waiting[STORE_ID_SIZE];
    struct job_row j;
    int n = 0;
    add_running(go_on);
    add_running(cancelled);
    add_queued(0, waiting);
    cr_assert_eq(store_job_request_cancel(store, cancelled, NULL), ERR_OK);
    reopen();
    cr_assert_eq(store_job_recover(store, &n, NULL), ERR_OK);
    cr_expect_eq(n, 2);
    cr_expect_eq(status_of(go_on), JOB_QUEUED);
    cr_expect_eq(status_of(cancelled), JOB_CANCELLED);
    cr_assert_eq(store_job_claim(store, &j, NULL), ERR_OK);
    cr_expect_str_eq(j.id, go_on);
    cr_expect_eq(j.attempt, 2);
    job_row_clear(&j);
    int64_t counts[JOB_CANCELLED + 1];
    cr_assert_eq(store_job_counts(store, counts, NULL), ERR_OK);
    cr_expect_eq(counts[JOB_RUNNING], 1);
    cr_expect_eq(counts[JOB_QUEUED], 1);
    cr_expect_eq(counts[JOB_CANCELLED], 1);
    cr_expect_eq(counts[JOB_SUCCEEDED], 0);
}
