/* Whole files: bounds, atomic replacement, and that a failed write leaves the old content. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/sha256.h"

static char *dir;

static void make_dir(void) {
    dir = xstrdup("/tmp/ffwd-test-file-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}
static void remove_dir(void) {
    cr_expect_eq(file_remove_tree(dir, NULL), ERR_OK);
    cr_expect_eq(access(dir, F_OK), -1);
    free(dir);
}
TestSuite(file, .init = make_dir, .fini = remove_dir);

Test(file, is_read_back_as_written) {
    char *path = xasprintf("%s/a", dir), *text = NULL;
    size_t n = 0;
    cr_assert_eq(file_write(path, "one\0two", 7, NULL), ERR_OK);
    cr_assert_eq(file_write(path, "two\0three", 9, NULL), ERR_OK);
    cr_assert_eq(file_read(path, 9, &text, &n, NULL), ERR_OK);
    cr_assert_eq(n, 9);
    cr_assert_eq(memcmp(text, "two\0three", 10), 0);
    free(text);
    free(path);
}

Test(file, larger_than_the_bound_is_refused_by_name) {
    struct err_msg em = ERR_MSG_INIT;
    char *path = xasprintf("%s/a", dir), *text = NULL;
    cr_assert_eq(file_write(path, "12345", 5, NULL), ERR_OK);
    cr_assert_eq(file_read(path, 4, &text, NULL, &em), ERR_LIMIT);
    cr_assert_not_null(strstr(em.text, path));
    free(path);
}

Test(file, that_is_a_fifo_or_a_folder_does_not_hang) {
    struct err_msg em = ERR_MSG_INIT;
    char *path = xasprintf("%s/fifo", dir), *text = NULL;
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_assert_eq(file_read(path, 10, &text, NULL, &em), ERR_INPUT);
    cr_assert_eq(file_read(dir, 10, &text, NULL, NULL), ERR_INPUT);
    free(path);
}

Test(file, write_that_fails_leaves_the_old_content_and_no_temp_file) {
    struct err_msg em = ERR_MSG_INIT;
    char *path = xasprintf("%s/a", dir), *text = NULL;
    char *big = xcalloc(1, 100000);
    cr_assert_eq(file_write(path, "old", 3, NULL), ERR_OK);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old_limit, small = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
    small.rlim_max = old_limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum err e = file_write(path, big, 100000, &em);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
    cr_assert_neq(e, ERR_OK);
    cr_assert_eq(file_read(path, 10, &text, NULL, NULL), ERR_OK);
    cr_assert_str_eq(text, "old");
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(rmdir(dir), 0, "a temp file was left behind");
    cr_assert_eq(mkdir(dir, 0700), 0);
    free(text);
    free(big);
    free(path);
}

Test(file, folders_are_made_and_removed_without_following_links) {
    char *deep = xasprintf("%s/x/y/z", dir), *kept = xasprintf("%s/kept", dir);
    char *link = xasprintf("%s/x/link", dir), *x = xasprintf("%s/x", dir);
    cr_assert_eq(file_make_dirs(deep, NULL), ERR_OK);
    cr_assert_eq(file_make_dirs(deep, NULL), ERR_OK);
    cr_assert_eq(file_write(kept, "k", 1, NULL), ERR_OK);
    cr_assert_eq(symlink(dir, link), 0);
    cr_assert_eq(file_remove_tree(x, NULL), ERR_OK);
    cr_assert_eq(file_size(kept), 1);
    free(deep);
    free(kept);
    free(link);
    free(x);
}

/* FIPS 180-4 example "abc", and the empty message. */
Test(file, sha256_is_the_published_one) {
    char hex[SHA256_HEX_SIZE], *path = xasprintf("%s/a", dir);
    cr_assert_eq(file_write(path, "abc", 3, NULL), ERR_OK);
    cr_assert_eq(sha256_file(path, hex, NULL), ERR_OK);
    cr_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    cr_assert_eq(file_write(path, "", 0, NULL), ERR_OK);
    cr_assert_eq(sha256_file(path, hex, NULL), ERR_OK);
    cr_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    free(path);
}
