/* pace: within 15 % after the first tenth of a job, whatever a step has after it. */
#include <criterion/criterion.h>
#include <math.h>

#include "server/pace.h"

/* A made-up job: what each of its steps takes. */
struct course {
    int64_t steps;
    double step;         /* seconds of a plain step */
    double drift;        /* of a step's time over the whole job: 0.3 ends 30 % slower */
    int64_t stage_every; /* steps; 0: no stages */
    double stage;        /* seconds of a stage */
    int64_t evaluate_every;
    double evaluation;
};

static double seconds_of(const struct course *c, int64_t step) {
    double s = c->step * (1 + c->drift * (double)step / (double)c->steps);
    if (c->stage_every > 0 && step % c->stage_every == 0)
        s += c->stage;
    if (c->evaluate_every > 0 && step % c->evaluate_every == 0)
        s += c->evaluation;
    return s;
}

/* FLOPs at 10 a second; evaluations of the validation file are not counted. */
static double flops_of(const struct course *c, int64_t step) {
    double s = c->step;
    if (c->stage_every > 0 && step % c->stage_every == 0)
        s += c->stage;
    return 10 * s;
}

static json_t *plan_of(const struct course *c) {
    double n = c->evaluate_every > 0 ? (double)(c->steps / c->evaluate_every) : 0;
    double stages = c->stage_every > 0 ? (double)(c->steps / c->stage_every) : 0;
    return json_pack("{s:f, s:{s:f, s:f}}", "evaluations", n, "flops", "fast_forward",
                     10 * stages * c->stage, "validation", 10 * n * c->evaluation);
}

static void note(struct pace *p, const struct course *c, int64_t step, double seconds,
                 double flops) {
    json_t *data = json_pack("{s:I, s:I, s:f, s:f}", "step", (json_int_t)step, "total_steps",
                             (json_int_t)c->steps, "seconds", seconds, "flops", flops);
    if (c->evaluate_every > 0 && step % c->evaluate_every == 0)
        json_object_set_new(data, "full_valid_loss", json_real(1));
    pace_note(p, data);
    json_decref(data);
    if (c->stage_every == 0 || step % c->stage_every != 0)
        return;
    data = json_pack("{s:I, s:{s:i}}", "step", (json_int_t)step, "fast_forward", "tau", 1);
    pace_note(p, data);
    json_decref(data);
}

/* The largest error after the first tenth, as a share of the whole time. */
static double worst(const struct course *c, bool planned, double *at_tenth) {
    struct pace p;
    json_t *plan = planned ? plan_of(c) : NULL;
    double whole = 0, now = 5, flops = 0, most = 0; /* it started 5 seconds ago */
    for (int64_t i = 1; i <= c->steps; i++)
        whole += seconds_of(c, i);
    whole += now;
    pace_init(&p, plan, 0);
    json_decref(plan);
    *at_tenth = NAN;
    for (int64_t i = 1; i <= c->steps; i++) {
        now += seconds_of(c, i);
        flops += flops_of(c, i);
        note(&p, c, i, now, flops);
        double error = fabs(now + pace_left(&p) - whole) / whole;
        if (now < 0.1 * whole || pace_left(&p) < 0)
            continue;
        if (isnan(*at_tenth))
            *at_tenth = error;
        most = fmax(most, error);
    }
    cr_expect_eq(pace_left(&p), 0);
    return most;
}

Test(pace, is_within_15_percent_after_the_first_tenth) {
    static const struct course courses[] = {
        {.steps = 50, .step = 1},
        {.steps = 3000, .step = 0.1},
        {.steps = 1000, .step = 1, .drift = 0.25},
        {.steps = 1000, .step = 1, .drift = -0.25},
        {.steps = 300, .step = 1, .stage_every = 6, .stage = 4},
        {.steps = 300, .step = 1, .stage_every = 48, .stage = 20},
        {.steps = 300, .step = 1, .evaluate_every = 100, .evaluation = 60},
        {.steps = 300,
         .step = 1,
         .stage_every = 6,
         .stage = 3,
         .evaluate_every = 60,
         .evaluation = 90},
        {.steps = 40,
         .step = 2,
         .stage_every = 6,
         .stage = 6,
         .evaluate_every = 20,
         .evaluation = 15},
        {.steps = 2000, .step = 0.05, .stage_every = 1, .stage = 0.1},
    };
    for (size_t i = 0; i < sizeof courses / sizeof courses[0]; i++) {
        double tenth = 0, most = worst(&courses[i], true, &tenth);
        cr_expect_lt(most, 0.15, "course %zu: %.3f (%.3f at a tenth)", i, most, tenth);
    }
}

Test(pace, goes_by_the_steps_where_nothing_is_planned) {
    static const struct course c = {.steps = 300, .step = 1, .stage_every = 6, .stage = 3};
    double tenth = 0;
    cr_expect_lt(worst(&c, false, &tenth), 0.15);
}

Test(pace, follows_a_device_that_slows_down) {
    struct pace p;
    static const struct course c = {.steps = 1000, .step = 1};
    double now = 0;
    pace_init(&p, NULL, 0);
    cr_expect_lt(pace_left(&p), 0, "nothing is known yet");
    for (int64_t i = 1; i <= 700; i++) {
        now += i <= 300 ? 1 : 2;
        note(&p, &c, i, now, (double)i);
        if (i == 300)
            cr_expect(fabs(pace_left(&p) - 700) < 7);
    }
    cr_expect(fabs(pace_left(&p) - 600) < 6, "%g", pace_left(&p));
}

/* A resumed attempt knows how many evaluations are behind it; a repeated step is not counted. */
Test(pace, goes_on_after_a_break) {
    struct pace p;
    static const struct course c = {
        .steps = 100, .step = 1, .evaluate_every = 25, .evaluation = 30};
    json_t *plan = plan_of(&c);
    pace_init(&p, plan, 2);
    json_decref(plan);
    for (int64_t i = 60; i <= 70; i++)
        note(&p, &c, i, 110 + (double)i, 10.0 * (double)i);
    note(&p, &c, 69, 500, 690);
    cr_expect(fabs(pace_left(&p) - (30 + 2 * 30)) < 5, "%g", pace_left(&p));
}
