/* backup_copy: a copy of a folder that others write to.
 *
 * What:    what is in the copy already stays as it is; what goes away meanwhile is left out. The
 *          folders in a folder are copied before the files beside them: a file that grows is then
 *          never behind what a folder says about it.
 * Owns:    nothing.
 * Threads: any.
 * Errors:  the first one, with its path.
 */
#ifndef FFWD_SERVER_BACKUP_COPY_H
#define FFWD_SERVER_BACKUP_COPY_H

#include <stdint.h>

#include "base/err.h"

struct backup_copy {
    const char *but; /* folders of this name are left out; NULL: none */
    int64_t files, bytes;
};

/* A regular file, flushed; missing is fine, and so is one that is there. Other kinds are left out.
 */
enum err backup_copy_file(struct backup_copy *c, const char *from, const char *to,
                          struct err_msg *em) NODISCARD;
/* All that is in a folder; missing is fine. */
enum err backup_copy_tree(struct backup_copy *c, const char *from, const char *to,
                          struct err_msg *em) NODISCARD;

#endif
