/* store_uploads: uploads in parts, from their creation to the file they become.
 *
 * What:    rows of uploads and of their parts. An upload is pending until it is completed,
 *          cancelled or expired; UPLOAD_COMPLETING is the state in which its parts are being put
 *          together, which survives a crash: the bytes may then be partly moved.
 * Owns:    nothing; rows belong to the caller.
 * Threads: the loop thread only.
 * Errors:  as store.h; ERR_CONFLICT where the upload's status does not allow the change.
 */
#ifndef FFWD_STORAGE_STORE_UPLOADS_H
#define FFWD_STORAGE_STORE_UPLOADS_H

#include "storage/store.h"

enum upload_status {
    UPLOAD_PENDING,
    UPLOAD_COMPLETING,
    UPLOAD_COMPLETED,
    UPLOAD_CANCELLED,
    UPLOAD_EXPIRED
};

struct upload_row {
    char id[STORE_ID_SIZE];
    char *project, *filename, *purpose, *mime_type;
    int64_t bytes, created_at, expires_at;
    int64_t file_expires_after; /* seconds that the file will live, 0: for ever */
    enum upload_status status;
    int64_t stored, parts;       /* bytes and number of the parts that are there */
    json_t *part_ids;            /* from UPLOAD_COMPLETING on: the file's parts in order */
    char *md5, *sha256;          /* … of the file's content */
    char file_id[STORE_ID_SIZE]; /* … the file's id; "" before */
};
void upload_row_clear(struct upload_row *u);

enum err store_upload_add(struct store *s, const struct upload_row *u,
                          struct err_msg *em) NODISCARD;
enum err store_upload_get(struct store *s, const char *project, const char *id,
                          struct upload_row *out, struct err_msg *em) NODISCARD;
/* Only while it is pending. */
enum err store_upload_add_part(struct store *s, const char *upload_id, const char *part_id,
                               int64_t bytes, int64_t created_at, struct err_msg *em) NODISCARD;
/* ERR_NOT_FOUND if the upload has no such part. */
enum err store_upload_part_bytes(struct store *s, const char *upload_id, const char *part_id,
                                 int64_t *bytes, struct err_msg *em) NODISCARD;
/* UPLOAD_PENDING → UPLOAD_COMPLETING: from now on the parts belong to the file file_id. */
enum err store_upload_begin(struct store *s, const char *id, const json_t *part_ids,
                            const char *md5, const char *sha256, const char *file_id,
                            struct err_msg *em) NODISCARD;
/* UPLOAD_COMPLETING → UPLOAD_COMPLETED: adds the file's row, forgets the parts. */
enum err store_upload_finish(struct store *s, const char *id, const struct file_row *file,
                             struct err_msg *em) NODISCARD;
/* An upload that is not completed → UPLOAD_CANCELLED or UPLOAD_EXPIRED; forgets the parts. The
 * caller removes their bytes, and those of file_id. */
enum err store_upload_end(struct store *s, const char *id, enum upload_status to,
                          struct err_msg *em) NODISCARD;
/* Uploads that are UPLOAD_COMPLETING, as store_upload_expired. */
enum err store_upload_completing(struct store *s, int most, struct upload_row **rows, int *n,
                                 struct err_msg *em) NODISCARD;
/* Uploads past their expires_at that are not ended, oldest first, at most `most`: new array of *n
 * (the caller clears each and frees it). */
enum err store_upload_expired(struct store *s, int most, struct upload_row **rows, int *n,
                              struct err_msg *em) NODISCARD;

#endif
