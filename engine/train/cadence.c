/* cadence: gains to waits, waits bounded by cost. */
#include "engine/train/cadence.h"

#include <math.h>

/* Evaluations of a stage that finds little; no stage is due that may not make as many. */
#define LEAST_EVALUATIONS 3.0

void cadence_init(struct cadence *c) {
    *c = (struct cadence){.gap = 1, .loss = NAN};
}

/* The first stage may come at once: what is found late helps little. */
static double allowance(const struct cadence *c, const struct cadence_run *run) {
    double whole = run->training_flops / (double)run->step * (double)run->total_steps;
    if (c->spent == 0.0)
        return (CADENCE_START + CADENCE_SHARE) * whole;
    return CADENCE_START * whole + CADENCE_SHARE * run->training_flops;
}

static bool is_first(const struct cadence *c) {
    return c->flops == 0.0;
}

bool cadence_due(const struct cadence *c, const struct cadence_run *run) {
    if (is_first(c) ? run->step < run->first
                    : run->step < c->next || run->step % run->interval != 0)
        return false;
    return c->spent + LEAST_EVALUATIONS * run->evaluation_flops <= allowance(c, run);
}

int64_t cadence_budget(const struct cadence *c, const struct cadence_run *run) {
    double left = (allowance(c, run) - c->spent) / run->evaluation_flops;
    return (int64_t)fmin(fmax(left, LEAST_EVALUATIONS), 1e9);
}

static bool jump_pays(const struct cadence *c, const struct cadence_run *run,
                      const struct cadence_stage *stage) {
    double cost = (double)stage->evaluations * run->evaluation_flops;
    double went = (double)stage->tau * run->training_flops / (double)run->step;
    double gain = stage->loss_before - stage->loss_after;
    double training_gain = c->loss - stage->loss_before;
    if (!(went >= cost) || !(gain > 0.0))
        return false;
    return isnan(training_gain) || gain * (run->training_flops - c->flops) > training_gain * cost;
}

bool cadence_learn(struct cadence *c, const struct cadence_run *run,
                   const struct cadence_stage *stage) {
    bool jump = jump_pays(c, run, stage), paid = jump || stage->found_rate;
    double loss = paid ? stage->loss_after : stage->loss_before;
    if (!jump)
        c->spent += (double)stage->evaluations * run->evaluation_flops;
    if (paid)
        c->gap = 1;
    else if (c->gap < run->total_steps)
        c->gap *= 2;
    c->next = (run->step / run->interval + c->gap) * run->interval;
    c->loss = isfinite(loss) ? loss : NAN;
    c->flops = run->training_flops;
    return paid;
}
