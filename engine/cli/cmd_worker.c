/* cmd_worker: `ffwd worker`, which trains the jobs a server sends (docs/WORKER_PROTOCOL.md). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/cli/cli.h"
#include "engine/cli/unsent.h"
#include "engine/cli/options.h"
#include "engine/cli/worker_pipe.h"
#include "engine/train/fingerprint.h"

static const char usage[] =
    "usage: ffwd worker --device auto|cpu|cuda[:N] [--threads N] [--dtype bf16|f32]\n"
    "                   [--log-level debug|info|warn|error]\n"
    "\n"
    "Trains the jobs that arrive on standard input, one at a time. ffwd-server starts it; the\n"
    "messages are described in docs/WORKER_PROTOCOL.md.\n";

struct worker {
    struct worker_pipe pipe;
    struct device *dev;
    struct device_info info;
    enum dtype dtype;
    struct model *model; /* the last job's, NULL: none */
    char *model_dir;
    char model_hash[SHA256_HEX_SIZE]; /* its fingerprint when it was loaded */
    json_t *result;                   /* data of the last event of the job in hand */
    struct unsent unsent;
    const char *out_dir; /* of the job in hand */
};

/* ---- hooks ---------------------------------------------------------------------------------- */

static void on_event(void *arg, const struct event *ev) {
    struct worker *w = arg;
    const json_t *step = json_object_get(ev->data, "step");
    if (json_is_integer(step))
        atomic_store(&w->pipe.step, (int64_t)json_integer_value(step));
    if (json_object_get(ev->data, "status") != NULL) {
        json_decref(w->result);
        w->result = json_incref(ev->data);
    }
    unsent_note(&w->unsent, ev);
    worker_pipe_send(&w->pipe, "event", "event", event_to_json(ev, NULL));
}

static void on_resolved(void *arg, const json_t *resolved) {
    struct worker *w = arg;
    worker_pipe_send(&w->pipe, "resolved", "resolved", json_deep_copy(resolved));
}

static void on_saving(void *arg) {
    const struct worker *w = arg;
    unsent_save(&w->unsent, w->out_dir);
}

static enum train_signal on_poll(void *arg) {
    struct worker *w = arg;
    return (enum train_signal)atomic_load(&w->pipe.signal);
}

/* ---- a job ---------------------------------------------------------------------------------- */

static void drop_model(struct worker *w) {
    if (w->model != NULL)
        model_close(w->model);
    free(w->model_dir);
    w->model = NULL;
    w->model_dir = NULL;
}

/* The model stays loaded for the next job, unless its folder has become another. */
static enum err load_model(struct worker *w, const char *dir, struct err_msg *em) {
    char hash[SHA256_HEX_SIZE];
    enum err e = fingerprint_folder(dir, hash, em);
    if (e == ERR_OK && w->model != NULL && strcmp(w->model_dir, dir) == 0 &&
        strcmp(w->model_hash, hash) == 0)
        return ERR_OK;
    drop_model(w);
    if (e == ERR_OK)
        e = model_open(w->dev, dir, w->dtype, &w->model, em);
    if (e != ERR_OK) {
        w->model = NULL;
        return e;
    }
    w->model_dir = xstrdup(dir);
    memcpy(w->model_hash, hash, sizeof hash);
    return ERR_OK;
}

/* A string of the message; NULL if it is null or absent. */
static const char *text_of(const json_t *message, const char *key) {
    return json_string_value(json_object_get(message, key));
}

/* Events that the server before this one may not have read. */
static void send_again(struct worker *w) {
    unsent_load(&w->unsent, w->out_dir);
    for (size_t i = 0; i < json_array_size(w->unsent.events); i++)
        worker_pipe_send(&w->pipe, "event", "event",
                         json_incref(json_array_get(w->unsent.events, i)));
}

static enum err run_job(struct worker *w, const json_t *message, struct err_msg *em) {
    const struct train_hooks hooks = {
        .arg = w, .event = on_event, .resolved = on_resolved, .saving = on_saving, .poll = on_poll};
    struct job_request request;
    struct train_job job = {
        .model_dir = text_of(message, "model"),
        .model_name = text_of(message, "model_name"),
        .train_path = text_of(message, "train"),
        .valid_path = text_of(message, "valid"),
        .out_dir = text_of(message, "out"),
        .init_adapter = text_of(message, "init_adapter"),
        .request = &request,
        .resume = true,
    };
    if (job.model_dir == NULL || job.train_path == NULL || job.out_dir == NULL)
        return err_set(em, ERR_INPUT, "run: model, train and out are needed");
    if (job.model_name == NULL)
        job.model_name = job.model_dir;
    enum err e = job_request_parse(json_object_get(message, "request"), 0, &request, em);
    if (e != ERR_OK)
        return e;
    e = load_model(w, job.model_dir, em);
    job.model = w->model;
    if (e == ERR_OK) {
        w->out_dir = job.out_dir;
        send_again(w);
        e = train_run(&job, &hooks, em);
    }
    if (worker_pipe_closed(&w->pipe))
        unsent_save(&w->unsent, job.out_dir);
    unsent_clear(&w->unsent);
    job_request_clear(&request);
    return e;
}

static const char *status_of(enum err e) {
    switch (e) {
    case ERR_OK:
        return "succeeded";
    case ERR_CANCELLED:
        return "cancelled";
    case ERR_STOPPED:
        return "stopped";
    default:
        return "failed";
    }
}

static json_t *error_of(enum err e, const struct err_msg *em) {
    if (e == ERR_OK || e == ERR_CANCELLED || e == ERR_STOPPED)
        return json_null();
    json_t *text = json_string(em->text[0] != '\0' ? em->text : err_name(e));
    if (text == NULL) /* not UTF-8 */
        text = json_string(err_name(e));
    return json_pack("{sssoso}", "code", err_name(e), "message", text, "param",
                     em->param[0] != '\0' ? json_string(em->param) : json_null());
}

static void send_done(struct worker *w, const json_t *message, enum err e,
                      const struct err_msg *em) {
    json_t *o = json_pack("{sssOsO}", "type", "done", "job", json_object_get(message, "job"),
                          "attempt", json_object_get(message, "attempt"));
    json_object_set_new(o, "exit", json_integer(err_exit_code(e)));
    json_object_set_new(o, "status", json_string(status_of(e)));
    json_object_set_new(o, "error", error_of(e, em));
    json_object_set_new(o, "result",
                        e == ERR_OK && w->result != NULL ? json_incref(w->result) : json_null());
    worker_pipe_send_object(&w->pipe, o);
}

/* Until the server wants no more, or the device is lost. */
static enum err serve(struct worker *w) {
    for (const json_t *message; (message = worker_pipe_wait(&w->pipe)) != NULL;) {
        struct err_msg em = ERR_MSG_INIT;
        log_info("worker.job", "id=%s", text_of(message, "job"));
        enum err e = run_job(w, message, &em);
        if (e != ERR_OK)
            log_info("worker.ended", "id=%s error=%s message=\"%s\"", text_of(message, "job"),
                     err_name(e), em.text);
        json_t *ended = json_deep_copy(message);
        worker_pipe_done(&w->pipe); /* before `done` is sent, whose answer may be the next job */
        send_done(w, ended, e, &em);
        json_decref(ended);
        json_decref(w->result);
        w->result = NULL;
        if (e == ERR_DEVICE) /* nothing on this device can be trusted any more */
            return e;
        if (e == ERR_NO_MEMORY)
            drop_model(w);
        if (worker_pipe_closed(&w->pipe))
            return ERR_STOPPED;
    }
    return worker_pipe_closed(&w->pipe) ? ERR_STOPPED : ERR_OK;
}

/* ---- start ---------------------------------------------------------------------------------- */

struct options {
    const char *device, *dtype, *log_level;
    int64_t threads;
};

static enum err read_options(int argc, char **argv, struct options *o, bool *help,
                             struct err_msg *em) {
    const struct cli_option options[] = {
        {.name = "--device", .text = &o->device},
        {.name = "--dtype", .text = &o->dtype},
        {.name = "--threads", .number = &o->threads, .lo = 0, .hi = LIMIT_THREADS},
        {.name = "--log-level", .text = &o->log_level},
    };
    enum log_level level = LOG_INFO;
    *o = (struct options){.device = "auto"};
    enum err e = cli_options_read(argc, argv, options, 4, help, em);
    if (e == ERR_OK && o->log_level != NULL && !log_level_parse(o->log_level, &level))
        e = err_set(em, ERR_USAGE, "--log-level takes debug, info, warn or error");
    log_set_level(level);
    return e;
}

static enum err work(const struct options *o, struct err_msg *em) {
    struct worker *w = xcalloc(1, sizeof *w);
    enum err e = device_open(o->device, (int)o->threads, &w->dev, em);
    if (e == ERR_OK) {
        w->dev->ops->info(w->dev, &w->info);
        e = cli_dtype(o->dtype, w->dev, &w->dtype, em);
        if (e == ERR_OK)
            e = worker_pipe_open(&w->pipe, em);
        if (e == ERR_OK) {
            worker_pipe_send_object(&w->pipe, json_pack("{sss{sssssi}}", "type", "ready", "device",
                                                        "kind", w->info.kind, "name", w->info.name,
                                                        "threads", w->info.threads));
            e = serve(w);
            worker_pipe_close(&w->pipe);
        }
        drop_model(w);
        device_close(w->dev);
    }
    free(w);
    return e;
}

int cmd_worker(int argc, char **argv) {
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct err_msg em = ERR_MSG_INIT;
    struct options o;
    bool help = false;
    enum err e = read_options(argc, argv, &o, &help, &em);
    if (help)
        fputs(usage, stdout);
    if (e != ERR_OK || help)
        return cli_report("worker", e, &em);
    /* What the terminal sends is the server's to handle: it says `stop`, or is gone. */
    sigaction(SIGINT, &ignore, NULL);
    sigaction(SIGHUP, &ignore, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL);
    sigset_t term; /* taken by the pipe's thread; threads made from here on inherit the mask */
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);
    e = work(&o, &em);
    return e == ERR_STOPPED ? err_exit_code(e) : cli_report("worker", e, &em);
}
