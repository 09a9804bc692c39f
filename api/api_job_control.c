/* api_job_control: cancel, pause, resume, priority.
 *
 * Sent twice (the SDKs repeat a call whose answer was lost), each means what it meant the first
 * time. A job that has ended is 400, never 409, which the SDKs repeat. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

static bool is_live(const struct job_row *job, struct api_response *resp) {
    if (!job_status_ended(job->status))
        return true;
    api_error(resp, 400, "job_ended", NULL, "Job %s has already ended: it is %s.", job->id,
              job_status_name(job->status));
    return false;
}

/* The job, unless it has ended. */
static bool live_job(struct api *api, const struct api_request *req, const char *id,
                     struct job_row *job, struct api_response *resp) {
    if (!api__job(api, req, id, job, resp))
        return false;
    if (is_live(job, resp))
        return true;
    job_row_clear(job);
    return false;
}

/* Moves a job that no worker has, with an event. */
static enum err move(struct api *api, const struct job_row *job, enum job_status to,
                     const char *text, struct err_msg *em) {
    struct event ev;
    int64_t seq = 0;
    enum err e = store_begin(api->store, em);
    if (e != ERR_OK)
        return e;
    event_init(&ev, EVENT_INFO, EVENT_MESSAGE, text, NULL);
    e = store_job_move(api->store, job->id, job->status, to, 0, NULL, em);
    if (e == ERR_OK)
        e = store_event_add(api->store, job->id, &ev, 0, &seq, em);
    event_clear(&ev);
    if (e == ERR_OK)
        e = store_commit(api->store, em);
    else
        store_rollback(api->store);
    if (e == ERR_OK) {
        store_resume_drop(api->store, job->id);
        api__events_added(api, job->id);
        api__jobs_changed(api);
    }
    return e;
}

/* The job as it is now, or what went wrong. */
static void answer(struct api *api, const struct api_request *req, const struct api_params *params,
                   enum err e, const struct err_msg *em, struct api_response *resp) {
    if (e == ERR_OK)
        api__jobs_get(api, req, params, resp);
    else
        api_error_from(resp, em);
}

API_HANDLER(api__jobs_cancel) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job;
    enum err e = ERR_OK;
    if (!api__job(api, req, params->value[0], &job, resp))
        return;
    /* What the first request did, whose answer was lost, is no error of the second. */
    bool done = job.status == JOB_CANCELLED && api__is_repeat(req);
    if (!done && !is_live(&job, resp)) {
        job_row_clear(&job);
        return;
    }
    if (job.status == JOB_RUNNING) {
        e = store_job_request_cancel(api->store, job.id, &em);
        if (e == ERR_OK)
            api__job_cancel(api, job.id);
    } else if (!done) {
        e = move(api, &job, JOB_CANCELLED, "Job cancelled", &em);
        if (e == ERR_OK && job.status == JOB_VALIDATING)
            api__job_cancel(api, job.id);
    }
    job_row_clear(&job);
    answer(api, req, params, e, &em, resp);
}

API_HANDLER(api__jobs_pause) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job;
    enum err e = ERR_OK;
    if (!live_job(api, req, params->value[0], &job, resp))
        return;
    if (job.status == JOB_QUEUED) {
        e = move(api, &job, JOB_PAUSED, "Job paused", &em);
    } else if (job.status != JOB_PAUSED) {
        e = store_job_request_pause(api->store, job.id, true, &em);
        if (e == ERR_OK && job.status == JOB_RUNNING)
            api__job_pause(api, job.id);
    }
    job_row_clear(&job);
    answer(api, req, params, e, &em, resp);
}

API_HANDLER(api__jobs_resume) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job;
    enum err e = ERR_OK;
    if (!live_job(api, req, params->value[0], &job, resp))
        return;
    if (job.status == JOB_PAUSED && !api__queue_has_room(api, req->project, resp)) {
        job_row_clear(&job);
        return;
    }
    if (job.status == JOB_PAUSED)
        e = move(api, &job, JOB_QUEUED, "Job resumed: it is in the queue again", &em);
    else if (job.pause_requested)
        e = store_job_request_pause(api->store, job.id, false, &em);
    job_row_clear(&job);
    answer(api, req, params, e, &em, resp);
}

/* ---- priority ------------------------------------------------------------------------------- */

struct update_body {
    int64_t priority;
};

static const struct json_rule update_rules[] = {
    {"priority", .kind = JSON_KIND_INT, .lo = -LIMIT_PRIORITY, .hi = LIMIT_PRIORITY,
     .required = true, .at = offsetof(struct update_body, priority)}};
const struct json_table api__job_update_table = {"JobUpdate", update_rules, 1};

static enum err set_priority(struct api *api, const struct job_row *job, int64_t priority,
                             struct err_msg *em) {
    struct event ev;
    int64_t seq = 0;
    enum err e = store_begin(api->store, em);
    if (e != ERR_OK)
        return e;
    char *text = xasprintf("Priority changed from %lld to %lld", (long long)job->priority,
                           (long long)priority);
    event_init(&ev, EVENT_INFO, EVENT_MESSAGE, text, NULL);
    e = store_job_set_priority(api->store, job->id, priority, em);
    if (e == ERR_OK)
        e = store_event_add(api->store, job->id, &ev, 0, &seq, em);
    event_clear(&ev);
    free(text);
    if (e == ERR_OK)
        return store_commit(api->store, em);
    store_rollback(api->store);
    return e;
}

API_HANDLER(api__jobs_update) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job;
    struct update_body b = {0};
    enum err e = ERR_OK;
    if (!live_job(api, req, params->value[0], &job, resp))
        return;
    if (!api__read(req, &api__job_update_table, &b, resp)) {
        job_row_clear(&job);
        return;
    }
    if (job.status == JOB_RUNNING) {
        api_error(resp, 400, "job_running", "priority",
                  "Job %s runs; only the priority of a job that waits can be changed.", job.id);
    } else {
        if (b.priority != job.priority)
            e = set_priority(api, &job, b.priority, &em);
        if (e == ERR_OK)
            api__events_added(api, job.id);
        answer(api, req, params, e, &em, resp);
    }
    job_row_clear(&job);
}
