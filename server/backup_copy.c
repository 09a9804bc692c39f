/* backup_copy: a copy of a folder that others write to. */
#include "server/backup_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

#define CHUNK (1 << 20)

static enum err copy_bytes(struct backup_copy *c, int in, int out, const char *to,
                           struct err_msg *em) {
    char *chunk = xmalloc(CHUNK);
    enum err e = ERR_OK;
    for (ssize_t n; e == ERR_OK && (n = read(in, chunk, CHUNK)) != 0;) {
        if (n < 0)
            e = err_set_errno(em, errno, "cannot read what goes to %s", to);
        for (ssize_t put = 0, k; e == ERR_OK && put < n; put += k) {
            k = write(out, chunk + put, (size_t)(n - put));
            if (k < 0)
                e = err_set_errno(em, errno, "cannot write %s", to);
        }
        c->bytes += n > 0 ? n : 0;
    }
    if (e == ERR_OK && fsync(out) != 0)
        e = err_set_errno(em, errno, "cannot write %s", to);
    free(chunk);
    return e;
}

/* Under another name until it is whole, so that a copy that was cut off is made again. */
static enum err copy_as(struct backup_copy *c, int in, const char *to, struct err_msg *em) {
    char *part = xasprintf("%s.part", to);
    int out = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    enum err e = out < 0 ? err_set_errno(em, errno, "cannot create %s", part) : ERR_OK;
    if (e == ERR_OK)
        e = copy_bytes(c, in, out, part, em);
    if (e == ERR_OK && rename(part, to) != 0)
        e = err_set_errno(em, errno, "cannot rename to %s", to);
    if (out >= 0)
        (void)close(out);
    c->files += e == ERR_OK;
    free(part);
    return e;
}

enum err backup_copy_file(struct backup_copy *c, const char *from, const char *to,
                          struct err_msg *em) {
    struct stat st;
    if (access(to, F_OK) == 0)
        return ERR_OK;
    int in = open(from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (in < 0)
        return errno == ENOENT || errno == ELOOP || errno == ENXIO
                   ? ERR_OK
                   : err_set_errno(em, errno, "cannot read %s", from);
    enum err e = ERR_OK;
    if (fstat(in, &st) == 0 && S_ISREG(st.st_mode))
        e = copy_as(c, in, to, em);
    (void)close(in);
    return e;
}

static bool is_folder(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Of one folder, its folders or its other entries. */
static enum err copy_entries(struct backup_copy *c, const char *from, const char *to, bool folders,
                             struct err_msg *em) {
    enum err e = ERR_OK;
    DIR *d = file_open_folder(from);
    if (d == NULL)
        return errno == ENOENT ? ERR_OK : err_set_errno(em, errno, "cannot open folder %s", from);
    for (struct dirent *entry; e == ERR_OK && (entry = readdir(d)) != NULL;) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        char *a = xasprintf("%s/%s", from, name), *b = xasprintf("%s/%s", to, name);
        bool left_out = c->but != NULL && strcmp(name, c->but) == 0;
        bool folder = is_folder(a);
        if (folder && folders && !left_out)
            e = backup_copy_tree(c, a, b, em);
        else if (!folder && !folders)
            e = backup_copy_file(c, a, b, em);
        free(a);
        free(b);
    }
    closedir(d);
    return e;
}

enum err backup_copy_tree(struct backup_copy *c, const char *from, const char *to,
                          struct err_msg *em) {
    enum err e = file_make_dirs(to, em);
    if (e == ERR_OK)
        e = copy_entries(c, from, to, true, em);
    if (e == ERR_OK)
        e = copy_entries(c, from, to, false, em);
    return e == ERR_OK ? file_sync_dir(to, em) : e;
}
