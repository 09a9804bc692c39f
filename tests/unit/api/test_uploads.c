/* /v1/uploads: shapes, each wrong field, what a form may bring, expiry, projects. */
#include <unistd.h>

#include "storage/store_uploads.h"
#include "tests/unit/api/fixture.h"

TestSuite(uploads, .init = set_up, .fini = tear_down);

static const char body[] = "{\"filename\":\"a/b.jsonl\",\"purpose\":\"fine-tune\",\"bytes\":6,"
                           "\"mime_type\":\"text/jsonl\"}";

static void begin(char id[STORE_ID_SIZE]) {
    json_t *u = post("/v1/uploads", body);
    (void)snprintf(id, STORE_ID_SIZE, "%s", text_of(u, "id"));
    json_decref(u);
}

static struct api_response send_part(const char *id, const char *content) {
    struct call c;
    struct spool spool;
    struct api_form form = {.file = &spool, .filename = "upload"};
    char *path = xasprintf("/v1/uploads/%s/parts", id);
    cr_assert_eq(spool_open(&spool, dir, 1 << 20, NULL), ERR_OK);
    cr_assert_eq(spool_write(&spool, content, strlen(content), NULL), ERR_OK);
    call_init(&c, HTTP_POST, path, NULL, NULL);
    c.req.form = &form;
    struct api_response resp = call_send(&c);
    spool_abort(&spool);
    free(path);
    return resp;
}

static char *add_part(const char *id, const char *content) {
    json_t *part = expect(send_part(id, content), 200);
    char *part_id = xstrdup(text_of(part, "id"));
    cr_expect_eq(json_object_size(part), 4);
    cr_expect_eq(strncmp(part_id, "part_", 5), 0);
    cr_expect_str_eq(text_of(part, "object"), "upload.part");
    cr_expect_str_eq(text_of(part, "upload_id"), id);
    cr_expect(json_is_integer(json_object_get(part, "created_at")));
    json_decref(part);
    return part_id;
}

static struct api_response complete(const char *id, const char *first, const char *second) {
    char *path = xasprintf("/v1/uploads/%s/complete", id);
    char *text = xasprintf("{\"part_ids\":[\"%s\",\"%s\"]}", first, second);
    struct api_response resp = send_request(HTTP_POST, path, NULL, text);
    free(text);
    free(path);
    return resp;
}

Test(uploads, objects_have_every_documented_field) {
    json_t *u = post("/v1/uploads", body);
    cr_expect_eq(json_object_size(u), 8);
    cr_expect_eq(strncmp(text_of(u, "id"), "upload_", 7), 0);
    cr_expect_str_eq(text_of(u, "object"), "upload");
    cr_expect_str_eq(text_of(u, "filename"), "b.jsonl");
    cr_expect_str_eq(text_of(u, "purpose"), "fine-tune");
    cr_expect_str_eq(text_of(u, "status"), "pending");
    cr_expect_eq(json_integer_value(json_object_get(u, "bytes")), 6);
    cr_expect_eq(json_integer_value(json_object_get(u, "expires_at")),
                 json_integer_value(json_object_get(u, "created_at")) + 3600);
    char *b = add_part(text_of(u, "id"), "def"), *a = add_part(text_of(u, "id"), "abc");
    json_t *done = expect(complete(text_of(u, "id"), a, b), 200);
    cr_expect_eq(json_object_size(done), 9);
    cr_expect_str_eq(text_of(done, "status"), "completed");
    char *path = xasprintf("/v1/files/%s", text_of(json_object_get(done, "file"), "id"));
    json_t *file = get(path, NULL);
    cr_expect(json_equal(file, json_object_get(done, "file")));
    json_decref(file);
    json_decref(done);
    json_decref(u);
    free(path);
    free(a);
    free(b);
}

Test(uploads, form_rules_follow_the_limits) {
    struct call c;
    struct api_form_rule rule;
    struct api_response resp = {0};
    struct api_params params;
    char id[STORE_ID_SIZE];
    begin(id);
    config.max_part_bytes = 8;
    config.max_project_bytes = 100;
    free(add_part(id, "abcde"));
    char *path = xasprintf("/v1/uploads/%s/parts", id);
    call_init(&c, HTTP_POST, path, NULL, NULL);
    const struct api_route *route = api_route_find(&c.req, &params, &resp);
    cr_assert(api_form_rule(&api, &c.req, route, &params, &rule, &resp));
    cr_expect_str_eq(rule.file_part, "data");
    cr_expect_eq(rule.max_bytes, 7); /* twice the upload's 6 bytes, less the 5 */
    cr_expect_str_eq(rule.code, "part_too_large");
    config.max_project_bytes = 9;
    cr_assert(api_form_rule(&api, &c.req, route, &params, &rule, &resp));
    cr_expect_eq(rule.max_bytes, 4);
    cr_expect_str_eq(rule.code, "storage_limit_exceeded");
    config.max_project_bytes = 5;
    cr_expect(!api_form_rule(&api, &c.req, route, &params, &rule, &resp));
    expect_error(resp, 413, NULL);
    config.max_project_bytes = 0;
    config.max_part_bytes = 3;
    cr_assert(api_form_rule(&api, &c.req, route, &params, &rule, &resp));
    cr_expect_eq(rule.max_bytes, 3);
    cr_expect(!rule.hashed);
    api_params_clear(&params);
    free(c.text);
    free(path);
}

Test(uploads, of_another_project_do_not_exist) {
    char id[STORE_ID_SIZE];
    begin(id);
    char *a = add_part(id, "abc"), *b = add_part(id, "def");
    char *cancel = xasprintf("/v1/uploads/%s/cancel", id);
    project = "q";
    expect_error(send_part(id, "x"), 404, "upload_id");
    expect_error(complete(id, a, b), 404, "upload_id");
    expect_error(send_request(HTTP_POST, cancel, NULL, NULL), 404, "upload_id");
    project = "p";
    json_decref(expect(complete(id, a, b), 200));
    free(cancel);
    free(a);
    free(b);
}

Test(uploads, expired_ones_leave_nothing) {
    char id[STORE_ID_SIZE];
    config.upload_seconds = 0;
    begin(id);
    struct api_response resp = send_part(id, "abc");
    expect_error(resp, 400, "upload_id");
    char *path = xasprintf("%s/uploads/%s", dir, id);
    cr_expect_eq(access(path, F_OK), -1);
    free(path);
}

Test(uploads, expired_file_trains_nothing) {
    struct file_row old = {.id = "file-aaaaaaaaaaaaaaaaaaaaaaaa",
                           .project = xstrdup("p"),
                           .filename = xstrdup("x"),
                           .purpose = xstrdup("fine-tune"),
                           .sha256 = xstrdup(""),
                           .expires_at = clock_unix() - 1};
    cr_assert_eq(store_file_add(api.store, &old, NULL), ERR_OK);
    char *job = job_body("tiny", old.id, "");
    expect_error(send_request(HTTP_POST, "/v1/fine_tuning/jobs", NULL, job), 400, "training_file");
    free(job);
    file_row_clear(&old);
}

/* A thousand at once: each call removes a bounded number, and says that there are more. */
Test(uploads, expiry_is_done_in_bounded_pieces) {
    struct file_row f = {.project = xstrdup("p"),
                         .filename = xstrdup("x"),
                         .purpose = xstrdup("fine-tune"),
                         .sha256 = xstrdup(""),
                         .expires_at = 1};
    cr_assert_eq(store_begin(api.store, NULL), ERR_OK);
    for (int i = 0; i < 1000; i++) {
        store_new_id("file-", f.id);
        cr_assert_eq(store_file_add(api.store, &f, NULL), ERR_OK);
    }
    cr_assert_eq(store_commit(api.store, NULL), ERR_OK);
    int calls = 1;
    while (api_expire(&api))
        calls++;
    cr_expect_eq(calls, 4);
    json_t *list = get("/v1/files", NULL);
    cr_expect_eq(json_array_size(json_object_get(list, "data")), 0);
    json_decref(list);
    file_row_clear(&f);
}
