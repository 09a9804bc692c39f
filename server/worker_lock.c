/* worker_lock: DATA/worker.lock, held by the living worker. */
#include "server/worker_lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static char *lock_path(const char *data_dir) {
    return xasprintf("%s/worker.lock", data_dir);
}

enum err worker_lock_take(const char *data_dir, int *fd, struct err_msg *em) {
    char *path = lock_path(data_dir);
    enum err e = ERR_OK;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0) {
        e = err_set_errno(em, errno, "cannot open %s", path);
    } else if (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        e = errno == EWOULDBLOCK ? err_set(em, ERR_CONFLICT, "an older worker still runs")
                                 : err_set_errno(em, errno, "cannot lock %s", path);
        close(*fd);
        *fd = -1;
    }
    free(path);
    return e;
}

void worker_lock_write_pid(int fd, pid_t pid) {
    char text[32];
    int n = snprintf(text, sizeof text, "%-12ld\n", (long)pid);
    ssize_t written = pwrite(fd, text, (size_t)n, 0);
    (void)written; /* without it an old worker is only waited for, not killed */
}

/* Does the process have this file open? A process id alone may have gone to another program. */
static bool has_open(pid_t pid, const struct stat *wanted) {
    char folder[64];
    (void)snprintf(folder, sizeof folder, "/proc/%ld/fd", (long)pid);
    DIR *d = opendir(folder);
    bool found = false;
    for (struct dirent *entry; d != NULL && !found && (entry = readdir(d)) != NULL;) {
        struct stat st;
        found = fstatat(dirfd(d), entry->d_name, &st, 0) == 0 && st.st_dev == wanted->st_dev &&
                st.st_ino == wanted->st_ino;
    }
    if (d != NULL)
        closedir(d);
    return found;
}

pid_t worker_lock_holder(const char *data_dir) {
    char *path = lock_path(data_dir);
    char text[32] = "";
    struct stat st;
    long pid = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && fstat(fd, &st) == 0 && pread(fd, text, sizeof text - 1, 0) > 0)
        pid = strtol(text, NULL, 10);
    if (fd >= 0)
        close(fd);
    free(path);
    return pid > 1 && pid != (long)getpid() && has_open((pid_t)pid, &st) ? (pid_t)pid : 0;
}
