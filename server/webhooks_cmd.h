/* webhooks_cmd: `ffwd-server webhooks create|list|delete|rotate|test`.
 *
 * What:    asks the running server, or opens the database itself under DATA's lock; `test` needs
 *          the server, which sends.
 * Owns:    nothing.
 * Threads: the main thread of a command.
 * Errors:  as err_msg; the caller prints it.
 */
#ifndef FFWD_SERVER_WEBHOOKS_CMD_H
#define FFWD_SERVER_WEBHOOKS_CMD_H

#include "base/err.h"

/* argv[0] is "webhooks". */
enum err webhooks_cmd(int argc, char **argv, struct err_msg *em) NODISCARD;

#endif
