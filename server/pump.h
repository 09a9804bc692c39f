/* pump: libmicrohttpd turned by a libuv loop.
 *
 * What:    polls the daemon's epoll descriptor and runs the daemon when it is readable, when its
 *          timeout is over, when someone asked, and once a second in any case: libmicrohttpd 0.9.75
 *          forgets its listening socket after the connection limit and skips ready connections
 *          beside suspended ones, unless it is run again.
 * Owns:    its poll and timer handles; borrows loop, daemon and store.
 * Threads: the loop thread only.
 * Errors:  pump_open reports libuv's.
 */
#ifndef FFWD_SERVER_PUMP_H
#define FFWD_SERVER_PUMP_H

#include <microhttpd.h>
#include <stdbool.h>
#include <uv.h>

#include "base/err.h"
#include "storage/store.h"

struct pump {
    struct MHD_Daemon *daemon;
    struct store *store; /* what the requests of one turn read of it, they read together */
    uv_poll_t poll;
    uv_timer_t timer;
    bool running; /* inside MHD_run */
    bool again;   /* asked to run while running */
    bool open;
};

/* The daemon must be in external epoll mode. p must stay where it is until pump_close's handles are
 * closed, which is one turn of the loop later. */
enum err pump_open(struct pump *p, uv_loop_t *loop, struct MHD_Daemon *daemon, struct store *store,
                   struct err_msg *em) NODISCARD;
/* Runs the daemon soon, from the loop: safe inside the daemon's callbacks. Needed after every
 * MHD_resume_connection. */
void pump_wake(struct pump *p);
/* Runs the daemon now; not from its callbacks. */
void pump_run(struct pump *p);
void pump_close(struct pump *p);

#endif
