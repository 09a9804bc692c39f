/* auth: who may ask.
 *
 * What:    the key of a request (Authorization: Bearer, or api-key) and the project it stands for;
 *          without keys, a check that no foreign web page drives the browser of this machine.
 * Owns:    nothing.
 * Threads: the loop thread only.
 * Errors:  a refusal is an answer in r->failure.
 */
#ifndef FFWD_SERVER_AUTH_H
#define FFWD_SERVER_AUTH_H

#include <stdbool.h>

#include "server/request.h"

/* Sets r->project and r->key_id. false: r->failure is a 401 (or 403), the same for unknown and
 * revoked keys. */
bool auth_check(struct request *r);

#endif
