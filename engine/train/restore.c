/* restore: a run to and from its resume points. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/train/fingerprint.h"
#include "engine/train/report.h"
#include "engine/train/resume.h"
#include "engine/train/run.h"

/* Of state.json; another number is another layout. */
#define FORMAT 6
#define MAX_TENSORS 5

/* The direction matters only while a stage is still to be done. */
static int list_tensors(const struct run *r, struct resume_tensor out[MAX_TENSORS]) {
    size_t n = r->mem->n;
    int k = 0;
    out[k++] = (struct resume_tensor){"adapter", r->mem->w, n};
    out[k++] = (struct resume_tensor){"exp_avg", r->optimizer.m, n};
    out[k++] = (struct resume_tensor){"exp_avg_sq", r->optimizer.v, n};
    if (r->average.mean != NULL)
        out[k++] = (struct resume_tensor){"average", r->average.mean, n};
    if (r->state.phase == PHASE_STAGE)
        out[k++] = (struct resume_tensor){"direction", r->ff.direction, n};
    return k;
}

static enum err check_finite(struct run *r, struct err_msg *em) {
    double sum = NAN;
    enum err e = r->dev->ops->vec_sumsq(r->dev, r->mem->w, r->mem->n, &sum, em);
    if (e == ERR_OK && !isfinite(sum))
        e = err_set(em, ERR_DIVERGED,
                    "training diverged: the adapter is not finite at step %lld; a lower learning "
                    "rate may help",
                    (long long)r->state.step);
    return e;
}

enum err run_save(struct run *r, struct err_msg *em) {
    struct run_state *s = &r->state;
    if (s->step == r->saved_step && s->phase == r->saved_phase)
        return ERR_OK;
    enum err e = check_finite(r, em);
    if (e == ERR_OK)
        e = metrics_sync(&r->metrics, em);
    if (e != ERR_OK)
        return e;
    s->seconds = run_seconds(r);
    s->csv_bytes = r->metrics.bytes;
    char *choices = r->dev->ops->choices_text(r->dev);
    json_t *state = json_pack("{sisOsosssIss?}", "format", FORMAT, "config", r->config, "state",
                              run_state_to_json(s), "device", r->device.kind, "total_steps",
                              (json_int_t)r->plan.total_steps, "choices", choices);
    free(choices);
    struct resume_tensor tensors[MAX_TENSORS];
    int n = list_tensors(r, tensors);
    if (r->hooks->saving != NULL)
        r->hooks->saving(r->hooks->arg);
    e = resume_save(r->resume_dir, s->step, state, r->dev, tensors, n, em);
    json_decref(state);
    if (e == ERR_OK) {
        r->saved_step = s->step;
        r->saved_phase = s->phase;
        r->saved_at = clock_mono();
    }
    return e;
}

static enum err check_same(const struct run *r, const struct resume_point *p, struct err_msg *em) {
    if (json_integer_value(json_object_get(p->state, "format")) != FORMAT)
        return err_set(em, ERR_UNSUPPORTED, "%s was written by another version of ffwd", p->dir);
    enum err e = fingerprint_compare(json_object_get(p->state, "config"), r->config, em);
    if (e != ERR_OK)
        err_prefix(em,
                   "cannot go on from step %lld, which was trained with other files or settings "
                   "(restore them or choose another folder)",
                   (long long)p->step);
    return e;
}

/* A run on one device computes each product in one way, however often it is resumed. */
static void use_choices(const struct run *r, const struct resume_point *p) {
    const char *before = json_string_value(json_object_get(p->state, "choices"));
    char *here = r->dev->ops->choices_text(r->dev);
    bool same = before != NULL ? r->dev->ops->choices_use(r->dev, before) : here == NULL;
    if (!same)
        report_message(r->hooks, EVENT_WARN, NULL,
                       "Up to step %lld this job was trained on another device, driver or library "
                       "(%.*s); products and attention are chosen anew here (%.*s)",
                       (long long)p->step, before != NULL ? (int)strcspn(before, "\n") : 3,
                       before != NULL ? before : "cpu", here != NULL ? (int)strcspn(here, "\n") : 3,
                       here != NULL ? here : "cpu");
    free(here);
}

enum err run_find(struct run *r, struct resume_point *point, bool *found, struct err_msg *em) {
    enum err e = resume_find(r->resume_dir, point, em);
    *found = e == ERR_OK && point->step >= 0;
    if (e == ERR_OK && point->passed_over > 0)
        report_message(r->hooks, EVENT_WARN, NULL, "%d incomplete resume points are passed over",
                       point->passed_over);
    if (e == ERR_OK)
        e = resume_drop_after(r->resume_dir, point->step, em);
    if (!*found || e != ERR_OK)
        return e;
    e = check_same(r, point, em);
    if (e == ERR_OK)
        e = run_state_from_json(json_object_get(point->state, "state"), &r->state, em);
    if (e == ERR_OK)
        use_choices(r, point);
    return e;
}

enum err run_load(struct run *r, const struct resume_point *point, struct err_msg *em) {
    struct run_state *s = &r->state;
    struct resume_tensor tensors[MAX_TENSORS];
    if (s->phase == PHASE_STAGE && r->ff.direction == NULL)
        return err_set(em, ERR_INPUT, "%s: a stage without Fast Forward", point->dir);
    int n = list_tensors(r, tensors);
    enum err e = resume_load(point, r->dev, tensors, n, em);
    if (e != ERR_OK)
        return e;
    r->dev->ops->adapter_refresh(r->dev, r->mem);
    r->optimizer.updates = s->updates;
    r->seconds_before = s->seconds;
    r->saved_step = s->step;
    r->saved_phase = s->phase;
    r->saved_at = clock_mono();
    report_message(r->hooks, EVENT_INFO, json_pack("{sI}", "step", (json_int_t)s->step),
                   "Fine-tuning job resumed after step %lld", (long long)s->step);
    return ERR_OK;
}
