/* file: whole files, and writes that are either complete or absent. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

/* O_NONBLOCK: opening a FIFO by mistake must not hang. */
static int open_regular(const char *path, struct stat *st, struct err_msg *em, enum err *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        *e = err_set_errno(em, errno, "cannot open %s", path);
        return -1;
    }
    if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode)) {
        *e = err_set(em, ERR_INPUT, "%s is not a regular file", path);
        close(fd);
        return -1;
    }
    return fd;
}

static enum err read_all(int fd, char *out, size_t n, const char *path, struct err_msg *em) {
    size_t done = 0;
    while (done < n) {
        ssize_t got = read(fd, out + done, n - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set_errno(em, errno, "cannot read %s", path);
        if (got == 0)
            return err_set(em, ERR_IO, "%s became shorter while it was read", path);
        done += (size_t)got;
    }
    return ERR_OK;
}

enum err file_read(const char *path, size_t max, char **out, size_t *len, struct err_msg *em) {
    enum err e = ERR_OK;
    struct stat st;
    int fd = open_regular(path, &st, em, &e);
    if (fd < 0)
        return e;
    size_t n = (size_t)st.st_size;
    char *data = NULL;
    if (n > max) {
        e = err_set(em, ERR_LIMIT, "%s has %zu bytes; at most %zu are read", path, n, max);
        goto out;
    }
    data = xmalloc(n + 1);
    e = read_all(fd, data, n, path, em);
    if (e != ERR_OK)
        goto out;
    data[n] = '\0';
    *out = data;
    data = NULL;
    if (len != NULL)
        *len = n;
out:
    free(data);
    close(fd);
    return e;
}

enum err file_map_open(const char *path, struct file_map *map, struct err_msg *em) {
    enum err e = ERR_OK;
    struct stat st;
    *map = (struct file_map){0};
    int fd = open_regular(path, &st, em, &e);
    if (fd < 0)
        return e;
    if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            e = err_set_errno(em, errno, "cannot map %s", path);
        else
            *map = (struct file_map){.data = p, .len = (size_t)st.st_size};
    }
    close(fd);
    return e;
}

void file_map_close(struct file_map *map) {
    if (map->data != NULL)
        munmap((void *)(uintptr_t)map->data, map->len);
    *map = (struct file_map){0};
}

static char *parent_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return xstrdup(".");
    return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

enum err file_sync_dir(const char *dir, struct err_msg *em) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(em, errno, "cannot open folder %s", dir);
    enum err e = ERR_OK;
    if (fsync(fd) != 0)
        e = err_set_errno(em, errno, "cannot sync folder %s", dir);
    close(fd);
    return e;
}

static enum err sync_parent(const char *path, struct err_msg *em) {
    char *dir = parent_of(path);
    enum err e = file_sync_dir(dir, em);
    free(dir);
    return e;
}

enum err file_writer_open(struct file_writer *w, const char *path, struct err_msg *em) {
    *w = (struct file_writer){.path = xstrdup(path), .temp = xasprintf("%s.tmp-XXXXXX", path)};
    int fd = mkostemp(w->temp, O_CLOEXEC);
    if (fd >= 0)
        w->f = fdopen(fd, "wb");
    if (w->f != NULL)
        return ERR_OK;
    enum err e = err_set_errno(em, errno, "cannot create a file beside %s", path);
    if (fd >= 0)
        close(fd);
    file_writer_abort(w);
    return e;
}

enum err file_writer_commit(struct file_writer *w, struct err_msg *em) {
    enum err e = ERR_OK;
    if (ferror(w->f) || fflush(w->f) != 0 || fsync(fileno(w->f)) != 0)
        e = err_set_errno(em, errno == 0 ? EIO : errno, "cannot write %s", w->path);
    if (fclose(w->f) != 0 && e == ERR_OK)
        e = err_set_errno(em, errno, "cannot close %s", w->path);
    w->f = NULL;
    if (e == ERR_OK && rename(w->temp, w->path) != 0)
        e = err_set_errno(em, errno, "cannot rename to %s", w->path);
    if (e == ERR_OK) {
        free(w->temp);
        w->temp = NULL;
        e = sync_parent(w->path, em);
    }
    file_writer_abort(w);
    return e;
}

void file_writer_abort(struct file_writer *w) {
    if (w->f != NULL)
        (void)fclose(w->f);
    if (w->temp != NULL)
        (void)unlink(w->temp);
    free(w->temp);
    free(w->path);
    *w = (struct file_writer){0};
}

enum err file_write(const char *path, const void *bytes, size_t n, struct err_msg *em) {
    struct file_writer w;
    enum err e = file_writer_open(&w, path, em);
    if (e != ERR_OK)
        return e;
    errno = 0;
    if (n > 0 && fwrite(bytes, 1, n, w.f) != n) {
        e = err_set_errno(em, errno == 0 ? EIO : errno, "cannot write %s", path);
        file_writer_abort(&w);
        return e;
    }
    return file_writer_commit(&w, em);
}

enum err file_rename_dir(const char *src, const char *dst, struct err_msg *em) {
    enum err e = file_sync_dir(src, em);
    if (e == ERR_OK && rename(src, dst) != 0)
        e = err_set_errno(em, errno, "cannot rename %s to %s", src, dst);
    return e != ERR_OK ? e : sync_parent(dst, em);
}

enum err file_make_dirs(const char *dir, struct err_msg *em) {
    char *path = xstrdup(dir);
    enum err e = ERR_OK;
    for (char *p = path + 1; e == ERR_OK; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char at = *p;
        *p = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            e = err_set_errno(em, errno, "cannot create folder %s", path);
        *p = at;
        if (at == '\0')
            break;
    }
    free(path);
    return e;
}

DIR *file_open_folder(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL && fd >= 0)
        close(fd);
    return d;
}

static enum err remove_children(const char *path, struct err_msg *em) {
    DIR *d = file_open_folder(path);
    if (d == NULL)
        return err_set_errno(em, errno, "cannot open folder %s", path);
    enum err e = ERR_OK;
    for (struct dirent *entry; e == ERR_OK && (entry = readdir(d)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *child = xasprintf("%s/%s", path, entry->d_name);
        e = file_remove_tree(child, em);
        free(child);
    }
    closedir(d);
    return e;
}

enum err file_remove_tree(const char *path, struct err_msg *em) {
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? ERR_OK : err_set_errno(em, errno, "cannot stat %s", path);
    enum err e = S_ISDIR(st.st_mode) ? remove_children(path, em) : ERR_OK;
    if (e == ERR_OK && (S_ISDIR(st.st_mode) ? rmdir(path) : unlink(path)) != 0)
        e = err_set_errno(em, errno, "cannot remove %s", path);
    return e;
}

int64_t file_size(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1;
}
