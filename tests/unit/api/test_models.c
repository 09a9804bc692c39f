/* Deleting models and checkpoints; who may use them. */
#include "tests/unit/api/fixture.h"

#include <unistd.h>

#define JOBS "/v1/fine_tuning/jobs"

static char file[STORE_ID_SIZE], job_id[STORE_ID_SIZE];
static char *model, *checkpoint; /* names of a finished job's */

static void add_checkpoint(const char *id, int step) {
    char *path = xasprintf("jobs/%s/checkpoints/step-%d/adapter_model.safetensors", id, step);
    put(path, "x");
    free(path);
}

static void set_up_with_model(void) {
    struct job_row row;
    set_up();
    add_file("{\"text\":\"x\"}\n", file);
    json_t *job = add_job("org/small", file, "");
    (void)snprintf(job_id, sizeof job_id, "%s", text_of(job, "id"));
    json_decref(job);
    finish(job_id);
    add_checkpoint(job_id, 10);
    add_checkpoint(job_id, 20);
    cr_assert_eq(store_job_get(api.store, "p", job_id, &row, NULL), ERR_OK);
    model = xstrdup(row.fine_tuned_model);
    checkpoint = xasprintf("%s:ckpt-step-10", model);
    job_row_clear(&row);
}
static void tear_down_with_model(void) {
    free(model);
    free(checkpoint);
    tear_down();
}
TestSuite(models, .init = set_up_with_model, .fini = tear_down_with_model);

static struct api_response about(enum http_method method, const char *name) {
    char *path = xasprintf("/v1/models/%s", name);
    struct api_response resp = send_request(method, path, NULL, NULL);
    free(path);
    return resp;
}

static bool exists(const char *what) {
    char *path = xasprintf("%s/jobs/%s/%s", dir, job_id, what);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

static struct api_response try_job(const char *name) {
    char *body = job_body(name, file, "");
    struct api_response resp = send_request(HTTP_POST, JOBS, NULL, body);
    free(body);
    return resp;
}

Test(models, base_models_and_unknown_ones_cannot_be_deleted) {
    expect_error(about(HTTP_DELETE, "tiny"), 403, "model");
    expect_error(about(HTTP_DELETE, "org/small"), 403, "model");
    expect_error(about(HTTP_DELETE, "org%2Fsmall"), 403, "model");
    expect_error(about(HTTP_DELETE, "nothing"), 404, "model");
    expect_error(about(HTTP_DELETE, "ft:org/small:ffwd::abcdefgh"), 404, "model");
    project = "q";
    expect_error(about(HTTP_DELETE, model), 404, "model");
    expect_error(about(HTTP_DELETE, checkpoint), 404, "model");
}

Test(models, deleting_frees_the_files_and_keeps_the_record) {
    char *encoded = xasprintf("ft%%3Aorg%%2F%s", strchr(model, '/') + 1);
    json_t *gone = expect(about(HTTP_DELETE, encoded), 200);
    cr_expect_str_eq(text_of(gone, "id"), model);
    cr_expect_str_eq(text_of(gone, "object"), "model");
    cr_expect(json_is_true(json_object_get(gone, "deleted")));
    json_decref(gone);
    free(encoded);
    expect_error(about(HTTP_GET, model), 404, "model");
    expect_error(about(HTTP_GET, checkpoint), 404, "model");
    expect_error(about(HTTP_DELETE, model), 404, "model");
    expect_error(try_job(model), 400, "model");
    cr_expect(exists("adapter/metrics.csv") && !exists("adapter/adapter_model.safetensors"));
    cr_expect(!exists("checkpoints") && !exists("resume"));
    char *path = xasprintf(JOBS "/%s", job_id);
    json_t *job = get(path, NULL), *list = get("/v1/models", NULL);
    cr_expect_str_eq(text_of(job, "status"), "succeeded");
    cr_expect_str_eq(text_of(job, "fine_tuned_model"), model);
    for (size_t i = 0; i < json_array_size(json_object_get(list, "data")); i++)
        cr_expect_str_neq(text_of(json_array_get(json_object_get(list, "data"), i), "id"), model);
    json_decref(job);
    json_decref(list);
    free(path);
}

Test(models, deleting_one_checkpoint_leaves_the_others) {
    json_decref(expect(about(HTTP_DELETE, checkpoint), 200));
    cr_expect(!exists("checkpoints/step-10") && exists("checkpoints/step-20"));
    expect_error(about(HTTP_GET, checkpoint), 404, "model");
    json_decref(expect(about(HTTP_GET, model), 200));
}

Test(models, in_use_by_a_live_job_stay) {
    json_t *next = add_job(checkpoint, file, "");
    expect_error(about(HTTP_DELETE, checkpoint), 400, "model");
    expect_error(about(HTTP_DELETE, model), 400, "model");
    cr_assert_eq(store_job_move(api.store, text_of(next, "id"), JOB_VALIDATING, JOB_CANCELLED, 0,
                                NULL, NULL),
                 ERR_OK);
    json_decref(expect(about(HTTP_DELETE, model), 200));
    json_decref(next);
}

Test(models, checkpoint_of_a_paused_job_can_be_used) {
    json_t *job = add_job("tiny", file, ",\"suffix\":\"half\"");
    const char *id = text_of(job, "id");
    add_checkpoint(id, 7);
    cr_assert_eq(store_job_move(api.store, id, JOB_VALIDATING, JOB_PAUSED, 0, NULL, NULL), ERR_OK);
    char *path = xasprintf(JOBS "/%s/checkpoints", id);
    json_t *list = get(path, NULL);
    const char *name =
        text_of(json_array_get(json_object_get(list, "data"), 0), "fine_tuned_model_checkpoint");
    json_decref(expect(about(HTTP_GET, name), 200));
    json_decref(expect(try_job(name), 200));
    char *whole = xstrndup(name, strlen(name) - strlen(":ckpt-step-7"));
    expect_error(about(HTTP_GET, whole), 404, "model");
    expect_error(try_job(whole), 400, "model");
    free(whole);
    free(path);
    json_decref(list);
    json_decref(job);
}

/* ---- permissions ---------------------------------------------------------------------------- */

static struct api_response permissions(enum http_method method, const char *name, const char *id,
                                       const char *query, const char *body) {
    char *path = xasprintf("/v1/fine_tuning/checkpoints/%s/permissions%s%s", name,
                           id != NULL ? "/" : "", id != NULL ? id : "");
    struct api_response resp = send_request(method, path, query, body);
    free(path);
    return resp;
}

Test(models, permission_lets_another_project_use_a_checkpoint) {
    char other[STORE_ID_SIZE];
    project = "q";
    add_file("{\"text\":\"x\"}\n", other);
    memcpy(file, other, sizeof file);
    expect_error(try_job(checkpoint), 400, "model");
    project = "p";
    json_t *made = expect(
        permissions(HTTP_POST, checkpoint, NULL, NULL, "{\"project_ids\":[\"q\",\"r\"]}"), 200);
    json_t *first = json_array_get(json_object_get(made, "data"), 0);
    cr_expect_eq(json_object_size(first), 4);
    cr_expect_eq(strncmp(text_of(first, "id"), "cp_", 3), 0);
    cr_expect_str_eq(text_of(first, "object"), "checkpoint.permission");
    cr_expect_str_eq(text_of(first, "project_id"), "q");
    cr_expect_str_eq(text_of(made, "first_id"), text_of(first, "id"));
    json_t *again =
        expect(permissions(HTTP_POST, checkpoint, NULL, NULL, "{\"project_ids\":[\"q\"]}"), 200);
    cr_expect_str_eq(text_of(json_array_get(json_object_get(again, "data"), 0), "id"),
                     text_of(first, "id"));
    json_decref(again);

    project = "q";
    json_decref(expect(about(HTTP_GET, checkpoint), 200));
    json_decref(expect(try_job(checkpoint), 200));
    expect_error(about(HTTP_GET, model), 404, "model");
    expect_error(about(HTTP_DELETE, checkpoint), 403, "model");
    expect_error(permissions(HTTP_GET, checkpoint, NULL, NULL, NULL), 404,
                 "fine_tuned_model_checkpoint");
    json_t *list = get("/v1/models", NULL), *data = json_object_get(list, "data");
    cr_expect_str_eq(text_of(json_array_get(data, json_array_size(data) - 1), "id"), checkpoint);
    json_decref(list);

    project = "p";
    expect_error(about(HTTP_DELETE, checkpoint), 400, "model"); /* q's job goes on from it */
    json_t *gone =
        expect(permissions(HTTP_DELETE, checkpoint, text_of(first, "id"), NULL, NULL), 200);
    cr_expect(json_is_true(json_object_get(gone, "deleted")));
    json_decref(gone);
    expect_error(permissions(HTTP_DELETE, checkpoint, text_of(first, "id"), NULL, NULL), 404,
                 "permission_id");
    project = "q";
    expect_error(try_job(checkpoint), 400, "model");
    json_decref(made);
}

Test(models, permissions_are_paged_both_ways) {
    static const char *const wrong[][2] = {{"{}", "project_ids"},
                                           {"{\"project_ids\":[]}", "project_ids"},
                                           {"{\"project_ids\":\"q\"}", "project_ids"},
                                           {"{\"project_ids\":[\"q\",7]}", "project_ids[1]"},
                                           {"{\"project_ids\":[\"\"]}", "project_ids[0]"},
                                           {"{\"project_ids\":[\"q\"],\"x\":1}", "x"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        expect_error(permissions(HTTP_POST, model, NULL, NULL, wrong[i][0]), 400, wrong[i][1]);
    json_decref(expect(
        permissions(HTTP_POST, model, NULL, NULL, "{\"project_ids\":[\"a\",\"b\",\"c\"]}"), 200));
    static const char *const orders[][2] = {
        {"limit=2", "cb"}, {"limit=2&order=ascending", "ab"}, {"project_id=b", "b"}};
    for (size_t i = 0; i < 3; i++) {
        json_t *list = expect(permissions(HTTP_GET, model, NULL, orders[i][0], NULL), 200);
        json_t *data = json_object_get(list, "data");
        cr_assert_eq(json_array_size(data), strlen(orders[i][1]));
        for (size_t k = 0; k < json_array_size(data); k++)
            cr_expect_eq(text_of(json_array_get(data, k), "project_id")[0], orders[i][1][k]);
        cr_expect_eq(json_is_true(json_object_get(list, "has_more")), i < 2);
        char *query = xasprintf("limit=2&after=%s", text_of(list, "last_id"));
        json_t *rest = expect(permissions(HTTP_GET, model, NULL, query, NULL), 200);
        if (i == 0)
            cr_expect_eq(json_array_size(json_object_get(rest, "data")), 1);
        cr_expect(json_is_false(json_object_get(rest, "has_more")));
        free(query);
        json_decref(rest);
        json_decref(list);
    }
    expect_error(permissions(HTTP_GET, model, NULL, "order=asc", NULL), 400, "order");
    expect_error(permissions(HTTP_GET, model, NULL, "after=cp_none", NULL), 404, "after");
    expect_error(permissions(HTTP_GET, "ft:tiny:ffwd::aaaaaaaa", NULL, NULL, NULL), 404,
                 "fine_tuned_model_checkpoint");
    expect_error(permissions(HTTP_GET, "tiny", NULL, NULL, NULL), 404,
                 "fine_tuned_model_checkpoint");
}
