/* webhooks: tells endpoints about jobs that ended.
 *
 * What:    looks for deliveries that are due, sends each signed as Standard Webhooks, and keeps
 *          what came of it: done, again later, or given up. One at a time to an endpoint, so that a
 *          dead one holds up nobody else.
 * Owns:    the requests under way. A delivery that is cut by the end of the server is still due
 *          at the next start: endpoints may be told twice, with the same webhook-id.
 * Threads: the loop thread only.
 * Errors:  what a delivery failed with is in its row and in the log.
 */
#ifndef FFWD_SERVER_WEBHOOKS_H
#define FFWD_SERVER_WEBHOOKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct request;
struct server;
struct webhooks;

/* Attempts of a delivery, the first included. */
#define WEBHOOK_ATTEMPTS 10
/* Seconds to wait after so many attempts (1 … WEBHOOK_ATTEMPTS - 1), up to a fifth longer as the
 * random number says, so that receivers that fell together are not called together. */
int64_t webhooks_delay(int64_t attempts, uint32_t random);

enum err webhooks_open(struct server *s, struct webhooks **out, struct err_msg *em) NODISCARD;
/* The request waits until the delivery was tried; what came of it is the answer. */
void webhooks_wait(struct webhooks *w, struct request *r, const char *delivery_id);
/* Does a request wait? */
bool webhooks_busy(const struct webhooks *w);
/* Answers the requests that wait: the server stops. */
void webhooks_quiesce(struct webhooks *w);
/* Gives up what is under way. */
void webhooks_close(struct webhooks *w);
/* After the loop has ended. */
void webhooks_free(struct webhooks *w);

#endif
