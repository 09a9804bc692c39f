/* backup_cmd: `ffwd-server backup --to DIR`.
 *
 * What:    a copy of DATA that a server can be started with, made while a server runs or without
 *          one: uploaded files, jobs' folders, and the database as it is at one moment in between.
 * Owns:    nothing.
 * Threads: the main thread of a command.
 * Errors:  as err_msg; the caller prints it. What was copied until then stays in DIR.
 */
#ifndef FFWD_SERVER_BACKUP_CMD_H
#define FFWD_SERVER_BACKUP_CMD_H

#include "base/err.h"

/* argv[0] is "backup". */
enum err backup_cmd(int argc, char **argv, struct err_msg *em) NODISCARD;

#endif
