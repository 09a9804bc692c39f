/* scheduler_messages: what the worker says, stored and passed on. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/metrics.h"
#include "server/scheduler_internal.h"

/* Messages of another job or an older attempt change nothing. */
static bool is_current(const struct scheduler *sc, const json_t *message) {
    const char *job = json_string_value(json_object_get(message, "job"));
    json_int_t attempt = json_integer_value(json_object_get(message, "attempt"));
    return job != NULL && sc->running.id[0] != '\0' && strcmp(job, sc->running.id) == 0 &&
           attempt == sc->running.attempt;
}

/* ---- progress ------------------------------------------------------------------------------- */

static int64_t estimate_finish(const struct running *r) {
    double left = pace_left(&r->pace);
    return left >= 0 ? clock_unix() + (int64_t)(left + 0.5) : 0;
}

static void add_up(json_t *totals, const char *key, const json_t *value, double scale) {
    double sum = json_number_value(json_object_get(totals, key));
    json_object_set_new(totals, key,
                        json_integer((json_int_t)(sum + scale * json_number_value(value))));
}

static void count_stage(struct running *r, const json_t *stage) {
    if (!json_is_object(r->fast_forward)) {
        json_decref(r->fast_forward);
        r->fast_forward = json_object();
    }
    json_t *one = json_integer(1);
    add_up(r->fast_forward, "stages", one, 1);
    add_up(r->fast_forward, "simulated_steps", json_object_get(stage, "tau"), 1);
    add_up(r->fast_forward, "evaluations", json_object_get(stage, "evaluations"), 1);
    json_decref(one);
    double flops = json_number_value(json_object_get(r->fast_forward, "flops")) +
                   json_number_value(json_object_get(stage, "flops"));
    json_object_set_new(r->fast_forward, "flops", json_real(flops));
}

/* A run's tokens are counted from its start: those of an attempt before are not counted again. */
static void count_tokens(struct running *r, const json_t *data, json_int_t step) {
    const json_t *before = json_object_get(r->progress, "tokens");
    const json_t *now = json_object_get(data, "tokens");
    double more = json_number_value(now) - json_number_value(before);
    if (more > 0 && (before != NULL || step == 1))
        r->new_tokens += (int64_t)more;
}

/* Newest numbers of the run; an evaluation or a stage adds to them. */
static void note_progress(struct scheduler *sc, const json_t *data, bool is_new) {
    struct running *r = &sc->running;
    const json_t *stage = json_object_get(data, "fast_forward");
    json_int_t step = json_integer_value(json_object_get(data, "step"));
    if (is_new)
        count_tokens(r, data, step);
    if (stage != NULL && is_new)
        count_stage(r, stage);
    pace_note(&r->pace, data);
    if (r->progress == NULL)
        r->progress = json_object();
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)data, key, value) {
        if (strcmp(key, "fast_forward") != 0)
            json_object_set(r->progress, key, value);
    }
    if (r->fast_forward != NULL)
        json_object_set(r->progress, "fast_forward", r->fast_forward);
    if (sc->device != NULL)
        json_object_set(r->progress, "device", sc->device);
    json_object_set_new(r->progress, "evaluations", json_real(r->pace.evaluations_done));
    r->step = step > r->step ? step : r->step;
    r->progress_dirty = true;
}

enum err scheduler__store_progress(struct scheduler *sc, struct err_msg *em) {
    struct running *r = &sc->running;
    if (!r->progress_dirty)
        return ERR_OK;
    r->progress_stored = clock_mono();
    enum err e = store_job_set_progress(sc->server->store, r->id, r->attempt, r->progress,
                                        json_integer_value(json_object_get(r->progress, "tokens")),
                                        estimate_finish(r), em);
    if (e == ERR_CONFLICT) { /* paused or cancelled meanwhile */
        err_clear(em);
        e = ERR_OK;
    }
    r->progress_dirty = e != ERR_OK;
    return e;
}

/* What is known of the run, as it was stored. */
struct known {
    struct pace pace;
    json_t *progress, *fast_forward;
    int64_t step;
    bool dirty;
};

static struct known known_of(const struct running *r) {
    return (struct known){.pace = r->pace,
                          .progress = json_copy(r->progress),
                          .fast_forward = json_copy(r->fast_forward),
                          .step = r->step,
                          .dirty = r->progress_dirty};
}

/* After a commit what the messages told counts; otherwise they come again, and it is forgotten. */
static void settle(struct scheduler *sc, struct known *before, bool committed) {
    struct running *r = &sc->running;
    if (committed) {
        metrics_trained(sc->server->metrics, r->new_tokens);
    } else {
        json_t *progress = r->progress, *fast_forward = r->fast_forward;
        r->pace = before->pace;
        r->progress = before->progress;
        r->fast_forward = before->fast_forward;
        r->step = before->step;
        r->progress_dirty = before->dirty;
        if (r->fast_forward != NULL) /* the one in it was added to */
            json_object_set(r->progress, "fast_forward", r->fast_forward);
        before->progress = progress;
        before->fast_forward = fast_forward;
    }
    r->new_tokens = 0;
    json_decref(before->progress);
    json_decref(before->fast_forward);
}

/* ---- messages ------------------------------------------------------------------------------- */

static void on_ready(struct scheduler *sc, const json_t *message) {
    json_t *device = json_object_get(message, "device");
    sc->worker_ready = true;
    scheduler__release(sc, HOLD_WORKER);
    scheduler__release(sc, HOLD_CHECKS);
    json_decref(sc->device);
    sc->device = json_is_object(device) ? json_incref(device) : NULL;
    log_info("worker.ready", "seconds=%.1f", clock_mono() - sc->worker_since);
    scheduler_wake(sc);
}

static enum err on_event(struct scheduler *sc, const json_t *message, struct err_msg *em) {
    struct event ev;
    struct err_msg wrong = ERR_MSG_INIT;
    int64_t seq = 0;
    if (event_from_json(json_object_get(message, "event"), &ev, &wrong) != ERR_OK) {
        log_warn("worker.event", "error=%s", wrong.text);
        return ERR_OK;
    }
    const char *status = json_string_value(json_object_get(ev.data, "status"));
    enum err e = ERR_OK;
    /* The closing event is written when the job's results are stored. */
    if (ev.type == EVENT_METRICS || status == NULL || strcmp(status, "succeeded") != 0) {
        int64_t step = 0;
        if (ev.type == EVENT_METRICS)
            step = json_integer_value(json_object_get(ev.data, "step"));
        e = store_event_add(sc->server->store, sc->running.id, &ev, step, &seq, em);
    }
    if (e == ERR_OK && ev.type == EVENT_METRICS)
        note_progress(sc, ev.data, seq > 0);
    event_clear(&ev);
    return e;
}

static enum err on_resolved(struct scheduler *sc, const json_t *message, struct err_msg *em) {
    const json_t *resolved = json_object_get(message, "resolved");
    if (!json_is_object(resolved))
        return ERR_OK;
    enum err e = store_job_set_resolved(sc->server->store, sc->running.id, sc->running.attempt,
                                        resolved, em);
    if (e == ERR_CONFLICT) {
        err_clear(em);
        return ERR_OK;
    }
    return e;
}

static enum err on_message(struct scheduler *sc, const json_t *message, bool *changed,
                           struct err_msg *em) {
    const char *type = json_string_value(json_object_get(message, "type"));
    type = type != NULL ? type : "";
    if (strcmp(type, "ready") == 0) {
        on_ready(sc, message);
        return ERR_OK;
    }
    if (!is_current(sc, message)) {
        if (strcmp(type, "heartbeat") != 0)
            log_warn("worker.refused", "type=%s", type);
        return ERR_OK;
    }
    sc->running.heard = clock_mono();
    *changed = true;
    if (strcmp(type, "event") == 0)
        return on_event(sc, message, em);
    if (strcmp(type, "resolved") == 0)
        return on_resolved(sc, message, em);
    if (strcmp(type, "done") == 0) {
        json_decref(sc->running.done);
        sc->running.done = json_incref((json_t *)(uintptr_t)message);
    } else if (strcmp(type, "heartbeat") != 0) {
        log_warn("worker.message", "unknown type=%s", type);
    }
    return ERR_OK;
}

/* One transaction for all that came at once. Taken again from the start after a full disk, which
 * is harmless: nothing of it was stored, and nothing counted. */
bool scheduler__messages(void *arg, const json_t *messages) {
    struct scheduler *sc = arg;
    struct err_msg em = ERR_MSG_INIT;
    struct store *store = sc->server->store;
    bool changed = false;
    struct known before = known_of(&sc->running);
    enum err e = store_begin(store, &em);
    bool begun = e == ERR_OK;
    for (size_t i = 0; e == ERR_OK && i < json_array_size(messages); i++)
        e = on_message(sc, json_array_get(messages, i), &changed, &em);
    if (e == ERR_OK && clock_mono() - sc->running.progress_stored >= 1 && sc->running.id[0] != '\0')
        e = scheduler__store_progress(sc, &em);
    if (e == ERR_OK)
        e = store_commit(store, &em);
    else if (begun)
        store_rollback(store);
    settle(sc, &before, e == ERR_OK);
    if (e != ERR_OK) {
        scheduler__failed(sc, e, &em, "worker.messages");
        return e != ERR_NO_SPACE;
    }
    if (changed)
        scheduler__wake_readers(sc, sc->running.id);
    if (sc->running.done != NULL)
        scheduler_wake(sc);
    return true;
}
