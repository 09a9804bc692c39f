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

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sha256.h"

/* prefix + 24 of [a-z0-9]: nothing in it can leave a folder. */
bool blobs_id_is_valid(const char *id, const char *prefix);

/* Creates DATA/{files,uploads,jobs,trash} and removes temp files a crash left. */
enum err blobs_open(const char *data_dir, struct err_msg *em) NODISCARD;

/* New strings; the caller frees. NULL if id is not a valid id. */
char *blobs_file_path(const char *data_dir, const char *file_id);
char *blobs_job_dir(const char *data_dir, const char *job_id);

struct spool {
    int fd;
    char *temp, *data_dir;
    int64_t bytes, max;
    bool unhashed; /* set after spool_open: the content needs no SHA-256 */
    struct sha256 hash;
};
enum err spool_open(struct spool *sp, const char *data_dir, int64_t max,
                    struct err_msg *em) NODISCARD;
enum err spool_write(struct spool *sp, const void *bytes, size_t n, struct err_msg *em) NODISCARD;
/* Of what was written so far. */
void spool_sha256(const struct spool *sp, char sha256[SHA256_HEX_SIZE]);
/* fsync, rename to DATA/files/<id>, fsync of the folder. */
enum err spool_publish(struct spool *sp, const char *data_dir, const char *file_id,
                       struct err_msg *em) NODISCARD;
/* The same to another path, whose folder exists. */
enum err spool_publish_as(struct spool *sp, const char *path, struct err_msg *em) NODISCARD;
void spool_abort(struct spool *sp); /* also fine after publish and on a zeroed spool */

/* Gives the content of a stored file of that many bytes a second id: a hard link, so each id has a
 * life of its own. Fails where the file system cannot, and then the content must be stored again.
 */
enum err blobs_file_link(const char *data_dir, const char *have_id, int64_t bytes,
                         const char *file_id, struct err_msg *em) NODISCARD;
/* Its name is free at once, its blocks a moment later (storage/trash.h). */
enum err blobs_file_remove(const char *data_dir, const char *file_id, struct err_msg *em) NODISCARD;

#endif
