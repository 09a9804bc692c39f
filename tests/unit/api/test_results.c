/* What a job gives: events as pages and as a stream, checkpoints, the adapter, models. */
#include "tests/unit/api/fixture.h"

#define JOBS "/v1/fine_tuning/jobs"

static char file[STORE_ID_SIZE], job_id[STORE_ID_SIZE];

static void set_up_with_job(void) {
    set_up();
    add_file("{\"text\":\"x\"}\n", file);
    json_t *job = add_job("tiny", file, "");
    (void)snprintf(job_id, sizeof job_id, "%s", text_of(job, "id"));
    json_decref(job);
}
TestSuite(results, .init = set_up_with_job, .fini = tear_down);

static struct api_response ask(enum http_method method, const char *what, const char *query) {
    char *path = xasprintf(JOBS "/%s/%s", job_id, what);
    struct api_response resp = send_request(method, path, query, NULL);
    free(path);
    return resp;
}

static void add_step(int64_t step, const char *data) {
    struct event ev;
    int64_t seq = 0;
    event_init(&ev, EVENT_INFO, EVENT_METRICS, "Step", json_loads(data, 0, NULL));
    cr_assert_eq(store_event_add(api.store, job_id, &ev, step, &seq, NULL), ERR_OK);
    event_clear(&ev);
}

/* ---- events --------------------------------------------------------------------------------- */

Test(results, events_are_listed_newest_first_in_the_documented_shape) {
    json_t *list = expect(ask(HTTP_GET, "events", NULL), 200);
    json_t *data = json_object_get(list, "data"), *newest = json_array_get(data, 0);
    cr_expect_eq(json_object_size(list), 3);
    cr_expect(json_is_false(json_object_get(list, "has_more")));
    cr_assert_eq(json_array_size(data), 2);
    cr_expect_eq(strncmp(text_of(newest, "message"), "Validating training file: ", 26), 0);
    cr_expect_eq(json_object_size(newest), 7);
    cr_expect_eq(strncmp(text_of(newest, "id"), "ftevent-", 8), 0);
    cr_expect_str_eq(text_of(newest, "object"), "fine_tuning.job.event");
    cr_expect_str_eq(text_of(newest, "level"), "info");
    cr_expect_str_eq(text_of(newest, "type"), "message");
    cr_expect(json_is_integer(json_object_get(newest, "created_at")));
    cr_expect(json_is_object(json_object_get(newest, "data")));
    json_decref(list);
    json_decref(expect(ask(HTTP_POST, "events", NULL), 200));
}

Test(results, events_are_paged_to_the_end) {
    char query[120] = "limit=3";
    int seen = 0;
    for (int i = 1; i <= 8; i++)
        add_step(i, "{\"train_loss\":1}");
    for (bool more = true; more;) {
        json_t *list = expect(ask(HTTP_GET, "events", query), 200);
        json_t *data = json_object_get(list, "data");
        size_t n = json_array_size(data);
        seen += (int)n;
        more = json_is_true(json_object_get(list, "has_more"));
        (void)snprintf(query, sizeof query, "limit=3&after=%s",
                       text_of(json_array_get(data, n - 1), "id"));
        json_decref(list);
    }
    cr_expect_eq(seen, 10);
    expect_error(ask(HTTP_GET, "events", "after=ftevent-none"), 404, "after");
    expect_error(ask(HTTP_GET, "events", "limit=x"), 400, "limit");
    expect_error(ask(HTTP_GET, "events", "stream=maybe"), 400, "stream");
}

Test(results, stream_starts_at_the_first_event_or_after_the_last_seen) {
    struct call c;
    char *path = xasprintf(JOBS "/%s/events", job_id);
    struct api_response resp = send_request(HTTP_GET, path, "stream=true", NULL);
    cr_assert_eq(resp.kind, API_BODY_EVENTS);
    cr_expect_eq(resp.status, 200);
    cr_expect_str_eq(resp.job_id, job_id);
    cr_expect_eq(resp.after_seq, 0);
    api_response_clear(&resp);
    json_t *list = expect(ask(HTTP_GET, "events", NULL), 200);
    const char *id = text_of(json_array_get(json_object_get(list, "data"), 0), "id");
    call_init(&c, HTTP_GET, path, "stream=true", NULL);
    call_header(&c, "last-event-id", id);
    resp = call_send(&c);
    cr_assert_eq(resp.kind, API_BODY_EVENTS);
    cr_expect_eq(resp.after_seq, 2);
    api_response_clear(&resp);
    char *query = xasprintf("stream=true&after=%s", id);
    resp = send_request(HTTP_GET, path, query, NULL);
    cr_expect_eq(resp.after_seq, 2);
    api_response_clear(&resp);
    free(query);
    call_init(&c, HTTP_GET, path, "stream=true", NULL);
    call_header(&c, "last-event-id", "ftevent-none");
    expect_error(call_send(&c), 404, "Last-Event-ID");
    json_decref(list);
    free(path);
}

/* ---- adapter -------------------------------------------------------------------------------- */

Test(results, adapter_is_there_after_success_only) {
    expect_error(ask(HTTP_GET, "adapter", NULL), 404, NULL);
    expect_error(ask(HTTP_GET, "adapter/README.md", NULL), 404, NULL);
    finish(job_id);
    struct api_response resp = ask(HTTP_GET, "adapter", NULL);
    cr_assert_eq(resp.kind, API_BODY_TAR);
    cr_expect_not_null(resp.etag);
    cr_expect_not_null(resp.filename);
    char *want = xasprintf("%s/jobs/%s/adapter", dir, job_id);
    cr_expect_str_eq(resp.path, want);
    free(want);
    api_response_clear(&resp);
    static const char *const files[] = {"adapter_model.safetensors", "adapter_config.json",
                                        "README.md", "metrics.csv"};
    for (int i = 0; i < 4; i++) {
        char *what = xasprintf("adapter/%s", files[i]);
        resp = ask(HTTP_GET, what, NULL);
        cr_expect_eq(resp.status, 200);
        cr_expect_eq(resp.kind, API_BODY_FILE);
        cr_expect_str_eq(resp.filename, files[i]);
        cr_expect_gt(file_size(resp.path), 0);
        cr_expect_eq(resp.etag[0], '"');
        api_response_clear(&resp);
        free(what);
    }
}

Test(results, only_the_adapters_own_files_are_served) {
    finish(job_id);
    char *secret = xasprintf("jobs/%s/adapter/secret", job_id);
    put(secret, "x");
    free(secret);
    static const char *const names[] = {
        "secret",   "..", "..%2F..%2Fffwd.db", "%2Fetc%2Fpasswd", "README.md%2F..%2Fsecret",
        "readme.md"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *what = xasprintf("adapter/%s", names[i]);
        expect_error(ask(HTTP_GET, what, NULL), 404, "file");
        free(what);
    }
}

/* ---- plot ----------------------------------------------------------------------------------- */

static void expect_plot(const char *text) {
    struct api_response resp = ask(HTTP_GET, "plot", NULL);
    cr_assert_eq(resp.status, 200);
    cr_assert_eq(resp.kind, API_BODY_TEXT);
    cr_expect_str_eq(resp.content_type, "image/svg+xml");
    cr_expect_not_null(strstr(resp.text, text), "%s", resp.text);
    api_response_clear(&resp);
}

/* Before the first step, while it runs, and of what stays. */
Test(results, plot_at_any_time) {
    expect_plot(">0 steps<");
    char *metrics = xasprintf("jobs/%s/resume/metrics.csv", job_id);
    put(metrics, "step,train_loss\n1,2.5\n2,2.25\n3,");
    free(metrics);
    expect_plot(">2 steps<");
    finish(job_id);
    metrics = xasprintf("jobs/%s/adapter/metrics.csv", job_id);
    put(metrics, "step,train_loss\n1,2.5\n2,2.25\n3,2\n");
    expect_plot(">3 steps<");
    put(metrics, "no such file\n");
    expect_error(ask(HTTP_GET, "plot", NULL), 400, NULL);
    free(metrics);
}

/* ---- checkpoints ---------------------------------------------------------------------------- */

Test(results, checkpoints_come_newest_first_with_their_metrics) {
    json_t *list = expect(ask(HTTP_GET, "checkpoints", NULL), 200);
    cr_expect_eq(json_object_size(list), 5);
    cr_expect(json_is_null(json_object_get(list, "first_id")));
    json_decref(list);
    for (int step = 10; step <= 30; step += 10) {
        char *path =
            xasprintf("jobs/%s/checkpoints/step-%d/adapter_model.safetensors", job_id, step);
        put(path, "x");
        free(path);
    }
    char *unfinished = xasprintf("jobs/%s/checkpoints/step-40/adapter_config.json", job_id);
    put(unfinished, "x");
    free(unfinished);
    add_step(30, "{\"step\":30,\"train_loss\":0.5,\"tokens\":9}");
    add_step(30, "{\"step\":30,\"full_valid_loss\":0.75}");
    list = expect(ask(HTTP_GET, "checkpoints", "limit=2"), 200);
    json_t *data = json_object_get(list, "data"), *first = json_array_get(data, 0);
    cr_assert_eq(json_array_size(data), 2);
    cr_expect(json_is_true(json_object_get(list, "has_more")));
    cr_expect_eq(json_object_size(first), 7);
    cr_expect_str_eq(text_of(first, "object"), "fine_tuning.job.checkpoint");
    cr_expect_str_eq(text_of(first, "fine_tuning_job_id"), job_id);
    cr_expect_eq(json_integer_value(json_object_get(first, "step_number")), 30);
    cr_expect_not_null(strstr(text_of(first, "fine_tuned_model_checkpoint"), ":ckpt-step-30"));
    json_t *metrics = json_object_get(first, "metrics");
    cr_expect_eq(json_object_size(metrics), 3);
    cr_expect_eq(json_real_value(json_object_get(metrics, "train_loss")), 0.5);
    cr_expect_eq(json_real_value(json_object_get(metrics, "full_valid_loss")), 0.75);
    char *query = xasprintf("limit=2&after=%s", text_of(list, "last_id"));
    json_t *rest = expect(ask(HTTP_GET, "checkpoints", query), 200);
    cr_assert_eq(json_array_size(json_object_get(rest, "data")), 1);
    cr_expect(json_is_false(json_object_get(rest, "has_more")));
    free(query);
    json_decref(rest);
    json_decref(list);
    expect_error(ask(HTTP_GET, "checkpoints", "after=ftckpt_none"), 404, "after");
}

/* ---- models --------------------------------------------------------------------------------- */

static void expect_model(const char *path, const char *id, const char *owner) {
    json_t *m = get(path, NULL);
    cr_expect_eq(json_object_size(m), 4);
    cr_expect_str_eq(text_of(m, "id"), id);
    cr_expect_str_eq(text_of(m, "object"), "model");
    cr_expect_str_eq(text_of(m, "owned_by"), owner);
    cr_expect(json_is_integer(json_object_get(m, "created")));
    json_decref(m);
}

Test(results, models_are_found_in_every_layout) {
    put("models/models--hub--cached/snapshots/abc123/config.json", "{}");
    put("models/models--hub--cached/snapshots/def456/config.json", "{}");
    put("models/models--hub--cached/refs/main", "abc123\n");
    put("models/models--gpt2/snapshots/1/config.json", "{}");
    put("models/.hidden/config.json", "{}");
    put("models/empty/readme", "x");
    json_t *list = get("/v1/models", NULL), *data = json_object_get(list, "data");
    static const char *const want[] = {"gpt2", "hub/cached", "org/small", "tiny"};
    cr_expect_eq(json_object_size(list), 2);
    cr_assert_eq(json_array_size(data), 4);
    for (size_t i = 0; i < 4; i++)
        cr_expect_str_eq(text_of(json_array_get(data, i), "id"), want[i]);
    json_decref(list);
    expect_model("/v1/models/tiny", "tiny", "local");
    expect_model("/v1/models/org/small", "org/small", "org");
    expect_model("/v1/models/org%2Fsmall", "org/small", "org");
    expect_model("/v1/models/hub/cached", "hub/cached", "hub");
    struct api_model m;
    cr_assert_eq(api_model_find(&config, api.store, "p", "hub/cached", &m, NULL), ERR_OK);
    cr_expect_not_null(strstr(m.dir, "/snapshots/abc123"));
    cr_expect_null(m.init_adapter);
    api_model_clear(&m);
    static const char *const unknown[] = {
        "/v1/models/none",        "/v1/models/..",    "/v1/models/.hidden",  "/v1/models/org",
        "/v1/models/org/small/x", "/v1/models/empty", "/v1/models/ft:x:y::z"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        expect_error(send_request(HTTP_GET, unknown[i], NULL, NULL), 404, "model");
}

Test(results, checkpoint_of_a_model_can_be_trained_further) {
    struct api_model m;
    struct job_row first, second;
    finish(job_id);
    cr_assert_eq(store_job_get(api.store, "p", job_id, &first, NULL), ERR_OK);
    char *name = xasprintf("%s:ckpt-step-10", first.fine_tuned_model);
    char *body = job_body(name, file, "");
    expect_error(send_request(HTTP_POST, JOBS, NULL, body), 400, "model");
    free(body);
    char *weights = xasprintf("jobs/%s/checkpoints/step-10/adapter_model.safetensors", job_id);
    char *path = xasprintf("/v1/models/%s", name);
    expect_error(send_request(HTTP_GET, path, NULL, NULL), 404, "model");
    put(weights, "x");
    free(weights);
    expect_model(path, name, "org-ffwd");
    free(path);
    json_t *job = add_job(name, file, "");
    finish(text_of(job, "id"));
    cr_assert_eq(api_model_find(&config, api.store, "p", name, &m, NULL), ERR_OK);
    char *want = xasprintf("%s/jobs/%s/checkpoints/step-10", dir, job_id);
    cr_expect_str_eq(m.init_adapter, want);
    cr_expect_str_eq(m.base, "tiny");
    cr_assert_eq(store_job_get(api.store, "p", text_of(job, "id"), &second, NULL), ERR_OK);
    cr_expect_eq(strncmp(second.fine_tuned_model, "ft:tiny:ffwd::", 14), 0, "%s",
                 second.fine_tuned_model);
    api_model_clear(&m);
    job_row_clear(&first);
    job_row_clear(&second);
    json_decref(job);
    free(want);
    free(name);
}

/* The name of a fine-tuned model stands for its base and its adapter, over several rounds. */
Test(results, fine_tuned_model_can_be_trained_further) {
    struct api_model m;
    struct job_row row;
    finish(job_id);
    cr_assert_eq(store_job_get(api.store, "p", job_id, &row, NULL), ERR_OK);
    char *path = xasprintf("/v1/models/%s", row.fine_tuned_model);
    expect_model(path, row.fine_tuned_model, "org-ffwd");
    json_t *second = add_job(row.fine_tuned_model, file, ",\"lora\":{\"rank\":16}");
    finish(text_of(second, "id"));
    struct job_row last;
    cr_assert_eq(store_job_get(api.store, "p", text_of(second, "id"), &last, NULL), ERR_OK);
    cr_expect_eq(strncmp(last.fine_tuned_model, "ft:tiny:ffwd::", 14), 0);
    cr_assert_eq(api_model_find(&config, api.store, "p", last.fine_tuned_model, &m, NULL), ERR_OK);
    cr_expect_str_eq(m.base, "tiny");
    cr_expect_not_null(strstr(m.dir, "/models/tiny"));
    cr_expect_not_null(strstr(m.init_adapter, last.id));
    api_model_clear(&m);
    char *body = job_body(last.fine_tuned_model, file, ",\"lora\":{\"rank\":8}");
    expect_error(send_request(HTTP_POST, JOBS, NULL, body), 400, "lora.rank");
    free(body);
    body = job_body(last.fine_tuned_model, file, ",\"lora\":{\"target_modules\":[\"q_proj\"]}");
    expect_error(send_request(HTTP_POST, JOBS, NULL, body), 400, "lora.target_modules");
    free(body);
    project = "q";
    expect_error(send_request(HTTP_GET, path, NULL, NULL), 404, "model");
    free(path);
    job_row_clear(&row);
    job_row_clear(&last);
    json_decref(second);
}
