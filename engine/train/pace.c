/* pace: estimates to a rate, gains to a wait. */
#include "engine/train/pace.h"

#include <math.h>

#include "engine/train/schedule.h"

/* Steps before the first estimate are this much shorter than the model's width suggests. */
#define PROBE 0.01
/* One estimate moves the next by at most this factor, either way. */
#define TRUST 4.0
/* Part of the run whose estimates make the rate. */
#define FINDING 0.1
/* Evaluations of a stage that finds nothing. */
#define LEAST_EVALUATIONS 3.0

void pace_init(struct pace *p, const struct pace_plan *plan) {
    *p = (struct pace){
        .gap = 1,
        .next = plan->total_steps < PACE_FIRST ? plan->total_steps : PACE_FIRST,
        .loss = NAN,
    };
}

static double probe_rate(const struct pace_plan *plan) {
    return fmin(plan->start, PROBE * plan->automatic);
}

double pace_rate(const struct pace *p, const struct pace_plan *plan, int64_t step) {
    if (p->estimates == 0)
        return probe_rate(plan);
    int64_t hold = plan->total_steps / 2, falling = step - hold;
    if (falling <= 0)
        return p->rate;
    enum lr_schedule kind = plan->schedule == LR_COSINE ? LR_COSINE : LR_LINEAR;
    return p->rate * schedule_factor(kind, falling, 0, plan->total_steps - hold);
}

bool pace_due(const struct pace *p, int64_t step) {
    return step == p->next;
}

int64_t pace_guess(const struct pace *p, const struct pace_plan *plan, double rate) {
    double tau = (p->estimates > 0 ? p->estimate : plan->start) / rate - 1.0;
    return tau >= 1.0 && tau < 1e9 ? llround(tau) : 1;
}

static bool rose(const struct pace *p, const struct pace_stage *s) {
    return p->estimates > 0 && !(s->loss_before <= p->loss);
}

/* The rate that a line search along the last step would have taken. */
static double estimate_of(const struct pace *p, const struct pace_stage *s) {
    double length = isnan(s->vertex) ? 1.0 : 1.0 + s->vertex;
    length = fmax(length, 1.0 / TRUST);
    if (p->estimates > 0)
        length = fmin(length, TRUST);
    return s->rate * length;
}

static void learn_rate(struct pace *p, const struct pace_plan *plan, const struct pace_stage *s) {
    p->estimate = estimate_of(p, s);
    bool finding = (double)s->step <= FINDING * (double)plan->total_steps;
    if (p->estimates == 0) {
        p->rate = p->estimate;
        p->estimates = 1;
    } else if (finding) {
        double n = (double)++p->estimates;
        p->rate *= pow(p->estimate / p->rate, 1.0 / n);
    } else if (rose(p, s)) {
        p->rate *= 0.5;
    } else if (p->estimate > p->rate) {
        p->rate = sqrt(p->rate * p->estimate);
    }
}

static bool pays(const struct pace *p, const struct pace_stage *s) {
    double gain = s->loss_before - s->loss_after;
    double training_gain = p->loss - s->loss_before;
    double cost = (double)s->evaluations * s->evaluation_flops;
    double training = s->training_flops - p->flops;
    return gain > 0.0 && gain * training > training_gain * cost;
}

static bool affordable(const struct pace *p, const struct pace_plan *plan,
                       const struct pace_stage *s) {
    double run = s->training_flops / (double)s->step * (double)plan->total_steps;
    return p->spent + LEAST_EVALUATIONS * s->evaluation_flops <= PACE_SHARE * run;
}

void pace_learn(struct pace *p, const struct pace_plan *plan, const struct pace_stage *s) {
    bool first = p->estimates == 0, paid = first || pays(p, s);
    learn_rate(p, plan, s);
    p->loss = s->loss_after;
    p->flops = s->training_flops;
    if (!paid)
        p->spent += (double)s->evaluations * s->evaluation_flops;
    p->gap = paid ? 1 : p->gap < plan->total_steps ? p->gap * 2 : p->gap;
    p->next = (s->step / plan->interval + p->gap) * plan->interval;
    if (!paid && !affordable(p, plan, s))
        p->next = plan->total_steps + 1;
}
