/* server: the parts that make the service: start, drain, stop. */
#include "server/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/model_roots.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/version.h"
#include "server/admin.h"
#include "server/background.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/rate.h"
#include "server/scheduler.h"
#include "server/streams.h"
#include "server/webhooks.h"

#define STOP_MS 20
#define EXPIRY_MS 30000
#define EXPIRY_SOON_MS 100
#define CUT_SECONDS 2.0 /* answers under way have this long */
#define GIVE_UP_SECONDS 8.0

/* ---- what the api asks of us ---------------------------------------------------------------- */

static void on_jobs_changed(void *arg) {
    scheduler_wake(((struct server *)arg)->scheduler);
}

static void on_job_cancel(void *arg, const char *job_id) {
    scheduler_cancel(((struct server *)arg)->scheduler, job_id);
}

static void on_job_pause(void *arg, const char *job_id) {
    scheduler_pause(((struct server *)arg)->scheduler, job_id);
}

static void on_events_added(void *arg, const char *job_id) {
    streams_wake(((struct server *)arg)->streams, job_id);
}

static char *on_metrics(void *arg) {
    return metrics_text(arg);
}

/* ---- stop ----------------------------------------------------------------------------------- */

/* Also after a start that did not get far. */
static void close_all(struct server *s) {
    if (s->streams != NULL) {
        uv_close((uv_handle_t *)&s->stop_timer, NULL);
        uv_close((uv_handle_t *)&s->expiry_timer, NULL);
        for (int i = 0; i < SERVER_SIGNALS; i++)
            uv_close((uv_handle_t *)&s->signals[i], NULL);
        streams_close(s->streams);
        scheduler_close(s->scheduler);
    }
    if (s->http != NULL)
        http_close(s->http);
    if (s->admin != NULL)
        admin_close(s->admin);
    if (s->webhooks != NULL)
        webhooks_close(s->webhooks);
    if (s->background != NULL)
        background_close(s->background);
}

static void free_all(struct server *s) {
    http_free(s->http);
    streams_free(s->streams);
    scheduler_free(s->scheduler);
    metrics_free(s->metrics);
    rate_free(s->rate);
    admin_free(s->admin);
    webhooks_free(s->webhooks);
    background_free(s->background);
    (void)uv_loop_close(&s->loop);
}

/* libmicrohttpd ends the process when it is stopped with a suspended connection. */
static void on_stop_timer(uv_timer_t *timer) {
    struct server *s = timer->data;
    double seconds = clock_mono() - s->stop_since;
    bool idle = streams_count(s->streams) == 0 && !http_busy(s->http) &&
                !background_busy(s->background) && !webhooks_busy(s->webhooks);
    streams_end(s->streams);
    http_cut(s->http, seconds > CUT_SECONDS);
    if (idle && (http_connections(s->http) == 0 || seconds > CUT_SECONDS + 1))
        close_all(s);
    else if (seconds > GIVE_UP_SECONDS)
        uv_stop(&s->loop);
}

void server_drained(struct server *s) {
    if (s->stopping)
        return;
    s->stopping = true;
    s->stop_since = clock_mono();
    http_quiesce(s->http);
    background_stop(s->background);
    webhooks_quiesce(s->webhooks);
    streams_end(s->streams);
    (void)uv_timer_start(&s->stop_timer, on_stop_timer, STOP_MS, STOP_MS);
}

void server_drain(struct server *s) {
    s->signals_seen++;
    log_info("server.drain", "signals=%d", s->signals_seen);
    s->draining = true;
    s->api.ready = false;
    if (s->signals_seen == 1)
        scheduler_drain(s->scheduler);
    else if (s->signals_seen == 2)
        scheduler_kill(s->scheduler);
    else
        uv_stop(&s->loop);
}

void server_fail(struct server *s, enum err e, const char *where, const struct err_msg *em) {
    log_error("server.fail", "where=%s error=%s", where, em->text);
    if (s->result == ERR_OK)
        s->result = e;
    uv_stop(&s->loop);
}

static void on_signal(uv_signal_t *handle, int number) {
    (void)number;
    server_drain(handle->data);
}

/* ---- start ---------------------------------------------------------------------------------- */

enum err server_read_keys(struct server *s, struct err_msg *em) {
    struct key_row *rows = NULL;
    int n = 0;
    enum err e = store_key_list(s->store, &rows, &n, em);
    if (e != ERR_OK)
        return e;
    for (int i = 0; i < n; i++)
        key_row_clear(&rows[i]);
    free(rows);
    s->keys_exist = n > 0;
    return ERR_OK;
}

static enum err make_data_dir(struct config *config, struct err_msg *em) {
    enum err e = file_make_dirs(config->data_dir, em);
    if (e != ERR_OK)
        return e;
    char *absolute = realpath(config->data_dir, NULL);
    if (absolute == NULL)
        return err_set_errno(em, errno, "cannot resolve %s", config->data_dir);
    free(config->data_dir);
    config->data_dir = absolute;
    return ERR_OK;
}

static enum err open_data(struct server *s, struct err_msg *em) {
    enum err e = make_data_dir(s->config, em);
    if (e == ERR_OK)
        e = store_open(s->config->data_dir, &s->store, em);
    if (e == ERR_CONFLICT)
        return e;
    if (e == ERR_OK)
        e = blobs_open(s->config->data_dir, em);
    if (e == ERR_OK)
        e = server_read_keys(s, em);
    return e;
}

static void set_up_api(struct server *s) {
    s->api_config = (struct api_config){
        .data_dir = s->config->data_dir,
        .model_roots = (const char *const *)(uintptr_t)s->config->model_roots,
        .max_file_bytes = s->config->limits.file_bytes,
        .max_part_bytes = s->config->limits.part_bytes,
        .max_upload_bytes = s->config->limits.upload_bytes,
        .max_project_bytes = s->config->limits.project_bytes,
        .upload_seconds = s->config->limits.upload_seconds,
        .max_waiting_jobs = s->config->limits.queued_jobs_per_project,
        .version = FFWD_VERSION,
    };
    s->api_hooks = (struct api_hooks){.arg = s,
                                      .jobs_changed = on_jobs_changed,
                                      .job_cancel = on_job_cancel,
                                      .events_added = on_events_added,
                                      .job_pause = on_job_pause,
                                      .metrics = on_metrics};
    s->api = (struct api){.store = s->store, .config = &s->api_config, .hooks = &s->api_hooks};
}

static enum err bind_address(struct server *s, struct http_address *at, struct err_msg *em) {
    int64_t active = 0;
    enum err e = store_key_count(s->store, &active, em);
    if (e == ERR_OK)
        e = http_bind(s->config->listen, at, em);
    if (e != ERR_OK || at->loopback || active > 0)
        return e;
    close(at->fd);
    at->fd = -1;
    return err_set_param(em, ERR_USAGE, "listen",
                         "--listen %s can be reached from other machines, and there is no API key "
                         "yet; make one first: ffwd-server keys create --data %s",
                         s->config->listen, s->config->data_dir);
}

/* Requests look for what has expired themselves; this is for a server that gets none. */
static void on_expiry_timer(uv_timer_t *timer) {
    struct server *s = timer->data;
    bool more = api_expire(&s->api);
    background_wake(s->background);
    (void)uv_timer_start(timer, on_expiry_timer, more ? EXPIRY_SOON_MS : EXPIRY_MS, 0);
}

/* As it is for what nohup starts. */
static bool is_ignored(int number) {
    struct sigaction now;
    return sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

static void watch_signals(struct server *s) {
    const int numbers[SERVER_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    (void)uv_timer_init(&s->loop, &s->stop_timer);
    s->stop_timer.data = s;
    (void)uv_timer_init(&s->loop, &s->expiry_timer);
    s->expiry_timer.data = s;
    (void)uv_timer_start(&s->expiry_timer, on_expiry_timer, EXPIRY_MS, 0);
    for (int i = 0; i < SERVER_SIGNALS; i++) {
        (void)uv_signal_init(&s->loop, &s->signals[i]);
        s->signals[i].data = s;
        if (numbers[i] != SIGHUP || !is_ignored(SIGHUP))
            (void)uv_signal_start(&s->signals[i], on_signal, numbers[i]);
    }
}

static int count_models(const struct server *s) {
    struct model_entry *entries = NULL;
    int n = 0;
    model_roots_list(s->api_config.model_roots, &entries, &n);
    model_roots_free(entries, n);
    return n;
}

static void announce(struct server *s, const struct http_address *at) {
    int models = count_models(s);
    log_info("server.start", "url=http://%s/v1 data=%s models=%d device=%s keys=%s", at->text,
             s->config->data_dir, models, s->config->device,
             s->keys_exist ? "required" : "none, open to this machine only");
    if (models == 0)
        log_warn("server.models", "no model in %s: give folders with --models",
                 s->config->model_roots[0]);
    if (access(s->config->engine, X_OK) != 0)
        log_error("server.engine", "%s is not a program: give it with --engine", s->config->engine);
}

static enum err start(struct server *s, struct err_msg *em) {
    struct http_address at = {.fd = -1};
    set_up_api(s);
    s->metrics = metrics_new();
    s->rate = rate_new();
    enum err e = bind_address(s, &at, em);
    if (e != ERR_OK)
        return e;
    s->loopback = at.loopback;
    s->streams = streams_new(s);
    s->scheduler = scheduler_new(s);
    watch_signals(s);
    e = http_open(s, &at, &s->http, em);
    if (e == ERR_OK)
        e = admin_open(s, &s->admin, em);
    if (e == ERR_OK)
        e = webhooks_open(s, &s->webhooks, em);
    if (e == ERR_OK)
        e = scheduler_start(s->scheduler, em);
    if (e == ERR_OK) {
        s->background = background_new(s);
        s->api.ready = true;
        announce(s, &at);
    }
    return e;
}

enum err server_run(struct config *config, struct err_msg *em) {
    struct server s = {.config = config};
    if (uv_loop_init(&s.loop) != 0)
        return err_set(em, ERR_IO, "libuv cannot start");
    enum err e = open_data(&s, em);
    if (e == ERR_OK)
        e = start(&s, em);
    if (e != ERR_OK)
        close_all(&s);
    int left = uv_run(&s.loop, UV_RUN_DEFAULT);
    if (left == 0)
        free_all(&s);
    api_clear(&s.api);
    if (s.store != NULL)
        store_close(s.store);
    if (e != ERR_OK)
        return e;
    log_info("server.stop", "clean=%s", left == 0 ? "yes" : "no");
    if (s.result != ERR_OK)
        return err_set(em, s.result, "stopped after an error of the database; see the log");
    return left == 0 ? ERR_OK : err_set(em, ERR_STOPPED, "stopped before everything was closed");
}
