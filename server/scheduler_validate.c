/* scheduler_validate: a new job's files through `ffwd check`, then to the queue or to failure. */
#include "server/scheduler_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/job_request.h"
#include "base/log.h"
#include "base/mem.h"

enum err scheduler__file_path(struct scheduler *sc, const struct job_row *job, const char *file_id,
                              char **out, struct err_msg *em) {
    struct file_row file;
    struct server *s = sc->server;
    enum err e = store_file_get(s->store, job->project, file_id, &file, em);
    if (e != ERR_OK)
        return e;
    if (file.path != NULL)
        *out = xasprintf("%s/%s", s->config->data_dir, file.path);
    else
        *out = blobs_file_path(s->config->data_dir, file_id);
    file_row_clear(&file);
    return *out != NULL ? ERR_OK : err_set(em, ERR_BUG, "%s is not a file's id", file_id);
}

static void end_job(struct scheduler *sc, const char *id, const char *code, const char *param,
                    const char *message) {
    struct err_msg em = ERR_MSG_INIT;
    json_t *error = json_pack("{s:s, s:s, s:s?}", "code", code, "message", message, "param", param);
    enum err e =
        scheduler__move(sc, id, JOB_VALIDATING, JOB_FAILED, 0, error, EVENT_ERROR, message, &em);
    json_decref(error);
    if (e != ERR_OK)
        scheduler__failed(sc, e, &em, "job.validate");
}

static void pass_job(struct scheduler *sc, const struct job_row *job) {
    struct err_msg em = ERR_MSG_INIT;
    bool pause = job->pause_requested;
    enum err e = scheduler__move(sc, job->id, JOB_VALIDATING, pause ? JOB_PAUSED : JOB_QUEUED, 0,
                                 NULL, EVENT_INFO,
                                 pause ? "Files validated; the job is paused"
                                       : "Files validated, moving job to queued state",
                                 &em);
    if (e != ERR_OK)
        scheduler__failed(sc, e, &em, "job.validate");
}

static enum err check_file(struct scheduler *sc, const struct job_row *job, bool valid_file,
                           struct err_msg *em);

/* Goes on with the second file, or moves the job on. */
static void first_is_good(struct scheduler *sc, const char *id) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job;
    enum err e = store_job_get(sc->server->store, NULL, id, &job, &em);
    if (e == ERR_OK && job.status == JOB_VALIDATING) {
        if (job.validation_file == NULL || sc->check_is_valid_file) {
            pass_job(sc, &job);
        } else {
            e = check_file(sc, &job, true, &em);
            if (e != ERR_OK)
                end_job(sc, id, err_name(e), "validation_file", em.text);
        }
    }
    if (e == ERR_OK)
        job_row_clear(&job);
}

static void on_checked(void *arg, enum err e, const struct err_msg *em, const json_t *report) {
    struct scheduler *sc = arg;
    bool valid_file = sc->check_is_valid_file;
    const char *param = valid_file ? "validation_file" : "training_file";
    char id[STORE_ID_SIZE];
    (void)report;
    memcpy(id, sc->check_id, sizeof id);
    sc->check = NULL;
    if (e == ERR_OK) {
        first_is_good(sc, id);
    } else if (e == ERR_INPUT) {
        char *text = xasprintf("The job failed due to an invalid %s file. %s",
                               valid_file ? "validation" : "training", em->text);
        end_job(sc, id, valid_file ? "invalid_validation_file" : "invalid_training_file", param,
                text);
        free(text);
    } else if (e != ERR_CANCELLED) {
        log_error("job.validate", "id=%s error=%s", id, em->text);
        char *text = xasprintf("The %s file could not be checked: %s.",
                               valid_file ? "validation" : "training", em->text);
        end_job(sc, id, "server_error", param, text);
        free(text);
    }
    scheduler_wake(sc);
}

static enum err check_file(struct scheduler *sc, const struct job_row *job, bool valid_file,
                           struct err_msg *em) {
    struct server *s = sc->server;
    struct api_model model = {0};
    struct job_request request;
    char *path = NULL;
    enum err e = job_request_parse(job->request, 0, &request, em);
    if (e != ERR_OK)
        return e;
    e = api_model_find(&s->api_config, s->store, job->project, job->model, &model, em);
    if (e == ERR_OK)
        e = scheduler__file_path(sc, job, valid_file ? job->validation_file : job->training_file,
                                 &path, em);
    if (e == ERR_OK) {
        struct check_job check = {.engine = s->config->engine,
                                  .model = model.dir,
                                  .file = path,
                                  .request = &request,
                                  .seconds = s->config->limits.check_seconds,
                                  .arg = sc,
                                  .done = on_checked};
        sc->check_is_valid_file = valid_file;
        memcpy(sc->check_id, job->id, sizeof sc->check_id);
        e = check_start(&s->loop, &check, &sc->check, em);
    }
    free(path);
    api_model_clear(&model);
    job_request_clear(&request);
    return e;
}

void scheduler__validate_next(struct scheduler *sc) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job;
    if (sc->check != NULL || clock_mono() < sc->validate_hold)
        return;
    enum err e = store_job_next_validating(sc->server->store, &job, &em);
    if (e == ERR_NOT_FOUND)
        return;
    if (e != ERR_OK) {
        scheduler__failed(sc, e, &em, "job.validate");
        sc->validate_hold = sc->hold_until;
        return;
    }
    e = check_file(sc, &job, false, &em);
    if (e != ERR_OK) {
        log_error("job.validate", "id=%s error=%s", job.id, em.text);
        end_job(sc, job.id, e == ERR_INPUT ? "invalid_request" : err_name(e),
                em.param[0] != '\0' ? em.param : "training_file", em.text);
        sc->validate_hold = clock_mono() + 0.2;
    }
    job_row_clear(&job);
}
