/* /v1/files: shapes, each wrong field, names, expiry, deletion. */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/api/fixture.h"

TestSuite(files, .init = set_up, .fini = tear_down);

static const struct api_pair fine_tune = {"purpose", "fine-tune"};

Test(files, upload_gives_the_documented_object) {
    json_t *f = expect(upload("abc", "train.jsonl", &fine_tune, 1), 200);
    cr_expect_eq(json_object_size(f), 7);
    cr_expect_eq(strncmp(text_of(f, "id"), "file-", 5), 0);
    cr_expect_str_eq(text_of(f, "object"), "file");
    cr_expect_str_eq(text_of(f, "filename"), "train.jsonl");
    cr_expect_str_eq(text_of(f, "purpose"), "fine-tune");
    cr_expect_str_eq(text_of(f, "status"), "processed");
    cr_expect_eq(json_integer_value(json_object_get(f, "bytes")), 3);
    cr_expect_geq(json_integer_value(json_object_get(f, "created_at")), clock_unix() - 5);
    char *path = xasprintf("/v1/files/%s", text_of(f, "id"));
    json_t *again = get(path, NULL);
    cr_expect(json_equal(f, again));
    free(path);
    json_decref(again);
    json_decref(f);
}

Test(files, content_is_the_bytes_with_their_hash) {
    char id[STORE_ID_SIZE], *text = NULL;
    add_file("abc", id);
    char *path = xasprintf("/v1/files/%s/content", id);
    struct api_response resp = send_request(HTTP_GET, path, NULL, NULL);
    cr_assert_eq(resp.status, 200);
    cr_assert_eq(resp.kind, API_BODY_FILE);
    cr_expect_str_eq(resp.filename, "train.jsonl");
    cr_expect_str_eq(resp.etag,
                     "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"");
    cr_assert_eq(file_read(resp.path, 10, &text, NULL, NULL), ERR_OK);
    cr_expect_str_eq(text, "abc");
    api_response_clear(&resp);
    free(text);
    free(path);
}

Test(files, each_wrong_field_is_named) {
    static const struct {
        struct api_pair fields[3];
        int n;
        const char *param;
    } cases[] = {
        {{{"x", "y"}}, 0, "purpose"},
        {{{"purpose", "finetune"}}, 1, "purpose"},
        {{{"purpose", ""}}, 1, "purpose"},
        {{{"purpose", "evals"}}, 1, "purpose"},
        {{{"purpose", "fine-tune-results"}}, 1, "purpose"},
        {{{"purpose", "fine-tune"}, {"color", "red"}}, 2, "color"},
        {{{"purpose", "fine-tune"}, {"expires_after[seconds]", "3600"}},
         2,
         "expires_after[anchor]"},
        {{{"purpose", "fine-tune"}, {"expires_after[anchor]", "created_at"}},
         2,
         "expires_after[seconds]"},
        {{{"purpose", "fine-tune"},
          {"expires_after[anchor]", "created_at"},
          {"expires_after[seconds]", "3599"}},
         3,
         "expires_after[seconds]"},
        {{{"purpose", "fine-tune"},
          {"expires_after[anchor]", "created_at"},
          {"expires_after[seconds]", "2592001"}},
         3,
         "expires_after[seconds]"},
        {{{"purpose", "fine-tune"},
          {"expires_after[anchor]", "now"},
          {"expires_after[seconds]", "3600"}},
         3,
         "expires_after[anchor]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_error(upload("x", "x", cases[i].fields, cases[i].n), 400, cases[i].param);
    expect_error(upload(NULL, NULL, &fine_tune, 1), 400, "file");
    expect_error(send_request(HTTP_POST, "/v1/files", NULL, NULL), 400, NULL);
    json_t *list = get("/v1/files", NULL);
    cr_expect_eq(json_array_size(json_object_get(list, "data")), 0);
    json_decref(list);
}

Test(files, names_are_for_display_only) {
    static const char *const cases[][2] = {
        {"train.jsonl", "train.jsonl"},
        {"", "upload"},
        {"../../etc/passwd", "passwd"},
        {"C:\\data\\train.jsonl", "train.jsonl"},
        {"a\r\nb\x01", "a__b_"},
        {"caf\xc3\xa9.jsonl", "caf\xc3\xa9.jsonl"},
        {"a\xe2\x80\xaelnosj.x", "a_lnosj.x"},
        {"folder/", "upload"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *f = expect(upload("x", cases[i][0], &fine_tune, 1), 200);
        cr_expect_str_eq(text_of(f, "filename"), cases[i][1]);
        json_decref(f);
    }
    char longest[400];
    memset(longest, 'a', sizeof longest);
    longest[256] = '\0';
    expect_error(upload("x", longest, &fine_tune, 1), 400, "file");
    expect_error(upload("x", "bad\xff.jsonl", &fine_tune, 1), 400, "file");
}

Test(files, expire_when_asked_to) {
    const struct api_pair fields[] = {{"purpose", "fine-tune"},
                                      {"expires_after[anchor]", "created_at"},
                                      {"expires_after[seconds]", "3600"}};
    json_t *f = expect(upload("x", "x", fields, 3), 200);
    cr_expect_eq(json_integer_value(json_object_get(f, "expires_at")),
                 json_integer_value(json_object_get(f, "created_at")) + 3600);
    json_decref(f);
    struct file_row old = {.id = "file-aaaaaaaaaaaaaaaaaaaaaaaa",
                           .project = xstrdup("p"),
                           .filename = xstrdup("x"),
                           .purpose = xstrdup("fine-tune"),
                           .sha256 = xstrdup(""),
                           .expires_at = clock_unix() - 1};
    cr_assert_eq(store_file_add(api.store, &old, NULL), ERR_OK);
    put("files/file-aaaaaaaaaaaaaaaaaaaaaaaa", "x");
    expect_error(send_request(HTTP_GET, "/v1/files/file-aaaaaaaaaaaaaaaaaaaaaaaa", NULL, NULL), 404,
                 "id");
    char *path = blobs_file_path(dir, old.id);
    cr_expect_eq(access(path, F_OK), -1);
    free(path);
    file_row_clear(&old);
}

Test(files, list_has_every_documented_field_also_when_empty) {
    json_t *list = get("/v1/files", NULL);
    cr_expect_eq(json_object_size(list), 5);
    cr_expect_str_eq(text_of(list, "object"), "list");
    cr_expect(json_is_string(json_object_get(list, "first_id")));
    cr_expect(json_is_string(json_object_get(list, "last_id")));
    cr_expect(json_is_false(json_object_get(list, "has_more")));
    json_decref(list);
    char a[STORE_ID_SIZE], b[STORE_ID_SIZE];
    add_file("1", a);
    add_file("2", b);
    list = get("/v1/files", "limit=1");
    cr_expect_str_eq(text_of(list, "first_id"), b);
    cr_expect_str_eq(text_of(list, "last_id"), b);
    cr_expect(json_is_true(json_object_get(list, "has_more")));
    json_decref(list);
    char *query = xasprintf("limit=1&order=asc&after=%s", a);
    list = get("/v1/files", query);
    cr_expect_str_eq(text_of(list, "first_id"), b);
    cr_expect(json_is_false(json_object_get(list, "has_more")));
    json_decref(list);
    free(query);
    list = get("/v1/files", "purpose=batch");
    cr_expect_eq(json_array_size(json_object_get(list, "data")), 0);
    json_decref(list);
}

Test(files, list_parameters_are_checked) {
    static const char *const limits[] = {"limit=0",
                                         "limit=-1",
                                         "limit=10001",
                                         "limit=x",
                                         "limit=",
                                         "limit=1.5",
                                         "limit=99999999999999999999"};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        expect_error(send_request(HTTP_GET, "/v1/files", limits[i], NULL), 400, "limit");
    expect_error(send_request(HTTP_GET, "/v1/files", "order=up", NULL), 400, "order");
    expect_error(send_request(HTTP_GET, "/v1/files", "after=file-none", NULL), 404, "after");
}

Test(files, deletion_removes_row_and_bytes) {
    char id[STORE_ID_SIZE];
    add_file("abc", id);
    char *path = xasprintf("/v1/files/%s", id), *blob = blobs_file_path(dir, id);
    cr_assert_eq(access(blob, F_OK), 0);
    json_t *gone = expect(send_request(HTTP_DELETE, path, NULL, NULL), 200);
    cr_expect_eq(json_object_size(gone), 3);
    cr_expect_str_eq(text_of(gone, "id"), id);
    cr_expect_str_eq(text_of(gone, "object"), "file");
    cr_expect(json_is_true(json_object_get(gone, "deleted")));
    cr_expect_eq(access(blob, F_OK), -1);
    expect_error(send_request(HTTP_DELETE, path, NULL, NULL), 404, "id");
    expect_error(send_request(HTTP_GET, path, NULL, NULL), 404, "id");
    json_decref(gone);
    free(path);
    free(blob);
}

Test(files, in_use_are_kept_with_a_clear_error) {
    char id[STORE_ID_SIZE];
    add_file("abc", id);
    json_decref(add_job("tiny", id, ""));
    char *path = xasprintf("/v1/files/%s", id);
    struct api_response resp = send_request(HTTP_DELETE, path, NULL, NULL);
    cr_expect(resp.no_retry);
    expect_error(resp, 400, "id");
    json_decref(get(path, NULL));
    free(path);
}

Test(files, of_another_project_do_not_exist) {
    char id[STORE_ID_SIZE];
    add_file("abc", id);
    char *path = xasprintf("/v1/files/%s", id), *content = xasprintf("/v1/files/%s/content", id);
    project = "q";
    expect_error(send_request(HTTP_GET, path, NULL, NULL), 404, "id");
    expect_error(send_request(HTTP_GET, content, NULL, NULL), 404, "id");
    expect_error(send_request(HTTP_DELETE, path, NULL, NULL), 404, "id");
    project = "p";
    json_decref(get(path, NULL));
    free(path);
    free(content);
}
