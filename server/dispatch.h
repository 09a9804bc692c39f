/* dispatch: from a request's head to a handler and its answer.
 *
 * What:    the order of checks: framing, draining, route, key, origin, body; then the handler.
 * Owns:    nothing.
 * Threads: the loop thread only.
 * Errors:  every refusal is an answer in the error envelope.
 */
#ifndef FFWD_SERVER_DISPATCH_H
#define FFWD_SERVER_DISPATCH_H

#include <microhttpd.h>

#include "server/request.h"

/* The head is there; no byte of the body yet. */
enum MHD_Result dispatch_begin(struct request *r, const char *method, const char *version);
/* The body is complete: runs the handler, or sends what was decided before. */
enum MHD_Result dispatch_finish(struct request *r);

#endif
