/* blobs: where the bytes of files and jobs are under DATA.
 *
 * What:    paths built from ids only (checked to be prefix + [a-z0-9]); uploads spooled to a temp
 *          file with their size and SHA-256, then published by rename; removal.
 * Owns:    struct spool owns its temp file until published or aborted.
 * Threads: one spool, one thread.
 * Errors:  ERR_LIMIT past the maximum; ERR_NO_SPACE on a full disk: the temp file is removed.
 */
#ifndef FFWD_STORAGE_BLOBS_H
#define FFWD_STORAGE_BLOBS_H

#include <stdint.h>

#include "base/err.h"
#include "base/sha256.h"

/* Creates DATA/{files,uploads,jobs} and removes temp files a crash left. */
enum err blobs_open(const char *data_dir, struct err_msg *em) NODISCARD;

/* New strings; the caller frees. NULL if id is not a valid id. */
char *blobs_file_path(const char *data_dir, const char *file_id);
char *blobs_job_dir(const char *data_dir, const char *job_id);

struct spool {
    int fd;
    char *temp;
    int64_t bytes, max;
    struct sha256 hash;
};
enum err spool_open(struct spool *sp, const char *data_dir, int64_t max,
                    struct err_msg *em) NODISCARD;
enum err spool_write(struct spool *sp, const void *bytes, size_t n, struct err_msg *em) NODISCARD;
/* fsync, rename to DATA/files/<id>, fsync of the folder. sha256: hex of the content. */
enum err spool_publish(struct spool *sp, const char *data_dir, const char *file_id,
                       char sha256[SHA256_HEX_SIZE], struct err_msg *em) NODISCARD;
void spool_abort(struct spool *sp); /* also fine after publish and on a zeroed spool */

enum err blobs_file_remove(const char *data_dir, const char *file_id, struct err_msg *em) NODISCARD;

#endif
