/* The learning rate and the waits that follow from stages. */
#include "engine/train/pace.h"

#include <criterion/criterion.h>
#include <math.h>

static const struct pace_plan plan = {
    .start = 1e-3,
    .automatic = 5e-3,
    .total_steps = 200,
    .interval = 6,
    .schedule = LR_LINEAR,
};

/* A stage at a step, of training steps of 100 FLOPs and evaluations of 10. */
static struct pace_stage stage(int64_t step, double rate, double vertex, double before,
                               double after) {
    return (struct pace_stage){
        .step = step,
        .rate = rate,
        .vertex = vertex,
        .loss_before = before,
        .loss_after = after,
        .evaluation_flops = 10,
        .evaluations = 4,
        .training_flops = 100.0 * (double)step,
    };
}

static struct pace after_first(double rate, double vertex) {
    struct pace p;
    pace_init(&p, &plan);
    struct pace_stage s = stage(2, rate, vertex, 5.0, 4.0);
    pace_learn(&p, &plan, &s);
    return p;
}

Test(pace, first_steps_are_short_whatever_the_start) {
    struct pace p;
    struct pace_plan high = plan, low = plan;
    high.start = 10.0;
    low.start = 1e-6;
    pace_init(&p, &high);
    cr_assert_float_eq(pace_rate(&p, &high, 0), 5e-5, 1e-12);
    cr_assert_float_eq(pace_rate(&p, &low, 1), 1e-6, 1e-15);
    cr_assert_not(pace_due(&p, 1));
    cr_assert(pace_due(&p, 2));
    cr_assert_eq(pace_guess(&p, &plan, 5e-5), 19); /* where start is */
    cr_assert_eq(pace_guess(&p, &low, 1e-6), 1);
}

Test(pace, a_run_of_one_step_has_its_stage) {
    struct pace p;
    struct pace_plan one = plan;
    one.total_steps = 1;
    pace_init(&p, &one);
    cr_assert(pace_due(&p, 1));
}

Test(pace, the_first_estimate_is_the_rate_at_any_rate_it_was_measured_at) {
    cr_assert_float_eq(after_first(1e-5, 999).rate, 1e-2, 1e-12);
    cr_assert_float_eq(after_first(1e-3, 9).rate, 1e-2, 1e-12);
    cr_assert_float_eq(after_first(4e-2, -0.75).rate, 1e-2, 1e-12);
}

Test(pace, the_rate_is_the_geometric_mean_of_the_early_estimates) {
    struct pace p = after_first(1e-5, 999);
    struct pace_stage s = stage(6, 1e-2, 3, 3.9, 3.5);
    pace_learn(&p, &plan, &s);
    cr_assert_float_eq(p.rate, 2e-2, 1e-12);
    s = stage(12, 2e-2, -0.9, 3.0, 3.0); /* less than a quarter is not believed */
    pace_learn(&p, &plan, &s);
    cr_assert_float_eq(p.rate, pow(1e-2 * 4e-2 * 5e-3, 1.0 / 3.0), 1e-12);
}

Test(pace, later_estimates_raise_and_a_loss_that_rose_halves) {
    struct pace p = after_first(1e-5, 999);
    struct pace_stage s = stage(60, 1e-2, -0.5, 3.0, 3.0);
    pace_learn(&p, &plan, &s);
    cr_assert_float_eq(p.rate, 1e-2, 1e-15); /* not followed down */
    s = stage(90, 1e-2, 3, 2.9, 2.5);
    pace_learn(&p, &plan, &s);
    cr_assert_float_eq(p.rate, 2e-2, 1e-12);
    s = stage(120, 1e-2, 0, 2.6, 2.6);
    pace_learn(&p, &plan, &s);
    cr_assert_float_eq(p.rate, 1e-2, 1e-12);
    s = stage(150, 1e-2, NAN, NAN, NAN);
    pace_learn(&p, &plan, &s);
    cr_assert_float_eq(p.rate, 5e-3, 1e-12);
}

Test(pace, held_for_half_of_the_run_then_falls_to_zero) {
    struct pace p = after_first(1e-5, 999);
    cr_assert_float_eq(pace_rate(&p, &plan, 2), 1e-2, 1e-12);
    cr_assert_float_eq(pace_rate(&p, &plan, 100), 1e-2, 1e-12);
    cr_assert_float_eq(pace_rate(&p, &plan, 150), 5e-3, 1e-12);
    cr_assert_float_eq(pace_rate(&p, &plan, 199), 1e-4, 1e-12);
}

Test(pace, stages_that_do_not_pay_come_rarer_and_end) {
    struct pace p = after_first(1e-5, 999);
    cr_assert_eq(p.next, 6);
    struct pace_stage s = stage(6, 1e-2, 0.2, 3.0, 3.0);
    pace_learn(&p, &plan, &s);
    cr_assert_eq(p.next, 18);
    s = stage(18, 1e-2, 5, 2.9, 2.0); /* 0.9 for 40 FLOPs, training 0.1 for 1200 */
    pace_learn(&p, &plan, &s);
    cr_assert_eq(p.next, 24);
    double spent = 40;
    int stages = 0;
    while (p.next <= plan.total_steps) {
        s = stage(p.next, 1e-2, 0, 1.0, 1.0);
        pace_learn(&p, &plan, &s);
        spent += 40;
        stages++;
    }
    cr_assert(stages >= 2 && stages <= 6);
    cr_assert_leq(spent, PACE_SHARE * 200 * 100 + 40);
}
