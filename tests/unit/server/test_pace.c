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
    return json_pack("{s:f, s:{s:f, s:f, s:f}}", "evaluations", n, "flops", "training",
                     10 * c->step * (double)c->steps, "fast_forward", 10 * stages * c->stage,
                     "validation", 10 * n * c->evaluation);
}

static void init(struct pace *p, const struct course *c, const json_t *estimate) {
    pace_init(p, &(struct pace_plan){.estimate = estimate, .interval = c->stage_every});
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
    init(&p, c, plan);
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

/* ---- recorded runs -------------------------------------------------------------------------- */

/* traces/NAME.json: real runs, recorded by traces/record.py. */
static json_t *read_trace(const char *name) {
    char path[160];
    json_error_t je;
    (void)snprintf(path, sizeof path, "tests/unit/server/traces/%s.json", name);
    json_t *trace = json_load_file(path, 0, &je);
    cr_assert_not_null(trace, "%s: %s", path, je.text);
    return trace;
}

static double number(const json_t *row, size_t i) {
    return json_number_value(json_array_get(row, i));
}

/* A row is step, seconds, FLOPs, whether the validation file was evaluated, FLOPs of a stage. */
static void note_row(struct pace *p, const json_t *row, int64_t total) {
    json_t *data =
        json_pack("{s:I, s:I, s:f, s:f}", "step", (json_int_t)number(row, 0), "total_steps",
                  (json_int_t)total, "seconds", number(row, 1), "flops", number(row, 2));
    if (number(row, 3) > 0)
        json_object_set_new(data, "full_valid_loss", json_real(1));
    pace_note(p, data);
    json_decref(data);
    if (!(number(row, 4) > 0))
        return;
    data = json_pack("{s:I, s:{}}", "step", (json_int_t)number(row, 0), "fast_forward");
    pace_note(p, data);
    json_decref(data);
}

/* The largest error after the first tenth of the run, begun at row `from` as after a restart of the
 * server: what the job's row has of the steps before is all that is known then. */
static double replay(const json_t *trace, bool adapts, size_t from) {
    struct pace p;
    const json_t *steps = json_object_get(trace, "steps");
    double whole = json_number_value(json_object_get(trace, "whole")), most = 0, began = 0;
    struct pace_plan plan = {
        .estimate = json_object_get(trace, "estimate"), .interval = 6, .adapts = adapts};
    for (size_t i = 0; i < from; i++) {
        const json_t *row = json_array_get(steps, i);
        plan.step = (int64_t)number(row, 0);
        plan.stages += number(row, 4) > 0;
        plan.evaluations_done += number(row, 3);
        began = number(row, 1);
    }
    pace_init(&p, &plan);
    for (size_t i = from; i < json_array_size(steps); i++) {
        const json_t *row = json_array_get(steps, i);
        note_row(&p, row, (int64_t)json_array_size(steps));
        if (number(row, 1) - began >= 0.1 * (whole - began))
            most = fmax(most, fabs(number(row, 1) + pace_left(&p) - whole) / (whole - began));
    }
    cr_expect_eq(pace_left(&p), 0);
    return most;
}

Test(pace, of_recorded_runs_is_within_15_percent_after_the_first_tenth) {
    static const char *const names[] = {"defaults", "fixed_rate", "evaluations", "without"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *trace = read_trace(names[i]);
        double whole = replay(trace, true, 0);
        double third = replay(trace, true, json_array_size(json_object_get(trace, "steps")) / 3);
        cr_expect_lt(whole, 0.15, "%s: %.3f", names[i], whole);
        cr_expect_lt(third, 0.15, "%s, resumed: %.3f", names[i], third);
        json_decref(trace);
    }
}

/* The linear search runs every stage however long: in this run a tenth of them took half of all the
 * time, which nothing told before. */
Test(pace, of_a_recorded_linear_search_is_within_a_third) {
    json_t *trace = read_trace("linear_search");
    cr_expect_lt(replay(trace, false, 0), 0.33);
    json_decref(trace);
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
    init(&p, &c, NULL);
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
    pace_init(&p, &(struct pace_plan){.estimate = plan, .evaluations_done = 2, .step = 59});
    json_decref(plan);
    for (int64_t i = 60; i <= 70; i++)
        note(&p, &c, i, 110 + (double)i, 10.0 * (double)i);
    note(&p, &c, 69, 500, 690);
    cr_expect(fabs(pace_left(&p) - (30 + 2 * 30)) < 5, "%g", pace_left(&p));
}
