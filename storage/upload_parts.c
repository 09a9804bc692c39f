/* upload_parts: the bytes of an upload's parts, and how they become one file. */
#include "storage/upload_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "storage/blobs.h"
#include "storage/trash.h"

#define PIECE (1u << 20)
#define JOINED "joined" /* the file while it grows */

char *upload_parts_dir(const char *data_dir, const char *upload_id) {
    return blobs_id_is_valid(upload_id, "upload_") ? xasprintf("%s/uploads/%s", data_dir, upload_id)
                                                   : NULL;
}

char *upload_part_path(const char *data_dir, const char *upload_id, const char *part_id) {
    char *dir = upload_parts_dir(data_dir, upload_id);
    char *path = dir != NULL && blobs_id_is_valid(part_id, "part_")
                     ? xasprintf("%s/%s", dir, part_id)
                     : NULL;
    free(dir);
    return path;
}

enum err upload_parts_create(const char *data_dir, const char *upload_id, struct err_msg *em) {
    char *dir = upload_parts_dir(data_dir, upload_id), *all = xasprintf("%s/uploads", data_dir);
    enum err e = dir == NULL ? err_set(em, ERR_BUG, "%s is not an upload id", upload_id)
                             : file_make_dirs(dir, em);
    if (e == ERR_OK)
        e = file_sync_dir(all, em);
    free(all);
    free(dir);
    return e;
}

enum err upload_parts_remove(const char *data_dir, const char *upload_id, struct err_msg *em) {
    char *dir = upload_parts_dir(data_dir, upload_id);
    enum err e = dir != NULL ? trash_put(data_dir, dir, em) : ERR_OK;
    free(dir);
    return e;
}

static enum err stopped(const atomic_bool *stop, struct err_msg *em) {
    return atomic_load(stop) ? err_set(em, ERR_STOPPED, "the server is shutting down") : ERR_OK;
}

/* ---- reading -------------------------------------------------------------------------------- */

static int open_part(const struct upload_parts *p, size_t i, struct err_msg *em, enum err *e) {
    char *path = upload_part_path(p->data_dir, p->upload_id, p->items[i].id);
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    struct stat st;
    if (fd < 0) {
        *e =
            err_set_errno(em, path != NULL ? errno : EINVAL, "cannot open part %s", p->items[i].id);
    } else if (fstat(fd, &st) != 0 || st.st_size != p->items[i].bytes) {
        *e = err_set(em, ERR_IO, "part %s is not as it was stored", p->items[i].id);
        close(fd);
        fd = -1;
    }
    free(path);
    return fd;
}

static ssize_t read_piece(int fd, void *out, size_t n) {
    ssize_t got;
    do
        got = read(fd, out, n);
    while (got < 0 && errno == EINTR);
    return got;
}

static enum err hash_part(int fd, struct md5 *md5, struct sha256 *sha256, unsigned char *piece,
                          const atomic_bool *stop, struct err_msg *em) {
    for (;;) {
        enum err e = stopped(stop, em);
        ssize_t n = e == ERR_OK ? read_piece(fd, piece, PIECE) : 0;
        if (n < 0)
            return err_set_errno(em, errno, "cannot read a part");
        if (n == 0)
            return e;
        md5_add(md5, piece, (size_t)n);
        sha256_add(sha256, piece, (size_t)n);
    }
}

enum err upload_parts_check(const struct upload_parts *parts, const atomic_bool *stop,
                            char md5[MD5_HEX_SIZE], char sha256[SHA256_HEX_SIZE],
                            struct err_msg *em) {
    struct md5 m;
    struct sha256 h;
    enum err e = ERR_OK;
    unsigned char *piece = xmalloc(PIECE);
    md5_init(&m);
    sha256_init(&h);
    for (size_t i = 0; e == ERR_OK && i < parts->n; i++) {
        int fd = open_part(parts, i, em, &e);
        if (fd < 0)
            break;
        e = hash_part(fd, &m, &h, piece, stop, em);
        close(fd);
    }
    free(piece);
    if (e == ERR_OK) {
        md5_hex(&m, md5);
        sha256_hex(&h, sha256);
    }
    return e;
}

/* ---- joining -------------------------------------------------------------------------------- */

static enum err copy_by_hand(int from, int to, const atomic_bool *stop, struct err_msg *em) {
    char *piece = xmalloc(PIECE);
    enum err e = ERR_OK;
    ssize_t n = 0;
    while (e == ERR_OK && (e = stopped(stop, em)) == ERR_OK &&
           (n = read_piece(from, piece, PIECE)) > 0)
        for (ssize_t done = 0; e == ERR_OK && done < n;) {
            ssize_t put = write(to, piece + done, (size_t)(n - done));
            if (put < 0 && errno != EINTR)
                e = err_set_errno(em, errno, "cannot store the file");
            done += put > 0 ? put : 0;
        }
    if (e == ERR_OK && n < 0)
        e = err_set_errno(em, errno, "cannot read a part");
    free(piece);
    return e;
}

/* All of `from` to the end of `to`; file systems that can, share the blocks. */
static enum err append(int from, int to, const atomic_bool *stop, struct err_msg *em) {
    for (;;) {
        enum err e = stopped(stop, em);
        ssize_t n = e == ERR_OK ? copy_file_range(from, NULL, to, NULL, 8 * PIECE, 0) : 0;
        if (n == 0)
            return e;
        if (n > 0 || errno == EINTR)
            continue;
        if (errno == ENOSPC || errno == EDQUOT || errno == EIO)
            return err_set_errno(em, errno, "cannot store the file");
        return copy_by_hand(from, to, stop, em);
    }
}

/* Part i at `at`, where it begins in the file. Its own file is removed only when its bytes are
 * durable in the other: as long as it exists, it is copied (again). */
static enum err add_part(const struct upload_parts *p, size_t i, const char *dir, int to,
                         int64_t at, const atomic_bool *stop, struct err_msg *em) {
    enum err e = ERR_OK;
    struct stat st;
    char *path = upload_part_path(p->data_dir, p->upload_id, p->items[i].id);
    if (path != NULL && access(path, F_OK) != 0 && errno == ENOENT) {
        if (fstat(to, &st) != 0 || st.st_size < at + p->items[i].bytes)
            e = err_set(em, ERR_IO, "part %s is missing", p->items[i].id);
        free(path);
        return e;
    }
    int from = open_part(p, i, em, &e);
    if (from >= 0 && (ftruncate(to, at) != 0 || lseek(to, at, SEEK_SET) != at))
        e = err_set_errno(em, errno, "cannot store the file");
    if (e == ERR_OK)
        e = append(from, to, stop, em);
    if (e == ERR_OK && fsync(to) != 0)
        e = err_set_errno(em, errno, "cannot sync the file");
    if (e == ERR_OK && unlink(path) != 0)
        e = err_set_errno(em, errno, "cannot remove %s", path);
    if (e == ERR_OK)
        e = file_sync_dir(dir, em);
    if (from >= 0)
        close(from);
    free(path);
    return e;
}

/* The growing file, at first the first part itself. */
static int open_joined(const struct upload_parts *p, const char *dir, const char *joined,
                       struct err_msg *em, enum err *e) {
    if (file_size(joined) < 0) {
        char *first = upload_part_path(p->data_dir, p->upload_id, p->items[0].id);
        if (first == NULL || rename(first, joined) != 0)
            *e = err_set_errno(em, errno, "part %s cannot be moved", p->items[0].id);
        else
            *e = file_sync_dir(dir, em);
        free(first);
        if (*e != ERR_OK)
            return -1;
    }
    int fd = open(joined, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        *e = err_set_errno(em, errno, "cannot open %s", joined);
    return fd;
}

static enum err join(const struct upload_parts *p, const char *dir, const char *joined,
                     const atomic_bool *stop, int64_t *total, struct err_msg *em) {
    enum err e = ERR_OK;
    struct stat st;
    int fd = open_joined(p, dir, joined, em, &e);
    *total = p->items[0].bytes;
    for (size_t i = 1; e == ERR_OK && i < p->n; i++) {
        e = add_part(p, i, dir, fd, *total, stop, em);
        *total += p->items[i].bytes;
    }
    if (e == ERR_OK && (fstat(fd, &st) != 0 || st.st_size != *total))
        e = err_set(em, ERR_IO, "the file has not the size of its parts");
    if (fd >= 0)
        close(fd);
    return e;
}

enum err upload_parts_join(const struct upload_parts *parts, const char *file_id,
                           const atomic_bool *stop, struct err_msg *em) {
    char *dir = upload_parts_dir(parts->data_dir, parts->upload_id);
    char *path = blobs_file_path(parts->data_dir, file_id);
    char *files = xasprintf("%s/files", parts->data_dir);
    char *joined = xasprintf("%s/" JOINED, dir != NULL ? dir : "");
    int64_t total = 0;
    enum err e = ERR_OK;
    if (dir == NULL || path == NULL || parts->n == 0)
        e = err_set(em, ERR_BUG, "nothing to join as %s", file_id);
    else if (file_size(path) < 0) {
        e = join(parts, dir, joined, stop, &total, em);
        if (e == ERR_OK && rename(joined, path) != 0)
            e = err_set_errno(em, errno, "cannot rename to %s", path);
    }
    if (e == ERR_OK)
        e = file_sync_dir(files, em);
    if (e == ERR_OK && file_remove_tree(dir, NULL) != ERR_OK)
        log_warn("uploads.remove", "id=%s", parts->upload_id); /* goes at the next start */
    free(joined);
    free(files);
    free(path);
    free(dir);
    return e;
}
