/* trash: what is removed leaves its place at once and its blocks later.
 *
 * What:    DATA/trash. To free a large file's blocks takes long, so a file or folder is moved there
 *          and removed by another thread. A small file, or one of several names, is removed at
 *          once. What a crash leaves in the trash goes at the next start.
 * Owns:    nothing.
 * Threads: trash_put: any; trash_empty: one at a time, not the loop thread.
 * Errors:  what cannot be moved is removed where it is, however long that takes.
 */
#ifndef FFWD_STORAGE_TRASH_H
#define FFWD_STORAGE_TRASH_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/err.h"

/* New string: the folder. */
char *trash_folder(const char *data_dir);
/* The same, made if it is missing. */
enum err trash_open(const char *data_dir, struct err_msg *em) NODISCARD;

/* Missing is fine. The place is free afterwards; that it stays so after a power cut, the caller
 * sees to. */
enum err trash_put(const char *data_dir, const char *path, struct err_msg *em) NODISCARD;

/* Until there is nothing in it or *stop is set. */
enum err trash_empty(const char *data_dir, const atomic_bool *stop, struct err_msg *em) NODISCARD;

#endif
