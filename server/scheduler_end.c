/* scheduler_end: how a job's attempt ended, and what follows from it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/scheduler_internal.h"

/* Exit codes of the command line contract. */
enum {
    EXIT_CANCELLED = 10,
    EXIT_STOPPED = 11,
    EXIT_INPUT = 20,
    EXIT_DIVERGED = 21,
    EXIT_NO_MEMORY = 22,
    EXIT_DISK = 30
};

void scheduler__note_speed(struct scheduler *sc, const char *model, const json_t *result) {
    const json_t *flops = json_object_get(result, "flops");
    double work = json_number_value(json_object_get(flops, "training")) +
                  json_number_value(json_object_get(flops, "fast_forward"));
    double seconds = json_number_value(json_object_get(result, "seconds"));
    struct speed *s = NULL;
    if (model == NULL || !(work > 0) || !(seconds > 0))
        return;
    for (size_t i = 0; i < sc->n_speeds && s == NULL; i++)
        if (strcmp(sc->speeds[i].model, model) == 0)
            s = &sc->speeds[i];
    if (s == NULL) {
        sc->speeds = xreallocarray(sc->speeds, sc->n_speeds + 1, sizeof *sc->speeds);
        s = &sc->speeds[sc->n_speeds++];
        s->model = xstrdup(model);
    }
    s->flops_per_second = work / seconds;
}

void scheduler__clear_running(struct scheduler *sc) {
    free(sc->running.model);
    json_decref(sc->running.progress);
    json_decref(sc->running.fast_forward);
    json_decref(sc->running.done);
    scheduler__forget_files(sc);
    sc->running = (struct running){0};
}

static struct strikes *strikes_of(struct scheduler *sc, const char *id) {
    for (size_t i = 0; i < sc->n_strikes; i++)
        if (strcmp(sc->strikes[i].id, id) == 0)
            return &sc->strikes[i];
    sc->strikes = xreallocarray(sc->strikes, sc->n_strikes + 1, sizeof *sc->strikes);
    struct strikes *s = &sc->strikes[sc->n_strikes++];
    *s = (struct strikes){.count = 0};
    (void)snprintf(s->id, sizeof s->id, "%s", id);
    return s;
}

int64_t scheduler__strike(struct scheduler *sc, const char *id) {
    return ++strikes_of(sc, id)->count;
}

void scheduler__forget_strikes(struct scheduler *sc, const char *id) {
    for (size_t i = 0; i < sc->n_strikes; i++)
        if (strcmp(sc->strikes[i].id, id) == 0)
            sc->strikes[i] = sc->strikes[--sc->n_strikes];
}

/* ---- the ways to end ------------------------------------------------------------------------ */

static enum err move(struct scheduler *sc, enum job_status to, const json_t *error,
                     enum event_level level, const char *text, struct err_msg *em) {
    struct running *r = &sc->running;
    enum err e = scheduler__store_progress(sc, em);
    if (e == ERR_OK)
        e = scheduler__move(sc, r->id, JOB_RUNNING, to, r->attempt, error, level, text, em);
    if (e == ERR_OK && job_status_ended(to))
        scheduler__forget_strikes(sc, r->id);
    return e;
}

static enum err fail(struct scheduler *sc, const char *code, const char *text, const char *param,
                     struct err_msg *em) {
    json_t *error = json_pack("{s:s, s:s, s:s?}", "code", code, "message", text, "param", param);
    enum err e = move(sc, JOB_FAILED, error, EVENT_ERROR, text, em);
    json_decref(error);
    return e;
}

/* The attempt stopped at a resume point: paused if that was asked for, else in the queue. */
static enum err stopped(struct scheduler *sc, const struct job_row *job, enum event_level level,
                        const char *why, struct err_msg *em) {
    if (!job->pause_requested)
        return move(sc, JOB_QUEUED, NULL, level, why, em);
    char *text = xasprintf("Job paused at step %lld", (long long)sc->running.step);
    enum err e = move(sc, JOB_PAUSED, NULL, EVENT_INFO, text, em);
    free(text);
    return e;
}

/* Back to the queue after an accident, unless that has happened too often without a step: then it
 * fails, or is paused where the disk is to blame, which is no fault of its own. A job that was to
 * be paused is. */
static enum err retry(struct scheduler *sc, const struct job_row *job, bool disk, const char *what,
                      struct err_msg *em) {
    const struct config_limits *limits = &sc->server->config->limits;
    struct running *r = &sc->running;
    struct strikes *s = strikes_of(sc, r->id);
    bool advanced = r->step > r->first_step;
    int64_t count = advanced ? 0 : s->count + 1;
    char *text;
    enum err e;
    if (count >= limits->attempts) {
        text = xasprintf("%s in %lld attempts without a training step between them%s", what,
                         (long long)count, disk ? "; resume the job when there is room" : "");
        e = disk ? move(sc, JOB_PAUSED, NULL, EVENT_WARN, text, em)
                 : fail(sc, "worker_failed", text, NULL, em);
        if (e == ERR_OK)
            scheduler__forget_strikes(sc, r->id);
    } else {
        text = xasprintf("%s; the job goes on from its newest resume point", what);
        e = move(sc, job->pause_requested ? JOB_PAUSED : JOB_QUEUED, NULL, EVENT_WARN, text, em);
        s->count = e == ERR_OK ? count : s->count;
        s->best_step = advanced ? r->step : s->best_step;
        sc->hold_until = clock_mono() + scheduler__pause(sc, count);
    }
    free(text);
    return e;
}

static enum err add_closing_events(struct scheduler *sc, const char *model, const json_t *result,
                                   struct err_msg *em) {
    struct event ev;
    int64_t seq = 0;
    char *text = xasprintf("New fine-tuned model created: %s", model);
    json_t *data = json_is_object(result) ? json_copy((json_t *)(uintptr_t)result) : json_object();
    json_object_del(data, "adapter"); /* a path on this machine */
    enum err e = scheduler__event(sc, sc->running.id, EVENT_INFO, text, em);
    event_init(&ev, EVENT_INFO, EVENT_MESSAGE, "The job has successfully completed", data);
    if (e == ERR_OK)
        e = store_event_add(sc->server->store, sc->running.id, &ev, 0, &seq, em);
    event_clear(&ev);
    free(text);
    return e;
}

static enum err succeed(struct scheduler *sc, const struct job_row *job, const json_t *result,
                        struct err_msg *em) {
    struct store *store = sc->server->store;
    struct running *r = &sc->running;
    json_t *ids = NULL;
    char *model = api_fine_tuned_model_name(job);
    enum err e = store_begin(store, em);
    bool begun = e == ERR_OK;
    int64_t tokens = json_integer_value(json_object_get(result, "trained_tokens"));
    if (tokens == 0)
        tokens = json_integer_value(json_object_get(r->progress, "tokens"));
    const json_t *flops = json_object_get(result, "flops");
    if (r->progress != NULL && flops != NULL) {
        json_object_set(r->progress, "flops", (json_t *)(uintptr_t)flops);
        r->progress_dirty = true;
    }
    if (e == ERR_OK)
        e = scheduler__store_progress(sc, em);
    if (e == ERR_OK)
        e = scheduler__publish(sc, job, &ids, em);
    if (e == ERR_OK)
        e = add_closing_events(sc, model, result, em);
    if (e == ERR_OK)
        e = store_job_succeed(store, r->id, r->attempt, model, ids, tokens, em);
    if (e == ERR_OK)
        e = store_commit(store, em);
    else if (begun)
        store_rollback(store);
    r->progress_dirty = e != ERR_OK; /* what was rolled back is stored again */
    if (e == ERR_OK) {
        log_info("job.succeeded", "id=%s model=%s", r->id, model);
        store_resume_drop(store, r->id);
        scheduler__forget_strikes(sc, r->id);
        scheduler__note_speed(sc, r->model, result);
        scheduler__wake_readers(sc, r->id);
    }
    json_decref(ids);
    free(model);
    return e;
}

/* ---- deciding ------------------------------------------------------------------------------- */

/* Of what would happen again: the job's own fault. */
static const char *code_name(int64_t code) {
    switch (code) {
    case EXIT_INPUT:
        return "bad_input";
    case EXIT_DIVERGED:
        return "diverged";
    case EXIT_NO_MEMORY:
        return "out_of_memory";
    default:
        return NULL;
    }
}

static enum err decide_failure(struct scheduler *sc, const struct job_row *job, int64_t code,
                               const json_t *error, struct err_msg *em) {
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *name = json_string_value(json_object_get(error, "code"));
    const char *param = json_string_value(json_object_get(error, "param"));
    bool not_found = name != NULL && strcmp(name, err_name(ERR_NOT_FOUND)) == 0;
    const char *gone = not_found ? scheduler__root_gone(sc) : NULL;
    if (gone != NULL) {
        scheduler__hold(sc, HOLD_MODELS, gone, NULL);
        return stopped(sc, job, EVENT_WARN,
                       "A folder of models is gone; the job is in the queue again", em);
    }
    if (code_name(code) != NULL)
        return fail(sc, name != NULL ? name : code_name(code),
                    message != NULL ? message : "The training process gave up; see the log.", param,
                    em);
    char *what = xasprintf("The training process failed (code %lld%s%s)", (long long)code,
                           message != NULL ? ": " : "", message != NULL ? message : "");
    enum err e = retry(sc, job, code == EXIT_DISK, what, em);
    free(what);
    return e;
}

static enum err decide_done(struct scheduler *sc, const struct job_row *job, struct err_msg *em) {
    const json_t *done = sc->running.done;
    const char *status = json_string_value(json_object_get(done, "status"));
    int64_t code = json_integer_value(json_object_get(done, "exit"));
    status = status != NULL ? status : "failed";
    if (strcmp(status, "succeeded") == 0)
        return succeed(sc, job, json_object_get(done, "result"), em);
    if (job->cancel_requested || strcmp(status, "cancelled") == 0)
        return move(sc, JOB_CANCELLED, NULL, EVENT_INFO, "Job cancelled", em);
    if (strcmp(status, "stopped") == 0)
        return stopped(sc, job, EVENT_INFO,
                       "Training stopped at a resume point; the job is in the queue again", em);
    return decide_failure(sc, job, code, json_object_get(done, "error"), em);
}

static enum err decide_crash(struct scheduler *sc, const struct job_row *job, int64_t status,
                             int signal, struct err_msg *em) {
    if (job->cancel_requested)
        return move(sc, JOB_CANCELLED, NULL, EVENT_INFO, "Job cancelled", em);
    if (signal == 0 && status == EXIT_STOPPED)
        return stopped(sc, job, EVENT_INFO,
                       "Training stopped at a resume point; the job is in the queue again", em);
    if (sc->draining)
        return stopped(sc, job, EVENT_WARN,
                       "The training process was ended; the job is in the queue again", em);
    if (signal == 0)
        return decide_failure(sc, job, status, NULL, em);
    char *what = xasprintf("The training process was ended by signal %d", signal);
    enum err e = retry(sc, job, false, what, em);
    free(what);
    return e;
}

/* The job as it is now. *mine: it still runs in our attempt (it may be paused, or gone). */
static enum err load(struct scheduler *sc, struct job_row *job, bool *mine, struct err_msg *em) {
    enum err e = store_job_get(sc->server->store, NULL, sc->running.id, job, em);
    *mine = e == ERR_OK && job->status == JOB_RUNNING && job->attempt == sc->running.attempt;
    if (e != ERR_NOT_FOUND)
        return e;
    err_clear(em);
    return ERR_OK;
}

/* What cannot be stored now is tried again; a result that is not there fails the job. */
static bool settle(struct scheduler *sc, enum err e, struct err_msg *em) {
    if (e == ERR_INPUT || e == ERR_NOT_FOUND || e == ERR_LIMIT) {
        struct err_msg em2 = ERR_MSG_INIT;
        e = fail(sc, "server_error", em->text, NULL, &em2);
        *em = em2;
    }
    if (e == ERR_CONFLICT) /* cancelled or deleted at the same moment */
        e = ERR_OK;
    if (e != ERR_OK) {
        scheduler__failed(sc, e, em, "job.end");
        return false;
    }
    scheduler__clear_running(sc);
    scheduler_wake(sc);
    return true;
}

bool scheduler__finish(struct scheduler *sc) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job = {0};
    bool mine = false;
    enum err e = load(sc, &job, &mine, &em);
    int64_t code = json_integer_value(json_object_get(sc->running.done, "exit"));
    if (mine)
        e = decide_done(sc, &job, &em);
    job_row_clear(&job);
    bool settled = settle(sc, e, &em);
    /* After a device fault nothing this process does can be trusted. */
    if (settled && sc->worker != NULL && (code == 70 || code == 99))
        worker_kill(sc->worker);
    return settled;
}

bool scheduler__crashed(struct scheduler *sc, int64_t status, int signal) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job = {0};
    bool mine = false;
    enum err e = load(sc, &job, &mine, &em);
    if (mine)
        e = decide_crash(sc, &job, status, signal, &em);
    job_row_clear(&job);
    return settle(sc, e, &em);
}
