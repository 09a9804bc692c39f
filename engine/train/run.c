/* run: the life of a job: claim its folder, set up or restore, step until done, publish. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/train/report.h"
#include "engine/train/run.h"

/* A kill costs at most this much work. */
#define SAVE_SECONDS 300.0

static enum train_signal signal_of(const struct run *r) {
    return r->hooks->poll != NULL ? r->hooks->poll(r->hooks->arg) : TRAIN_GO;
}

enum err run_poll(void *arg, struct err_msg *em) {
    const struct run *r = arg;
    switch (signal_of(r)) {
    case TRAIN_CANCEL:
        return err_set(em, ERR_CANCELLED, "cancelled at step %lld", (long long)r->state.step);
    case TRAIN_STOP:
        return err_set(em, ERR_STOPPED, "stopped at step %lld; the job can be resumed",
                       (long long)r->state.step);
    case TRAIN_PAUSE: /* waits for the end of the step */
    case TRAIN_GO:
        break;
    }
    return ERR_OK;
}

double run_seconds(const struct run *r) {
    return r->seconds_before + clock_mono() - r->started;
}

static bool checkpoint_due(const struct run *r) {
    int64_t every = r->job->request->training.checkpoint_interval;
    return every > 0 ? r->state.step % every == 0 : run_epoch_ends(r);
}

static bool is_done(const struct run *r) {
    return r->state.phase == PHASE_STEP &&
           (r->state.finished || r->state.step >= r->plan.total_steps);
}

static bool reached_target(const struct run *r) {
    double target = r->job->request->training.target_loss;
    return target > 0 && r->state.last_full_loss <= target;
}

/* The step is complete: report it, then make it safe. Reported first, so that no step is missing
 * from the events of a job that is killed here; it may be there twice. */
static enum err close_step(struct run *r, struct err_msg *em) {
    enum err e = metrics_add(&r->metrics, &r->state, em);
    if (e != ERR_OK)
        return e;
    r->state.seconds = run_seconds(r);
    report_step(r->hooks, &r->state, r->plan.total_steps);
    if (r->state.finished)
        report_message(r->hooks, EVENT_INFO, json_pack("{sI}", "step", (json_int_t)r->state.step),
                       "Training ends at step %lld: the full validation loss %s",
                       (long long)r->state.step,
                       reached_target(r) ? "has reached training.target_loss"
                                         : "has stopped falling (training.early_stopping)");
    bool checkpoint = checkpoint_due(r);
    if (checkpoint)
        e = run_write_checkpoint(r, em);
    if (e == ERR_OK && (checkpoint || run_epoch_ends(r) || is_done(r) ||
                        clock_mono() - r->saved_at >= SAVE_SECONDS))
        e = run_save(r, em);
    return e;
}

/* Between two steps: the adapter as it is becomes a checkpoint. */
static enum err pause_here(struct run *r, struct err_msg *em) {
    enum err e = r->state.step > 0 && !run_has_checkpoint(r) ? run_write_checkpoint(r, em) : ERR_OK;
    if (e != ERR_OK)
        return e;
    return err_set(em, ERR_STOPPED, "paused at step %lld; the job can be resumed",
                   (long long)r->state.step);
}

static enum err advance(struct run *r, struct err_msg *em) {
    enum err e = run_poll(r, em);
    if (e == ERR_OK && r->state.phase == PHASE_STEP && signal_of(r) == TRAIN_PAUSE)
        e = pause_here(r, em);
    if (e == ERR_OK && r->state.phase == PHASE_STEP)
        e = run_step(r, em);
    if (e == ERR_OK && r->state.phase == PHASE_STAGE)
        e = run_stage(r, em);
    if (e == ERR_OK && r->state.phase == PHASE_AVERAGE)
        run_average(r);
    if (e == ERR_OK && r->state.phase == PHASE_EVAL)
        e = run_evaluate(r, em);
    return e == ERR_OK ? close_step(r, em) : e;
}

static enum err loop(struct run *r, struct err_msg *em) {
    while (!is_done(r)) {
        enum err e = advance(r, em);
        if (e == ERR_STOPPED) {
            struct err_msg failed = ERR_MSG_INIT;
            enum err saved = run_save(r, &failed);
            if (saved == ERR_OK)
                return e;
            *em = failed;
            return saved;
        }
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

/* Only here is anything written into OUT: a job whose files or settings are refused leaves none of
 * it behind, and may be started again. */
static enum err start_metrics(struct run *r, struct err_msg *em) {
    char *path = xasprintf("%s/metrics.csv", r->resume_dir);
    enum err e = file_make_dirs(r->resume_dir, em);
    if (e == ERR_OK)
        e = metrics_open(&r->metrics, path, r->state.csv_bytes, em);
    free(path);
    return e;
}

static enum err prepare(struct run *r, struct err_msg *em) {
    struct resume_point point = {.step = -1};
    bool found = false;
    enum err e = run_setup(r, em);
    if (e == ERR_OK)
        e = run_find(r, &point, &found, em);
    if (e == ERR_OK)
        e = run_plan_memory(r, found, em);
    if (e == ERR_OK)
        run_announce(r, found);
    if (e == ERR_OK)
        e = run_setup_memory(r, em);
    if (e == ERR_OK)
        e = start_metrics(r, em);
    if (e == ERR_OK && found)
        e = run_load(r, &point, em);
    resume_point_clear(&point);
    return e;
}

enum err train_run(const struct train_job *job, const struct train_hooks *hooks,
                   struct err_msg *em) {
    struct run r = {
        .job = job,
        .hooks = hooks,
        .lock = -1,
        .started = clock_mono(),
        .saved_at = clock_mono(),
        .saved_step = -1,
    };
    json_t *result = NULL;
    run_state_init(&r.state);
    enum err e = run_claim_out(&r, &result, em);
    if (e == ERR_OK && result == NULL) {
        e = prepare(&r, em);
        if (e == ERR_OK)
            e = loop(&r, em);
        if (e == ERR_OK)
            e = run_publish(&r, &result, em);
    }
    run_teardown(&r);
    if (e == ERR_OK)
        report_success(hooks, result);
    json_decref(result);
    return e;
}
