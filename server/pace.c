/* pace: when the running job will end. */
#include "server/pace.h"

#include <math.h>

void pace_init(struct pace *p, const json_t *estimate, double evaluations_done) {
    const json_t *flops = json_object_get(estimate, "flops");
    *p = (struct pace){.evaluations_done = evaluations_done};
    p->evaluations = json_number_value(json_object_get(estimate, "evaluations"));
    p->stage_flops = json_number_value(json_object_get(flops, "fast_forward"));
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

void pace_note(struct pace *p, const json_t *data) {
    int64_t step = (int64_t)json_integer_value(json_object_get(data, "step"));
    double seconds = json_number_value(json_object_get(data, "seconds"));
    double flops = json_number_value(json_object_get(data, "flops"));
    bool evaluation = json_object_get(data, "full_valid_loss") != NULL;
    if (json_object_get(data, "fast_forward") != NULL) {
        if (step == p->step && p->n > 0)
            p->steps[(p->n - 1) % PACE_STEPS].stage = true;
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

/* Seconds that stages add to a step on average: as planned and as seen, the latter weighing more
 * the further the job is. The automatic search leaves out many stages at some times and none at
 * others, so what was seen early says little. */
static double stages(const struct pace *p, double usual, double speed) {
    double extra = 0, total = (double)p->total_steps;
    int k = remembered(p);
    for (int i = 0; i < k; i++)
        if (p->steps[i].stage && !p->steps[i].evaluation)
            extra += fmax(p->steps[i].seconds - usual, 0);
    double seen = extra / k;
    if (!(p->stage_flops > 0) || !(speed > 0))
        return seen;
    double done = (double)p->step / total;
    return done * seen + (1 - done) * p->stage_flops / total / speed;
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
    double added = apart ? stages(p, usual, speed) : 0;
    return left * (usual + added) + evaluations(p, speed);
}
