/* admin_client: administration commands, from the command line.
 *
 * What:    asks the running server, or opens the database itself under DATA's lock when none runs.
 * Owns:    nothing.
 * Threads: the main thread of a command.
 * Errors:  as err_msg; what the server refused is ERR_USAGE.
 */
#ifndef FFWD_SERVER_ADMIN_CLIENT_H
#define FFWD_SERVER_ADMIN_CLIENT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/* *reply: new reference. *live (may be NULL): whether a running server gave it. */
enum err admin_ask(const char *data_dir, const json_t *request, json_t **reply, bool *live,
                   struct err_msg *em) NODISCARD;
/* "2026-01-31T12:00:00Z", or "-" for 0. */
void admin_time(json_int_t seconds, char out[32]);

#endif
