/* keys_cmd: `ffwd-server keys create|list|revoke`.
 *
 * What:    asks the running server, or opens the database itself under DATA's lock.
 * Owns:    nothing.
 * Threads: the main thread of a command.
 * Errors:  as err_msg; the caller prints it.
 */
#ifndef FFWD_SERVER_KEYS_CMD_H
#define FFWD_SERVER_KEYS_CMD_H

#include "base/err.h"

/* argv[0] is "keys". */
enum err keys_cmd(int argc, char **argv, struct err_msg *em) NODISCARD;

#endif
