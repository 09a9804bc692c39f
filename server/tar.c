/* tar: a folder's regular files as one ustar archive (POSIX.1-1988 interchange format). */
#include "server/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sha256.h"

#define BLOCK 512
#define END_BLOCKS 2
#define MAX_FILES 1024
#define NAME_MAX_BYTES 100
#define MAX_SIZE 077777777777LL /* 11 octal digits */

struct entry {
    char *name;
    int64_t size, mtime;
    int64_t start; /* of its header in the archive */
};

struct tar {
    int dir;
    struct entry *entries;
    int n;
    int64_t size;
    char etag[24];
    int open_index; /* of the file that is open, -1: none */
    int fd;
};

static int64_t padded(int64_t size) {
    return (size + BLOCK - 1) / BLOCK * BLOCK;
}

static int by_name(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static enum err add_entry(struct tar *t, const char *name, struct err_msg *em) {
    struct stat st;
    if (fstatat(t->dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return err_set_errno(em, errno, "cannot stat %s", name);
    if (!S_ISREG(st.st_mode) || strstr(name, ".tmp-") != NULL)
        return ERR_OK;
    if (t->n == MAX_FILES || strlen(name) >= NAME_MAX_BYTES || st.st_size > MAX_SIZE)
        return err_set(em, ERR_LIMIT, "%s does not fit a tar archive; fetch it on its own", name);
    t->entries = xreallocarray(t->entries, (size_t)t->n + 1, sizeof *t->entries);
    t->entries[t->n++] =
        (struct entry){.name = xstrdup(name), .size = st.st_size, .mtime = st.st_mtim.tv_sec};
    return ERR_OK;
}

static void lay_out(struct tar *t) {
    struct sha256 hash;
    char hex[SHA256_HEX_SIZE];
    sha256_init(&hash);
    qsort(t->entries, (size_t)t->n, sizeof *t->entries, by_name);
    for (int i = 0; i < t->n; i++) {
        struct entry *e = &t->entries[i];
        e->start = t->size;
        t->size += BLOCK + padded(e->size);
        sha256_add(&hash, e->name, strlen(e->name) + 1);
        sha256_add(&hash, &e->size, sizeof e->size);
        sha256_add(&hash, &e->mtime, sizeof e->mtime);
    }
    t->size += END_BLOCKS * BLOCK;
    sha256_hex(&hash, hex);
    (void)snprintf(t->etag, sizeof t->etag, "\"%.16s\"", hex);
}

enum err tar_open(const char *folder, struct tar **out, struct err_msg *em) {
    struct tar *t = xcalloc(1, sizeof *t);
    enum err e = ERR_OK;
    t->open_index = t->fd = -1;
    t->dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int copy = t->dir >= 0 ? fcntl(t->dir, F_DUPFD_CLOEXEC, 0) : -1;
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    if (d == NULL)
        e = err_set_errno(em, errno, "cannot open the folder");
    for (struct dirent *entry; e == ERR_OK && (entry = readdir(d)) != NULL;)
        e = add_entry(t, entry->d_name, em);
    if (d != NULL)
        closedir(d);
    else if (copy >= 0)
        close(copy);
    if (e != ERR_OK) {
        tar_close(t);
        return e;
    }
    lay_out(t);
    *out = t;
    return ERR_OK;
}

int64_t tar_size(const struct tar *t) {
    return t->size;
}

const char *tar_etag(const struct tar *t) {
    return t->etag;
}

static void write_header(const struct entry *e, char block[BLOCK]) {
    memset(block, 0, BLOCK);
    (void)snprintf(block, 100, "%s", e->name);
    memcpy(block + 100, "0000644", 8);
    memcpy(block + 108, "0000000", 8);
    memcpy(block + 116, "0000000", 8);
    (void)snprintf(block + 124, 12, "%011llo", (unsigned long long)e->size);
    (void)snprintf(block + 136, 12, "%011llo",
                   (unsigned long long)(e->mtime > 0 ? e->mtime : 0) & MAX_SIZE);
    memset(block + 148, ' ', 8);
    block[156] = '0';
    memcpy(block + 257, "ustar", 6);
    memcpy(block + 263, "00", 2);
    unsigned sum = 0;
    for (int i = 0; i < BLOCK; i++)
        sum += (unsigned char)block[i];
    (void)snprintf(block + 148, 8, "%06o", sum);
    block[155] = ' ';
}

static ssize_t read_file(struct tar *t, int index, int64_t at, char *out, size_t max) {
    const struct entry *e = &t->entries[index];
    if (t->open_index != index) {
        if (t->fd >= 0)
            close(t->fd);
        t->fd = openat(t->dir, e->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        t->open_index = index;
    }
    if ((int64_t)max > e->size - at)
        max = (size_t)(e->size - at);
    ssize_t n = t->fd < 0 ? -1 : pread(t->fd, out, max, at);
    return n > 0 ? n : -1;
}

/* The entry that holds pos, or -1 in the closing blocks. */
static int entry_at(const struct tar *t, int64_t pos) {
    int low = 0, high = t->n;
    while (low < high) {
        int mid = (low + high) / 2;
        const struct entry *e = &t->entries[mid];
        if (pos < e->start + BLOCK + padded(e->size))
            high = mid;
        else
            low = mid + 1;
    }
    return low < t->n ? low : -1;
}

static ssize_t zeros(int64_t room, char *out, size_t max) {
    if ((int64_t)max > room)
        max = (size_t)room;
    memset(out, 0, max);
    return (ssize_t)max;
}

ssize_t tar_read(struct tar *t, int64_t pos, char *out, size_t max) {
    if (pos >= t->size || max == 0)
        return 0;
    int index = entry_at(t, pos);
    if (index < 0)
        return zeros(t->size - pos, out, max);
    const struct entry *e = &t->entries[index];
    int64_t at = pos - e->start;
    if (at < BLOCK) {
        char block[BLOCK];
        size_t n = (size_t)(BLOCK - at);
        write_header(e, block);
        n = n < max ? n : max;
        memcpy(out, block + at, n);
        return (ssize_t)n;
    }
    at -= BLOCK;
    if (at < e->size)
        return read_file(t, index, at, out, max);
    return zeros(padded(e->size) - at, out, max);
}

void tar_close(struct tar *t) {
    if (t == NULL)
        return;
    for (int i = 0; i < t->n; i++)
        free(t->entries[i].name);
    free(t->entries);
    if (t->fd >= 0)
        close(t->fd);
    if (t->dir >= 0)
        close(t->dir);
    free(t);
}
