/* later: work of handlers on libuv's threads, while their requests wait. */
#include "server/later.h"

#include <microhttpd.h>
#include <stddef.h>
#include <uv.h>

#include "base/limits.h"
#include "server/http.h"
#include "server/request.h"
#include "server/server.h"

static void start_waiting(struct later *l);

static void on_run(uv_work_t *thread) {
    struct request *r = thread->data;
    r->work->run(r->work);
}

static void append(struct later *l, struct request *r) {
    r->work_next = NULL;
    if (l->last != NULL)
        l->last->work_next = r;
    else
        l->first = r;
    l->last = r;
}

/* The work's own end, and what follows from it: another round, or the answer. */
static void end(struct later *l, struct request *r) {
    struct api *api = &http_server(r->http)->api;
    struct api_work *work = r->work;
    r->work = NULL;
    work->done(api, work, &r->late);
    if (r->late.work != NULL) {
        r->work = r->late.work;
        r->late.work = NULL;
        append(l, r);
        return;
    }
    r->is_late = true;
    r->suspended = false;
    MHD_resume_connection(r->mhd);
    http_wake(r->http);
}

static void on_done(uv_work_t *thread, int status) {
    struct request *r = thread->data;
    struct later *l = http_later(r->http);
    (void)status;
    for (struct request **p = &l->running; *p != NULL; p = &(*p)->work_next)
        if (*p == r) {
            *p = r->work_next;
            break;
        }
    l->n_running--;
    end(l, r);
    start_waiting(l);
}

static void start_waiting(struct later *l) {
    while (l->first != NULL && (l->stopping || l->n_running < LIMIT_WORK_THREADS)) {
        struct request *r = l->first;
        l->first = r->work_next;
        if (l->first == NULL)
            l->last = NULL;
        r->thread.data = r;
        if (l->stopping ||
            uv_queue_work(&http_server(r->http)->loop, &r->thread, on_run, on_done) != 0) {
            end(l, r);
            continue;
        }
        r->work_next = l->running;
        l->running = r;
        l->n_running++;
    }
}

void later_add(struct later *l, struct request *r, struct api_work *work) {
    r->work = work;
    r->suspended = true;
    MHD_suspend_connection(r->mhd);
    append(l, r);
    start_waiting(l);
}

bool later_busy(const struct later *l) {
    return l->n_running > 0 || l->first != NULL;
}

void later_stop(struct later *l) {
    l->stopping = true;
    for (struct request *r = l->running; r != NULL; r = r->work_next)
        atomic_store(&r->work->stop, true);
    start_waiting(l);
}
