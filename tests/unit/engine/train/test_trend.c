/* Losses that rise, and losses that scatter. */
#include "engine/train/trend.h"

#include <criterion/criterion.h>
#include <math.h>

/* Numbers in [-1, 1) by the minimal standard generator. */
static double scatter(uint64_t *seed) {
    *seed = *seed * 48271 % 2147483647;
    return 2.0 * (double)*seed / 2147483647.0 - 1.0;
}

/* Windows of ten that have risen, of 200 losses start · fall^i, each up to `part` of itself off. */
static int rises(double start, double fall, double part, uint64_t seed) {
    struct trend t;
    int n = 0;
    trend_init(&t);
    for (int i = 0; i < 200; i++)
        n += trend_add(&t, 10, start * pow(fall, i) * (1.0 + part * scatter(&seed)));
    return n;
}

Test(trend, a_loss_that_falls_or_stays_does_not_rise_whatever_it_scatters) {
    int flat = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        cr_expect_eq(rises(5.0, 0.98, 0.1, seed), 0);
        cr_expect_eq(rises(5.0, 0.99, 0.3, seed), 0);
        flat += rises(0.3, 1.0, 0.5, seed) > 0;
    }
    cr_expect_leq(flat, 10, "%d of 100 runs on a plateau", flat);
}

Test(trend, a_loss_that_rises_is_seen) {
    for (uint64_t seed = 1; seed <= 100; seed++)
        cr_expect_geq(rises(0.3, 1.01, 0.3, seed), 1);
}

Test(trend, the_window_that_rose_ends_it_and_is_what_later_ones_are_compared_with) {
    struct trend t;
    trend_init(&t);
    for (int i = 0; i < 8; i++)
        cr_assert_not(trend_add(&t, 4, 1.0 + 0.1 * (i % 2)));
    for (int i = 0; i < 4; i++)
        cr_assert_eq(trend_add(&t, 4, 2.0 + 0.1 * (i % 2)), i == 3);
    for (int i = 0; i < 4; i++)
        cr_assert_not(trend_add(&t, 4, 2.0 + 0.1 * (i % 2)));
    for (int i = 0; i < 4; i++)
        cr_assert_eq(trend_add(&t, 4, 3.0 + 0.1 * (i % 2)), i == 3);
}

Test(trend, a_loss_that_is_not_finite_is_left_out) {
    struct trend t;
    trend_init(&t);
    for (int i = 0; i < 3; i++) {
        cr_assert_not(trend_add(&t, 2, NAN));
        cr_assert_not(trend_add(&t, 2, INFINITY));
        cr_assert_not(trend_add(&t, 2, 1.0));
        cr_assert_not(trend_add(&t, 2, 1.1));
    }
    cr_assert_not(trend_add(&t, 2, 5.0));
    cr_assert_not(trend_add(&t, 2, NAN));
    cr_assert(trend_add(&t, 2, 5.1));
}

Test(trend, windows_are_a_part_of_the_run) {
    cr_assert_eq(trend_window(1), 6);
    cr_assert_eq(trend_window(40), 6);
    cr_assert_eq(trend_window(150), 10);
    cr_assert_eq(trend_window(15000), 1000);
}
