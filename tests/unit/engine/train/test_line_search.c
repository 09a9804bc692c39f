/* The searches on curves whose minimum is known. */
#include "engine/train/line_search.h"

#include <criterion/criterion.h>
#include <math.h>

struct curve {
    double minimum;  /* tau of the lowest point */
    double skew;     /* steepness after it, relative to before */
    double nan_from; /* tau from which the loss is NaN; 0: never */
    int calls, fail_at;
    int64_t last; /* tau asked for last */
};

static enum err curve_at(void *arg, int64_t tau, double *loss, struct err_msg *em) {
    struct curve *c = arg;
    if (++c->calls == c->fail_at)
        return err_set(em, ERR_STOPPED, "asked to stop");
    double x = ((double)tau - c->minimum) / (c->minimum > 1 ? c->minimum : 1.0);
    *loss = 2.0 + x * x * (x > 0 ? c->skew : 1.0);
    if (c->nan_from > 0 && (double)tau >= c->nan_from)
        *loss = NAN;
    c->last = tau;
    return ERR_OK;
}

static struct line_search_result search(enum ff_search kind, struct curve *c, int64_t guess,
                                        int64_t max_tau) {
    const struct line_search s = {.kind = kind,
                                  .max_tau = max_tau,
                                  .guess = guess,
                                  .budget = 1000,
                                  .loss_at = curve_at,
                                  .arg = c};
    struct line_search_result r;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(line_search_run(&s, &r, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(r.evaluations, c->calls);
    return r;
}

Test(line_search, linear_evaluates_zero_to_one_past_the_minimum) {
    const int64_t minima[] = {2, 5, 10, 20, 50, 100};
    for (size_t i = 0; i < sizeof minima / sizeof minima[0]; i++) {
        struct curve c = {.minimum = (double)minima[i], .skew = 1};
        struct line_search_result r = search(FF_LINEAR, &c, 0, 1000);
        cr_assert_eq(r.tau, minima[i]);
        cr_assert_eq(r.evaluations, minima[i] + 2);
        cr_assert_float_eq(r.loss_after, 2.0, 1e-12);
        cr_assert_float_eq(r.loss_before, 3.0, 1e-12);
    }
}

Test(line_search, auto_finds_the_same_minimum_in_fewer_evaluations) {
    const int64_t minima[] = {1, 2, 3, 5, 7, 10, 20, 33, 50, 100, 400};
    const double skews[] = {1, 3, 0.3};
    for (size_t i = 0; i < sizeof minima / sizeof minima[0]; i++)
        for (size_t k = 0; k < 3; k++) {
            double m = (double)minima[i];
            struct curve c = {.minimum = m, .skew = skews[k]};
            struct line_search_result r = search(FF_AUTO, &c, 0, 1000);
            cr_assert(r.loss_after - 2.0 <= 0.05, "minimum %g skew %g: tau %lld", m, skews[k],
                      (long long)r.tau);
            if (minima[i] >= 7)
                cr_assert_lt(r.evaluations, minima[i] + 2);
            cr_assert_leq(r.evaluations, 14);
        }
}

Test(line_search, auto_with_a_good_guess_needs_five_evaluations_at_most) {
    const int64_t minima[] = {5, 10, 20, 50, 100, 500};
    const double off[] = {0.7, 1.0, 1.5};
    for (size_t i = 0; i < sizeof minima / sizeof minima[0]; i++)
        for (size_t k = 0; k < 3; k++) {
            double m = (double)minima[i];
            struct curve c = {.minimum = m, .skew = 1};
            struct line_search_result r = search(FF_AUTO, &c, llround(m * off[k]), 1000);
            cr_assert_leq(r.evaluations, 6);
            cr_assert(r.loss_after - 2.0 <= 0.01);
        }
}

Test(line_search, a_guess_far_too_long_comes_back) {
    struct curve c = {.minimum = 3, .skew = 1};
    struct line_search_result r = search(FF_AUTO, &c, 500, 1000);
    cr_assert(r.tau >= 2 && r.tau <= 4);
    cr_assert_leq(r.evaluations, 9);
}

/* Outwards, inwards and with nothing to find; the best point so far is kept. */
Test(line_search, the_budget_holds) {
    const double minima[] = {400, 3, -2};
    const int64_t guesses[] = {1, 500, 500};
    for (int i = 0; i < 3; i++)
        for (int64_t budget = 2; budget <= 6; budget++) {
            struct curve c = {.minimum = minima[i], .skew = 1};
            const struct line_search s = {.kind = FF_AUTO,
                                          .max_tau = 1000,
                                          .guess = guesses[i],
                                          .budget = budget,
                                          .loss_at = curve_at,
                                          .arg = &c};
            struct line_search_result r;
            cr_assert_eq(line_search_run(&s, &r, NULL), ERR_OK);
            cr_expect_eq(r.evaluations, i < 2 || budget < 6 ? budget : 6);
            cr_expect_leq(r.loss_after, r.loss_before);
            if (i == 0)
                cr_expect_eq(r.tau, 1 << (budget - 2));
        }
}

Test(line_search, a_direction_that_only_raises_the_loss_gives_zero) {
    const enum ff_search kinds[] = {FF_LINEAR, FF_AUTO};
    for (int i = 0; i < 2; i++) {
        struct curve c = {.minimum = -2, .skew = 1};
        struct line_search_result r = search(kinds[i], &c, 0, 1000);
        cr_assert_eq(r.tau, 0);
        cr_assert_eq(r.evaluations, 2);
        cr_assert_float_eq(r.loss_after, r.loss_before, 0.0);
    }
}

Test(line_search, a_flat_curve_ends_at_once) {
    struct curve c = {.minimum = 0, .skew = 0};
    cr_assert_eq(search(FF_LINEAR, &c, 0, 1000).tau, 0);
    cr_assert_eq(c.calls, 2);
}

Test(line_search, the_limit_of_steps_holds) {
    const enum ff_search kinds[] = {FF_LINEAR, FF_AUTO, FF_PAPER};
    const int64_t limits[] = {1, 2, 7, 30};
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 4; k++) {
            struct curve c = {.minimum = 1000, .skew = 1};
            cr_assert_eq(search(kinds[i], &c, 3, limits[k]).tau, limits[k]);
        }
}

Test(line_search, nan_is_worse_than_anything) {
    const enum ff_search kinds[] = {FF_LINEAR, FF_AUTO};
    for (int i = 0; i < 2; i++)
        for (int guess = 0; guess < 40; guess += 13) {
            struct curve c = {.minimum = 20, .skew = 1, .nan_from = 9};
            struct line_search_result r = search(kinds[i], &c, guess, 1000);
            cr_assert(r.tau > 0 && r.tau < 9);
            cr_assert(r.loss_after < r.loss_before);
        }
    struct curve never = {.minimum = 20, .skew = 1, .nan_from = 1};
    struct line_search_result r = search(FF_AUTO, &never, 0, 1000);
    cr_assert_eq(r.tau, 0);
    cr_assert_eq(r.not_finite, 1);
}

Test(line_search, paper_goes_back_where_the_loss_is_not_finite) {
    struct curve c = {.minimum = 20, .skew = 1, .nan_from = 9};
    struct line_search_result r = search(FF_PAPER, &c, 0, 1000);
    cr_assert_eq(r.tau, 0);
    cr_assert_eq(r.evaluations, 9);
    cr_assert_eq(r.not_finite, 1);
    cr_assert(isnan(r.loss_after));
}

Test(line_search, paper_ends_on_the_first_worse_point) {
    struct curve c = {.minimum = 5, .skew = 1};
    struct line_search_result r = search(FF_PAPER, &c, 0, 1000);
    cr_assert_eq(r.tau, 6);
    cr_assert_eq(r.evaluations, 6);
    cr_assert(isnan(r.loss_before));
}

Test(line_search, errors_end_the_search) {
    const enum ff_search kinds[] = {FF_LINEAR, FF_AUTO, FF_PAPER};
    for (int i = 0; i < 3; i++)
        for (int at = 1; at <= 4; at++) {
            struct curve c = {.minimum = 50, .skew = 1, .fail_at = at};
            const struct line_search s = {
                .kind = kinds[i], .max_tau = 100, .budget = 9, .loss_at = curve_at, .arg = &c};
            struct line_search_result r;
            struct err_msg em = ERR_MSG_INIT;
            cr_assert_eq(line_search_run(&s, &r, &em), ERR_STOPPED);
            cr_assert_eq(c.calls, at);
        }
}
