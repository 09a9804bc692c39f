/* dry_run: checks of files for requests that wait for them.
 *
 * What:    suspends a request, checks its files in a process of their own (a few at a time, in the
 *          order they came), resumes it with the answer. A client that goes away ends its check.
 * Owns:    the queue and the checks; a request's api_check until its answer.
 * Threads: the loop thread only.
 * Errors:  as the request's answer: too many at once is 429; a check that takes too long 504; one
 *          whose process fails 500; a server that stops 503.
 */
#ifndef FFWD_SERVER_DRY_RUN_H
#define FFWD_SERVER_DRY_RUN_H

#include <stdbool.h>
#include <uv.h>

#include "api/api.h"

struct dry_run;
struct request;

struct dry_runs {
    struct dry_run *first; /* oldest first */
    int n, n_running;
    uv_timer_t timer; /* looks for clients that have gone */
    bool stopping;
};

void dry_runs_open(struct dry_runs *d, uv_loop_t *loop);
/* r is suspended until its answer is in r->late. check is taken over. */
void dry_runs_add(struct dry_runs *d, struct request *r, struct api_check *check_take);
bool dry_runs_busy(const struct dry_runs *d);
/* Ends what runs and answers what waits; also what comes from now on. */
void dry_runs_stop(struct dry_runs *d);
void dry_runs_close(struct dry_runs *d);

#endif
