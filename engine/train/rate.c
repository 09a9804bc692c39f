/* rate: lengths of steps to rates. */
#include "engine/train/rate.h"

#include <math.h>

#include "engine/train/schedule.h"

/* No stage goes further than so many steps at the typical rate. */
#define MOST_STEPS 3.0
/* No rate is raised above so many times the typical one: at rates above the best one the lowest
 * point is as far as at the best. By the noise of their gradients batches stand a rate that grows
 * as the root of their rows (Malladi et al., NeurIPS 2022): larger ones than this up to so many
 * times more, those of one to three rows the root of their number. */
#define MOST_RATE 2.0
#define LARGE_BATCH 16.0
#define MOST_BY_BATCH 1.5
/* After the first steps the lowest point is two to three times as far as it is later. */
#define EARLY_STEPS 2.0
/* The first estimate goes beyond the lowest point: what longer steps lose to noise, the fall of the
 * rate at the end wins back. */
#define BEYOND 1.25
/* The first guess of a first stage, in steps at the typical rate. */
#define GUESS 2.0
/* An early stage raises a rate where it went further, in steps; no change is smaller than this. */
#define LEAST_LENGTH 4.0
#define LEAST_CHANGE 1.2
/* What a schedule has brought below this part of its peak tells nothing about the peak. */
#define LEAST_PART 0.5
/* A rate so many times away from the typical one is far from it. */
#define FAR 4.0
/* The step that the first stage of a run follows that began below the rate asked for. */
#define FIRST_BELOW 4
/* Part of the run over which a rate that was found falls, at the end: this / batch, but so much at
 * least and at most. The noise of small batches takes longer to average out. */
#define FALL 2.4
#define LEAST_FALL 0.15
#define MOST_FALL 0.4
#define AFTER_RISE 0.5

static int64_t hold_steps(const struct rate_plan *plan) {
    double fall = fmin(fmax(FALL / (double)plan->batch_size, LEAST_FALL), MOST_FALL);
    return (int64_t)((1.0 - fall) * (double)plan->total_steps);
}

double rate_start(double asked, double may_be_right, double automatic) {
    return asked < FAR * may_be_right ? asked : automatic;
}

bool rate_is_low(double rate, double typical) {
    return rate <= typical / FAR;
}

bool rate_holds(const struct rate_plan *plan, int64_t step) {
    return step <= hold_steps(plan);
}

bool rate_is_open(const struct rate_plan *plan, double found, int64_t step, double rate) {
    double peak = found > 0.0 ? found : plan->given;
    return rate_holds(plan, step) && (step <= plan->warmup_steps || rate >= LEAST_PART * peak);
}

static double factor_as_given(const struct rate_plan *plan, int64_t step) {
    if (plan->at_once && step < plan->warmup_steps)
        return (double)(step + 1) / (double)(plan->warmup_steps + 1);
    return schedule_factor(plan->schedule, step, plan->warmup_steps, plan->total_steps);
}

double rate_at(const struct rate_plan *plan, double found, int64_t step) {
    if (found == 0.0)
        return plan->given * factor_as_given(plan, step);
    if (rate_holds(plan, step))
        return found;
    int64_t hold = hold_steps(plan);
    enum lr_schedule end = plan->schedule == LR_COSINE ? LR_COSINE : LR_LINEAR;
    return found * schedule_factor(end, step - hold, 0, plan->total_steps - hold);
}

static int64_t whole(double tau, int64_t most) {
    return tau >= (double)most ? most : tau >= 1.0 ? llround(tau) : 1;
}

static bool began_lower(const struct rate_plan *plan) {
    return plan->given < plan->asked;
}

int64_t rate_first_tau(const struct rate_plan *plan, double rate) {
    return whole(GUESS * plan->typical / rate - 1.0, 1000000000);
}

int64_t rate_most_tau(const struct rate_plan *plan, double rate, int64_t max_tau) {
    double most = fmax(MOST_STEPS * plan->typical, began_lower(plan) ? plan->asked : 0.0);
    return whole(most / rate, max_tau);
}

int64_t rate_first_stage(const struct rate_plan *plan) {
    if (began_lower(plan))
        return FIRST_BELOW;
    return plan->warmup_steps > 0 && !plan->at_once ? 2 : 1; /* the first of a warm-up has rate 0 */
}

/* The rate that a stage speaks for: the first alone, or with the rate given where that is not low
 * and it would raise it, since a rise that harms is not undone; each later one as much as any
 * before it. */
static double rate_told(const struct rate_stage *stage, double peak) {
    double lowest = stage->rate * stage->length, beyond = BEYOND * lowest;
    if (stage->early)
        return beyond / (stage->limited ? 1.0 : EARLY_STEPS);
    if (stage->number == 1)
        return beyond > peak ? sqrt(beyond * peak) : beyond;
    return peak * pow(lowest / peak, 1.0 / (double)stage->number);
}

static double most_rate(const struct rate_plan *plan) {
    double rows = (double)plan->batch_size;
    double larger = fmin(fmax(sqrt(rows / LARGE_BATCH), 1.0), MOST_BY_BATCH);
    return fmin(MOST_RATE * larger, sqrt(rows)) * plan->typical;
}

/* The rate asked for may have been right where the run began at a lower one: the first stage may go
 * there with half of what it found. */
static double rate_above(const struct rate_plan *plan, const struct rate_stage *stage) {
    if (stage->number != 1 || !began_lower(plan))
        return 0.0;
    return fmin(BEYOND * stage->rate * stage->length / EARLY_STEPS, plan->asked);
}

bool rate_learn(const struct rate_plan *plan, const struct rate_stage *stage, double *found) {
    double peak = *found > 0.0 ? *found : plan->given;
    if (!(stage->length > (stage->early ? LEAST_LENGTH : 0.0)))
        return false;
    double rate = fmin(rate_told(stage, peak), fmax(most_rate(plan), peak));
    rate = fmax(rate, rate_above(plan, stage));
    bool another = fabs(log(rate / peak)) >= log(LEAST_CHANGE);
    if (another || *found > 0.0)
        *found = rate;
    return another;
}

double rate_after_rise(double rate) {
    return AFTER_RISE * rate;
}
