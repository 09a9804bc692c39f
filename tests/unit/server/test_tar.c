/* tar: the same bytes whatever the pieces, and an archive the system's tar reads. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "server/tar.h"

static char folder[] = "/tmp/ffwd-tar-XXXXXX";

static void put(const char *name, size_t n) {
    char *path = xasprintf("%s/%s", folder, name);
    char *bytes = xmalloc(n + 1);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)(i * 7 + n);
    cr_assert_eq(file_write(path, bytes, n, NULL), ERR_OK);
    cr_assert_eq(chmod(path, 0644), 0);
    free(bytes);
    free(path);
}

static void make(void) {
    cr_assert_not_null(mkdtemp(folder));
    put("b.bin", 5000);
    put("a.txt", 0);
    put("c", 512);
    put("x.tmp-1", 3);
    char *sub = xasprintf("%s/sub", folder);
    cr_assert_eq(file_make_dirs(sub, NULL), ERR_OK);
    free(sub);
}

static void unmake(void) {
    cr_assert_eq(file_remove_tree(folder, NULL), ERR_OK);
}

static char *whole(struct tar *t, size_t piece) {
    size_t n = (size_t)tar_size(t), at = 0;
    char *out = xmalloc(n);
    while (at < n) {
        ssize_t got = tar_read(t, (int64_t)at, out + at, n - at < piece ? n - at : piece);
        cr_assert_gt(got, 0);
        at += (size_t)got;
    }
    char more;
    cr_assert_eq(tar_read(t, (int64_t)n, &more, 1), 0);
    return out;
}

Test(tar, pieces_and_places, .init = make, .fini = unmake) {
    struct tar *t = NULL;
    cr_assert_eq(tar_open(folder, &t, NULL), ERR_OK);
    size_t n = (size_t)tar_size(t);
    cr_assert_eq(n, 512 + 512 + 5120 + 512 + 512 + 1024);
    char *all = whole(t, 1 << 16);
    for (size_t piece = 1; piece < 2000; piece += 333) {
        char *same = whole(t, piece);
        cr_assert_eq(memcmp(all, same, n), 0);
        free(same);
    }
    for (size_t at = 0; at < n; at += 97) {
        char one;
        cr_assert_eq(tar_read(t, (int64_t)at, &one, 1), 1);
        cr_assert_eq(one, all[at]);
    }
    struct tar *again = NULL;
    cr_assert_eq(tar_open(folder, &again, NULL), ERR_OK);
    cr_assert_str_eq(tar_etag(t), tar_etag(again));
    tar_close(again);
    tar_close(t);
    free(all);
}

Test(tar, system_tar_compares_it, .init = make, .fini = unmake) {
    struct tar *t = NULL;
    cr_assert_eq(tar_open(folder, &t, NULL), ERR_OK);
    char *all = whole(t, 700);
    char *archive = xasprintf("%s.tar", folder);
    cr_assert_eq(file_write(archive, all, (size_t)tar_size(t), NULL), ERR_OK);
    pid_t pid = fork();
    if (pid == 0) {
        execlp("tar", "tar", "--compare", "-C", folder, "-f", archive, "a.txt", "b.bin", "c",
               (char *)NULL);
        _exit(127);
    }
    int status = -1;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    /* 1: only the owner differs, who is root in the archive */
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) <= (getuid() == 0 ? 0 : 1), "status %d",
              status);
    (void)unlink(archive);
    free(archive);
    free(all);
    tar_close(t);
}

Test(tar, faults, .init = make, .fini = unmake) {
    struct tar *t = NULL;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(tar_open("/nonexistent/x", &t, &em), ERR_NOT_FOUND);
    cr_assert_eq(tar_open(folder, &t, NULL), ERR_OK);
    char *path = xasprintf("%s/b.bin", folder);
    cr_assert_eq(truncate(path, 10), 0);
    char out[100];
    cr_assert_eq(tar_read(t, 512 + 512 + 10, out, sizeof out), -1, "a file that shrank");
    free(path);
    tar_close(t);
}
