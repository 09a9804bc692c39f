/* stage: Fast Forward inside a run: when, from where, and what follows from it. */
#include <math.h>

#include "engine/train/report.h"
#include "engine/train/run.h"

bool run_paced(const struct run *r) {
    return r->ff.direction != NULL && r->ff.config.search == FF_AUTO;
}

struct pace_plan run_pace_plan(const struct run *r) {
    return (struct pace_plan){
        .start = r->plan.learning_rate,
        .automatic = plan_auto_learning_rate(model_config(r->job->model)),
        .total_steps = r->plan.total_steps,
        .interval = r->job->request->fast_forward.interval,
        .schedule = r->job->request->training.lr_schedule,
    };
}

bool run_stage_due(const struct run *r) {
    const struct run_state *s = &r->state;
    return run_paced(r) ? pace_due(&s->pace, s->step) : fast_forward_due(&r->ff, s->step);
}

static void learn(struct run *r, const struct line_search_result *found) {
    struct run_state *s = &r->state;
    const struct pace_plan plan = run_pace_plan(r);
    const struct pace_stage stage = {
        .step = s->step,
        .rate = s->result.learning_rate,
        .vertex = found->vertex,
        .loss_before = found->loss_before,
        .loss_after = found->loss_after,
        .evaluation_flops = r->held.flops,
        .evaluations = found->evaluations,
        .training_flops = s->flops_training,
    };
    pace_learn(&s->pace, &plan, &stage);
    s->result.ff_rate = s->pace.rate;
}

static void warn_of_loss(const struct run *r, const struct line_search_result *found) {
    report_message(r->hooks, EVENT_WARN, json_pack("{sI}", "step", (json_int_t)r->state.step),
                   "Fast Forward at step %lld: the loss was not finite at %lld of %lld points; the "
                   "adapter is at the best of the others",
                   (long long)r->state.step, (long long)found->not_finite,
                   (long long)found->evaluations);
}

enum err run_stage(struct run *r, struct err_msg *em) {
    struct run_state *s = &r->state;
    struct fast_forward_stage stage;
    int64_t guess = 0;
    if (run_paced(r)) {
        const struct pace_plan plan = run_pace_plan(r);
        guess = pace_guess(&s->pace, &plan, s->result.learning_rate);
    }
    enum err e = fast_forward_stage_run(&r->ff, guess, &stage, em);
    if (e != ERR_OK)
        return e;
    const struct line_search_result *found = &stage.search;
    s->result.ff_tau = found->tau;
    s->result.ff_evaluations = found->evaluations;
    s->result.ff_loss_before = found->loss_before;
    s->result.ff_loss_after = found->loss_after;
    s->result.valid_loss = stage.best.loss;
    s->result.valid_accuracy = stage.best.accuracy;
    s->flops_fast_forward += stage.flops;
    s->stages++;
    s->simulated += found->tau;
    s->evaluations += found->evaluations;
    if (run_paced(r))
        learn(r, found);
    if (found->not_finite > 0)
        warn_of_loss(r, found);
    s->phase = PHASE_EVAL;
    return ERR_OK;
}
