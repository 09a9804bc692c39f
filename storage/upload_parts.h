/* upload_parts: the bytes of an upload's parts, and how they become one file.
 *
 * What:    DATA/uploads/<upload>/<part>; checking all parts against what the client says; putting
 *          them together. The first part becomes the file, each other one is appended and then
 *          removed, so that the disk holds every byte once (and one part twice). Each step is
 *          durable before the next, so that after a crash the work goes on where it was.
 * Owns:    nothing.
 * Threads: one upload, one thread. Reading and copying take long: not for the loop thread.
 * Errors:  ERR_STOPPED when *stop is set; ERR_NO_SPACE, ERR_IO from the disk. What is there stays.
 */
#ifndef FFWD_STORAGE_UPLOAD_PARTS_H
#define FFWD_STORAGE_UPLOAD_PARTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/md5.h"
#include "base/sha256.h"

/* New strings; NULL if an id is not valid. */
char *upload_parts_dir(const char *data_dir, const char *upload_id);
char *upload_part_path(const char *data_dir, const char *upload_id, const char *part_id);

/* The upload's folder, durable. */
enum err upload_parts_create(const char *data_dir, const char *upload_id,
                             struct err_msg *em) NODISCARD;
enum err upload_parts_remove(const char *data_dir, const char *upload_id,
                             struct err_msg *em) NODISCARD;

struct upload_part {
    const char *id;
    int64_t bytes;
};
/* The parts of one file in their order. */
struct upload_parts {
    const char *data_dir, *upload_id;
    const struct upload_part *items;
    size_t n;
};
/* Reads all parts; hashes of the whole. ERR_IO if a part has not the size it was stored with. */
enum err upload_parts_check(const struct upload_parts *parts, const atomic_bool *stop,
                            char md5[MD5_HEX_SIZE], char sha256[SHA256_HEX_SIZE],
                            struct err_msg *em) NODISCARD;
/* Makes DATA/files/<file_id> of them; goes on with what an earlier call has done, also when that
 * was everything. */
enum err upload_parts_join(const struct upload_parts *parts, const char *file_id,
                           const atomic_bool *stop, struct err_msg *em) NODISCARD;

#endif
