/* blobs: where the bytes of files and jobs are under DATA. */
#include "storage/blobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "storage/trash.h"

#define TEMP_PREFIX ".spool-"
#define ID_RANDOM 24

bool blobs_id_is_valid(const char *id, const char *prefix) {
    size_t head = strlen(prefix);
    if (strncmp(id, prefix, head) != 0 || strlen(id) != head + ID_RANDOM)
        return false;
    for (const char *p = id + head; *p != '\0'; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9')))
            return false;
    return true;
}

char *blobs_file_path(const char *data_dir, const char *file_id) {
    return blobs_id_is_valid(file_id, "file-") ? xasprintf("%s/files/%s", data_dir, file_id) : NULL;
}

char *blobs_job_dir(const char *data_dir, const char *job_id) {
    return blobs_id_is_valid(job_id, "ftjob-") ? xasprintf("%s/jobs/%s", data_dir, job_id) : NULL;
}

static enum err remove_temps(const char *data_dir, const char *folder, struct err_msg *em) {
    DIR *d = opendir(folder);
    if (d == NULL)
        return err_set_errno(em, errno, "cannot open folder %s", folder);
    enum err e = ERR_OK;
    for (struct dirent *entry; e == ERR_OK && (entry = readdir(d)) != NULL;) {
        if (strncmp(entry->d_name, TEMP_PREFIX, strlen(TEMP_PREFIX)) != 0)
            continue;
        char *path = xasprintf("%s/%s", folder, entry->d_name);
        e = trash_put(data_dir, path, em);
        free(path);
    }
    closedir(d);
    return e;
}

enum err blobs_open(const char *data_dir, struct err_msg *em) {
    static const char *const folders[] = {"files", "uploads", "jobs"};
    enum err e = trash_open(data_dir, em);
    for (size_t i = 0; e == ERR_OK && i < sizeof folders / sizeof folders[0]; i++) {
        char *path = xasprintf("%s/%s", data_dir, folders[i]);
        e = file_make_dirs(path, em);
        if (e == ERR_OK)
            e = remove_temps(data_dir, path, em);
        free(path);
    }
    return e == ERR_OK ? file_sync_dir(data_dir, em) : e;
}

enum err spool_open(struct spool *sp, const char *data_dir, int64_t max, struct err_msg *em) {
    *sp = (struct spool){.fd = -1, .max = max, .data_dir = xstrdup(data_dir)};
    sp->temp = xasprintf("%s/files/" TEMP_PREFIX "XXXXXX", data_dir);
    sha256_init(&sp->hash);
    sp->fd = mkostemp(sp->temp, O_CLOEXEC);
    if (sp->fd >= 0)
        return ERR_OK;
    enum err e = err_set_errno(em, errno, "cannot create a file in %s/files", data_dir);
    free(sp->temp);
    free(sp->data_dir);
    sp->temp = sp->data_dir = NULL;
    return e;
}

/* at_once: its blocks are free on return, however long that takes. */
static void drop(struct spool *sp, bool at_once) {
    if (sp->temp != NULL) {
        if (sp->fd >= 0)
            (void)close(sp->fd);
        enum err e = at_once ? file_remove_tree(sp->temp, NULL) /* gone already after a rename */
                             : trash_put(sp->data_dir, sp->temp, NULL);
        if (e != ERR_OK)
            log_warn("files.remove", "path=%s", sp->temp);
    }
    free(sp->temp);
    free(sp->data_dir);
    sp->temp = sp->data_dir = NULL;
    sp->fd = -1;
}

void spool_abort(struct spool *sp) {
    drop(sp, false);
}

enum err spool_write(struct spool *sp, const void *bytes, size_t n, struct err_msg *em) {
    if (sp->max < sp->bytes || n > (size_t)(sp->max - sp->bytes)) {
        long long max = (long long)sp->max;
        spool_abort(sp);
        return err_set_param(em, ERR_LIMIT, "file", "the file has more than %lld bytes", max);
    }
    const char *at = bytes;
    for (size_t left = n; left > 0;) {
        ssize_t put = write(sp->fd, at, left);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            enum err e = err_set_errno(em, errno, "cannot store the file");
            drop(sp, true); /* on a full disk others wait for that room */
            return e;
        }
        at += put;
        left -= (size_t)put;
    }
    if (!sp->unhashed)
        sha256_add(&sp->hash, bytes, n);
    sp->bytes += (int64_t)n;
    return ERR_OK;
}

static enum err sync_folder_of(const char *path, struct err_msg *em) {
    char *folder = xstrndup(path, (size_t)(strrchr(path, '/') - path));
    enum err e = file_sync_dir(folder, em);
    free(folder);
    if (e != ERR_OK)
        (void)unlink(path);
    return e;
}

static enum err publish(struct spool *sp, const char *path, struct err_msg *em) {
    if (sp->temp == NULL)
        return err_set(em, ERR_BUG, "nothing to publish as %s", path);
    if (fsync(sp->fd) != 0)
        return err_set_errno(em, errno, "cannot sync the file");
    if (rename(sp->temp, path) != 0)
        return err_set_errno(em, errno, "cannot rename to %s", path);
    return sync_folder_of(path, em);
}

enum err spool_publish_as(struct spool *sp, const char *path, struct err_msg *em) {
    enum err e = publish(sp, path, em);
    spool_abort(sp);
    return e;
}

enum err spool_publish(struct spool *sp, const char *data_dir, const char *file_id,
                       struct err_msg *em) {
    char *path = blobs_file_path(data_dir, file_id);
    enum err e =
        path == NULL ? err_set(em, ERR_BUG, "%s is not a file id", file_id) : publish(sp, path, em);
    free(path);
    spool_abort(sp);
    return e;
}

void spool_sha256(const struct spool *sp, char sha256[SHA256_HEX_SIZE]) {
    struct sha256 copy = sp->hash;
    sha256_hex(&copy, sha256);
}

enum err blobs_file_link(const char *data_dir, const char *have_id, int64_t bytes,
                         const char *file_id, struct err_msg *em) {
    char *have = blobs_file_path(data_dir, have_id), *path = blobs_file_path(data_dir, file_id);
    enum err e = ERR_OK;
    if (have == NULL || path == NULL || file_size(have) != bytes)
        e = err_set(em, ERR_NOT_FOUND, "%s is not as it was stored", have_id);
    else if (link(have, path) != 0)
        e = err_set_errno(em, errno, "cannot link %s", path);
    else
        e = sync_folder_of(path, em);
    free(have);
    free(path);
    return e;
}

enum err blobs_file_remove(const char *data_dir, const char *file_id, struct err_msg *em) {
    char *path = blobs_file_path(data_dir, file_id);
    if (path == NULL)
        return err_set(em, ERR_INPUT, "%s is not a file id", file_id);
    enum err e = trash_put(data_dir, path, em);
    free(path);
    return e;
}
