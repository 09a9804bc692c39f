/* unsent: the last metrics events of a job, for a server that may not have read them.
 *
 * What:    what a server had not read when it was killed would be missing from the job's events,
 *          since training goes on after those steps. With each resume point, and when its server
 *          goes away, the worker leaves its last metrics events in OUT/resume/unsent.json; it sends
 *          them when it gets the job back, and a server drops those it has.
 * Owns:    copies of the events; unsent_clear frees them.
 * Threads: one at a time.
 * Errors:  only logged: a job does not fail for its history.
 */
#ifndef FFWD_ENGINE_CLI_UNSENT_H
#define FFWD_ENGINE_CLI_UNSENT_H

#include <jansson.h>

#include "base/event.h"

struct unsent {
    json_t *events; /* newest last; NULL: none */
};

/* Remembers ev if it is a metrics event. */
void unsent_note(struct unsent *u, const struct event *ev);
/* Writes what is remembered to OUT/resume/unsent.json. */
void unsent_save(const struct unsent *u, const char *out_dir);
/* Remembers what was left there instead of what it remembered. */
void unsent_load(struct unsent *u, const char *out_dir);
void unsent_clear(struct unsent *u);

#endif
