/* check: the sentence made of a report on a bad file. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <string.h>

#include "server/check.h"

static void expect(const char *report, const char *want) {
    char text[200];
    json_t *o = json_loads(report, 0, NULL);
    cr_assert_not_null(o);
    check_message(o, text, sizeof text);
    cr_expect_str_eq(text, want);
    json_decref(o);
}

Test(check, names_the_lines) {
    expect("{\"errors\":[{\"line\":7,\"offset\":1,\"reason\":\"no role\"}],\"error_count\":1}",
           "line 7: no role");
    expect("{\"errors\":[{\"line\":0,\"reason\":\"the file has no rows\"}],\"error_count\":1}",
           "the file has no rows");
    expect("{\"errors\":[{\"line\":1,\"reason\":\"a\"},{\"line\":2,\"reason\":\"b\"}],"
           "\"error_count\":12}",
           "line 1: a; line 2: b; and 10 more");
    expect("{}", "the file is not a data set that can be trained on");
}

Test(check, stays_within_its_space) {
    char text[64], reason[512];
    memset(reason, 'x', sizeof reason - 1);
    reason[sizeof reason - 1] = '\0';
    json_t *o = json_pack("{s:[{s:i, s:s}, {s:i, s:s}], s:i}", "errors", "line", 1, "reason",
                          reason, "line", 2, "reason", "short", "error_count", 2);
    check_message(o, text, sizeof text);
    cr_expect_str_eq(text, "line 2: short; and 1 more");
    json_decref(o);
}
