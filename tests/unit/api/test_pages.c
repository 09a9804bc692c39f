/* Pages of large jobs and events: each ends in time, and all of them together show each row once.
 */
#include "base/event.h"
#include "base/limits.h"
#include "tests/unit/api/fixture.h"

#define JOBS "/v1/fine_tuning/jobs"
#define LARGE (300 << 10)
enum { ROWS = 70 };

TestSuite(pages, .init = set_up, .fini = tear_down);

static char ids[ROWS][STORE_ID_SIZE];

static char *padding(void) {
    char *text = xmalloc(LARGE + 1);
    memset(text, 'x', LARGE);
    text[LARGE] = '\0';
    return text;
}

/* Walks from page to page as a client does. Every row of the n is there once, newest first. */
static int walk(const char *path, int n) {
    char after[STORE_ID_SIZE] = "";
    int pages = 0, seen = 0;
    for (bool more = true; more; pages++) {
        cr_assert_lt(pages, n);
        char *query = xasprintf("limit=1000&after=%s", after);
        struct api_response resp = send_request(HTTP_GET, path, query, NULL);
        size_t len = strlen(resp.text);
        cr_expect_lt(len, LIMIT_PAGE_BYTES + 2 * LARGE, "a page of %zu bytes", len);
        json_t *list = expect(resp, 200), *data = json_object_get(list, "data");
        more = json_is_true(json_object_get(list, "has_more"));
        cr_expect(!more || len > LIMIT_PAGE_BYTES, "a page of %zu bytes is not the last", len);
        cr_assert_gt(json_array_size(data), 0);
        for (size_t i = 0; i < json_array_size(data); i++, seen++) {
            cr_assert_lt(seen, n);
            (void)snprintf(after, sizeof after, "%s", text_of(json_array_get(data, i), "id"));
            cr_expect_str_eq(after, ids[n - 1 - seen]);
        }
        json_decref(list);
        free(query);
    }
    cr_expect_eq(seen, n);
    return pages;
}

Test(pages, of_large_jobs_end_early_and_show_each_once) {
    char file[STORE_ID_SIZE], *text = padding();
    json_t *error = json_pack("{s:s, s:s, s:n}", "code", "c", "message", text, "param");
    add_file("{}\n", file);
    for (int i = 0; i < ROWS; i++) {
        json_t *job = add_job("tiny", file, "");
        (void)snprintf(ids[i], STORE_ID_SIZE, "%s", text_of(job, "id"));
        json_decref(job);
        cr_assert_eq(store_job_move(api.store, ids[i], JOB_VALIDATING, JOB_FAILED, 0, error, NULL),
                     ERR_OK);
    }
    cr_expect_eq(walk(JOBS, ROWS), 3);
    cr_expect_eq(walk(JOBS, ROWS), 3, "with the texts that were kept");
    json_decref(error);
    free(text);
}

Test(pages, of_large_events_end_early_and_show_each_once) {
    char file[STORE_ID_SIZE], *text = padding();
    add_file("{}\n", file);
    json_t *job = add_job("tiny", file, "");
    char *path = xasprintf(JOBS "/%s/events", text_of(job, "id"));
    json_t *first = get(path, NULL); /* of the job's creation */
    int n = (int)json_array_size(json_object_get(first, "data"));
    for (int i = 0; i < n; i++)
        (void)snprintf(ids[n - 1 - i], STORE_ID_SIZE, "%s",
                       text_of(json_array_get(json_object_get(first, "data"), (size_t)i), "id"));
    for (; n < ROWS; n++) {
        struct event ev;
        int64_t seq = 0;
        event_init(&ev, EVENT_INFO, EVENT_MESSAGE, text, NULL);
        cr_assert_eq(store_event_add(api.store, text_of(job, "id"), &ev, 0, &seq, NULL), ERR_OK);
        event_clear(&ev);
        json_t *newest = get(path, "limit=1");
        (void)snprintf(ids[n], STORE_ID_SIZE, "%s",
                       text_of(json_array_get(json_object_get(newest, "data"), 0), "id"));
        json_decref(newest);
    }
    cr_expect_eq(walk(path, ROWS), 3);
    json_decref(first);
    json_decref(job);
    free(path);
    free(text);
}
