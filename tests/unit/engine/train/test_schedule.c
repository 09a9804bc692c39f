/* The schedules against values that transformers computed (make_schedule.py). */
#include "engine/train/schedule.h"

#include <criterion/criterion.h>
#include <math.h>

#include "schedule_values.h"

Test(schedule, factors_are_those_of_transformers) {
    for (size_t c = 0; c < sizeof schedule_cases / sizeof schedule_cases[0]; c++) {
        const struct schedule_case *want = &schedule_cases[c];
        for (int64_t step = 0; step < want->total; step++) {
            double got = schedule_factor(want->kind, step, want->warmup, want->total);
            cr_assert(fabs(got - want->factor[step]) < 1e-12,
                      "case %zu step %lld: %.17g, not %.17g", c, (long long)step, got,
                      want->factor[step]);
        }
    }
}

Test(schedule, warmup_is_rounded_up) {
    cr_assert_eq(schedule_warmup_steps(0.03, 100), 3);
    cr_assert_eq(schedule_warmup_steps(0.03, 101), 4);
    cr_assert_eq(schedule_warmup_steps(0.0, 50), 0);
    cr_assert_eq(schedule_warmup_steps(1.0, 50), 50);
}
