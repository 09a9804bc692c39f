/* later: work of handlers on libuv's threads, while their requests wait.
 *
 * What:    suspends a request, runs its work (a few at a time, in the order they came), resumes
 *          it with the answer.
 * Owns:    the queue; a work belongs to itself.
 * Threads: the loop thread; a work's `run` on one of libuv's.
 * Errors:  those of the work, as its answer.
 */
#ifndef FFWD_SERVER_LATER_H
#define FFWD_SERVER_LATER_H

#include <stdbool.h>

#include "api/api.h"

struct request;

struct later {
    struct request *first, *last; /* that wait for a thread */
    struct request *running;
    int n_running;
    bool stopping;
};

/* r is suspended until its answer is in r->late. */
void later_add(struct later *l, struct request *r, struct api_work *work);
/* Whether requests are suspended here. */
bool later_busy(const struct later *l);
/* Asks what runs to come back and answers what waits; also what comes from now on. */
void later_stop(struct later *l);

#endif
