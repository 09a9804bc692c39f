/* Uploads: rows, parts on disk, joining that a crash may interrupt anywhere. */
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "storage/store_uploads.h"
#include "storage/upload_parts.h"
#include "tests/unit/storage/fixture.h"

TestSuite(uploads, .init = set_up, .fini = tear_down);

#define UPLOAD "upload_aaaaaaaaaaaaaaaaaaaaaaaa"
#define FILE_ID "file-aaaaaaaaaaaaaaaaaaaaaaaa"
static const char *const ids[3] = {"part_bbbbbbbbbbbbbbbbbbbbbbbb", "part_cccccccccccccccccccccccc",
                                   "part_aaaaaaaaaaaaaaaaaaaaaaaa"};
static const char *const texts[3] = {"first ", "and second ", "and third"};
static const char whole[] = "first and second and third";
static atomic_bool stop;

static void add_upload(int64_t expires_at) {
    struct err_msg em = ERR_MSG_INIT;
    struct upload_row u = {.id = UPLOAD,
                           .project = xstrdup("p"),
                           .filename = xstrdup("t"),
                           .purpose = xstrdup("fine-tune"),
                           .mime_type = xstrdup("text/jsonl"),
                           .bytes = sizeof whole - 1,
                           .created_at = 1,
                           .expires_at = expires_at};
    cr_assert_eq(upload_parts_create(dir, UPLOAD, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(store_upload_add(store, &u, &em), ERR_OK, "%s", em.text);
    upload_row_clear(&u);
}

static void put_part(int i) {
    char *path = upload_part_path(dir, UPLOAD, ids[i]);
    cr_assert_eq(file_write(path, texts[i], strlen(texts[i]), NULL), ERR_OK);
    free(path);
}

static void add_part(int i) {
    struct err_msg em = ERR_MSG_INIT;
    put_part(i);
    cr_assert_eq(store_upload_add_part(store, UPLOAD, ids[i], (int64_t)strlen(texts[i]), 1, &em),
                 ERR_OK, "%s", em.text);
}

static int64_t stored_bytes(void) {
    int64_t n = -1;
    cr_assert_eq(store_project_bytes(store, "p", &n, NULL), ERR_OK);
    return n;
}

static bool there(const char *name) {
    char *path = xasprintf("%s/%s", dir, name);
    bool found = access(path, F_OK) == 0;
    free(path);
    return found;
}

static void expect_whole(void) {
    char *path = blobs_file_path(dir, FILE_ID), *text = NULL;
    cr_assert_eq(file_read(path, 100, &text, NULL, NULL), ERR_OK);
    cr_expect_str_eq(text, whole);
    free(text);
    free(path);
}

Test(uploads, rows_go_from_pending_to_a_file) {
    struct upload_row u;
    struct err_msg em = ERR_MSG_INIT;
    int64_t bytes = 0;
    add_upload(2000000000);
    for (int i = 0; i < 3; i++)
        add_part(i);
    cr_expect_eq(stored_bytes(), sizeof whole - 1);
    cr_assert_eq(store_upload_get(store, "p", UPLOAD, &u, NULL), ERR_OK);
    cr_expect(u.status == UPLOAD_PENDING && u.parts == 3 && u.stored == sizeof whole - 1);
    upload_row_clear(&u);
    cr_expect_eq(store_upload_get(store, "q", UPLOAD, &u, NULL), ERR_NOT_FOUND);
    cr_expect_eq(store_upload_part_bytes(store, UPLOAD, ids[1], &bytes, NULL), ERR_OK);
    cr_expect_eq(bytes, (int64_t)strlen(texts[1]));
    json_t *list = json_pack("[s,s,s]", ids[0], ids[1], ids[2]);
    cr_assert_eq(store_upload_begin(store, UPLOAD, list, "m", "s", FILE_ID, NULL), ERR_OK);
    cr_expect_eq(store_upload_begin(store, UPLOAD, list, "m", "s", FILE_ID, NULL), ERR_CONFLICT);
    cr_expect_eq(store_upload_add_part(store, UPLOAD, "part_x", 1, 1, NULL), ERR_CONFLICT);
    struct file_row f = {.id = FILE_ID,
                         .project = (char *)(uintptr_t) "p",
                         .filename = (char *)(uintptr_t) "t",
                         .purpose = (char *)(uintptr_t) "fine-tune",
                         .sha256 = (char *)(uintptr_t) "s",
                         .bytes = sizeof whole - 1};
    cr_assert_eq(store_upload_finish(store, UPLOAD, &f, &em), ERR_OK, "%s", em.text);
    cr_expect_eq(stored_bytes(), sizeof whole - 1);
    cr_expect_eq(store_upload_finish(store, UPLOAD, &f, NULL), ERR_CONFLICT);
    cr_expect_eq(store_upload_end(store, UPLOAD, UPLOAD_EXPIRED, NULL), ERR_CONFLICT);
    cr_assert_eq(store_upload_get(store, "p", UPLOAD, &u, NULL), ERR_OK);
    cr_expect(u.status == UPLOAD_COMPLETED && json_equal(u.part_ids, list));
    cr_expect_str_eq(u.file_id, FILE_ID);
    upload_row_clear(&u);
    json_decref(list);
    cr_assert_eq(store_file_delete(store, "p", FILE_ID, NULL), ERR_OK);
    cr_expect_eq(stored_bytes(), 0);
}

Test(uploads, cancelled_or_expired_ones_give_their_bytes_back) {
    struct upload_row *rows;
    int n = 0;
    add_upload(clock_unix() - 1);
    add_part(0);
    cr_assert_eq(store_upload_expired(store, 10, &rows, &n, NULL), ERR_OK);
    cr_assert_eq(n, 1);
    cr_expect_str_eq(rows[0].id, UPLOAD);
    upload_row_clear(&rows[0]);
    free(rows);
    cr_assert_eq(store_upload_end(store, UPLOAD, UPLOAD_EXPIRED, NULL), ERR_OK);
    cr_expect_eq(stored_bytes(), 0);
    cr_assert_eq(store_upload_expired(store, 10, &rows, &n, NULL), ERR_OK);
    cr_expect_eq(n, 0);
    cr_expect(there("uploads/" UPLOAD));
    reopen();
    cr_expect(!there("uploads/" UPLOAD));
}

Test(uploads, parts_without_a_row_go_at_the_next_start) {
    add_upload(2000000000);
    add_part(0);
    put_part(1); /* a crash between the rename and the row */
    reopen();
    cr_expect(there("uploads/" UPLOAD "/part_bbbbbbbbbbbbbbbbbbbbbbbb"));
    cr_expect(!there("uploads/" UPLOAD "/part_cccccccccccccccccccccccc"));
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static const struct upload_part items[3] = {{"part_bbbbbbbbbbbbbbbbbbbbbbbb", 6},
                                            {"part_cccccccccccccccccccccccc", 11},
                                            {"part_aaaaaaaaaaaaaaaaaaaaaaaa", 9}};

static struct upload_parts three(void) {
    return (struct upload_parts){.data_dir = dir, .upload_id = UPLOAD, .items = items, .n = 3};
}

Test(uploads, check_gives_the_hashes_of_the_whole) {
    struct upload_parts parts = three();
    char md5[MD5_HEX_SIZE], sha256[SHA256_HEX_SIZE];
    add_upload(2000000000);
    for (int i = 0; i < 3; i++)
        put_part(i);
    cr_assert_eq(upload_parts_check(&parts, &stop, md5, sha256, NULL), ERR_OK);
    /* md5sum and sha256sum of the text */
    cr_expect_str_eq(md5, "6e8323bc47371ebc61784b3475d22651");
    cr_expect_str_eq(sha256, "f1c6909edb84a78717903208fcfd19e9f4287c65427ac8c7ab5583da317a5383");
    char *path = upload_part_path(dir, UPLOAD, ids[1]);
    cr_assert_eq(truncate(path, 3), 0);
    cr_expect_eq(upload_parts_check(&parts, &stop, md5, sha256, NULL), ERR_IO);
    free(path);
}

Test(uploads, join_makes_one_file_and_leaves_no_parts) {
    struct upload_parts parts = three();
    struct err_msg em = ERR_MSG_INIT;
    add_upload(2000000000);
    for (int i = 0; i < 3; i++)
        put_part(i);
    cr_assert_eq(upload_parts_join(&parts, FILE_ID, &stop, &em), ERR_OK, "%s", em.text);
    expect_whole();
    cr_expect(!there("uploads/" UPLOAD));
    cr_expect_eq(upload_parts_join(&parts, FILE_ID, &stop, NULL), ERR_OK);
    expect_whole();
}

/* What a crash can leave: the first k parts are in the growing file, the next one in part or in
 * whole, its own file still there, and bytes behind it that are not what they should be. */
Test(uploads, join_goes_on_after_a_crash_anywhere) {
    for (int k = 1; k <= 3; k++)
        for (size_t extra = 0; extra <= 12; extra++) {
            struct upload_parts parts = three();
            struct err_msg em = ERR_MSG_INIT;
            struct buf grown;
            buf_init(&grown, 100);
            cr_assert_eq(upload_parts_create(dir, UPLOAD, NULL), ERR_OK);
            for (int i = 0; i < 3; i++) {
                if (i >= k)
                    put_part(i);
                else
                    cr_assert_eq(buf_add(&grown, texts[i], strlen(texts[i])), ERR_OK);
            }
            for (size_t i = 0; k < 3 && i < extra; i++)
                cr_assert_eq(buf_add(&grown, "\0", 1), ERR_OK);
            char *joined = xasprintf("%s/uploads/" UPLOAD "/joined", dir);
            cr_assert_eq(file_write(joined, grown.data, grown.len, NULL), ERR_OK);
            cr_assert_eq(upload_parts_join(&parts, FILE_ID, &stop, &em), ERR_OK, "%d %zu: %s", k,
                         extra, em.text);
            expect_whole();
            cr_assert_eq(blobs_file_remove(dir, FILE_ID, NULL), ERR_OK);
            buf_clear(&grown);
            free(joined);
        }
}

Test(uploads, join_stops_when_asked_and_loses_nothing) {
    struct upload_parts parts = three();
    char md5[MD5_HEX_SIZE], sha256[SHA256_HEX_SIZE];
    add_upload(2000000000);
    for (int i = 0; i < 3; i++)
        put_part(i);
    atomic_store(&stop, true);
    cr_expect_eq(upload_parts_check(&parts, &stop, md5, sha256, NULL), ERR_STOPPED);
    cr_expect_eq(upload_parts_join(&parts, FILE_ID, &stop, NULL), ERR_STOPPED);
    atomic_store(&stop, false);
    cr_expect_eq(upload_parts_join(&parts, FILE_ID, &stop, NULL), ERR_OK);
    expect_whole();
}

Test(uploads, missing_part_is_an_error_and_no_file) {
    struct upload_parts parts = three();
    add_upload(2000000000);
    put_part(0);
    put_part(2);
    cr_expect_eq(upload_parts_join(&parts, FILE_ID, &stop, NULL), ERR_IO);
    cr_expect(!there("files/" FILE_ID));
}

Test(uploads, file_of_a_marked_upload_outlives_a_restart) {
    add_upload(2000000000);
    for (int i = 0; i < 3; i++)
        add_part(i);
    json_t *list = json_pack("[s,s,s]", ids[0], ids[1], ids[2]);
    struct upload_parts parts = three();
    cr_assert_eq(store_upload_begin(store, UPLOAD, list, "m", "s", FILE_ID, NULL), ERR_OK);
    cr_assert_eq(upload_parts_join(&parts, FILE_ID, &stop, NULL), ERR_OK);
    reopen(); /* before the file has its row */
    expect_whole();
    cr_assert_eq(store_upload_end(store, UPLOAD, UPLOAD_CANCELLED, NULL), ERR_OK);
    reopen();
    cr_expect(!there("files/" FILE_ID));
    json_decref(list);
}

/* ---- the same content ----------------------------------------------------------------------- */

Test(uploads, linked_files_live_on_their_own) {
    struct stat a, b;
    char *one = blobs_file_path(dir, FILE_ID);
    char *two = blobs_file_path(dir, "file-bbbbbbbbbbbbbbbbbbbbbbbb");
    cr_assert_eq(file_write(one, "abc", 3, NULL), ERR_OK);
    cr_assert_eq(blobs_file_link(dir, FILE_ID, 3, "file-bbbbbbbbbbbbbbbbbbbbbbbb", NULL), ERR_OK);
    cr_assert(stat(one, &a) == 0 && stat(two, &b) == 0);
    cr_expect_eq(a.st_ino, b.st_ino);
    cr_assert_eq(blobs_file_remove(dir, FILE_ID, NULL), ERR_OK);
    cr_expect_eq(file_size(two), 3);
    cr_expect_eq(blobs_file_link(dir, FILE_ID, 3, "file-cccccccccccccccccccccccc", NULL),
                 ERR_NOT_FOUND);
    cr_expect_eq(blobs_file_link(dir, "file-bbbbbbbbbbbbbbbbbbbbbbbb", 4,
                                 "file-cccccccccccccccccccccccc", NULL),
                 ERR_NOT_FOUND);
    free(one);
    free(two);
}
