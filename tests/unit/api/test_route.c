/* Routes: which path and method go where, and what is said when none fits. */
#include "tests/unit/api/fixture.h"

TestSuite(route, .init = set_up, .fini = tear_down);

/* Pattern of the route found, with its parameters joined by '|'; NULL: refused. */
static char *route_of(enum http_method method, const char *path) {
    struct api_request req = {.method = method, .path = path, .project = "p"};
    struct api_params params = {0};
    struct api_response resp = {0};
    const struct api_route *r = api_route_find(&req, &params, &resp);
    char *out = NULL;
    if (r != NULL)
        out = xasprintf("%s %s|%s", r->pattern, params.value[0] ? params.value[0] : "",
                        params.value[1] ? params.value[1] : "");
    cr_expect_eq(r == NULL, resp.status != 0);
    api_params_clear(&params);
    api_response_clear(&resp);
    return out;
}

static void expect_route(enum http_method method, const char *path, const char *want) {
    char *got = route_of(method, path);
    cr_expect(got != NULL && strcmp(got, want) == 0, "%s goes to %s, not %s", path, got, want);
    free(got);
}

Test(route, paths_find_their_patterns_and_parameters) {
    expect_route(HTTP_GET, "/v1/files", "/v1/files |");
    expect_route(HTTP_HEAD, "/v1/files", "/v1/files |");
    expect_route(HTTP_GET, "/v1/files/file-1", "/v1/files/{file_id} file-1|");
    expect_route(HTTP_GET, "/v1/files/file%2D1", "/v1/files/{file_id} file-1|");
    expect_route(HTTP_GET, "/v1/files/a%2Fb", "/v1/files/{file_id} a/b|");
    expect_route(HTTP_GET, "/v1/files/a%2fcontent", "/v1/files/{file_id} a/content|");
    expect_route(HTTP_GET, "/v1/files/a/content", "/v1/files/{file_id}/content a|");
    expect_route(HTTP_GET, "/v1/fine_tuning/jobs/j/adapter/README.md",
                 "/v1/fine_tuning/jobs/{fine_tuning_job_id}/adapter/{file} j|README.md");
    expect_route(HTTP_POST, "/v1/fine_tuning/jobs/j/events",
                 "/v1/fine_tuning/jobs/{fine_tuning_job_id}/events j|");
}

Test(route, model_names_keep_slashes_colons_and_spaces) {
    expect_route(HTTP_GET, "/v1/models/org/name", "/v1/models/{model...} org/name|");
    expect_route(HTTP_GET, "/v1/models/org%2Fmodel%20name",
                 "/v1/models/{model...} org/model name|");
    expect_route(HTTP_GET, "/v1/models/ft:q:org:sfx:abc",
                 "/v1/models/{model...} ft:q:org:sfx:abc|");
    expect_route(HTTP_GET, "/v1/models/ft:org/q:o::abc", "/v1/models/{model...} ft:org/q:o::abc|");
}

Test(route, azure_prefixes_are_the_same_routes) {
    expect_route(HTTP_GET, "/openai/v1/files", "/v1/files |");
    expect_route(HTTP_GET, "/openai/files", "/v1/files |");
    expect_route(HTTP_GET, "/openai/fine_tuning/jobs", "/v1/fine_tuning/jobs |");
}

Test(route, unknown_paths_are_404) {
    static const char *const paths[] = {"/",
                                        "/v1",
                                        "/v1/",
                                        "/v1/files/",
                                        "/v1/files//content",
                                        "/v1/files/a/b/c",
                                        "/v2/files",
                                        "/openaix/v1/files",
                                        "/openai",
                                        "/v1/models/",
                                        "/v1/Files",
                                        "/v1/files%2Fa",
                                        "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        expect_error(send_request(HTTP_GET, paths[i], NULL, NULL), 404, NULL);
}

Test(route, bad_escapes_are_400) {
    static const char *const paths[] = {"/v1/files/%00", "/v1/files/a%00b", "/v1/files/%",
                                        "/v1/files/%4",  "/v1/files/%zz",   "/v1/files/%4/content",
                                        "v1/files",      "/v1/models/a/%g0"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        expect_error(send_request(HTTP_GET, paths[i], NULL, NULL), 400, NULL);
}

Test(route, wrong_method_is_405_with_the_right_ones) {
    static const struct {
        enum http_method method;
        const char *path, *allow;
    } cases[] = {
        {HTTP_PUT, "/v1/files", "POST, GET, HEAD"},
        {HTTP_DELETE, "/v1/files", "POST, GET, HEAD"},
        {HTTP_PATCH, "/v1/files/x", "GET, HEAD, DELETE"},
        {HTTP_GET, "/v1/fine_tuning/jobs/x/cancel", "POST"},
        {HTTP_POST, "/v1/models", "GET, HEAD"},
        {HTTP_OTHER, "/healthz", "GET, HEAD"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct api_response resp = send_request(cases[i].method, cases[i].path, NULL, NULL);
        cr_assert_not_null(resp.allow);
        cr_expect_str_eq(resp.allow, cases[i].allow);
        expect_error(resp, 405, NULL);
    }
}

Test(route, only_health_is_open_without_a_key) {
    int n = 0;
    const struct api_route *all = api_routes(&n);
    /* Who may read /metrics is the server's configuration. */
    for (int i = 0; i < n; i++)
        cr_expect_eq(all[i].open,
                     strncmp(all[i].pattern, "/v1/", 4) != 0 &&
                         strcmp(all[i].pattern, "/metrics") != 0,
                     "%s", all[i].pattern);
    cr_expect_gt(n, 15);
}

Test(route, health_and_readiness_answer) {
    json_decref(get("/healthz", NULL));
    json_decref(get("/readyz", NULL));
    api.ready = false;
    json_decref(expect(send_request(HTTP_GET, "/readyz", NULL, NULL), 503));
}

/* A client's bytes that are not UTF-8 must not make the answer invalid. */
Test(route, answer_to_bytes_that_are_not_text_is_json) {
    expect_error(send_request(HTTP_GET, "/v1/files/%ff%fe", NULL, NULL), 404, "id");
    expect_error(send_request(HTTP_GET, "/v1/nothing\xff", NULL, NULL), 404, NULL);
}

/* Whatever the path is, there is a route or one of three answers. */
Test(route, any_bytes_give_a_route_or_a_clear_answer) {
    static const char *const pieces[] = {
        "/",        "/v1",      "/files", "%",       "%2F",
        "%00",      "%e2%82",   "..",     "{",       "}",
        "\xff",     "/models",  "a",      "/openai", "/fine_tuning/jobs",
        "/adapter", "/content", "\\",     "%41"};
    uint32_t noise = 12345;
    for (int round = 0; round < 20000; round++) {
        char path[512] = "/v1";
        int n = round % 9;
        for (int i = 0; i < n; i++) {
            noise = noise * 1664525u + 1013904223u;
            size_t used = strlen(path);
            (void)snprintf(path + used, sizeof path - used, "%s",
                           pieces[(noise >> 16) % (sizeof pieces / sizeof pieces[0])]);
        }
        struct api_request req = {.method = (enum http_method)(noise >> 8 & 7), .path = path};
        struct api_params params = {0};
        struct api_response resp = {0};
        const struct api_route *r = api_route_find(&req, &params, &resp);
        cr_assert(r != NULL ? resp.status == 0
                            : resp.status == 400 || resp.status == 404 || resp.status == 405);
        api_params_clear(&params);
        api_response_clear(&resp);
    }
}
