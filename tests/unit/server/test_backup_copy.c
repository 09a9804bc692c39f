/* backup_copy: what is copied, what stays, what is left out. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "server/backup_copy.h"

static char *dir;

static void set_up(void) {
    dir = xstrdup("/tmp/ffwd-test-backup-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

static void tear_down(void) {
    cr_expect_eq(file_remove_tree(dir, NULL), ERR_OK);
    free(dir);
}

TestSuite(backup_copy, .init = set_up, .fini = tear_down);

static void put(const char *path, const char *text) {
    char *full = xasprintf("%s/%s", dir, path), *slash = strrchr(full, '/');
    *slash = '\0';
    cr_assert_eq(file_make_dirs(full, NULL), ERR_OK);
    *slash = '/';
    cr_assert_eq(file_write(full, text, strlen(text), NULL), ERR_OK);
    free(full);
}

/* text NULL: it is not there. */
static void expect(const char *path, const char *text) {
    char *full = xasprintf("%s/%s", dir, path), *got = NULL;
    enum err e = file_read(full, 1 << 20, &got, NULL, NULL);
    cr_expect_eq(e == ERR_OK, text != NULL, "%s", path);
    if (e == ERR_OK && text != NULL)
        cr_expect_str_eq(got, text, "%s", path);
    free(full);
    free(got);
}

static enum err copy(struct backup_copy *c, struct err_msg *em) {
    char *from = xasprintf("%s/from", dir), *to = xasprintf("%s/to", dir);
    enum err e = backup_copy_tree(c, from, to, em);
    free(from);
    free(to);
    return e;
}

Test(backup_copy, a_tree_is_copied_and_what_is_there_stays) {
    struct backup_copy c = {.but = "resume"};
    struct err_msg em = ERR_MSG_INIT;
    put("from/a/adapter/x", "one");
    put("from/a/resume/y", "a point");
    put("from/b", "");
    put("to/a/adapter/old", "kept");
    char *link = xasprintf("%s/from/link", dir);
    cr_assert_eq(symlink("/etc/passwd", link), 0);
    free(link);
    cr_assert_eq(copy(&c, &em), ERR_OK, "%s", em.text);
    cr_expect_eq(c.files, 2);
    cr_expect_eq(c.bytes, 3);
    expect("to/a/adapter/x", "one");
    expect("to/a/adapter/old", "kept");
    expect("to/b", "");
    expect("to/link", NULL);
    expect("to/a/resume/y", NULL);
    put("from/a/adapter/x", "other");
    put("from/a/adapter/new", "new");
    put("to/c.part", "a copy that was cut off");
    put("from/c", "whole");
    c.but = NULL;
    cr_assert_eq(copy(&c, &em), ERR_OK, "%s", em.text);
    expect("to/a/adapter/x", "one");
    expect("to/a/adapter/new", "new");
    expect("to/a/resume/y", "a point");
    expect("to/c", "whole");
    expect("to/c.part", NULL);
}

Test(backup_copy, nothing_to_copy_is_fine_and_a_place_that_is_none_is_not) {
    struct backup_copy c = {0};
    struct err_msg em = ERR_MSG_INIT;
    cr_expect_eq(copy(&c, &em), ERR_OK, "%s", em.text);
    cr_expect_eq(c.files, 0);
    put("from/a/b", "x");
    put("to/a", "a file in the place of a folder");
    cr_expect_neq(copy(&c, &em), ERR_OK);
    cr_expect_not_null(strstr(em.text, "to/a"), "%s", em.text);
}
