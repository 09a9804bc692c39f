/* fixture: an api over a store in a temporary folder, and calls without a socket.
 *
 * What:    state that each test of a file under this folder starts from: DATA with no rows, one
 *          model root with the base models "tiny" and "org/small".
 * Owns:    the folder; removed after the test.
 * Threads: one test, one process.
 * Errors:  a failed call fails the test.
 */
#ifndef FFWD_TESTS_API_FIXTURE_H
#define FFWD_TESTS_API_FIXTURE_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

static char *dir, *model_root;
static struct api api;
static const char *roots[2];
static struct api_config config;
static const char *project = "p";
/* What the hooks were told. */
static int jobs_changed, jobs_cancelled, jobs_paused, events_added;

static inline void on_jobs_changed(void *arg) {
    (void)arg;
    jobs_changed++;
}
static inline void on_job_cancel(void *arg, const char *id) {
    (void)arg;
    (void)id;
    jobs_cancelled++;
}
static inline void on_events_added(void *arg, const char *id) {
    (void)arg;
    (void)id;
    events_added++;
}
static inline void on_job_pause(void *arg, const char *id) {
    (void)arg;
    (void)id;
    jobs_paused++;
}
static const struct api_hooks hooks = {.jobs_changed = on_jobs_changed,
                                       .job_cancel = on_job_cancel,
                                       .events_added = on_events_added,
                                       .job_pause = on_job_pause};

/* A file under dir, with its folders. */
static inline void put(const char *path, const char *text) {
    char *full = xasprintf("%s/%s", dir, path), *slash = strrchr(full, '/');
    *slash = '\0';
    cr_assert_eq(file_make_dirs(full, NULL), ERR_OK);
    *slash = '/';
    cr_assert_eq(file_write(full, text, strlen(text), NULL), ERR_OK);
    free(full);
}

static inline void set_up(void) {
    struct err_msg em = ERR_MSG_INIT;
    dir = xstrdup("/tmp/ffwd-test-api-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    put("models/tiny/config.json", "{}");
    put("models/org/small/config.json", "{}");
    model_root = xasprintf("%s/models", dir);
    roots[0] = model_root;
    config = (struct api_config){.data_dir = dir,
                                 .model_roots = roots,
                                 .max_file_bytes = 1 << 20,
                                 .max_part_bytes = 1 << 20,
                                 .max_upload_bytes = 1 << 20,
                                 .upload_seconds = 3600,
                                 .version = "test"};
    cr_assert_eq(blobs_open(dir, NULL), ERR_OK);
    cr_assert_eq(store_open(dir, &api.store, &em), ERR_OK, "%s", em.text);
    api.config = &config;
    api.hooks = &hooks;
    api.ready = true;
}

static inline void tear_down(void) {
    api_clear(&api);
    store_close(api.store);
    cr_expect_eq(file_remove_tree(dir, NULL), ERR_OK);
    free(model_root);
    free(dir);
}

/* ---- calls ---------------------------------------------------------------------------------- */

#define MAX_PAIRS 8
struct call {
    struct api_request req;
    struct api_pair query[MAX_PAIRS], headers[MAX_PAIRS];
    char *text;
};

/* query: "a=b&c=d", nothing is decoded. */
static inline void call_init(struct call *c, enum http_method method, const char *path,
                             const char *query, const char *body) {
    char *save = NULL;
    *c = (struct call){.req = {.method = method, .path = path, .project = project, .body = body}};
    c->req.body_len = body == NULL ? 0 : strlen(body);
    c->text = xstrdup(query == NULL ? "" : query);
    for (char *p = strtok_r(c->text, "&", &save); p != NULL; p = strtok_r(NULL, "&", &save)) {
        char *value = strrchr(p, '=');
        *value = '\0';
        c->query[c->req.n_query++] = (struct api_pair){p, value + 1};
    }
    c->req.query = c->query;
    c->req.headers = c->headers;
}

static inline void call_header(struct call *c, const char *name, const char *value) {
    c->headers[c->req.n_headers++] = (struct api_pair){name, value};
}

static inline struct api_response call_send(struct call *c) {
    struct api_response resp = {0};
    struct api_params params = {0};
    const struct api_route *route = api_route_find(&c->req, &params, &resp);
    if (route != NULL)
        route->handle(&api, &c->req, &params, &resp);
    while (resp.work != NULL) {
        struct api_work *work = resp.work;
        resp.work = NULL;
        work->run(work);
        work->done(&api, work, &resp);
    }
    if (resp.kind == API_BODY_TEXT && resp.content_type != NULL &&
        strcmp(resp.content_type, "application/json") == 0)
        resp.json = json_loads(resp.text, JSON_REJECT_DUPLICATES, NULL);
    api_params_clear(&params);
    free(c->text);
    cr_assert_neq(resp.status, 0);
    return resp;
}

static inline struct api_response send_request(enum http_method method, const char *path,
                                               const char *query, const char *body) {
    struct call c;
    call_init(&c, method, path, query, body);
    return call_send(&c);
}

/* The JSON of an answer that must have this status; the caller decrefs. */
static inline json_t *expect(struct api_response resp, int status) {
    if (resp.kind == API_BODY_TEXT)
        resp.json = json_loads(resp.text, JSON_REJECT_DUPLICATES, NULL);
    char *text = json_dumps(resp.json, JSON_COMPACT);
    cr_assert_eq(resp.status, status, "status %d: %s", resp.status, text == NULL ? "" : text);
    free(text);
    json_t *body = json_incref(resp.json);
    api_response_clear(&resp);
    return body;
}

static inline json_t *get(const char *path, const char *query) {
    return expect(send_request(HTTP_GET, path, query, NULL), 200);
}

static inline json_t *post(const char *path, const char *body) {
    return expect(send_request(HTTP_POST, path, NULL, body), 200);
}

/* An error must have exactly the envelope, this status and this param (NULL: null). */
static inline void expect_error(struct api_response resp, int status, const char *param) {
    json_t *body = expect(resp, status), *error = json_object_get(body, "error");
    cr_expect_eq(json_object_size(body), 1);
    cr_expect_eq(json_object_size(error), 4);
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *got = json_string_value(json_object_get(error, "param"));
    const json_t *code = json_object_get(error, "code");
    cr_assert_not_null(message);
    cr_expect_gt(strlen(message), 10);
    cr_expect_str_eq(json_string_value(json_object_get(error, "type")),
                     status < 500 ? "invalid_request_error" : "server_error");
    cr_expect(code != NULL && (json_is_null(code) || json_is_string(code)));
    if (param == NULL)
        cr_expect(json_is_null(json_object_get(error, "param")), "param %s: %s", got, message);
    else
        cr_expect(got != NULL && strcmp(got, param) == 0, "param %s, want %s: %s", got, param,
                  message);
    json_decref(body);
}

static inline const char *text_of(const json_t *o, const char *key) {
    const char *text = json_string_value(json_object_get(o, key));
    return text == NULL ? "" : text;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static inline struct api_response upload(const char *content, const char *filename,
                                         const struct api_pair *fields, int n_fields) {
    struct call c;
    struct spool spool = {.fd = -1};
    struct api_form form = {.fields = fields, .n_fields = n_fields, .filename = filename};
    call_init(&c, HTTP_POST, "/v1/files", NULL, NULL);
    if (content != NULL) {
        cr_assert_eq(spool_open(&spool, dir, 1 << 20, NULL), ERR_OK);
        cr_assert_eq(spool_write(&spool, content, strlen(content), NULL), ERR_OK);
        form.file = &spool;
    }
    c.req.form = &form;
    struct api_response resp = call_send(&c);
    spool_abort(&spool);
    return resp;
}

static inline void add_file(const char *content, char id[STORE_ID_SIZE]) {
    const struct api_pair purpose = {"purpose", "fine-tune"};
    json_t *file = expect(upload(content, "train.jsonl", &purpose, 1), 200);
    (void)snprintf(id, STORE_ID_SIZE, "%s", text_of(file, "id"));
    json_decref(file);
}

/* extra: "" or `,"key":value…` */
static inline char *job_body(const char *model, const char *file, const char *extra) {
    return xasprintf("{\"model\":\"%s\",\"training_file\":\"%s\"%s}", model, file, extra);
}

static inline json_t *add_job(const char *model, const char *file, const char *extra) {
    char *body = job_body(model, file, extra);
    json_t *job = post("/v1/fine_tuning/jobs", body);
    free(body);
    return job;
}

static inline void start(const char *id) {
    struct job_row j;
    cr_assert_eq(store_job_move(api.store, id, JOB_VALIDATING, JOB_QUEUED, 0, NULL, NULL), ERR_OK);
    cr_assert_eq(store_job_claim(api.store, &j, NULL), ERR_OK);
    cr_assert_str_eq(j.id, id);
    job_row_clear(&j);
}

/* Runs a job to its end, with an adapter on disk. */
static inline void finish(const char *id) {
    struct job_row j;
    start(id);
    cr_assert_eq(store_job_get(api.store, NULL, id, &j, NULL), ERR_OK);
    char *name = api_fine_tuned_model_name(&j), *path = NULL;
    static const char *const files[] = {"adapter_model.safetensors", "adapter_config.json",
                                        "README.md", "metrics.csv"};
    for (int i = 0; i < 4; i++) {
        path = xasprintf("jobs/%s/adapter/%s", id, files[i]);
        put(path, "x");
        free(path);
    }
    json_t *made = json_pack("[s]", "file-aaaaaaaaaaaaaaaaaaaaaaaa");
    cr_assert_eq(store_job_succeed(api.store, id, 1, name, made, 4480, NULL), ERR_OK);
    json_decref(made);
    free(name);
    job_row_clear(&j);
}

#endif
