/* tar: a folder's regular files as one ustar archive, readable from any byte.
 *
 * What:    the archive is laid out from names and sizes alone, in the order of the names, so its
 *          size is known before the first byte and a range needs nothing before it. The same files
 *          give the same bytes.
 * Owns:    the open folder and the file being read.
 * Threads: one archive, one thread.
 * Errors:  ERR_NOT_FOUND for a missing folder; a file that changed meanwhile ends the reading.
 */
#ifndef FFWD_SERVER_TAR_H
#define FFWD_SERVER_TAR_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct tar;

enum err tar_open(const char *folder, struct tar **out, struct err_msg *em) NODISCARD;
int64_t tar_size(const struct tar *t);
/* Quoted; changes with names, sizes and times. */
const char *tar_etag(const struct tar *t);
/* Bytes from pos on: 1 … max, 0 at the end, -1 if a file cannot be read as it was. */
ssize_t tar_read(struct tar *t, int64_t pos, char *out, size_t max);
void tar_close(struct tar *t);

#endif
