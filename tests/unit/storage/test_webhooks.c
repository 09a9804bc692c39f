/* Webhook endpoints, and deliveries that come into being with a job's end. */
#include "base/limits.h"
#include "storage/store_webhooks.h"
#include "tests/unit/storage/fixture.h"

TestSuite(webhooks, .init = set_up, .fini = tear_down);

static void add_endpoint(const char *project, char id[STORE_ID_SIZE]) {
    struct err_msg em = ERR_MSG_INIT;
    struct webhook_row w;
    char secret[WEBHOOK_SECRET_SIZE];
    cr_assert_eq(store_webhook_create(store, project,
                                      &(struct webhook_settings){.url = "https://example.com/"},
                                      secret, &w, &em),
                 ERR_OK, "%s", em.text);
    (void)snprintf(id, STORE_ID_SIZE, "%s", w.id);
    webhook_row_clear(&w);
}

static int due(struct delivery_row *first) {
    struct delivery_row *rows;
    int n = 0;
    cr_assert_eq(store_delivery_due(store, clock_unix() + 1, &rows, &n, NULL), ERR_OK);
    for (int i = 0; i < n; i++) {
        if (i == 0 && first != NULL)
            *first = rows[0];
        else
            delivery_row_clear(&rows[i]);
    }
    free(rows);
    return n;
}

Test(webhooks, each_end_of_a_job_is_a_delivery_to_each_endpoint_of_its_project) {
    static const struct {
        enum job_status to;
        const char *type;
    } ends[] = {{JOB_FAILED, "fine_tuning.job.failed"},
                {JOB_CANCELLED, "fine_tuning.job.cancelled"}};
    char one[STORE_ID_SIZE], two[STORE_ID_SIZE], other[STORE_ID_SIZE], job[STORE_ID_SIZE];
    add_endpoint("p", one);
    add_endpoint("p", two);
    add_endpoint("q", other);
    for (size_t i = 0; i < 2; i++) {
        struct delivery_row d;
        add_job("p", "file-x", 0, NULL, job);
        cr_assert_eq(due(NULL), 0);
        cr_assert_eq(store_job_move(store, job, JOB_VALIDATING, ends[i].to, 0, NULL, NULL), ERR_OK);
        cr_assert_eq(due(&d), 2);
        cr_expect_str_eq(d.endpoint_id, one);
        cr_expect_str_eq(d.type, ends[i].type);
        cr_expect_str_eq(d.object_id, job);
        cr_expect(d.attempts == 0 && d.old_secret == NULL && d.created_at > 0);
        cr_assert_eq(store_delivery_attempted(store, d.id, DELIVERY_DONE, 0, 200, NULL, NULL),
                     ERR_OK);
        delivery_row_clear(&d);
        cr_assert_eq(due(&d), 1);
        cr_expect_str_eq(d.endpoint_id, two);
        cr_assert_eq(store_delivery_attempted(store, d.id, DELIVERY_DONE, 0, 200, NULL, NULL),
                     ERR_OK);
        delivery_row_clear(&d);
    }
}

Test(webhooks, what_is_rolled_back_is_not_told) {
    char endpoint[STORE_ID_SIZE], job[STORE_ID_SIZE];
    add_endpoint("p", endpoint);
    add_job("p", "file-x", 0, NULL, job);
    cr_assert_eq(store_begin(store, NULL), ERR_OK);
    cr_assert_eq(store_job_move(store, job, JOB_VALIDATING, JOB_FAILED, 0, NULL, NULL), ERR_OK);
    store_rollback(store);
    cr_expect_eq(due(NULL), 0);
    cr_assert_eq(store_job_move(store, job, JOB_VALIDATING, JOB_FAILED, 0, NULL, NULL), ERR_OK);
    reopen();
    cr_expect_eq(due(NULL), 1);
}

Test(webhooks, attempts_are_kept_and_given_up) {
    char endpoint[STORE_ID_SIZE], id[STORE_ID_SIZE];
    struct delivery_row d;
    add_endpoint("p", endpoint);
    cr_expect_eq(store_webhook_test(store, "q", endpoint, WEBHOOK_TEST_TYPE, id, NULL),
                 ERR_NOT_FOUND);
    cr_assert_eq(store_webhook_test(store, "p", endpoint, WEBHOOK_TEST_TYPE, id, NULL), ERR_OK);
    int64_t later = clock_unix() + 1000;
    cr_assert_eq(store_delivery_attempted(store, id, DELIVERY_PENDING, later, 500, "e", NULL),
                 ERR_OK);
    cr_expect_eq(due(NULL), 0);
    reopen();
    cr_assert_eq(store_delivery_get(store, "p", id, &d, NULL), ERR_OK);
    cr_expect(d.attempts == 1 && d.next_at == later && d.http_status == 500);
    cr_expect_str_eq(d.error, "e");
    cr_expect_str_eq(d.type, "ffwd.webhook.test");
    delivery_row_clear(&d);
    cr_expect_eq(store_delivery_get(store, "q", id, &d, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_webhook_disable(store, endpoint, "gone", NULL), ERR_OK);
    cr_assert_eq(store_delivery_get(store, NULL, id, &d, NULL), ERR_OK);
    cr_expect_eq(d.status, DELIVERY_FAILED);
    delivery_row_clear(&d);
    cr_expect_eq(store_webhook_test(store, "p", endpoint, WEBHOOK_TEST_TYPE, id, NULL),
                 ERR_NOT_FOUND);
}

Test(webhooks, endpoints_are_created_rotated_and_deleted) {
    struct webhook_row w, *rows;
    char first[WEBHOOK_SECRET_SIZE], second[WEBHOOK_SECRET_SIZE], id[STORE_ID_SIZE];
    struct delivery_row d;
    int n = 0;
    cr_assert_eq(store_webhook_create(store, "p",
                                      &(struct webhook_settings){.url = "https://example.com/"},
                                      first, &w, NULL),
                 ERR_OK);
    cr_expect_eq(store_webhook_rotate(store, "q", w.id, 0, second, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_webhook_rotate(store, "p", w.id, clock_unix() + 100, second, NULL), ERR_OK);
    cr_expect_str_neq(first, second);
    cr_assert_eq(store_webhook_test(store, NULL, w.id, WEBHOOK_TEST_TYPE, id, NULL), ERR_OK);
    cr_assert_eq(due(&d), 1);
    cr_expect_str_eq(d.secret, second);
    cr_expect_str_eq(d.old_secret, first);
    delivery_row_clear(&d);
    cr_expect_eq(store_webhook_delete(store, "q", w.id, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_webhook_delete(store, "p", w.id, NULL), ERR_OK);
    cr_expect_eq(due(NULL), 0);
    cr_expect_eq(store_delivery_get(store, NULL, id, &d, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_webhook_list(store, NULL, &rows, &n, NULL), ERR_OK);
    cr_expect_eq(n, 0);
    webhook_row_clear(&w);
}

Test(webhooks, a_project_has_so_many_and_no_strange_ones) {
    static const char *const wrong[] = {"",           "x",           "ftp://x/",      "https://",
                                        "http:///",   "http://:80",  "http://a@b/",   "http://a b/",
                                        "http://a/#", "http://a\\b", "http://a/\x7f", "HTTP//x"};
    struct err_msg em = ERR_MSG_INIT;
    struct webhook_row w;
    char id[STORE_ID_SIZE], secret[WEBHOOK_SECRET_SIZE];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect_eq(store_webhook_create(store, "p", &(struct webhook_settings){.url = wrong[i]},
                                          secret, &w, NULL),
                     ERR_INPUT, "%s", wrong[i]);
    for (int i = 0; i < LIMIT_WEBHOOKS; i++)
        add_endpoint("p", id);
    cr_expect_eq(store_webhook_create(store, "p", &(struct webhook_settings){.url = "https://x/"},
                                      secret, &w, &em),
                 ERR_LIMIT);
    add_endpoint("q", id);
}
