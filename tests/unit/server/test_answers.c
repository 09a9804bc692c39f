/* What was answered before is given again only to the same project, for the same address, while no
 * row has changed. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/answers.h"

static struct answers all;

static void tear_down(void) {
    answers_clear(&all);
}

TestSuite(answers, .fini = tear_down);

static void keep(const char *project, const char *uri, int64_t version, const char *text,
                 size_t len) {
    char *copy = malloc(len);
    memcpy(copy, text, len);
    struct answer *answer = answer_new(copy, len);
    answers_keep(&all, project, uri, version, answer);
    answer_let_go(answer);
}

/* Keeps and finds within one second: tries again where the second ended in between. */
static const struct answer *keep_and_find(const char *kept_by, const char *kept_uri,
                                          const char *project, const char *uri, int64_t version) {
    const struct answer *found = NULL;
    answers_clear(&all);
    for (int i = 0; i < 3 && found == NULL; i++) {
        keep(kept_by, kept_uri, 7, "{\"a\":1}", 7);
        found = answers_find(&all, project, uri, version);
    }
    return found;
}

Test(answers, are_found_again) {
    const struct answer *found = keep_and_find("default", "/v1/x?a=1", "default", "/v1/x?a=1", 7);
    cr_assert_not_null(found);
    cr_expect_eq(found->len, 7);
    cr_expect_eq(memcmp(found->text, "{\"a\":1}", 7), 0);
}

Test(answers, are_not_found_after_a_change_elsewhere_or_by_others) {
    cr_expect_null(keep_and_find("p", "/v1/x", "p", "/v1/x", 8));
    cr_expect_null(keep_and_find("p", "/v1/x", "q", "/v1/x", 7));
    cr_expect_null(keep_and_find("p", "/v1/x", "p", "/v1/x?after=1", 7));
    cr_expect_null(keep_and_find("p", "/v1/x?after=1", "p", "/v1/x", 7));
    cr_expect_null(keep_and_find("p", "/v1/x", "", "/v1/x", 7));
}

Test(answers, that_are_too_large_are_not_kept) {
    static char text[ANSWERS_BYTES + 1];
    keep("p", "/v1/big", 1, text, sizeof text);
    cr_expect_null(answers_find(&all, "p", "/v1/big", 1));
}

Test(answers, that_are_being_sent_outlive_their_slot) {
    struct answer *sent = answer_new(strdup("{}"), 2);
    answers_keep(&all, "p", "/v1/x", 1, sent);
    answers_clear(&all);
    cr_expect_eq(sent->holders, 1);
    cr_expect_str_eq(sent->text, "{}");
    answer_let_go(sent);
}

Test(answers, take_bounded_room) {
    char uri[32];
    for (int i = 0; i < 10 * ANSWERS_SLOTS; i++) {
        (void)snprintf(uri, sizeof uri, "/v1/%d", i);
        keep("p", uri, 1, "{}", 2);
    }
    int kept = 0;
    for (size_t i = 0; i < ANSWERS_SLOTS; i++)
        kept += all.slots[i].key != NULL;
    cr_expect_leq(kept, ANSWERS_SLOTS);
    cr_expect_gt(kept, ANSWERS_SLOTS / 2);
}
