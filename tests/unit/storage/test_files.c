/* Rows of files: paging, projects, deletion, expiry; what is left of a crash. */
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/trash.h"
#include "tests/unit/storage/fixture.h"

TestSuite(files, .init = set_up, .fini = tear_down);

Test(files, row_is_read_back_after_reopening) {
    struct file_row in = {.id = "file-aaaaaaaaaaaaaaaaaaaaaaaa",
                          .project = xstrdup("p"),
                          .filename = xstrdup("a \xc3\xa9.jsonl"),
                          .purpose = xstrdup("fine-tune-results"),
                          .sha256 = xstrdup("ab"),
                          .path = xstrdup("jobs/x/adapter/metrics.csv"),
                          .bytes = 5000000000,
                          .created_at = 1700000000,
                          .expires_at = 4000000000};
    struct file_row out;
    cr_assert_eq(store_file_add(store, &in, NULL), ERR_OK);
    reopen();
    cr_assert_eq(store_file_get(store, "p", in.id, &out, NULL), ERR_OK);
    cr_expect_str_eq(out.filename, in.filename);
    cr_expect_str_eq(out.purpose, in.purpose);
    cr_expect_str_eq(out.sha256, in.sha256);
    cr_expect_str_eq(out.path, in.path);
    cr_expect_eq(out.bytes, in.bytes);
    cr_expect_eq(out.created_at, in.created_at);
    cr_expect_eq(out.expires_at, in.expires_at);
    file_row_clear(&in);
    file_row_clear(&out);
}

/* Reads all pages and checks that each row comes once, in order. */
static int walk(bool ascending, const char *purpose, int64_t limit) {
    char after[STORE_ID_SIZE] = "";
    int64_t last = ascending ? INT64_MIN : INT64_MAX;
    int seen = 0;
    for (bool more = true; more;) {
        struct page page = {
            .after = after[0] ? after : NULL, .limit = limit, .ascending = ascending};
        struct file_row *rows = NULL;
        int n = 0;
        cr_assert_eq(store_file_list(store, "p", purpose, &page, &rows, &n, &more, NULL), ERR_OK);
        cr_assert(n <= limit);
        for (int i = 0; i < n; i++, seen++) {
            cr_expect(ascending ? rows[i].bytes > last : rows[i].bytes < last);
            last = rows[i].bytes;
            memcpy(after, rows[i].id, sizeof after);
            file_row_clear(&rows[i]);
        }
        free(rows);
    }
    return seen;
}

/* All rows have the same time, so only their order of insertion tells them apart. */
Test(files, pages_over_ties_neither_skip_nor_repeat) {
    for (int i = 0; i < 25; i++) {
        struct file_row f = {.project = xstrdup("p"),
                             .filename = xstrdup("x"),
                             .purpose = xstrdup(i % 5 == 0 ? "batch" : "fine-tune"),
                             .sha256 = xstrdup(""),
                             .bytes = i,
                             .created_at = 1700000000};
        store_new_id("file-", f.id);
        cr_assert_eq(store_file_add(store, &f, NULL), ERR_OK);
        file_row_clear(&f);
    }
    for (int64_t limit = 1; limit <= 26; limit += 4) {
        cr_expect_eq(walk(false, NULL, limit), 25);
        cr_expect_eq(walk(true, NULL, limit), 25);
        cr_expect_eq(walk(false, "batch", limit), 5);
        cr_expect_eq(walk(true, "fine-tune", limit), 20);
        cr_expect_eq(walk(true, "vision", limit), 0);
    }
}

Test(files, unknown_cursor_is_an_error_and_a_deleted_one_still_works) {
    char a[STORE_ID_SIZE], b[STORE_ID_SIZE], c[STORE_ID_SIZE];
    struct file_row *rows = NULL;
    int n = 0;
    bool more = false;
    add_file("p", a, 1);
    add_file("p", b, 1);
    add_file("p", c, 1);
    struct page page = {.after = "file-none", .limit = 10};
    cr_expect_eq(store_file_list(store, "p", NULL, &page, &rows, &n, &more, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_file_delete(store, "p", b, NULL), ERR_OK);
    page.after = b;
    cr_assert_eq(store_file_list(store, "p", NULL, &page, &rows, &n, &more, NULL), ERR_OK);
    cr_assert_eq(n, 1);
    cr_expect_str_eq(rows[0].id, a);
    file_row_clear(&rows[0]);
    free(rows);
    cr_expect_eq(store_file_list(store, "q", NULL, &page, &rows, &n, &more, NULL), ERR_NOT_FOUND);
}

Test(files, of_another_project_are_not_found) {
    char id[STORE_ID_SIZE];
    struct file_row f, *rows = NULL;
    int n = 0;
    bool more = false;
    struct page page = {.limit = 10};
    add_file("p", id, 1);
    cr_expect_eq(store_file_get(store, "q", id, &f, NULL), ERR_NOT_FOUND);
    cr_expect_eq(store_file_delete(store, "q", id, NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_file_list(store, "q", NULL, &page, &rows, &n, &more, NULL), ERR_OK);
    cr_expect_eq(n, 0);
}

Test(files, in_use_by_a_live_job_stay) {
    char file[STORE_ID_SIZE], job[STORE_ID_SIZE];
    struct err_msg em = ERR_MSG_INIT;
    add_file("p", file, 1);
    add_job("p", file, 0, NULL, job);
    cr_expect_eq(store_file_delete(store, "p", file, &em), ERR_CONFLICT);
    cr_expect_not_null(strstr(em.text, job));
    cr_assert_eq(store_job_move(store, job, JOB_VALIDATING, JOB_CANCELLED, 0, NULL, NULL), ERR_OK);
    cr_expect_eq(store_file_delete(store, "p", file, NULL), ERR_OK);
    cr_expect_eq(store_file_delete(store, "p", file, NULL), ERR_NOT_FOUND);
}

Test(files, expired_ones_go_unless_a_live_job_uses_them) {
    struct file_row f, again, *found;
    int n = 0;
    char job[STORE_ID_SIZE];
    f = (struct file_row){.id = "file-aaaaaaaaaaaaaaaaaaaaaaaa",
                          .project = xstrdup("p"),
                          .filename = xstrdup("x"),
                          .purpose = xstrdup("fine-tune"),
                          .sha256 = xstrdup(""),
                          .expires_at = clock_unix() - 1};
    cr_assert_eq(store_file_add(store, &f, NULL), ERR_OK);
    add_job("p", f.id, 0, NULL, job);
    cr_assert_eq(store_file_expire(store, 10, &found, &n, NULL), ERR_OK);
    cr_expect_eq(n, 0);
    cr_assert_eq(store_job_move(store, job, JOB_VALIDATING, JOB_FAILED, 0, NULL, NULL), ERR_OK);
    cr_assert_eq(store_file_expire(store, 10, &found, &n, NULL), ERR_OK);
    cr_assert_eq(n, 1);
    cr_expect_str_eq(found[0].id, f.id);
    cr_expect_eq(store_file_get(store, "p", f.id, &again, NULL), ERR_NOT_FOUND);
    file_row_clear(&found[0]);
    free(found);
    file_row_clear(&f);
}

/* ---- blobs ---------------------------------------------------------------------------------- */

Test(files, spool_is_published_with_size_and_hash) {
    struct spool sp;
    char hex[SHA256_HEX_SIZE], *text = NULL;
    const char *id = "file-aaaaaaaaaaaaaaaaaaaaaaaa";
    size_t n = 0;
    cr_assert_eq(spool_open(&sp, dir, 100, NULL), ERR_OK);
    cr_assert_eq(spool_write(&sp, "a", 1, NULL), ERR_OK);
    cr_assert_eq(spool_write(&sp, "bc", 2, NULL), ERR_OK);
    cr_expect_eq(sp.bytes, 3);
    spool_sha256(&sp, hex);
    cr_assert_eq(spool_publish(&sp, dir, id, NULL), ERR_OK);
    spool_abort(&sp);
    /* SHA-256 of "abc", FIPS 180-2 appendix B.1 */
    cr_expect_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    char *path = blobs_file_path(dir, id);
    cr_assert_eq(file_read(path, 10, &text, &n, NULL), ERR_OK);
    cr_expect_str_eq(text, "abc");
    cr_assert_eq(blobs_file_remove(dir, id, NULL), ERR_OK);
    cr_assert_eq(blobs_file_remove(dir, id, NULL), ERR_OK);
    cr_expect_eq(access(path, F_OK), -1);
    free(path);
    free(text);
}

Test(files, spool_stops_at_its_maximum_and_leaves_nothing) {
    struct spool sp;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(spool_open(&sp, dir, 4, NULL), ERR_OK);
    char *temp = xstrdup(sp.temp);
    cr_assert_eq(spool_write(&sp, "1234", 4, NULL), ERR_OK);
    cr_expect_eq(spool_write(&sp, "5", 1, &em), ERR_LIMIT);
    cr_expect_str_eq(em.param, "file");
    cr_expect_eq(access(temp, F_OK), -1);
    spool_abort(&sp);
    free(temp);
}

static int count_trash(void) {
    char *folder = trash_folder(dir);
    DIR *d = opendir(folder);
    int n = 0;
    cr_assert_not_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    free(folder);
    return n - 2;
}

Test(files, large_ones_are_moved_to_the_trash_and_small_ones_removed) {
    atomic_bool stop = true;
    const char *ids[] = {"file-aaaaaaaaaaaaaaaaaaaaaaaa", "file-bbbbbbbbbbbbbbbbbbbbbbbb",
                         "file-cccccccccccccccccccccccc"};
    char *large = blobs_file_path(dir, ids[0]), *small = blobs_file_path(dir, ids[1]);
    cr_assert_eq(file_write(large, "x", 1, NULL), ERR_OK);
    cr_assert_eq(file_write(small, "x", 1, NULL), ERR_OK);
    cr_assert_eq(truncate(large, 64 << 20), 0);
    cr_assert_eq(blobs_file_link(dir, ids[0], 64 << 20, ids[2], NULL), ERR_OK);
    cr_assert_eq(blobs_file_remove(dir, ids[1], NULL), ERR_OK);
    cr_assert_eq(blobs_file_remove(dir, ids[2], NULL), ERR_OK);
    cr_expect_eq(count_trash(), 0, "the content has another name, so no blocks are freed");
    cr_assert_eq(blobs_file_remove(dir, ids[0], NULL), ERR_OK);
    cr_expect_eq(access(large, F_OK), -1);
    cr_expect_eq(count_trash(), 1);
    cr_assert_eq(trash_empty(dir, &stop, NULL), ERR_OK);
    cr_expect_eq(count_trash(), 1, "asked to stop");
    stop = false;
    cr_assert_eq(trash_empty(dir, &stop, NULL), ERR_OK);
    cr_expect_eq(count_trash(), 0);
    free(large);
    free(small);
}

Test(files, without_a_trash_files_are_removed_all_the_same) {
    const char *id = "file-aaaaaaaaaaaaaaaaaaaaaaaa";
    char *path = blobs_file_path(dir, id), *folder = trash_folder(dir);
    cr_assert_eq(file_write(path, "x", 1, NULL), ERR_OK);
    cr_assert_eq(truncate(path, 64 << 20), 0);
    cr_assert_eq(rmdir(folder), 0);
    cr_assert_eq(blobs_file_remove(dir, id, NULL), ERR_OK);
    cr_expect_eq(access(path, F_OK), -1);
    free(folder);
    free(path);
}

Test(files, paths_are_made_of_valid_ids_only) {
    static const char *const bad[] = {"",
                                      "file-",
                                      "../../etc/passwd",
                                      "file-../../../../etc/passwdx",
                                      "file-AAAAAAAAAAAAAAAAAAAAAAAA",
                                      "file-aaaaaaaaaaaaaaaaaaaaaaaa/",
                                      "ftjob-aaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_null(blobs_file_path(dir, bad[i]), "%s", bad[i]);
    cr_expect_null(blobs_job_dir(dir, "ftjob-1"));
}

Test(files, leftovers_of_a_crash_are_removed_at_the_next_start) {
    struct spool sp;
    char kept[STORE_ID_SIZE];
    cr_assert_eq(spool_open(&sp, dir, 100, NULL), ERR_OK);
    add_file("p", kept, 1);
    char *with_row = blobs_file_path(dir, kept);
    char *without_row = xasprintf("%s/files/file-bbbbbbbbbbbbbbbbbbbbbbbb", dir);
    cr_assert_eq(file_write(with_row, "x", 1, NULL), ERR_OK);
    cr_assert_eq(file_write(without_row, "x", 1, NULL), ERR_OK);
    cr_assert_eq(blobs_open(dir, NULL), ERR_OK);
    reopen();
    cr_expect_eq(access(sp.temp, F_OK), -1);
    cr_expect_eq(access(with_row, F_OK), 0);
    cr_expect_eq(access(without_row, F_OK), -1);
    spool_abort(&sp);
    free(with_row);
    free(without_row);
}
