/* /v1/fine_tuning/jobs: the object's shape, each wrong field, repeats, cancel, lists. */
#include "tests/unit/api/fixture.h"

#define JOBS "/v1/fine_tuning/jobs"

static char file[STORE_ID_SIZE];

static void set_up_with_file(void) {
    set_up();
    add_file("{\"text\":\"x\"}\n", file);
}
TestSuite(jobs, .init = set_up_with_file, .fini = tear_down);

static json_t *get_job(const char *id) {
    char *path = xasprintf(JOBS "/%s", id);
    json_t *job = get(path, NULL);
    free(path);
    return job;
}

static struct api_response act(const char *id, const char *action) {
    char *path = xasprintf(JOBS "/%s/%s", id, action);
    struct api_response resp = send_request(HTTP_POST, path, NULL, NULL);
    free(path);
    return resp;
}

/* Types of the published schema; '?' also null. */
static void expect_shape(const json_t *job) {
    static const struct {
        const char *key;
        json_type type;
        bool nullable;
    } fields[] = {
        {"id", JSON_STRING, false},
        {"object", JSON_STRING, false},
        {"created_at", JSON_INTEGER, false},
        {"model", JSON_STRING, false},
        {"organization_id", JSON_STRING, false},
        {"training_file", JSON_STRING, false},
        {"validation_file", JSON_STRING, true},
        {"status", JSON_STRING, false},
        {"hyperparameters", JSON_OBJECT, false},
        {"result_files", JSON_ARRAY, false},
        {"seed", JSON_INTEGER, false},
        {"error", JSON_OBJECT, true},
        {"fine_tuned_model", JSON_STRING, true},
        {"finished_at", JSON_INTEGER, true},
        {"trained_tokens", JSON_INTEGER, true},
        {"estimated_finish", JSON_INTEGER, true},
        {"integrations", JSON_ARRAY, false},
        {"method", JSON_OBJECT, false},
        {"metadata", JSON_OBJECT, true},
        {"user_provided_suffix", JSON_STRING, true},
        {"ffwd", JSON_OBJECT, false},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        json_t *v = json_object_get(job, fields[i].key);
        cr_expect(v != NULL &&
                      (json_typeof(v) == fields[i].type || (fields[i].nullable && json_is_null(v))),
                  "%s", fields[i].key);
    }
    cr_expect_eq(json_object_size(job), sizeof fields / sizeof fields[0]);
    cr_expect_str_eq(text_of(job, "object"), "fine_tuning.job");
    json_t *supervised = json_object_get(json_object_get(job, "method"), "supervised");
    cr_expect(json_equal(json_object_get(supervised, "hyperparameters"),
                         json_object_get(job, "hyperparameters")));
}

Test(jobs, created_job_has_the_documented_shape) {
    json_t *job = add_job("tiny", file, "");
    expect_shape(job);
    cr_expect_str_eq(text_of(job, "status"), "validating_files");
    cr_expect_str_eq(text_of(job, "model"), "tiny");
    cr_expect_str_eq(text_of(job, "training_file"), file);
    cr_expect(json_is_null(json_object_get(job, "error")));
    json_t *hyper = json_object_get(job, "hyperparameters");
    cr_expect_str_eq(text_of(hyper, "n_epochs"), "auto");
    cr_expect_str_eq(text_of(hyper, "batch_size"), "auto");
    cr_expect_str_eq(text_of(hyper, "learning_rate_multiplier"), "auto");
    cr_expect_eq(jobs_changed, 1);
    json_t *again = get_job(text_of(job, "id"));
    cr_expect(json_equal(job, again));
    json_decref(again);
    json_decref(job);
}

Test(jobs, request_is_echoed_where_the_contract_says) {
    char valid[STORE_ID_SIZE];
    add_file("{}", valid);
    char *extra = xasprintf(",\"validation_file\":\"%s\",\"suffix\":\"sfx\",\"seed\":42,"
                            "\"metadata\":{\"k\":\"v\"},\"priority\":7,\"integrations\":[],"
                            "\"method\":{\"type\":\"supervised\",\"supervised\":{"
                            "\"hyperparameters\":{\"n_epochs\":3,\"batch_size\":4,"
                            "\"learning_rate_multiplier\":0.5}}}",
                            valid);
    json_t *job = add_job("org/small", file, extra);
    expect_shape(job);
    cr_expect_str_eq(text_of(job, "validation_file"), valid);
    cr_expect_str_eq(text_of(job, "user_provided_suffix"), "sfx");
    cr_expect_eq(json_integer_value(json_object_get(job, "seed")), 42);
    cr_expect_str_eq(text_of(json_object_get(job, "metadata"), "k"), "v");
    json_t *hyper = json_object_get(job, "hyperparameters");
    cr_expect_eq(json_integer_value(json_object_get(hyper, "n_epochs")), 3);
    cr_expect_eq(json_integer_value(json_object_get(hyper, "batch_size")), 4);
    cr_expect_eq(json_real_value(json_object_get(hyper, "learning_rate_multiplier")), 0.5);
    cr_expect_eq(json_integer_value(json_object_get(json_object_get(job, "ffwd"), "priority")), 7);
    json_decref(job);
    free(extra);
}

Test(jobs, explicit_nulls_are_absent_fields) {
    json_t *job = add_job("tiny", file,
                          ",\"validation_file\":null,\"suffix\":null,\"seed\":null,"
                          "\"metadata\":null,\"hyperparameters\":null,\"integrations\":null,"
                          "\"method\":null");
    expect_shape(job);
    cr_expect(json_is_null(json_object_get(job, "metadata")));
    json_decref(job);
}

Test(jobs, each_wrong_field_is_named_by_its_path) {
    static const char *const cases[][2] = {
        {"\"suffix\":\"\"", "suffix"},
        {"\"suffix\":5", "suffix"},
        {"\"seed\":-1", "seed"},
        {"\"seed\":2147483648", "seed"},
        {"\"seed\":\"1\"", "seed"},
        {"\"metadata\":[]", "metadata"},
        {"\"metadata\":{\"k\":1}", "metadata.k"},
        {"\"hyperparameters\":{\"n_epochs\":0}", "hyperparameters.n_epochs"},
        {"\"hyperparameters\":{\"n_epochs\":101}", "hyperparameters.n_epochs"},
        {"\"hyperparameters\":{\"n_epochs\":\"many\"}", "hyperparameters.n_epochs"},
        {"\"hyperparameters\":{\"batch_size\":1025}", "hyperparameters.batch_size"},
        {"\"hyperparameters\":{\"learning_rate_multiplier\":0}",
         "hyperparameters.learning_rate_multiplier"},
        {"\"hyperparameters\":{\"beta\":1}", "hyperparameters.beta"},
        {"\"method\":{}", "method.type"},
        {"\"method\":{\"type\":\"dpo\"}", "method.type"},
        {"\"method\":{\"type\":\"supervised\",\"supervised\":{\"hyperparameters\":{\"n_epochs\":0}}"
         "}",
         "method.supervised.hyperparameters.n_epochs"},
        {"\"integrations\":[{\"type\":\"wandb\",\"wandb\":{\"project\":\"x\"}}]", "integrations"},
        {"\"lora\":{\"rank\":0}", "lora.rank"},
        {"\"lora\":{\"alpha\":0}", "lora.alpha"},
        {"\"lora\":{\"dropout\":1}", "lora.dropout"},
        {"\"lora\":{\"target_modules\":[]}", "lora.target_modules"},
        {"\"lora\":{\"use_dora\":1}", "lora.use_dora"},
        {"\"lora\":{\"color\":1}", "lora.color"},
        {"\"fast_forward\":{\"interval\":0}", "fast_forward.interval"},
        {"\"fast_forward\":{\"search\":\"x\"}", "fast_forward.search"},
        {"\"training\":{\"learning_rate\":\"high\"}", "training.learning_rate"},
        {"\"training\":{\"early_stopping\":{\"patience\":0}}", "training.early_stopping.patience"},
        {"\"priority\":101", "priority"},
        {"\"dry_run\":\"yes\"", "dry_run"},
        {"\"color\":1", "color"},
        {"\"validation_file\":\"file-none\"", "validation_file"},
        {"\"validation_file\":7", "validation_file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *extra = xasprintf(",%s", cases[i][0]), *body = job_body("tiny", file, extra);
        expect_error(send_request(HTTP_POST, JOBS, NULL, body), 400, cases[i][1]);
        free(extra);
        free(body);
    }
    json_t *list = get(JOBS, NULL);
    cr_expect_eq(json_array_size(json_object_get(list, "data")), 0);
    json_decref(list);
}

Test(jobs, unknown_models_and_files_are_named) {
    static const char *const models[] = {
        "none",         "../models/tiny",         "org",        "org/", "/tiny", ".", "..",
        "tiny/../tiny", "ft:tiny:ffwd::12345678", "org/small/x"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        char *body = job_body(models[i], file, "");
        expect_error(send_request(HTTP_POST, JOBS, NULL, body), 400, "model");
        free(body);
    }
    char *body = job_body("tiny", "file-none", "");
    expect_error(send_request(HTTP_POST, JOBS, NULL, body), 400, "training_file");
    free(body);
    expect_error(send_request(HTTP_POST, JOBS, NULL, "{\"model\":\"tiny\"}"), 400, "training_file");
    expect_error(send_request(HTTP_POST, JOBS, NULL, "{\"training_file\":\"x\"}"), 400, "model");
    project = "q"; /* has no such file */
    body = job_body("tiny", file, "");
    expect_error(send_request(HTTP_POST, JOBS, NULL, body), 400, "training_file");
    free(body);
}

Test(jobs, file_of_another_purpose_is_refused) {
    const struct api_pair batch = {"purpose", "batch"};
    json_t *f = expect(upload("x", "x", &batch, 1), 200);
    char *body = job_body("tiny", text_of(f, "id"), "");
    expect_error(send_request(HTTP_POST, JOBS, NULL, body), 400, "training_file");
    free(body);
    json_decref(f);
}

Test(jobs, bodies_that_are_not_json_objects_are_refused) {
    static const char *const bodies[] = {"",
                                         "[]",
                                         "null",
                                         "1",
                                         "\"x\"",
                                         "{",
                                         "{]",
                                         "{\"a\":1,}",
                                         "{} x",
                                         "\xff",
                                         "NaN",
                                         "{'a':1}",
                                         "{\"model\":\"a\\u0000b\"}",
                                         "{\"model\":\"a\",\"model\":\"b\"}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        expect_error(send_request(HTTP_POST, JOBS, NULL, bodies[i]), 400, NULL);
    expect_error(send_request(HTTP_POST, JOBS, NULL, NULL), 400, NULL);
    struct api_response resp = send_request(HTTP_POST, JOBS, NULL, "{\n  \"model\": nope}");
    json_t *body = expect(resp, 400);
    cr_expect_not_null(strstr(text_of(json_object_get(body, "error"), "message"), "line 2"));
    json_decref(body);
    char *deep = xcalloc(1, 200000);
    memset(deep, '[', 100000);
    expect_error(send_request(HTTP_POST, JOBS, NULL, deep), 400, NULL);
    free(deep);
}

/* ---- resolved numbers, progress, end -------------------------------------------------------- */

Test(jobs, resolved_numbers_are_shown_in_both_places) {
    json_t *job = add_job("tiny", file, "");
    const char *id = text_of(job, "id");
    start(id);
    json_t *resolved =
        json_pack("{s:{s:i, s:i, s:f}, s:f}", "hyperparameters", "n_epochs", 10, "batch_size", 1,
                  "learning_rate_multiplier", 1.0, "learning_rate", 2e-4);
    json_t *progress = json_pack("{s:i, s:i, s:i, s:f, s:f}", "step", 131, "total_steps", 303,
                                 "tokens", 1000, "seconds", 4.0, "flops", 5e9);
    cr_assert_eq(store_job_set_resolved(api.store, id, 1, resolved, NULL), ERR_OK);
    cr_assert_eq(store_job_set_progress(api.store, id, 1, progress, 1000, 1800000000, NULL),
                 ERR_OK);
    json_t *now = get_job(id);
    expect_shape(now);
    cr_expect_str_eq(text_of(now, "status"), "running");
    json_t *hyper = json_object_get(now, "hyperparameters");
    cr_expect_eq(json_integer_value(json_object_get(hyper, "n_epochs")), 10);
    cr_expect_eq(json_integer_value(json_object_get(hyper, "batch_size")), 1);
    cr_expect(json_is_real(json_object_get(hyper, "learning_rate_multiplier")));
    cr_expect_eq(json_integer_value(json_object_get(now, "estimated_finish")), 1800000000);
    cr_expect(json_is_null(json_object_get(now, "trained_tokens")));
    json_t *own = json_object_get(now, "ffwd"), *p = json_object_get(own, "progress");
    cr_expect_eq(json_integer_value(json_object_get(p, "step")), 131);
    cr_expect_eq(json_integer_value(json_object_get(p, "total_steps")), 303);
    cr_expect_eq(json_real_value(json_object_get(p, "percent")), 43.2);
    cr_expect_eq(json_real_value(json_object_get(own, "tokens_per_second")), 250.0);
    cr_expect_eq(json_integer_value(json_object_get(own, "attempt")), 1);
    json_decref(now);
    json_decref(progress);
    json_decref(resolved);
    json_decref(job);
}

Test(jobs, finished_job_names_its_model_and_files) {
    json_t *job = add_job("org/small", file, ",\"suffix\":\"sfx\"");
    const char *id = text_of(job, "id");
    finish(id);
    json_t *now = get_job(id);
    expect_shape(now);
    char *want = xasprintf("ft:org/small:ffwd:sfx:%s", id + strlen(id) - 8);
    cr_expect_str_eq(text_of(now, "fine_tuned_model"), want);
    cr_expect_str_eq(text_of(now, "status"), "succeeded");
    cr_expect_eq(json_integer_value(json_object_get(now, "trained_tokens")), 4480);
    cr_expect_eq(json_array_size(json_object_get(now, "result_files")), 1);
    cr_expect_gt(json_integer_value(json_object_get(now, "finished_at")), 0);
    free(want);
    json_decref(now);
    json_decref(job);
}

Test(jobs, failure_has_code_and_message_never_null) {
    json_t *job = add_job("tiny", file, ""), *error = json_pack("{s:n}", "code");
    const char *id = text_of(job, "id");
    cr_assert_eq(store_job_move(api.store, id, JOB_VALIDATING, JOB_FAILED, 0, error, NULL), ERR_OK);
    json_t *now = get_job(id), *shown = json_object_get(now, "error");
    expect_shape(now);
    cr_expect(json_is_string(json_object_get(shown, "code")));
    cr_expect(json_is_string(json_object_get(shown, "message")));
    cr_expect(json_is_null(json_object_get(shown, "param")));
    json_decref(now);
    json_decref(error);
    json_decref(job);
}

/* ---- repeats -------------------------------------------------------------------------------- */

static struct api_response create_with(const char *body, const char *header, const char *value) {
    struct call c;
    call_init(&c, HTTP_POST, JOBS, NULL, body);
    call_header(&c, header, value);
    return call_send(&c);
}

Test(jobs, idempotency_key_gives_the_first_job_or_422) {
    char *body = job_body("tiny", file, ""), *other = job_body("tiny", file, ",\"seed\":1");
    char *spaced = xasprintf("{ \"training_file\": \"%s\", \"model\": \"tiny\" }", file);
    json_t *first = expect(create_with(body, "idempotency-key", "k"), 200);
    json_t *again = expect(create_with(body, "idempotency-key", "k"), 200);
    json_t *same = expect(create_with(spaced, "idempotency-key", "k"), 200);
    json_t *new_key = expect(create_with(body, "idempotency-key", "k2"), 200);
    cr_expect(json_equal(first, again));
    cr_expect(json_equal(first, same));
    cr_expect_str_neq(text_of(first, "id"), text_of(new_key, "id"));
    expect_error(create_with(other, "idempotency-key", "k"), 422, "Idempotency-Key");
    expect_error(create_with(body, "idempotency-key", ""), 400, "Idempotency-Key");
    json_t *list = get(JOBS, NULL);
    cr_expect_eq(json_array_size(json_object_get(list, "data")), 2);
    json_decref(list);
    json_decref(first);
    json_decref(again);
    json_decref(same);
    json_decref(new_key);
    free(body);
    free(other);
    free(spaced);
}

Test(jobs, repeat_that_the_client_announces_makes_no_second_job) {
    char *body = job_body("tiny", file, "");
    json_t *first = expect(create_with(body, "x-stainless-retry-count", "0"), 200);
    json_t *repeat = expect(create_with(body, "x-stainless-retry-count", "1"), 200);
    json_t *second = expect(create_with(body, "x-stainless-retry-count", "0"), 200);
    cr_expect_str_eq(text_of(first, "id"), text_of(repeat, "id"));
    cr_expect_str_neq(text_of(first, "id"), text_of(second, "id"));
    project = "q";
    expect_error(create_with(body, "x-stainless-retry-count", "1"), 400, "training_file");
    json_decref(first);
    json_decref(repeat);
    json_decref(second);
    free(body);
}

/* ---- cancel --------------------------------------------------------------------------------- */

Test(jobs, waiting_job_is_cancelled_at_once) {
    json_t *job = add_job("tiny", file, "");
    const char *id = text_of(job, "id");
    json_t *now = expect(act(id, "cancel"), 200);
    expect_shape(now);
    cr_expect_str_eq(text_of(now, "status"), "cancelled");
    cr_expect_gt(json_integer_value(json_object_get(now, "finished_at")), 0);
    cr_expect_eq(events_added, 1);
    cr_expect_eq(jobs_cancelled, 1, "whoever checks its files is told");
    expect_error(act(id, "cancel"), 400, NULL);
    json_decref(now);
    json_decref(job);
    job = add_job("tiny", file, "");
    id = text_of(job, "id");
    cr_assert_eq(store_job_move(api.store, id, JOB_VALIDATING, JOB_QUEUED, 0, NULL, NULL), ERR_OK);
    json_decref(expect(act(id, "cancel"), 200));
    cr_expect_eq(jobs_cancelled, 1, "nobody has a queued job");
    json_decref(job);
}

Test(jobs, running_job_is_asked_to_stop) {
    json_t *job = add_job("tiny", file, "");
    const char *id = text_of(job, "id");
    start(id);
    json_t *now = expect(act(id, "cancel"), 200);
    cr_expect_str_eq(text_of(now, "status"), "running");
    cr_expect_eq(jobs_cancelled, 1);
    struct job_row row;
    cr_assert_eq(store_job_get(api.store, "p", id, &row, NULL), ERR_OK);
    cr_expect(row.cancel_requested);
    job_row_clear(&row);
    json_decref(now);
    json_decref(job);
}

Test(jobs, ended_jobs_refuse_to_be_cancelled) {
    json_t *job = add_job("tiny", file, "");
    finish(text_of(job, "id"));
    expect_error(act(text_of(job, "id"), "cancel"), 400, NULL);
    expect_error(act("ftjob-none", "cancel"), 404, "fine_tune_id");
    json_decref(job);
}

/* ---- lists ---------------------------------------------------------------------------------- */

Test(jobs, list_is_newest_first_with_more_only_when_there_is_more) {
    json_t *a = add_job("tiny", file, ",\"metadata\":{\"k\":\"v\"}"),
           *b = add_job("tiny", file, "");
    json_t *list = get(JOBS, NULL);
    cr_expect_eq(json_object_size(list), 3);
    cr_expect_str_eq(text_of(list, "object"), "list");
    json_t *data = json_object_get(list, "data");
    cr_assert_eq(json_array_size(data), 2);
    cr_expect_str_eq(text_of(json_array_get(data, 0), "id"), text_of(b, "id"));
    expect_shape(json_array_get(data, 1));
    cr_expect(json_is_false(json_object_get(list, "has_more")));
    json_decref(list);
    list = get(JOBS, "limit=1");
    cr_expect(json_is_true(json_object_get(list, "has_more")));
    json_decref(list);
    char *query = xasprintf("limit=1&after=%s", text_of(b, "id"));
    list = get(JOBS, query);
    cr_expect_str_eq(text_of(json_array_get(json_object_get(list, "data"), 0), "id"),
                     text_of(a, "id"));
    cr_expect(json_is_false(json_object_get(list, "has_more")));
    json_decref(list);
    free(query);
    static const char *const filters[][2] = {
        {"metadata[k]=v", "1"}, {"metadata[k]=w", "0"}, {"metadata=null", "1"}};
    for (size_t i = 0; i < 3; i++) {
        list = get(JOBS, filters[i][0]);
        cr_expect_eq(json_array_size(json_object_get(list, "data")),
                     (size_t)(filters[i][1][0] - '0'), "%s", filters[i][0]);
        json_decref(list);
    }
    expect_error(send_request(HTTP_GET, JOBS, "metadata=x", NULL), 400, "metadata");
    expect_error(send_request(HTTP_GET, JOBS, "limit=0", NULL), 400, "limit");
    expect_error(send_request(HTTP_GET, JOBS, "after=ftjob-none", NULL), 404, "after");
    json_decref(a);
    json_decref(b);
}

Test(jobs, of_another_project_do_not_exist) {
    json_t *job = add_job("tiny", file, "");
    static const char *const paths[] = {"", "/events", "/checkpoints", "/adapter",
                                        "/adapter/README.md"};
    project = "q";
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        char *path = xasprintf(JOBS "/%s%s", text_of(job, "id"), paths[i]);
        expect_error(send_request(HTTP_GET, path, NULL, NULL), 404, "fine_tune_id");
        free(path);
    }
    expect_error(act(text_of(job, "id"), "cancel"), 404, "fine_tune_id");
    json_t *list = get(JOBS, NULL);
    cr_expect_eq(json_array_size(json_object_get(list, "data")), 0);
    json_decref(list);
    json_decref(job);
}
