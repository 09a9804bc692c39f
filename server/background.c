/* background: slow work that no request waits for, on libuv's threads. */
#include "server/background.h"

#include <stdlib.h>
#include <uv.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/server.h"
#include "storage/trash.h"

struct background {
    struct server *server;
    uv_fs_event_t changes; /* of the trash's folder */
    uv_work_t emptying, working;
    bool is_emptying, is_working;
    bool again; /* the trash has changed since the emptying began */
    bool stopping;
    atomic_bool stop;
    struct api_work *work; /* the first one is under way */
    char *data_dir;
};

/* ---- the trash ------------------------------------------------------------------------------ */

static void empty(uv_work_t *thread) {
    struct background *b = thread->data;
    struct err_msg em = ERR_MSG_INIT;
    if (trash_empty(b->data_dir, &b->stop, &em) != ERR_OK)
        log_warn("trash.empty", "%s", em.text);
}

static void emptied(uv_work_t *thread, int status) {
    struct background *b = thread->data;
    (void)status;
    b->is_emptying = false;
    if (b->again)
        background_wake(b);
}

void background_wake(struct background *b) {
    b->again = b->is_emptying;
    if (b->is_emptying || b->stopping)
        return;
    b->is_emptying = uv_queue_work(&b->server->loop, &b->emptying, empty, emptied) == 0;
}

/* Both a name that came and one that went; the latter by ourselves. */
static void on_change(uv_fs_event_t *handle, const char *name, int events, int status) {
    (void)name;
    (void)events;
    if (status == 0)
        background_wake(handle->data);
}

/* ---- uploads -------------------------------------------------------------------------------- */

static void start_next(struct background *b);

static void run(uv_work_t *thread) {
    struct background *b = thread->data;
    b->work->run(b->work);
}

static void end(struct background *b) {
    struct api_response resp = {0};
    struct api_work *w = b->work;
    b->work = w->next;
    w->done(&b->server->api, w, &resp);
    if (resp.status != 200 && !b->stopping)
        log_warn("uploads.resume", "status=%d", resp.status);
    api_response_clear(&resp);
}

static void ran(uv_work_t *thread, int status) {
    struct background *b = thread->data;
    (void)status;
    b->is_working = false;
    end(b);
    start_next(b);
}

static void start_next(struct background *b) {
    while (b->work != NULL && !b->is_working) {
        b->is_working = !b->stopping && uv_queue_work(&b->server->loop, &b->working, run, ran) == 0;
        if (!b->is_working)
            end(b);
    }
}

/* ---- life ----------------------------------------------------------------------------------- */

struct background *background_new(struct server *s) {
    struct background *b = xcalloc(1, sizeof *b);
    b->server = s;
    b->data_dir = xstrdup(s->config->data_dir);
    b->emptying.data = b->working.data = b->changes.data = b;
    char *folder = trash_folder(b->data_dir);
    (void)uv_fs_event_init(&s->loop, &b->changes);
    if (uv_fs_event_start(&b->changes, on_change, folder, 0) != 0)
        log_warn("trash.watch", "%s is looked at from time to time only", folder);
    free(folder);
    background_wake(b);
    b->work = api_uploads_resume(&s->api);
    start_next(b);
    return b;
}

void background_stop(struct background *b) {
    b->stopping = true;
    atomic_store(&b->stop, true);
    if (b->is_working)
        atomic_store(&b->work->stop, true);
}

bool background_busy(const struct background *b) {
    return b->is_emptying || b->is_working;
}

void background_close(struct background *b) {
    uv_close((uv_handle_t *)&b->changes, NULL);
}

void background_free(struct background *b) {
    if (b == NULL)
        return;
    free(b->data_dir);
    free(b);
}
