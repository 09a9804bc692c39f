/* pace: when the running job will end. */
#include "server/pace.h"

#include <math.h>

/* Of training's FLOPs, for stages that do not pay (engine/train/cadence.h). */
#define ALLOWED_SHARE 0.04
/* Seen stages that weigh as much as the plan: a few say little, as their costs differ widely. */
#define PLAN_WEIGHT 20

void pace_init(struct pace *p, const struct pace_plan *plan) {
    const json_t *flops = json_object_get(plan->estimate, "flops");
    double training = json_number_value(json_object_get(flops, "training"));
    *p = (struct pace){.evaluations_done = plan->evaluations_done,
                       .interval = plan->interval,
                       .adapts = plan->adapts,
                       .stage_step = plan->step};
    if (plan->stages > 0)
        p->stage_gap = plan->step / plan->stages;
    p->evaluations = json_number_value(json_object_get(plan->estimate, "evaluations"));
    p->stage_flops = json_number_value(json_object_get(flops, "fast_forward"));
    p->allowed_flops = fmin(p->stage_flops, ALLOWED_SHARE * training);
    if (p->evaluations > 0)
        p->evaluation_flops =
            json_number_value(json_object_get(flops, "validation")) / p->evaluations;
}

static int remembered(const struct pace *p) {
    return p->n < PACE_STEPS ? (int)p->n : PACE_STEPS;
}

/* Mean seconds and FLOPs of steps with nothing after them. Where there are none, of all, and false.
 */
static bool plain(const struct pace *p, double *seconds, double *flops) {
    double s[2] = {0}, f[2] = {0};
    int n[2] = {0}, k = remembered(p);
    for (int i = 0; i < k; i++) {
        const struct pace_step *x = &p->steps[i];
        int more = x->stage || x->evaluation;
        s[more] += x->seconds;
        f[more] += x->flops;
        n[more]++;
    }
    int which = n[0] > 0 ? 0 : 1;
    *seconds = n[which] > 0 ? s[which] / n[which] : 0;
    *flops = n[which] > 0 ? f[which] / n[which] : 0;
    return which == 0;
}

/* The newest step had a stage after it. */
static void note_stage(struct pace *p) {
    p->stage_gap = p->step - p->stage_step;
    p->stage_step = p->step;
    if (p->n == 0)
        return;
    double usual, work;
    struct pace_step *x = &p->steps[(p->n - 1) % PACE_STEPS];
    x->stage = true;
    if (x->evaluation || !plain(p, &usual, &work))
        return;
    p->stage_seconds += fmax(x->seconds - usual, 0);
    p->stages_seen++;
}

void pace_note(struct pace *p, const json_t *data) {
    int64_t step = (int64_t)json_integer_value(json_object_get(data, "step"));
    double seconds = json_number_value(json_object_get(data, "seconds"));
    double flops = json_number_value(json_object_get(data, "flops"));
    bool evaluation = json_object_get(data, "full_valid_loss") != NULL;
    if (json_object_get(data, "fast_forward") != NULL) {
        if (step == p->step)
            note_stage(p);
        return;
    }
    p->total_steps = (int64_t)json_integer_value(json_object_get(data, "total_steps"));
    if (step <= p->step)
        return;
    p->evaluations_done += evaluation;
    if (p->step > 0 && seconds > p->seconds) {
        double usual, work, count = (double)(step - p->step);
        (void)plain(p, &usual, &work);
        if (evaluation && p->n > 0) {
            p->evaluations_seen++;
            p->evaluation_seconds += fmax(seconds - p->seconds - usual, 0);
        }
        p->steps[p->n++ % PACE_STEPS] =
            (struct pace_step){.seconds = (seconds - p->seconds) / count,
                               .flops = (flops - p->flops) / count,
                               .evaluation = evaluation};
    }
    p->step = step;
    p->seconds = seconds;
    p->flops = flops;
}

/* Whether the search leaves stages out now. */
static bool is_sparse(const struct pace *p) {
    int64_t since = p->step - p->stage_step;
    int64_t gap = p->stage_gap > since ? p->stage_gap : since;
    return p->adapts && gap > p->interval;
}

/* Seconds that stages add to a step on average. */
static double stages(const struct pace *p, double speed) {
    bool planned = p->stage_flops > 0 && speed > 0;
    double total = (double)p->total_steps, n = (double)p->stages_seen;
    if (planned && is_sparse(p))
        return p->allowed_flops / total / speed;
    double gap = (double)(is_sparse(p) ? p->stage_gap : p->interval);
    double seen = n > 0 && gap > 0 ? p->stage_seconds / n / gap : 0;
    if (!planned)
        return seen;
    return (n * seen + PLAN_WEIGHT * p->stage_flops / total / speed) / (n + PLAN_WEIGHT);
}

static double evaluations(const struct pace *p, double speed) {
    double left = fmax(p->evaluations - p->evaluations_done, 0);
    if (p->evaluations_seen > 0)
        return left * p->evaluation_seconds / p->evaluations_seen;
    return speed > 0 ? left * p->evaluation_flops / speed : 0;
}

double pace_left(const struct pace *p) {
    double usual, work;
    if (p->n == 0 || p->total_steps < p->step) /* the first step has taken the start along */
        return -1;
    double left = (double)(p->total_steps - p->step);
    bool apart = plain(p, &usual, &work);
    double speed = usual > 0 ? work / usual : 0;
    double added = apart ? stages(p, speed) : 0;
    return left * (usual + added) + evaluations(p, speed);
}
