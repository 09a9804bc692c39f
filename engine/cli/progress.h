/* progress: a bar on standard error for a person who watches.
 *
 * What:    step, loss, tokens per second and time left, on one line that is drawn again with each
 *          metrics event; nothing at all where standard error is no terminal.
 * Owns:    nothing.
 * Threads: one thread.
 * Errors:  none; what cannot be drawn is not drawn.
 */
#ifndef FFWD_ENGINE_CLI_PROGRESS_H
#define FFWD_ENGINE_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/event.h"

struct progress {
    bool on, drawn;
    int64_t first_tokens, first_step; /* of this process, -1: not yet known */
    double started;                   /* monotonic */
};

void progress_init(struct progress *p);
/* Takes the bar away, so that something else can be printed. */
void progress_clear(struct progress *p);
/* Draws the bar anew if the event is a step's. */
void progress_event(struct progress *p, const struct event *ev);

#endif
