/* rate: buckets against the arithmetic of one request a second, and against many names. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "server/rate.h"

Test(rate, a_minutes_worth_then_steadily) {
    struct rate *r = rate_new();
    for (int i = 0; i < 60; i++) {
        struct rate_result got = rate_take(r, "key", "a", 60, 1000);
        cr_assert_not(got.refused);
        cr_assert_eq(got.remaining, 59 - i);
        cr_assert_float_eq(got.reset_seconds, i + 1, 1e-6);
    }
    struct rate_result got = rate_take(r, "key", "a", 60, 1000.25);
    cr_expect(got.refused);
    cr_expect_eq(got.remaining, 0);
    cr_expect_float_eq(got.retry_seconds, 0.75, 1e-6);
    cr_expect(rate_take(r, "key", "a", 60, 1000.5).refused, "refusals cost nothing");
    cr_expect_not(rate_take(r, "key", "a", 60, 1001).refused);
    cr_expect(rate_take(r, "key", "a", 60, 1001.5).refused);
    cr_expect_not(rate_take(r, "key", "b", 60, 1001.5).refused, "another key");
    cr_expect_not(rate_take(r, "project", "a", 60, 1001.5).refused, "another kind");
    got = rate_take(r, "key", "a", 60, 5000);
    cr_expect_eq(got.remaining, 59, "a bucket does not run over");
    rate_free(r);
}

/* However many names come by, one that is at its limit stays there. */
Test(rate, many_names_do_not_free_a_limited_one) {
    struct rate *r = rate_new();
    for (int i = 0; i < 10; i++)
        (void)rate_take(r, "address", "greedy", 10, 1);
    for (int i = 0; i < 300000; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%d", i);
        cr_assert_not(rate_take(r, "address", name, 10, 1).refused);
    }
    cr_expect(rate_take(r, "address", "greedy", 10, 1).refused);
    rate_free(r);
}

Test(rate, durations_as_the_hosted_api_writes_them) {
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {{0, "0ms"},  {0.012, "12ms"}, {0.0001, "1ms"}, {1, "1s"},
                 {1.2, "2s"}, {59, "59s"},     {60, "1m0s"},    {360, "6m0s"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[32];
        rate_write_duration(cases[i].seconds, out);
        cr_expect_str_eq(out, cases[i].text);
    }
}
