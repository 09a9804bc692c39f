/* store_reserve: room on the disk for the deletion that makes room on the disk.
 *
 * The log of a transaction needs some pages, so on a full disk not even a file could be deleted. A
 * reserve is kept that is given up then, and taken again when there is room. */
#include "storage/store_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

#define RESERVE_BYTES (256 << 10)
#define ENOUGH (4 * RESERVE_BYTES) /* free bytes of which the reserve may be taken */

static bool has_room(const char *dir) {
    struct statvfs disk;
    return statvfs(dir, &disk) == 0 && disk.f_bavail > ENOUGH / disk.f_frsize;
}

static bool take(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    bool taken = fd >= 0 && posix_fallocate(fd, 0, RESERVE_BYTES) == 0;
    if (!taken)
        (void)unlink(path);
    if (fd >= 0)
        close(fd);
    return taken;
}

void store__reserve(struct store *s) {
    if (s->has_reserve)
        return;
    char *path = xasprintf("%s/reserve", s->dir);
    s->has_reserve = file_size(path) >= RESERVE_BYTES || (has_room(s->dir) && take(path));
    free(path);
}

bool store__make_room(struct store *s, enum err e, struct err_msg *em) {
    if (e != ERR_NO_SPACE || s->depth > 0)
        return false;
    char *path = xasprintf("%s/reserve", s->dir);
    bool released = s->has_reserve && unlink(path) == 0;
    s->has_reserve = false;
    free(path);
    if (released)
        err_clear(em);
    return released;
}
