/* worker_lock: DATA/worker.lock, held by the living worker.
 *
 * What:    an flock on an open file that only the worker keeps; the file's text is its process id.
 * Owns:    nothing after return but the descriptor given to the caller.
 * Threads: the loop thread only.
 * Errors:  ERR_CONFLICT while another process holds the lock.
 */
#ifndef FFWD_SERVER_WORKER_LOCK_H
#define FFWD_SERVER_WORKER_LOCK_H

#include <sys/types.h>

#include "base/err.h"

/* *fd: the locked file; the caller closes it (a child may keep a copy). */
enum err worker_lock_take(const char *data_dir, int *fd, struct err_msg *em) NODISCARD;
void worker_lock_write_pid(int fd, pid_t pid);
/* Process that wrote its id there and still has the file open; 0 if there is none. */
pid_t worker_lock_holder(const char *data_dir);

#endif
