/* scheduler_validate: a new job's files through `ffwd check`, then to the queue or to failure. */
#include "server/scheduler_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
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

/* The report, where there is one, and what follows from it in one transaction. */
static enum err judge(struct scheduler *sc, const char *id, const json_t *report,
                      enum job_status to, const json_t *error, const char *text,
                      struct err_msg *em) {
    struct store *store = sc->server->store;
    enum err e = store_begin(store, em);
    if (e != ERR_OK)
        return e;
    if (report != NULL) {
        json_t *data = check_report(report);
        e = store_job_set_data(store, id, data, em);
        json_decref(data);
    }
    if (e == ERR_OK)
        e = scheduler__move(sc, id, JOB_VALIDATING, to, 0, error,
                            to == JOB_FAILED ? EVENT_ERROR : EVENT_INFO, text, em);
    if (e == ERR_OK)
        return store_commit(store, em);
    store_rollback(store);
    return e;
}

static void end_job(struct scheduler *sc, const char *id, const json_t *report, const char *code,
                    const char *param, const char *message) {
    struct err_msg em = ERR_MSG_INIT;
    json_t *error = json_pack("{s:s, s:s, s:s?}", "code", code, "message", message, "param", param);
    enum err e = judge(sc, id, report, JOB_FAILED, error, message, &em);
    json_decref(error);
    if (e != ERR_OK)
        scheduler__failed(sc, e, &em, "job.validate");
}

static enum err pass_job(struct scheduler *sc, const struct job_row *job, const json_t *report,
                         struct err_msg *em) {
    if (job->pause_requested)
        return judge(sc, job->id, report, JOB_PAUSED, NULL, "Files validated; the job is paused",
                     em);
    return judge(sc, job->id, report, JOB_QUEUED, NULL,
                 "Files validated, moving job to queued state", em);
}

/* The job may have been cancelled meanwhile. */
static void files_are_good(struct scheduler *sc, const char *id, const json_t *report) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job = {0};
    enum err e = store_job_get(sc->server->store, NULL, id, &job, &em);
    if (e == ERR_OK && job.status == JOB_VALIDATING)
        e = pass_job(sc, &job, report, &em);
    if (e != ERR_OK)
        scheduler__failed(sc, e, &em, "job.validate");
    job_row_clear(&job);
}

static void files_are_bad(struct scheduler *sc, const char *id, const json_t *report,
                          const struct err_msg *em) {
    const char *param = check_param(report);
    bool valid = strcmp(param, "validation_file") == 0;
    if (!valid && strcmp(param, "training_file") != 0) {
        end_job(sc, id, NULL, "invalid_request", param, em->text);
        return;
    }
    const char *which = valid ? "validation" : "training";
    bool empty = check_is_empty(report);
    char *text = empty ? xasprintf("The %s file has 0 example(s), but must have at least 1", which)
                       : xasprintf("The job failed due to an invalid %s file. %s", which, em->text);
    const char *code = valid ? "invalid_validation_file" : "invalid_training_file";
    end_job(sc, id, report, empty ? "invalid_n_examples" : code, param, text);
    free(text);
}

/* The process died: what comes of it again and again is the files' fault. */
static void check_again(struct scheduler *sc, const char *id, const struct err_msg *why) {
    struct err_msg em = ERR_MSG_INIT;
    int64_t count = scheduler__strike(sc, id);
    log_error("job.validate", "id=%s times=%lld error=%s", id, (long long)count, why->text);
    if (why->code != ERR_BUG || count >= sc->server->config->limits.attempts) {
        char *text = xasprintf("The files could not be checked: %s.", why->text);
        scheduler__forget_strikes(sc, id);
        end_job(sc, id, NULL, "server_error", "training_file", text);
        free(text);
        return;
    }
    sc->validate_hold = clock_mono() + scheduler__pause(sc, count);
    char *text = xasprintf("The files could not be checked: %s; they are checked again", why->text);
    if (scheduler__event(sc, id, EVENT_WARN, text, &em) == ERR_OK)
        scheduler__wake_readers(sc, id);
    else
        scheduler__failed(sc, em.code, &em, "job.validate");
    free(text);
}

static void on_checked(void *arg, enum err e, const struct err_msg *em, const json_t *report) {
    struct scheduler *sc = arg;
    char id[STORE_ID_SIZE];
    memcpy(id, sc->check_id, sizeof id);
    sc->check = NULL;
    if (e == ERR_OK || e == ERR_INPUT) {
        scheduler__release(sc, HOLD_CHECKS);
        scheduler__forget_strikes(sc, id);
    }
    if (e == ERR_OK) {
        files_are_good(sc, id, report);
    } else if (e == ERR_INPUT) {
        files_are_bad(sc, id, report, em);
    } else if (e == ERR_IO) {
        scheduler__hold(sc, HOLD_CHECKS, em->text, id);
    } else if (e != ERR_CANCELLED) {
        check_again(sc, id, em);
    }
    scheduler_wake(sc);
}

static void start_check(struct scheduler *sc, const struct job_row *job,
                        const struct api_model *model, const json_t *request, const char *train,
                        const char *valid) {
    struct server *s = sc->server;
    struct err_msg em = ERR_MSG_INIT;
    struct check_job check = {.engine = s->config->engine,
                              .model = model->dir,
                              .train = train,
                              .valid = valid,
                              .request = request,
                              .device = scheduler_device(sc),
                              .threads = s->config->threads,
                              .flops_per_second = scheduler_speed(sc, model->base),
                              .seconds = s->config->limits.check_seconds,
                              .arg = sc,
                              .done = on_checked};
    memcpy(sc->check_id, job->id, sizeof sc->check_id);
    if (check_start(&s->loop, &check, &sc->check, &em) != ERR_OK)
        scheduler__hold(sc, HOLD_CHECKS, em.text, job->id);
}

static enum err check_files(struct scheduler *sc, const struct job_row *job, struct err_msg *em) {
    struct server *s = sc->server;
    struct api_model model = {0};
    char *train = NULL, *valid = NULL;
    json_t *request = NULL;
    enum err e = api_model_find(&s->api_config, s->store, job->project, job->model, &model, em);
    if (e == ERR_OK)
        e = api_check_request(s->store, job->model, job->request, &request, em);
    if (e == ERR_OK)
        e = scheduler__file_path(sc, job, job->training_file, &train, em);
    if (e == ERR_OK && job->validation_file != NULL)
        e = scheduler__file_path(sc, job, job->validation_file, &valid, em);
    if (e == ERR_OK) {
        scheduler__note_root(sc, model.dir);
        start_check(sc, job, &model, request, train, valid);
    }
    json_decref(request);
    free(train);
    free(valid);
    api_model_clear(&model);
    return e;
}

void scheduler__validate_next(struct scheduler *sc) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job;
    if (sc->check != NULL || clock_mono() < sc->validate_hold ||
        scheduler__holds(sc, HOLD_CHECKS) || sc->holds[HOLD_MODELS].times > 0)
        return;
    enum err e = store_job_next_validating(sc->server->store, &job, &em);
    if (e == ERR_NOT_FOUND) {
        if (sc->worker_ready)
            scheduler__release(sc, HOLD_CHECKS);
        return;
    }
    if (e != ERR_OK) {
        scheduler__failed(sc, e, &em, "job.validate");
        sc->validate_hold = sc->hold_until;
        return;
    }
    e = check_files(sc, &job, &em);
    const char *gone = e == ERR_NOT_FOUND ? scheduler__root_gone(sc) : NULL;
    if (gone != NULL) {
        scheduler__hold(sc, HOLD_MODELS, gone, job.id);
    } else if (e != ERR_OK) {
        log_error("job.validate", "id=%s error=%s", job.id, em.text);
        end_job(sc, job.id, NULL, e == ERR_INPUT ? "invalid_request" : err_name(e),
                em.param[0] != '\0' ? em.param : "training_file", em.text);
        sc->validate_hold = clock_mono() + 0.2;
    }
    job_row_clear(&job);
}
