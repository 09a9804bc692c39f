/* rate: lengths of steps to rates. */
#include "engine/train/rate.h"

#include <math.h>

#include "engine/train/schedule.h"

/* No stage goes further than so many steps at the automatic rate. */
#define MOST_STEPS 3.0
/* After the first steps the lowest point is two to three times as far as it is later. */
#define EARLY_STEPS 2.0
/* An early stage raises a rate where it went so far; no raise is smaller than this. */
#define LEAST_TAU 4
#define LEAST_RAISE 1.2
/* A rate so many times away from the automatic one is far from it. */
#define FAR 4.0
/* Part of the run for which a rate that was found holds. */
#define HOLD 0.8

double rate_at(const struct rate_plan *plan, double found, int64_t step) {
    if (found == 0.0)
        return plan->given *
               schedule_factor(plan->schedule, step, plan->warmup_steps, plan->total_steps);
    int64_t hold = (int64_t)(HOLD * (double)plan->total_steps);
    if (step <= hold)
        return found;
    enum lr_schedule end = plan->schedule == LR_COSINE ? LR_COSINE : LR_LINEAR;
    return found * schedule_factor(end, step - hold, 0, plan->total_steps - hold);
}

static int64_t whole(double tau, int64_t most) {
    return tau >= (double)most ? most : tau >= 1.0 ? llround(tau) : 1;
}

int64_t rate_first_tau(const struct rate_plan *plan, double rate) {
    return whole(plan->automatic / rate - 1.0, 1000000000);
}

int64_t rate_most_tau(const struct rate_plan *plan, double rate, int64_t max_tau) {
    return whole(MOST_STEPS * plan->automatic / rate, max_tau);
}

bool rate_is_near(const struct rate_plan *plan) {
    return plan->given > plan->automatic / FAR && plan->given < plan->automatic * FAR;
}

bool rate_learn(const struct rate_plan *plan, const struct rate_stage *stage, double *found) {
    double peak = *found > 0.0 ? *found : plan->given;
    double steps = 1.0 + (double)stage->tau;
    double rate = stage->rate * (stage->early ? steps / EARLY_STEPS : sqrt(steps));
    if (stage->tau < (stage->early ? LEAST_TAU : 1) || !(rate >= LEAST_RAISE * peak) ||
        rate >= FAR * plan->automatic)
        return false;
    *found = rate;
    return true;
}

bool rate_is_high(const struct rate_plan *plan, double rate, double *tau) {
    *tau = MOST_STEPS * plan->automatic / rate - 1.0;
    return rate >= FAR * plan->automatic;
}

double rate_lower(const struct rate_plan *plan) {
    return plan->automatic;
}
