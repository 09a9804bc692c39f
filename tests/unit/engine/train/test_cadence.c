/* When stages come and what they cost, for training steps of 100 FLOPs. */
#include "engine/train/cadence.h"

#include <criterion/criterion.h>
#include <math.h>

#define STEP_FLOPS 100.0
#define FIRST 3 /* step of the first stage */

static struct cadence_run at(int64_t step, int64_t total, double evaluation_flops) {
    return (struct cadence_run){
        .step = step,
        .total_steps = total,
        .interval = 6,
        .first = FIRST,
        .training_flops = STEP_FLOPS * (double)step,
        .evaluation_flops = evaluation_flops,
    };
}

/* A run whose stages all give the same; returns what they cost, in steps of training. */
static double cost_of(int64_t total, double evaluation_flops, const struct cadence_stage *s,
                      int *stages) {
    struct cadence c;
    double spent = 0;
    *stages = 0;
    cadence_init(&c);
    for (int64_t step = 1; step <= total; step++) {
        struct cadence_run run = at(step, total, evaluation_flops);
        if (!cadence_due(&c, &run))
            continue;
        (void)cadence_learn(&c, &run, s);
        spent += (double)s->evaluations * evaluation_flops;
        ++*stages;
    }
    return spent / STEP_FLOPS;
}

Test(cadence, stages_that_find_nothing_cost_a_twentieth_at_most) {
    const struct cadence_stage nothing = {.evaluations = 3, .loss_before = 1, .loss_after = 1};
    const int64_t totals[] = {1, 7, 12, 50, 200, 1000, 20000};
    const double evaluations[] = {1, 25, 100, 400, 3000};
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++)
        for (size_t k = 0; k < sizeof evaluations / sizeof evaluations[0]; k++) {
            int stages;
            double spent = cost_of(totals[i], evaluations[k], &nothing, &stages);
            cr_assert_leq(spent, 0.05 * (double)totals[i]);
        }
}

Test(cadence, the_bound_holds_wherever_the_run_ends) {
    const struct cadence_stage nothing = {.evaluations = 3, .loss_before = 1, .loss_after = 1};
    struct cadence c;
    double spent = 0;
    cadence_init(&c);
    for (int64_t step = 1; step <= 400; step++) {
        struct cadence_run run = at(step, 400, 30);
        if (cadence_due(&c, &run)) {
            (void)cadence_learn(&c, &run, &nothing);
            spent += 90;
        }
        if (step >= 200)
            cr_assert_leq(spent, 0.06 * STEP_FLOPS * (double)step);
    }
}

/* The evaluations of stages that use up what they may, and find nothing. */
Test(cadence, a_budget_that_is_used_up_stays_in_the_allowance) {
    const int64_t totals[] = {12, 50, 200, 1000, 20000};
    const double evaluations[] = {1, 25, 100, 400};
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++)
        for (size_t k = 0; k < sizeof evaluations / sizeof evaluations[0]; k++) {
            struct cadence c;
            double spent = 0;
            cadence_init(&c);
            for (int64_t step = 1; step <= totals[i]; step++) {
                struct cadence_run run = at(step, totals[i], evaluations[k]);
                if (!cadence_due(&c, &run))
                    continue;
                const struct cadence_stage nothing = {
                    .evaluations = cadence_budget(&c, &run), .loss_before = 1, .loss_after = 1};
                cr_assert_geq(nothing.evaluations, 3);
                (void)cadence_learn(&c, &run, &nothing);
                spent += (double)nothing.evaluations * evaluations[k];
            }
            cr_assert_leq(spent, (CADENCE_START + CADENCE_SHARE) * STEP_FLOPS * (double)totals[i]);
        }
}

Test(cadence, stages_that_pay_follow_each_other) {
    const struct cadence_stage good = {
        .tau = 50, .evaluations = 8, .loss_before = 2, .loss_after = 1};
    int stages;
    (void)cost_of(60, 25, &good, &stages);
    cr_assert_eq(stages, 11); /* after steps 3, 6, 12, … 60 */
}

Test(cadence, after_a_stage_that_found_another_rate_the_next_comes_soon_at_its_cost) {
    struct cadence c;
    const struct cadence_stage s = {
        .tau = 5, .evaluations = 30, .loss_before = 3, .loss_after = 2.999, .found_rate = true};
    struct cadence_run run = at(6, 1000, 100);
    cadence_init(&c);
    cr_assert(cadence_learn(&c, &run, &s));
    cr_assert_eq(c.next, 12);
    cr_assert_float_eq(c.spent, 3000, 1e-9);
}

Test(cadence, the_first_stage_comes_early_whatever_the_interval) {
    for (int64_t interval = 1; interval <= 1000; interval *= 10) {
        struct cadence c;
        cadence_init(&c);
        for (int64_t step = 1; step <= FIRST; step++) {
            struct cadence_run run = at(step, 1000, 10);
            run.interval = interval;
            cr_assert_eq(cadence_due(&c, &run), step == FIRST);
        }
    }
}

Test(cadence, the_first_stage_may_come_later) {
    struct cadence c;
    cadence_init(&c);
    for (int64_t step = 1; step <= 2 * FIRST; step++) {
        struct cadence_run run = at(step, 1000, 10);
        run.first = 2 * FIRST;
        cr_assert_eq(cadence_due(&c, &run), step == 2 * FIRST);
    }
}

Test(cadence, a_gain_below_that_of_training_does_not_pay) {
    struct cadence c;
    struct cadence_stage s = {.tau = 50, .evaluations = 8, .loss_before = 3, .loss_after = 2};
    struct cadence_run run = at(6, 1000, 25);
    cadence_init(&c);
    (void)cadence_learn(&c, &run, &s);
    cr_assert_eq(c.next, 12);
    run = at(12, 1000, 25); /* training: 0.6 for 600 FLOPs; the stage: 0.1 for 200 */
    s = (struct cadence_stage){.tau = 50, .evaluations = 8, .loss_before = 1.4, .loss_after = 1.3};
    cr_assert_not(cadence_learn(&c, &run, &s));
    cr_assert_float_eq(c.loss, 1.4, 0); /* the jump is taken back */
    cr_assert_eq(c.next, 24);
    run = at(24, 1000, 25); /* training: nothing */
    s = (struct cadence_stage){.tau = 50, .evaluations = 8, .loss_before = 1.3, .loss_after = 1.2};
    (void)cadence_learn(&c, &run, &s);
    cr_assert_eq(c.next, 30);
}

Test(cadence, few_steps_for_many_flops_do_not_pay) {
    struct cadence c;
    const struct cadence_stage s = {.tau = 1, .evaluations = 8, .loss_before = 3, .loss_after = 1};
    struct cadence_run run = at(6, 1000, 25);
    cadence_init(&c);
    (void)cadence_learn(&c, &run, &s);
    cr_assert_eq(c.next, 18);
    cr_assert_float_eq(c.spent, 200, 1e-9);
}

Test(cadence, a_loss_that_is_not_finite_never_pays) {
    struct cadence c;
    const struct cadence_stage s = {
        .tau = 0, .evaluations = 2, .loss_before = INFINITY, .loss_after = INFINITY};
    struct cadence_run run = at(6, 1000, 25);
    cadence_init(&c);
    (void)cadence_learn(&c, &run, &s);
    cr_assert_eq(c.next, 18);
    cr_assert(isnan(c.loss));
}
