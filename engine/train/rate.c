/* rate: lengths of steps to rates. */
#include "engine/train/rate.h"

#include <math.h>

#include "engine/train/schedule.h"

/* The lowest point along a step, in steps of the rate that is good for training. */
#define STEPS_TO_LOWEST 3.0
/* A rate is raised where a stage went so far, and then by so much at least. */
#define LEAST_TAU 4
#define LEAST_RAISE 1.5
/* A rate so many times the automatic one is high. */
#define HIGH 4.0
/* Part of the run for which a rate that was found holds. */
#define HOLD 0.8

double rate_at(const struct rate_plan *plan, double found, int64_t step) {
    if (found == 0.0)
        return plan->given *
               schedule_factor(plan->schedule, step, plan->warmup_steps, plan->total_steps);
    int64_t hold = (int64_t)(HOLD * (double)plan->total_steps);
    if (step <= hold)
        return found;
    return found * schedule_factor(plan->schedule, step - hold, 0, plan->total_steps - hold);
}

static int64_t whole(double tau, int64_t most) {
    return tau >= (double)most ? most : tau >= 1.0 ? llround(tau) : 1;
}

int64_t rate_first_tau(const struct rate_plan *plan, double rate) {
    return whole(plan->automatic / rate - 1.0, 1000000000);
}

int64_t rate_most_tau(const struct rate_plan *plan, double rate, int64_t max_tau) {
    return whole(STEPS_TO_LOWEST * plan->automatic / rate, max_tau);
}

bool rate_learn(const struct rate_plan *plan, double rate, int64_t tau, double *found) {
    double peak = *found > 0.0 ? *found : plan->given;
    double best = rate * (1.0 + (double)tau) / STEPS_TO_LOWEST;
    if (tau < LEAST_TAU || !(best >= LEAST_RAISE * peak))
        return false;
    *found = best;
    return true;
}

bool rate_is_high(const struct rate_plan *plan, double rate, double *tau) {
    *tau = STEPS_TO_LOWEST * plan->automatic / rate - 1.0;
    return rate >= HIGH * plan->automatic;
}

double rate_lower(const struct rate_plan *plan) {
    return plan->automatic;
}
