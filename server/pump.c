/* pump: libmicrohttpd turned by a libuv loop. */
#include "server/pump.h"

#include "base/log.h"

#define LONGEST_PAUSE_MS 1000

static void on_timer(uv_timer_t *timer);

/* The timer is never left stopped: after a resume in 0.9.75 nothing else would run the daemon. */
static void arm(struct pump *p) {
    MHD_UNSIGNED_LONG_LONG ms = LONGEST_PAUSE_MS;
    if (p->again)
        ms = 0;
    else if (MHD_get_timeout(p->daemon, &ms) != MHD_YES || ms > LONGEST_PAUSE_MS)
        ms = LONGEST_PAUSE_MS;
    p->again = false;
    (void)uv_timer_start(&p->timer, on_timer, ms, LONGEST_PAUSE_MS);
}

void pump_run(struct pump *p) {
    if (!p->open)
        return;
    if (p->running) {
        p->again = true;
        return;
    }
    p->running = true;
    log_hold();
    store_share_reads(p->store, true);
    (void)MHD_run(p->daemon);
    store_share_reads(p->store, false);
    log_release();
    p->running = false;
    arm(p);
}

static void on_timer(uv_timer_t *timer) {
    pump_run(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    pump_run(poll->data);
}

void pump_wake(struct pump *p) {
    if (!p->open)
        return;
    if (p->running)
        p->again = true;
    else
        (void)uv_timer_start(&p->timer, on_timer, 0, LONGEST_PAUSE_MS);
}

enum err pump_open(struct pump *p, uv_loop_t *loop, struct MHD_Daemon *daemon, struct store *store,
                   struct err_msg *em) {
    *p = (struct pump){.daemon = daemon, .store = store};
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL || info->epoll_fd < 0)
        return err_set(em, ERR_UNSUPPORTED, "libmicrohttpd has no epoll descriptor");
    int rc = uv_poll_init(loop, &p->poll, info->epoll_fd);
    if (rc != 0)
        return err_set(em, ERR_IO, "cannot watch libmicrohttpd: %s", uv_strerror(rc));
    (void)uv_timer_init(loop, &p->timer);
    p->poll.data = p;
    p->timer.data = p;
    p->open = true;
    rc = uv_poll_start(&p->poll, UV_READABLE, on_poll);
    if (rc != 0) {
        pump_close(p);
        return err_set(em, ERR_IO, "cannot watch libmicrohttpd: %s", uv_strerror(rc));
    }
    arm(p);
    return ERR_OK;
}

void pump_close(struct pump *p) {
    if (!p->open)
        return;
    p->open = false;
    uv_close((uv_handle_t *)&p->poll, NULL);
    uv_close((uv_handle_t *)&p->timer, NULL);
}
