/* store_reserve: room on the disk for the deletion that makes room on the disk.
 *
 * The log of a transaction needs some pages, so on a full disk not even a file could be deleted. A
 * reserve is kept that is given up then, and taken again before the next deletion. */
#include "storage/store_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

#define RESERVE_BYTES (256 << 10)

void store__reserve(struct store *s) {
    if (s->has_reserve)
        return;
    char *path = xasprintf("%s/reserve", s->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    s->has_reserve = fd >= 0 && posix_fallocate(fd, 0, RESERVE_BYTES) == 0;
    if (!s->has_reserve)
        (void)unlink(path);
    if (fd >= 0)
        close(fd);
    free(path);
}

bool store__release(struct store *s) {
    char *path = xasprintf("%s/reserve", s->dir);
    bool released = s->has_reserve && unlink(path) == 0;
    s->has_reserve = false;
    free(path);
    return released;
}
