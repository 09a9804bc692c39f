/* scheduler: jobs from validation to their end. */
#include "server/scheduler_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/job_request.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/streams.h"

#define TICK_MS 250
#define OLD_WORKER_SECONDS 30 /* an orphan has this long for its resume point */
#define EXIT_SECONDS 5

void scheduler__failed(struct scheduler *sc, enum err e, const struct err_msg *em,
                       const char *where) {
    if (e == ERR_NO_SPACE || e == ERR_CONFLICT || e == ERR_NOT_FOUND)
        log_warn("scheduler.wait", "where=%s error=%s", where, em->text);
    else
        server_fail(sc->server, e, where, em);
    double later = clock_mono() + 1;
    sc->hold_until = sc->hold_until > later ? sc->hold_until : later;
}

void scheduler__wake_readers(struct scheduler *sc, const char *job_id) {
    streams_wake(sc->server->streams, job_id);
}

enum err scheduler__event(struct scheduler *sc, const char *job_id, enum event_level level,
                          const char *text, struct err_msg *em) {
    struct event ev;
    int64_t seq = 0;
    event_init(&ev, level, EVENT_MESSAGE, text, NULL);
    enum err e = store_event_add(sc->server->store, job_id, &ev, 0, &seq, em);
    event_clear(&ev);
    return e;
}

enum err scheduler__move(struct scheduler *sc, const char *id, enum job_status from,
                         enum job_status to, int64_t attempt, const json_t *error,
                         enum event_level level, const char *text, struct err_msg *em) {
    struct store *store = sc->server->store;
    enum err e = store_begin(store, em);
    if (e != ERR_OK)
        return e;
    e = store_job_move(store, id, from, to, attempt, error, em);
    if (e == ERR_OK)
        e = scheduler__event(sc, id, level, text, em);
    if (e != ERR_OK) {
        store_rollback(store);
        return e;
    }
    e = store_commit(store, em);
    if (e == ERR_OK) {
        log_info("job.move", "id=%s from=%s to=%s", id, job_status_name(from), job_status_name(to));
        store_resume_drop(store, id);
        scheduler__wake_readers(sc, id);
    }
    return e;
}

/* ---- worker --------------------------------------------------------------------------------- */

static void on_worker_ended(void *arg, int64_t status, int signal) {
    struct scheduler *sc = arg;
    log_info("worker.end", "status=%lld signal=%d", (long long)status, signal);
    bool failed = !sc->worker_ready && !sc->exit_sent && !sc->draining;
    if (!sc->exit_sent)
        sc->worker_restarts++;
    sc->worker = NULL;
    sc->worker_ready = false;
    sc->exit_sent = false;
    sc->ended_status = status;
    sc->ended_signal = signal;
    if (failed) {
        char *detail =
            signal != 0
                ? xasprintf("it was ended by signal %d before it was ready", signal)
                : xasprintf("it ended with code %lld before it was ready", (long long)status);
        scheduler__start_failed(sc, detail);
        free(detail);
    }
    scheduler_wake(sc);
}

static void start_worker(struct scheduler *sc) {
    struct err_msg em = ERR_MSG_INIT;
    struct server *s = sc->server;
    double now = clock_mono();
    struct worker_events events = {
        .arg = sc, .messages = scheduler__messages, .ended = on_worker_ended};
    enum err e = worker_start(&s->loop, s->config, &events, &sc->worker, &em);
    if (e == ERR_OK) {
        sc->worker_since = now;
        sc->lock_since = 0;
        return;
    }
    if (e != ERR_CONFLICT) {
        scheduler__start_failed(sc, em.text);
        return;
    }
    sc->hold_until = now + 0.2;
    if (sc->lock_since == 0)
        sc->lock_since = now;
    if (now - sc->lock_since > OLD_WORKER_SECONDS)
        worker_kill_old(s->config->data_dir);
}

/* ---- claim ---------------------------------------------------------------------------------- */

static json_t *run_message(struct scheduler *sc, const struct job_row *job,
                           const struct api_model *model, const char *train, const char *valid,
                           const char *out) {
    json_t *request = json_copy(job->request); /* its members are borrowed */
    (void)sc;
    json_object_set_new(request, "seed", json_integer(job->seed));
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s?, s:s, s:s?, s:o}", "type", "run", "job",
                     job->id, "attempt", (json_int_t)job->attempt, "model", model->dir,
                     "model_name", model->base, "train", train, "valid", valid, "out", out,
                     "init_adapter", model->init_adapter, "request", request);
}

static enum err send_run(struct scheduler *sc, const struct job_row *job, char **base,
                         struct err_msg *em) {
    struct server *s = sc->server;
    struct api_model model = {0};
    char *train = NULL, *valid = NULL;
    char *out = blobs_job_dir(s->config->data_dir, job->id);
    enum err e = api_model_find(&s->api_config, s->store, job->project, job->model, &model, em);
    if (e == ERR_OK) {
        scheduler__note_root(sc, model.dir);
        e = scheduler__file_path(sc, job, job->training_file, &train, em);
    }
    if (e == ERR_OK && job->validation_file != NULL)
        e = scheduler__file_path(sc, job, job->validation_file, &valid, em);
    if (e == ERR_OK && out == NULL)
        e = err_set(em, ERR_BUG, "the job's id is not one");
    if (e == ERR_OK)
        worker_send(sc->worker, run_message(sc, job, &model, train, valid, out));
    *base = e == ERR_OK ? xstrdup(model.base) : NULL;
    api_model_clear(&model);
    free(train);
    free(valid);
    free(out);
    return e;
}

/* Without a report on the files the pace goes by the steps alone. */
static void start_pace(struct scheduler *sc, const struct job_row *job) {
    json_t *data = NULL;
    const json_t *done = json_object_get(job->progress, "fast_forward");
    struct job_request r;
    if (store_job_data(sc->server->store, job->id, &data, NULL) != ERR_OK)
        data = NULL;
    if (job_request_parse(job->request, 0, &r, NULL) != ERR_OK)
        job_request_init(&r);
    struct pace_plan plan = {.estimate = json_object_get(data, "estimate"),
                             .interval = r.fast_forward.interval,
                             .adapts = r.fast_forward.search == FF_AUTO,
                             .evaluations_done =
                                 json_number_value(json_object_get(job->progress, "evaluations")),
                             .step = json_integer_value(json_object_get(job->progress, "step")),
                             .stages = json_integer_value(json_object_get(done, "stages"))};
    pace_init(&sc->running.pace, &plan);
    job_request_clear(&r);
    json_decref(data);
}

static void remember(struct scheduler *sc, const struct job_row *job, char *base_take) {
    struct running *r = &sc->running;
    scheduler__clear_running(sc);
    memcpy(r->id, job->id, sizeof r->id);
    r->model = base_take;
    r->attempt = job->attempt;
    r->first_step = json_integer_value(json_object_get(job->progress, "step"));
    for (size_t i = 0; i < sc->n_strikes; i++)
        if (strcmp(sc->strikes[i].id, job->id) == 0 && sc->strikes[i].best_step > r->first_step)
            r->first_step = sc->strikes[i].best_step;
    r->fast_forward = json_deep_copy(json_object_get(job->progress, "fast_forward"));
    start_pace(sc, job);
    r->heard = clock_mono();
}

/* A job that cannot be sent has failed, unless its model may come back with its root. */
static void give_up(struct scheduler *sc, const struct job_row *job, const struct err_msg *why) {
    struct err_msg em = ERR_MSG_INIT;
    const char *gone = why->code == ERR_NOT_FOUND ? scheduler__root_gone(sc) : NULL;
    enum err e;
    if (gone != NULL) {
        e = store_job_move(sc->server->store, job->id, JOB_RUNNING, JOB_QUEUED, job->attempt, NULL,
                           &em);
        if (e == ERR_OK)
            scheduler__hold(sc, HOLD_MODELS, gone, job->id);
    } else {
        json_t *error = json_pack("{s:s, s:s, s:s?}", "code", err_name(why->code), "message",
                                  why->text, "param", why->param[0] != '\0' ? why->param : NULL);
        e = scheduler__move(sc, job->id, JOB_RUNNING, JOB_FAILED, job->attempt, error, EVENT_ERROR,
                            why->text, &em);
        json_decref(error);
    }
    if (e != ERR_OK)
        scheduler__failed(sc, e, &em, "job.claim");
}

static void claim(struct scheduler *sc) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job;
    enum err e = store_job_claim(sc->server->store, &job, &em);
    if (e == ERR_NOT_FOUND)
        return;
    if (e != ERR_OK) {
        scheduler__failed(sc, e, &em, "job.claim");
        return;
    }
    log_info("job.claim", "id=%s attempt=%lld", job.id, (long long)job.attempt);
    char *base = NULL;
    e = send_run(sc, &job, &base, &em);
    if (e == ERR_OK) {
        remember(sc, &job, base);
        if (job.attempt == 1)
            e = scheduler__event(sc, job.id, EVENT_INFO, "Fine-tuning job started", &em);
        if (e != ERR_OK)
            scheduler__failed(sc, e, &em, "job.claim");
        scheduler__wake_readers(sc, job.id);
    } else {
        give_up(sc, &job, &em);
    }
    job_row_clear(&job);
}

/* ---- the running job ------------------------------------------------------------------------ */

static void tell(struct scheduler *sc, const char *type) {
    worker_send(sc->worker, json_pack("{s:s, s:s, s:I}", "type", type, "job", sc->running.id,
                                      "attempt", (json_int_t)sc->running.attempt));
    sc->running.told = clock_mono();
}

void scheduler_cancel(struct scheduler *sc, const char *job_id) {
    struct running *r = &sc->running;
    if (sc->check != NULL && strcmp(sc->check_id, job_id) == 0)
        check_stop(sc->check);
    if (sc->worker == NULL || strcmp(r->id, job_id) != 0 || r->cancel_sent)
        return;
    r->cancel_sent = true;
    tell(sc, "cancel");
}

/* Takes effect between two steps, however long one is: a worker that makes no progress at all is
 * watched by its heartbeat. */
void scheduler_pause(struct scheduler *sc, const char *job_id) {
    struct running *r = &sc->running;
    if (sc->worker == NULL || strcmp(r->id, job_id) != 0 || r->pause_sent)
        return;
    r->pause_sent = true;
    tell(sc, "pause");
}

const char *scheduler_device(const struct scheduler *sc) {
    const char *kind = json_string_value(json_object_get(sc->device, "kind"));
    return kind != NULL ? kind : sc->server->config->device;
}

static double known_speed(const struct scheduler *sc, const char *base_model) {
    for (size_t i = 0; i < sc->n_speeds; i++)
        if (strcmp(sc->speeds[i].model, base_model) == 0)
            return sc->speeds[i].flops_per_second;
    return 0;
}

/* What a server before this one saw, if it was on the same device as far as that is known. */
static void recall_speed(struct scheduler *sc, const char *base_model) {
    struct job_row job;
    if (store_job_last_of(sc->server->store, base_model, &job, NULL) != ERR_OK)
        return;
    const json_t *device = json_object_get(job.progress, "device");
    if (sc->device == NULL || json_equal(sc->device, device))
        scheduler__note_speed(sc, base_model, job.progress);
    job_row_clear(&job);
}

double scheduler_speed(struct scheduler *sc, const char *base_model) {
    if (!(known_speed(sc, base_model) > 0))
        recall_speed(sc, base_model);
    return known_speed(sc, base_model);
}

static void watch(struct scheduler *sc, double now) {
    const struct config_limits *limits = &sc->server->config->limits;
    struct running *r = &sc->running;
    const char *why = NULL;
    if (sc->worker == NULL || worker_is_stalled(sc->worker))
        return;
    if (!sc->worker_ready && now - sc->worker_since > (double)limits->worker_start_seconds)
        why = "not ready in time";
    else if (r->id[0] != '\0' && r->done == NULL &&
             now - r->heard > (double)limits->worker_heartbeat_seconds)
        why = "no sign of life";
    else if (r->cancel_sent && r->done == NULL && now - r->told > (double)limits->cancel_seconds)
        why = "did not cancel in time";
    else if (r->stop_sent && r->done == NULL && now - r->told > (double)limits->drain_seconds)
        why = "did not stop in time";
    else if (sc->exit_sent && now - sc->exit_since > EXIT_SECONDS)
        why = "did not exit in time";
    if (why == NULL)
        return;
    log_warn("worker.kill", "reason=%s job=%s", why, r->id);
    r->heard = now;
    worker_kill(sc->worker);
}

static void save_progress(struct scheduler *sc, double now) {
    struct err_msg em = ERR_MSG_INIT;
    struct running *r = &sc->running;
    if (r->id[0] == '\0' || !r->progress_dirty || now - r->progress_stored < 1)
        return;
    enum err e = scheduler__store_progress(sc, &em);
    if (e != ERR_OK)
        scheduler__failed(sc, e, &em, "job.progress");
}

/* ---- what to do next ------------------------------------------------------------------------ */

static void drain_step(struct scheduler *sc) {
    struct running *r = &sc->running;
    if (sc->worker != NULL && r->id[0] != '\0' && !r->stop_sent && sc->worker_ready) {
        r->stop_sent = true;
        tell(sc, "stop");
    }
    if (sc->worker != NULL && r->id[0] == '\0' && !sc->exit_sent) {
        sc->exit_sent = true;
        sc->exit_since = clock_mono();
        worker_send(sc->worker, json_pack("{s:s}", "type", "exit"));
        worker_close_input(sc->worker);
    }
    if (sc->worker == NULL && r->id[0] == '\0' && sc->check == NULL && !sc->drained) {
        sc->drained = true;
        server_drained(sc->server);
    }
}

static void start_next(struct scheduler *sc) {
    struct err_msg em = ERR_MSG_INIT;
    int64_t queued = 0;
    if (sc->running.id[0] != '\0' || clock_mono() < sc->hold_until ||
        sc->holds[HOLD_MODELS].times > 0)
        return;
    enum err e = store_job_waiting(sc->server->store, NULL, &queued, &em);
    /* What /readyz denies is tried on, also when those who waited have gone. */
    bool wanted = queued > 0 || sc->holds[HOLD_WORKER].told || sc->holds[HOLD_CHECKS].told;
    if (e != ERR_OK)
        scheduler__failed(sc, e, &em, "job.waiting");
    else if (wanted && sc->worker == NULL && !scheduler__holds(sc, HOLD_WORKER))
        start_worker(sc);
    else if (queued > 0 && sc->worker_ready)
        claim(sc);
}

static void work(struct scheduler *sc) {
    if (sc->drained)
        return;
    if (sc->running.done != NULL && (!scheduler__files_ready(sc) || !scheduler__finish(sc)))
        return;
    if (sc->worker == NULL && sc->running.id[0] != '\0' &&
        !scheduler__crashed(sc, sc->ended_status, sc->ended_signal))
        return;
    if (sc->draining) {
        drain_step(sc);
        return;
    }
    scheduler__look_for_models(sc);
    scheduler__validate_next(sc);
    start_next(sc);
}

static void on_soon(uv_timer_t *timer) {
    work(timer->data);
}

static void on_tick(uv_timer_t *timer) {
    struct scheduler *sc = timer->data;
    double now = clock_mono();
    watch(sc, now);
    save_progress(sc, now);
    work(sc);
}

void scheduler_wake(struct scheduler *sc) {
    if (sc != NULL && !sc->drained)
        (void)uv_timer_start(&sc->soon, on_soon, 0, 0);
}

/* ---- life ----------------------------------------------------------------------------------- */

struct scheduler *scheduler_new(struct server *s) {
    struct scheduler *sc = xcalloc(1, sizeof *sc);
    sc->server = s;
    (void)uv_timer_init(&s->loop, &sc->tick);
    (void)uv_timer_init(&s->loop, &sc->soon);
    sc->tick.data = sc->soon.data = sc;
    return sc;
}

enum err scheduler_start(struct scheduler *sc, struct err_msg *em) {
    int n = 0;
    enum err e = store_job_recover(sc->server->store, &n, em);
    if (e == ERR_OK)
        e = store_resume_sweep(sc->server->store, em);
    if (e != ERR_OK)
        return e;
    if (n > 0)
        log_info("job.recover", "requeued=%d", n);
    (void)uv_timer_start(&sc->tick, on_tick, TICK_MS, TICK_MS);
    scheduler_wake(sc);
    return ERR_OK;
}

void scheduler_drain(struct scheduler *sc) {
    sc->draining = true;
    if (sc->check != NULL)
        check_stop(sc->check);
    scheduler_wake(sc);
}

void scheduler_kill(struct scheduler *sc) {
    sc->draining = true;
    if (sc->check != NULL)
        check_stop(sc->check);
    if (sc->worker != NULL)
        worker_kill(sc->worker);
}

void scheduler_close(struct scheduler *sc) {
    uv_close((uv_handle_t *)&sc->tick, NULL);
    uv_close((uv_handle_t *)&sc->soon, NULL);
}

void scheduler_free(struct scheduler *sc) {
    if (sc == NULL)
        return;
    scheduler__clear_running(sc);
    json_decref(sc->device);
    free(sc->roots_used);
    free(sc->strikes);
    for (size_t i = 0; i < sc->n_speeds; i++)
        free(sc->speeds[i].model);
    free(sc->speeds);
    free(sc);
}
