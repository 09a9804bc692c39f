/* Rates that follow from lengths of steps. */
#include "engine/train/rate.h"

#include <criterion/criterion.h>
#include <math.h>

static const struct rate_plan plan = {
    .asked = 1e-4,
    .given = 1e-4,
    .typical = 5e-3,
    .total_steps = 200,
    .warmup_steps = 10,
    .batch_size = 16,
    .schedule = LR_LINEAR,
};

Test(rate, follows_the_schedule_as_given_until_raised) {
    cr_assert_float_eq(rate_at(&plan, 0, 0), 0, 0);
    cr_assert_float_eq(rate_at(&plan, 0, 10), 1e-4, 1e-15);
    cr_assert_float_eq(rate_at(&plan, 0, 105), 5e-5, 1e-15);
}

Test(rate, holds_once_raised_and_falls_to_zero_at_the_end) {
    struct rate_plan p = plan;
    cr_assert_float_eq(rate_at(&p, 3e-3, 3), 3e-3, 1e-15);
    cr_assert_float_eq(rate_at(&p, 3e-3, 170), 3e-3, 1e-15);
    cr_assert_float_eq(rate_at(&p, 3e-3, 185), 1.5e-3, 1e-15);
    cr_assert_float_eq(rate_at(&p, 3e-3, 200), 0, 1e-15);
    p.schedule = LR_COSINE;
    cr_assert_float_eq(rate_at(&p, 3e-3, 185), 1.5e-3, 1e-15);
    p.schedule = LR_CONSTANT; /* as it was given it holds, not what became of it */
    cr_assert_float_eq(rate_at(&p, 3e-3, 185), 1.5e-3, 1e-15);
    cr_assert_float_eq(rate_at(&p, 0, 199), 1e-4, 1e-15);
}

Test(rate, small_batches_have_a_longer_fall) {
    const struct {
        int64_t batch, hold;
    } cases[] = {{1, 120}, {4, 120}, {8, 140}, {16, 170}, {512, 170}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rate_plan p = plan;
        p.batch_size = cases[i].batch;
        cr_assert(rate_holds(&p, cases[i].hold), "batch %ld", (long)cases[i].batch);
        cr_assert_not(rate_holds(&p, cases[i].hold + 1), "batch %ld", (long)cases[i].batch);
    }
}

/* The first stage of a run, whose rate is low where that is early. */
static bool learn(const struct rate_plan *p, double rate, double length, bool early,
                  double *found) {
    const struct rate_stage stage = {.rate = rate, .length = length, .number = 1, .early = early};
    return rate_learn(p, &stage, found);
}

static bool learn_later(double rate, double length, int64_t number, double *found) {
    const struct rate_stage stage = {.rate = rate, .length = length, .number = number};
    return rate_learn(&plan, &stage, found);
}

Test(rate, is_the_same_whatever_the_rate_it_was_found_at) {
    const double starts[] = {1e-6, 1e-5, 1e-4, 1e-3};
    for (int i = 0; i < 4; i++) {
        double raised = 0, lowest = 1.2e-2;
        struct rate_plan p = plan;
        p.given = starts[i];
        cr_assert(learn(&p, starts[i], lowest / starts[i], true, &raised));
        cr_assert_float_eq(raised, 1.25 * 6e-3, 1e-6);
    }
}

Test(rate, is_the_mean_of_what_stages_found) {
    double found = 2e-3;
    cr_assert(learn_later(2e-3, 2.25, 2, &found)); /* 2 and 4.5 */
    cr_assert_float_eq(found, 3e-3, 1e-12);
    cr_assert(learn_later(3e-3, 2.0, 3, &found)); /* and 6 */
    cr_assert_float_eq(found, cbrt(2e-3 * 4.5e-3 * 6e-3), 1e-12);
    double before = found;
    cr_assert_not(learn_later(found, 1.0, 4, &found));
    cr_assert_float_eq(found, before, 0);
    cr_assert(learn_later(found, 0.5, 2, &found)); /* down as well */
    cr_assert_float_eq(found, before * sqrt(0.5), 1e-12);
}

Test(rate, a_stage_at_the_limit_of_its_steps_says_the_least_it_can_be) {
    struct rate_plan p = plan;
    struct rate_stage stage = {.rate = 5e-6, .length = 1001, .number = 1, .early = true};
    double half = 0, whole = 0;
    p.given = 1e-5;
    cr_assert(rate_learn(&p, &stage, &half));
    stage.limited = true;
    cr_assert(rate_learn(&p, &stage, &whole));
    cr_assert_float_eq(whole, 1.25 * 5.005e-3, 1e-12);
    cr_assert_float_eq(half, whole / 2, 1e-12);
}

Test(rate, small_changes_add_up_and_are_none_to_tell) {
    double found = 8e-3, given = 0;
    cr_assert_not(learn_later(8e-3, 0.9, 2, &found));
    cr_assert_float_eq(found, 8e-3 * sqrt(0.9), 1e-12);
    cr_assert_not(learn_later(found, 0.9, 3, &found));
    cr_assert_float_eq(found, 8e-3 * pow(0.9, 0.5 + 1.0 / 3.0), 1e-12);
    cr_assert_not(learn_later(1e-4, 0.9, 2, &given)); /* a schedule as given stays what it is */
    cr_assert_float_eq(given, 0, 0);
}

Test(rate, batches_bound_it_by_the_root_of_their_rows) {
    const struct {
        int64_t batch;
        double most;
    } cases[] = {{1, 1.0}, {2, M_SQRT2}, {4, 2.0}, {16, 2.0}, {25, 2.5}, {64, 3.0}, {512, 3.0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rate_plan p = plan;
        double found = 0;
        p.batch_size = cases[i].batch;
        cr_assert(learn(&p, 1e-4, 400, true, &found));
        cr_assert_float_eq(found, cases[i].most * p.typical, 1e-12, "batch %ld: %g",
                           (long)cases[i].batch, found);
    }
}

Test(rate, begins_at_the_automatic_one_where_the_one_asked_for_cannot_be_right) {
    cr_assert_float_eq(rate_start(1e-6, 5e-3, 5e-3), 1e-6, 0);
    cr_assert_float_eq(rate_start(1.9e-2, 5e-3, 5e-3), 1.9e-2, 0);
    cr_assert_float_eq(rate_start(2e-2, 5e-3, 5e-3), 5e-3, 0);
    cr_assert_float_eq(rate_start(2e-2, 1e-2, 5e-3), 2e-2, 0);
    cr_assert_float_eq(rate_start(1.0, 1e-2, 5e-3), 5e-3, 0);
}

/* An automatic rate that is four times too low, and the right one asked for: the first stage may go
 * as far, and raises to half of what it finds. */
Test(rate, a_first_stage_may_find_that_a_high_one_was_right) {
    struct rate_plan p = plan;
    double found = 0, less = 0, not_asked_for = 0;
    p.typical = p.given = 1.25e-3;
    p.asked = 1e-2;
    cr_assert_eq(rate_most_tau(&p, 1.25e-3, 1000), 8);
    cr_assert(learn(&p, 1.25e-3, 9.6, false, &found));
    cr_assert_float_eq(found, 1.25 / 2 * 1.2e-2, 1e-12);
    p.asked = 6e-3;
    cr_assert(learn(&p, 1.25e-3, 9.6, false, &less));
    cr_assert_float_eq(less, 6e-3, 1e-12);
    p.asked = p.given;
    cr_assert_eq(rate_most_tau(&p, 1.25e-3, 1000), 3);
    cr_assert(learn(&p, 1.25e-3, 9.6, false, &not_asked_for));
    cr_assert_float_eq(not_asked_for, 2.0 * p.typical, 1e-12);
}

Test(rate, is_halved_where_the_loss_rises) {
    cr_assert_float_eq(rate_after_rise(1.5e-2), 7.5e-3, 1e-15);
}

Test(rate, a_first_stage_raises_half_the_way_and_lowers_all_of_it) {
    double found = 2e-3, high = 8e-3;
    cr_assert(learn(&plan, 2e-3, 4, false, &found));
    cr_assert_float_eq(found, sqrt(2e-3 * 1.25 * 8e-3), 1e-12);
    cr_assert(learn(&plan, 8e-3, 0.5, false, &high));
    cr_assert_float_eq(high, 1.25 * 4e-3, 1e-12);
}

Test(rate, is_bounded_by_the_typical_one) {
    double found = 2e-3;
    for (int i = 0; i < 50; i++) /* a loss that always falls */
        (void)learn_later(found, 2.0, 2, &found);
    cr_assert_leq(found, 2.0 * plan.typical);
}

Test(rate, nothing_follows_from_a_length_that_is_not_known) {
    double found = 4e-3, none = 0;
    cr_assert_not(learn_later(4e-3, NAN, 2, &found));
    cr_assert_not(learn(&plan, 1e-4, NAN, true, &none));
    cr_assert_float_eq(found, 4e-3, 0);
    cr_assert_float_eq(none, 0, 0);
}

Test(rate, is_open_until_it_falls) {
    cr_assert(rate_is_open(&plan, 0, 3, 3e-5)); /* in the warm-up */
    cr_assert(rate_is_open(&plan, 0, 60, 7.4e-5));
    cr_assert_not(rate_is_open(&plan, 0, 120, 4.2e-5));
    cr_assert(rate_is_open(&plan, 3e-3, 170, 3e-3));
    cr_assert_not(rate_is_open(&plan, 3e-3, 171, 2.9e-3));
    cr_assert(rate_holds(&plan, 170));
    cr_assert_not(rate_holds(&plan, 171));
}

Test(rate, is_low_at_a_quarter_of_the_typical_one) {
    const double low[] = {1e-6, 1.2e-3}, not_low[] = {1.3e-3, 5e-3, 1.0};
    for (size_t i = 0; i < 2; i++)
        cr_assert(rate_is_low(low[i], 5e-3));
    for (size_t i = 0; i < 3; i++)
        cr_assert_not(rate_is_low(not_low[i], 5e-3));
}

Test(rate, a_warm_up_may_move_at_once) {
    struct rate_plan p = plan;
    p.at_once = true;
    cr_assert_float_eq(rate_at(&p, 0, 0), 1e-4 / 11, 1e-15);
    cr_assert_float_eq(rate_at(&p, 0, 9), 1e-4 * 10 / 11, 1e-15);
    cr_assert_float_eq(rate_at(&p, 0, 10), 1e-4, 1e-15);
    cr_assert_float_eq(rate_at(&p, 0, 105), 5e-5, 1e-15);
}

Test(rate, is_looked_for_after_the_first_step_that_moves) {
    struct rate_plan p = plan;
    cr_assert_eq(rate_first_stage(&p), 2);
    p.at_once = true;
    cr_assert_eq(rate_first_stage(&p), 1);
    p.at_once = false;
    p.warmup_steps = 0;
    cr_assert_eq(rate_first_stage(&p), 1);
    p.asked = 10 * p.given; /* the steps of one that is too high are compared with these */
    cr_assert_eq(rate_first_stage(&p), 4);
}

Test(rate, small_steps_forward_change_nothing) {
    double raised = 0;
    struct rate_plan p = plan;
    cr_assert_not(learn(&p, 1e-4, 4, true, &raised));
    p.given = 5e-3;
    cr_assert_not(learn(&p, 5e-3, 0.9, false, &raised));
    /* the end of a schedule: small steps, each of many taus, are no reason to begin again */
    for (double rate = 1.9e-3; rate > 1e-7; rate /= 1.7)
        cr_assert_not(rate_is_open(&p, 0, 100, rate));
    cr_assert_float_eq(raised, 0, 0);
}

Test(rate, the_typical_rate_bounds_how_far_a_stage_goes) {
    cr_assert_eq(rate_most_tau(&plan, 5e-3, 1000), 3);
    cr_assert_eq(rate_most_tau(&plan, 1e-4, 1000), 150);
    cr_assert_eq(rate_most_tau(&plan, 1e-6, 1000), 1000);
    cr_assert_eq(rate_most_tau(&plan, 1.0, 1000), 1);
    cr_assert_eq(rate_most_tau(&plan, 0.0, 1000), 1000);
    cr_assert_eq(rate_first_tau(&plan, 1e-4), 99);
    cr_assert_eq(rate_first_tau(&plan, 5e-3), 1);
    cr_assert_eq(rate_first_tau(&plan, 1.0), 1);
    double raised = 0;
    double most = 1.0 + (double)rate_most_tau(&plan, 1e-4, 1000);
    cr_assert(learn(&plan, 1e-4, most, true, &raised));
    cr_assert_lt(raised, 1.25 * 1.52 * plan.typical);
}
