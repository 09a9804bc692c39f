/* dry_run: checks of files for requests that wait for them. */
#include "server/dry_run.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/limits.h"
#include "base/mem.h"
#include "server/check.h"
#include "server/connection.h"
#include "server/http.h"
#include "server/request.h"
#include "server/scheduler.h"
#include "server/server.h"

#define LOOK_MS 250

struct dry_run {
    struct dry_run *next;
    struct dry_runs *all;
    struct request *request;
    struct api_check *check;
    struct check *process; /* NULL: waits, or has ended */
};

static void start_waiting(struct dry_runs *d);

static void end(struct dry_run *run, enum err e, const struct err_msg *em, const json_t *report) {
    struct dry_runs *d = run->all;
    struct request *r = run->request;
    for (struct dry_run **p = &d->first; *p != NULL; p = &(*p)->next)
        if (*p == run) {
            *p = run->next;
            break;
        }
    d->n--;
    if (d->n == 0)
        (void)uv_timer_stop(&d->timer);
    api_check_answer(run->check, e, em, report, &r->late);
    r->is_late = true;
    r->suspended = false;
    MHD_resume_connection(r->mhd);
    http_wake(r->http);
    api_check_free(run->check);
    free(run);
}

static void on_checked(void *arg, enum err e, const struct err_msg *em, const json_t *report) {
    struct dry_run *run = arg;
    struct dry_runs *d = run->all;
    bool found = report != NULL && (e == ERR_OK || e == ERR_INPUT);
    json_t *parts = found ? check_report(report) : NULL;
    run->process = NULL;
    d->n_running--;
    end(run, e, em, parts);
    json_decref(parts);
    start_waiting(d);
}

static enum err start(struct dry_run *run, struct err_msg *em) {
    struct server *s = http_server(run->request->http);
    const struct api_check *c = run->check;
    const struct check_job job = {.engine = s->config->engine,
                                  .model = c->model_dir,
                                  .train = c->train,
                                  .valid = c->valid,
                                  .request = c->request,
                                  .device = scheduler_device(s->scheduler),
                                  .threads = s->config->threads,
                                  .flops_per_second = scheduler_speed(s->scheduler, c->base),
                                  .sample_bytes = LIMIT_DRY_RUN_BYTES,
                                  .measure = true,
                                  .seconds = s->config->limits.dry_run_seconds,
                                  .arg = run,
                                  .done = on_checked};
    return check_start(&s->loop, &job, &run->process, em);
}

static void start_waiting(struct dry_runs *d) {
    for (struct dry_run *run = d->first, *next; run != NULL; run = next) {
        struct err_msg em = ERR_MSG_INIT;
        next = run->next;
        if (run->process != NULL)
            continue;
        enum err e = ERR_CANCELLED;
        if (!d->stopping && d->n_running == LIMIT_DRY_RUNS)
            return;
        if (!d->stopping)
            e = start(run, &em);
        if (e == ERR_OK)
            d->n_running++;
        else
            end(run, e, &em, NULL);
    }
}

/* ---- clients that go away ------------------------------------------------------------------- */

/* A client that has closed its side gets no answer, so the work for it can end. */
static bool has_gone(const struct request *r) {
    char byte;
    if (r->connection == NULL)
        return false;
    ssize_t n = recv(r->connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

static void on_look(uv_timer_t *timer) {
    struct dry_runs *d = timer->data;
    for (struct dry_run *run = d->first, *next; run != NULL; run = next) {
        struct err_msg em = ERR_MSG_INIT;
        next = run->next;
        if (!has_gone(run->request))
            continue;
        if (run->process != NULL)
            check_stop(run->process);
        else
            end(run, ERR_CANCELLED, &em, NULL);
    }
}

/* ---- life ----------------------------------------------------------------------------------- */

void dry_runs_open(struct dry_runs *d, uv_loop_t *loop) {
    *d = (struct dry_runs){0};
    (void)uv_timer_init(loop, &d->timer);
    d->timer.data = d;
}

void dry_runs_add(struct dry_runs *d, struct request *r, struct api_check *check_take) {
    struct err_msg em = ERR_MSG_INIT;
    struct dry_run *run = xcalloc(1, sizeof *run), **p = &d->first;
    *run = (struct dry_run){.all = d, .request = r, .check = check_take};
    r->suspended = true;
    MHD_suspend_connection(r->mhd);
    while (*p != NULL)
        p = &(*p)->next;
    *p = run;
    d->n++;
    if (d->n > LIMIT_DRY_RUNS_WAITING) {
        end(run,
            err_set(&em, ERR_CONFLICT, "%d dry runs are under way; try again in a moment",
                    d->n - 1),
            &em, NULL);
        return;
    }
    (void)uv_timer_start(&d->timer, on_look, LOOK_MS, LOOK_MS);
    start_waiting(d);
}

bool dry_runs_busy(const struct dry_runs *d) {
    return d->n > 0;
}

void dry_runs_stop(struct dry_runs *d) {
    d->stopping = true;
    for (struct dry_run *run = d->first; run != NULL; run = run->next)
        if (run->process != NULL)
            check_stop(run->process);
    start_waiting(d);
}

void dry_runs_close(struct dry_runs *d) {
    uv_close((uv_handle_t *)&d->timer, NULL);
}
