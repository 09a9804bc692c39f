/* stage: Fast Forward inside a run: when, from where, and what follows. */
#include <math.h>

#include "engine/train/rate.h"
#include "engine/train/report.h"
#include "engine/train/run.h"

static bool is_auto(const struct run *r) {
    return r->ff.direction != NULL && r->ff.config.search == FF_AUTO;
}

static struct rate_plan rate_plan(const struct run *r) {
    return (struct rate_plan){
        .asked = r->plan.asked,
        .given = r->plan.learning_rate,
        .typical = r->plan.typical,
        .total_steps = r->plan.total_steps,
        .warmup_steps = r->plan.warmup_steps,
        .batch_size = r->plan.batch_size,
        .schedule = r->job->request->training.lr_schedule,
        .at_once = is_auto(r) && !rate_is_low(r->plan.learning_rate, r->plan.typical),
    };
}

static struct cadence_run so_far(const struct run *r) {
    const struct rate_plan plan = rate_plan(r);
    return (struct cadence_run){
        .step = r->state.step,
        .total_steps = r->plan.total_steps,
        .interval = r->ff.config.interval,
        .first = rate_first_stage(&plan),
        .training_flops = r->state.flops_training,
        .evaluation_flops = r->held.flops,
    };
}

/* Where a rate that was found falls, no jump makes it longer again. */
static bool rate_falls(const struct run *r) {
    const struct rate_plan plan = rate_plan(r);
    return r->state.rate_found > 0.0 && !rate_holds(&plan, r->state.step);
}

bool run_stage_due(const struct run *r) {
    if (r->ff.direction == NULL)
        return false;
    const struct cadence_run run = so_far(r);
    if (!is_auto(r))
        return run.step % run.interval == 0;
    return !rate_falls(r) && cadence_due(&r->state.cadence, &run);
}

double run_rate(const struct run *r, int64_t step) {
    const struct rate_plan plan = rate_plan(r);
    return rate_at(&plan, r->state.rate_found, step);
}

/* Where to start: the last stage's tau, for a direction whose length follows the learning rate. */
static int64_t first_guess(const struct run *r) {
    const struct run_state *s = &r->state;
    const struct rate_plan plan = rate_plan(r);
    if (s->stages == 0)
        return rate_first_tau(&plan, s->result.learning_rate);
    double tau = (double)s->ff_last_tau * s->ff_last_rate / s->result.learning_rate;
    return tau >= 1.0 && tau < 1e9 ? llround(tau) : s->ff_last_tau > 0;
}

static int64_t most_tau(const struct run *r) {
    const struct rate_plan plan = rate_plan(r);
    int64_t most = r->ff.config.max_steps;
    return is_auto(r) ? rate_most_tau(&plan, r->state.result.learning_rate, most) : most;
}

static double measured(double loss) {
    return isfinite(loss) ? loss : NAN;
}

/* Where the loss is lowest along the step that the stage went along; NaN where that tells nothing
 * about the rate. */
static enum err find_length(struct run *r, struct fast_forward_stage *stage, double *length,
                            struct err_msg *em) {
    const struct run_state *s = &r->state;
    const struct rate_plan plan = rate_plan(r);
    *length = NAN;
    if (!is_auto(r) || s->rate_settled ||
        !rate_is_open(&plan, s->rate_found, s->step, s->result.learning_rate))
        return ERR_OK;
    *length = 1.0 + (double)stage->search.tau;
    return stage->search.tau > 0 ? ERR_OK : fast_forward_length(&r->ff, stage, length, em);
}

static bool is_limited(const struct run *r, const struct line_search_result *found) {
    return found->tau == r->ff.config.max_steps && found->loss_after < found->loss_before;
}

/* What follows for the rate: true where it is another one now. */
static bool learn_rate(struct run *r, const struct fast_forward_stage *done, double length) {
    struct run_state *s = &r->state;
    const struct rate_plan plan = rate_plan(r);
    double before = s->rate_found > 0.0 ? s->rate_found : plan.given;
    const struct rate_stage stage = {
        .rate = s->result.learning_rate,
        .length = length,
        .number = s->stages,
        .early = s->stages == 1 && rate_is_low(plan.given, plan.typical),
        .limited = is_limited(r, &done->search),
    };
    bool found = !s->rate_settled && rate_learn(&plan, &stage, &s->rate_found);
    if (found)
        report_message(
            r->hooks, EVENT_INFO,
            json_pack("{sIsf}", "step", (json_int_t)s->step, "learning_rate", s->rate_found),
            "Fast Forward at step %lld: the learning rate is %s from %.3g to %.3g",
            (long long)s->step, s->rate_found < before ? "lowered" : "raised", before,
            s->rate_found);
    return found;
}

void run_watch_loss(struct run *r) {
    struct run_state *s = &r->state;
    if (!is_auto(r) || rate_falls(r) ||
        !r->job->request->training.shuffle) /* rows in file order may grow harder */
        return;
    if (!trend_add(&s->trend, trend_window(r->plan.total_steps), s->result.train_loss))
        return;
    double before = s->result.learning_rate;
    s->rate_found = rate_after_rise(before);
    s->rate_settled = 1;
    s->averaged = 0;
    report_message(r->hooks, EVENT_INFO,
                   json_pack("{sIsf}", "step", (json_int_t)s->step, "learning_rate", s->rate_found),
                   "Step %lld: the loss of training rises; the learning rate is lowered from %.3g "
                   "to %.3g",
                   (long long)s->step, before, s->rate_found);
}

void run_average(struct run *r) {
    struct run_state *s = &r->state;
    s->phase = PHASE_EVAL;
    if (r->average.mean == NULL)
        return;
    double peak = s->rate_found > 0.0 ? s->rate_found : r->plan.learning_rate;
    double part = fmin(s->result.learning_rate / peak, 1.0);
    s->averaged++;
    average_add(&r->average, average_weight(s->step, s->averaged, part));
}

/* What follows for rate, jump, momentum and the next stage. */
static void learn(struct run *r, struct fast_forward_stage *done, double length) {
    const struct cadence_run run = so_far(r);
    const struct cadence_stage stage = {
        .tau = done->search.tau,
        .evaluations = done->search.evaluations,
        .loss_before = done->search.loss_before,
        .loss_after = done->search.loss_after,
        .found_rate = learn_rate(r, done, length),
    };
    if (!cadence_learn(&r->state.cadence, &run, &stage) && stage.tau > 0)
        fast_forward_undo(&r->ff, done);
    /* The momentum points along the step, which the loss falls along no further: what dropping it
     * brings is in docs/FAST_FORWARD.md, "momentum". */
    if (done->search.tau > 0)
        optimizer_forget(&r->optimizer);
}

static void warn_of_loss(const struct run *r, const struct line_search_result *found) {
    report_message(
        r->hooks, EVENT_WARN, json_pack("{sI}", "step", (json_int_t)r->state.step),
        "Fast Forward at step %lld: the loss was not finite at %lld of %lld points; "
        "the adapter %s",
        (long long)r->state.step, (long long)found->not_finite, (long long)found->evaluations,
        found->tau == 0 ? "is as it was before the stage" : "is at the best of the others");
}

static void warn_of_limit(const struct run *r) {
    report_message(r->hooks, EVENT_WARN, json_pack("{sI}", "step", (json_int_t)r->state.step),
                   "Fast Forward at step %lld: the loss still fell at %lld simulated steps, the "
                   "most that fast_forward.max_steps allows; the learning rate (%.3g) is low",
                   (long long)r->state.step, (long long)r->ff.config.max_steps,
                   r->state.result.learning_rate);
}

/* The step's result and the run's totals. */
static void note(struct run_state *s, const struct fast_forward_stage *stage) {
    const struct line_search_result *found = &stage->search;
    s->result.ff_tau = found->tau;
    s->result.ff_evaluations = found->evaluations;
    s->result.ff_loss_before = measured(found->loss_before);
    s->result.ff_loss_after = measured(found->loss_after);
    s->result.ff_flops = stage->flops;
    s->result.valid_loss = measured(stage->best.loss);
    s->result.valid_accuracy = stage->best.accuracy;
    s->flops_fast_forward += stage->flops;
    s->simulated += found->tau;
    s->evaluations += found->evaluations;
}

enum err run_stage(struct run *r, struct err_msg *em) {
    struct run_state *s = &r->state;
    struct fast_forward_stage stage;
    const struct cadence_run run = so_far(r);
    const struct fast_forward_bounds bounds = {
        .guess = first_guess(r),
        .most_tau = most_tau(r),
        .budget = cadence_budget(&s->cadence, &run),
    };
    enum err e = fast_forward_stage_run(&r->ff, &bounds, &stage, em);
    double length = NAN;
    if (e == ERR_OK)
        e = find_length(r, &stage, &length, em);
    if (e != ERR_OK)
        return e;
    const struct line_search_result found = stage.search;
    s->ff_last_tau = found.tau;
    s->ff_last_rate = s->result.learning_rate;
    s->stages++;
    if (is_auto(r))
        learn(r, &stage, length);
    if (stage.search.tau > 0) /* the steps before are far behind */
        s->averaged = 0;
    note(s, &stage);
    if (found.not_finite > 0)
        warn_of_loss(r, &stage.search);
    if (is_limited(r, &found))
        warn_of_limit(r);
    s->phase = PHASE_AVERAGE;
    return ERR_OK;
}
