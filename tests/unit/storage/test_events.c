/* Events: numbering, ids, repeats, pages. */
#include "tests/unit/storage/fixture.h"

TestSuite(events, .init = set_up, .fini = tear_down);

Test(events, are_numbered_without_gaps_also_between_jobs_and_after_reopening) {
    char a[STORE_ID_SIZE], b[STORE_ID_SIZE];
    add_job("p", "file-x", 0, NULL, a);
    add_job("p", "file-x", 0, NULL, b);
    for (int64_t i = 1; i <= 20; i++) {
        cr_expect_eq(add_step(a, i, "{\"train_loss\":1.5}"), 2 + i);
        if (i % 5 == 0)
            reopen();
        cr_expect_eq(add_step(b, i, "{\"train_loss\":1.5}"), 2 + i);
    }
}

Test(events, of_a_step_are_stored_once_per_kind) {
    char id[STORE_ID_SIZE];
    add_job("p", "file-x", 0, NULL, id);
    cr_expect_eq(add_step(id, 6, "{\"train_loss\":1.5}"), 3);
    cr_expect_eq(add_step(id, 6, "{\"train_loss\":1.5}"), 0);
    cr_expect_eq(add_step(id, 6, "{\"fast_forward\":{}}"), 4);
    cr_expect_eq(add_step(id, 6, "{\"full_valid_loss\":1}"), 5);
    cr_expect_eq(add_step(id, 6, "{\"fast_forward\":{}}"), 0);
    cr_expect_eq(add_step(id, 6, "{\"full_valid_loss\":1}"), 0);
    cr_expect_eq(add_step(id, 0, "{}"), 6);
    cr_expect_eq(add_step(id, 0, "{}"), 7);
    n_events_seen = 0;
    cr_assert_eq(store_event_at_step(store, id, 6, see, NULL, NULL), ERR_OK);
    cr_expect_eq(n_events_seen, 3);
}

Test(events, keep_their_content) {
    char id[STORE_ID_SIZE];
    struct event in;
    struct json_text w;
    int64_t seq = 0;
    char *shown = NULL;
    add_job("p", "file-x", 0, NULL, id);
    event_init(&in, EVENT_WARN, EVENT_METRICS, "line\nbreak \xc3\xa9",
               json_pack("{s:f, s:[i]}", "x", 0.1, "y", 1));
    cr_assert_eq(store_event_add(store, id, &in, 0, &seq, NULL), ERR_OK);
    cr_assert_eq(see_after(id, seq - 1, 5), 1);
    cr_expect_eq(events_seen[0].seq, seq);
    json_text_init(&w, 1 << 16);
    event_write(&w, events_seen[0].id, events_seen[0].line, strlen(events_seen[0].line));
    cr_assert_eq(json_text_take(&w, &shown, NULL), ERR_OK);
    json_t *object = event_to_json(&in, events_seen[0].id);
    char *want = json_dumps(object, JSON_COMPACT);
    cr_expect_str_eq(shown, want);
    json_decref(object);
    free(want);
    free(shown);
    event_clear(&in);
}

/* The stream's reads from any event on, and the pages, show the same ids in the same order. */
Test(events, stream_and_pages_agree) {
    enum { N = 23 };
    char id[STORE_ID_SIZE], ids[N][STORE_ID_SIZE], after[STORE_ID_SIZE] = "";
    add_job("p", "file-x", 0, NULL, id);
    for (int i = 2; i < N; i++)
        (void)add_step(id, 0, "{}");
    cr_assert_eq(see_after(id, 0, 1000), N);
    for (int i = 0; i < N; i++) {
        int64_t seq = 0;
        cr_expect_eq(events_seen[i].seq, i + 1);
        memcpy(ids[i], events_seen[i].id, STORE_ID_SIZE);
        cr_assert_eq(store_event_seq(store, id, ids[i], &seq, NULL), ERR_OK);
        cr_expect_eq(seq, i + 1);
    }
    int at = N;
    for (bool more = true; more;) {
        struct page page = {.after = after[0] ? after : NULL, .limit = 4};
        n_events_seen = 0;
        cr_assert_eq(store_event_list(store, "p", id, &page, see, NULL, &more, NULL), ERR_OK);
        for (int i = 0; i < n_events_seen; i++) {
            cr_expect_str_eq(events_seen[i].id, ids[--at]);
            memcpy(after, events_seen[i].id, sizeof after);
        }
    }
    cr_expect_eq(at, 0);
    cr_assert_eq(see_after(id, 20, 2), 2);
    cr_expect_str_eq(events_seen[0].id, ids[20]);
}

Test(events, ids_of_others_and_made_up_ones_are_not_found) {
    char a[STORE_ID_SIZE], b[STORE_ID_SIZE];
    int64_t seq = 0;
    add_job("p", "file-x", 0, NULL, a);
    add_job("p", "file-x", 0, NULL, b);
    cr_assert_eq(see_after(b, 0, 1), 1);
    cr_expect_eq(store_event_seq(store, a, events_seen[0].id, &seq, NULL), ERR_NOT_FOUND);
    char *beyond = xasprintf("%.*s00000003", (int)strlen(events_seen[0].id) - 8, events_seen[0].id);
    cr_expect_eq(store_event_seq(store, b, beyond, &seq, NULL), ERR_NOT_FOUND);
    static const char *const bad[] = {"", "ftevent-", "ftevent-1", "x",
                                      "ftevent-zzzzzzzzzzzzzzzzzzzzzzzz"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_eq(store_event_seq(store, b, bad[i], &seq, NULL), ERR_NOT_FOUND);
    free(beyond);
    struct event ev;
    event_init(&ev, EVENT_INFO, EVENT_MESSAGE, "x", NULL);
    cr_expect_eq(store_event_add(store, "ftjob-none", &ev, 0, &seq, NULL), ERR_NOT_FOUND);
    event_clear(&ev);
}
