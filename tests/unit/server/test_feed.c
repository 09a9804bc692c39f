/* feed: what is read once for many, against what the store holds. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "server/feed.h"

static char dir[] = "/tmp/ffwd-feed-XXXXXX";
static struct store *store;
static struct job_row job;

static void set_up(void) {
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(store_open(dir, &store, NULL), ERR_OK);
    job = (struct job_row){.project = xstrdup("p"),
                           .model = xstrdup("m"),
                           .training_file = xstrdup("file-x"),
                           .request = json_object(),
                           .body_sha256 = xstrdup("")};
    store_new_id("ftjob-", job.id);
    cr_assert_eq(store_job_add(store, &job, NULL), ERR_OK);
}

static void tear_down(void) {
    job_row_clear(&job);
    store_close(store);
    cr_expect_eq(file_remove_tree(dir, NULL), ERR_OK);
}

static int64_t add(const char *text) {
    struct event ev;
    int64_t seq = 0;
    event_init(&ev, EVENT_INFO, EVENT_MESSAGE, text, NULL);
    cr_assert_eq(store_event_add(store, job.id, &ev, 0, &seq, NULL), ERR_OK);
    event_clear(&ev);
    return seq;
}

/* Reads to the end as one reader would; the text, and where it ended. */
static char *read_all(struct feed *f, int64_t *after, bool *over) {
    char *all = xstrdup("");
    for (;;) {
        struct feed_block *b = NULL;
        cr_assert_eq(feed_next(f, *after, &b, over, NULL), ERR_OK);
        if (b == NULL)
            return all;
        cr_assert_eq(b->after_seq, *after);
        cr_assert_gt(b->last_seq, *after);
        cr_assert_eq(strlen(b->text), b->len);
        char *longer = xasprintf("%s%s", all, b->text);
        free(all);
        all = longer;
        *after = b->last_seq;
        feed_block_release(b);
    }
}

Test(feed, readers_share_what_is_read, .init = set_up, .fini = tear_down) {
    struct feed f;
    feed_init(&f, store, job.id);
    for (int i = 0; i < 200; i++)
        (void)add("one of many");
    int64_t last = add("the last");
    int64_t after = 0;
    bool over = true;
    char *first = read_all(&f, &after, &over);
    int64_t queries = f.queries;
    cr_expect_eq(after, last);
    cr_expect_not(over);
    cr_expect_leq(queries, 6, "201 events are four pages, then the end");
    cr_expect_not_null(strstr(first, "the last"));
    for (int i = 0; i < 1000; i++) {
        int64_t at = 0;
        char *again = read_all(&f, &at, &over);
        cr_assert_str_eq(again, first);
        free(again);
    }
    cr_expect_eq(f.queries, queries, "a thousand more readers cost no query");

    /* Until it is told, a feed does not look; then one query serves all. */
    (void)add("new");
    char *nothing = read_all(&f, &after, &over);
    cr_expect_str_empty(nothing);
    feed_changed(&f);
    for (int i = 0; i < 100; i++) {
        int64_t at = last;
        char *text = read_all(&f, &at, &over);
        cr_assert_not_null(strstr(text, "\"new\""));
        cr_assert_eq(at, last + 1);
        free(text);
    }
    cr_expect_eq(f.queries, queries + 3, "the block, that there is no other, and the job's state");
    free(nothing);
    free(first);
    feed_clear(&f);
}

Test(feed, a_job_that_has_ended_is_over, .init = set_up, .fini = tear_down) {
    struct feed f;
    bool over = false;
    int64_t after = 0;
    feed_init(&f, store, job.id);
    free(read_all(&f, &after, &over));
    cr_expect_not(over);
    cr_assert_eq(store_job_move(store, job.id, JOB_VALIDATING, JOB_CANCELLED, 0, NULL, NULL),
                 ERR_OK);
    int64_t last = add("cancelled");
    feed_changed(&f);
    char *text = read_all(&f, &after, &over);
    cr_expect(over);
    cr_expect_eq(after, last);
    cr_expect_not_null(strstr(text, "cancelled"));
    free(text);
    feed_clear(&f);
}

/* Readers behind one another: a block that was dropped is read again, from anywhere. */
Test(feed, every_start_gives_the_same_events, .init = set_up, .fini = tear_down) {
    struct feed f;
    bool over = false;
    feed_init(&f, store, job.id);
    for (int i = 0; i < 150; i++)
        (void)add("event");
    int64_t end = 0;
    char *all = read_all(&f, &end, &over);
    for (int64_t from = 0; from < end; from += 7) {
        int64_t at = from;
        char *text = read_all(&f, &at, &over);
        size_t n = strlen(text);
        cr_assert_eq(at, end);
        cr_assert_str_eq(text, all + strlen(all) - n);
        free(text);
    }
    free(all);
    feed_clear(&f);
}
