/* Texts of jobs that are kept: never another text than what would be written anew. */
#include "api/job_texts.h"
#include "tests/unit/api/fixture.h"

#define JOBS "/v1/fine_tuning/jobs"
enum { N = 5 };

static char ids[N][STORE_ID_SIZE];

/* Three jobs that have ended, of which one failed, one that runs, one that waits. */
static void set_up_with_jobs(void) {
    char file[STORE_ID_SIZE];
    set_up();
    add_file("{\"text\":\"x\"}\n", file);
    for (int i = 0; i < N; i++) {
        json_t *job =
            add_job("tiny", file, ",\"metadata\":{\"k\":\"\\u00e9 \\\"\"},\"suffix\":\"s\"");
        (void)snprintf(ids[i], STORE_ID_SIZE, "%s", text_of(job, "id"));
        json_decref(job);
    }
    finish(ids[0]);
    start(ids[1]);
    json_t *error = json_pack("{s:s, s:s, s:n}", "code", "oom", "message", "too\nbig", "param");
    json_t *progress = json_pack("{s:i, s:i, s:i, s:f, s:f}", "step", 3, "total_steps", 7, "tokens",
                                 1234, "seconds", 0.7, "flops", 1.5e15);
    cr_assert_eq(store_job_set_progress(api.store, ids[1], 1, progress, 1234, 99, NULL), ERR_OK);
    cr_assert_eq(store_job_move(api.store, ids[1], JOB_RUNNING, JOB_FAILED, 1, error, NULL),
                 ERR_OK);
    finish(ids[2]);
    start(ids[3]);
    json_decref(error);
    json_decref(progress);
}
TestSuite(job_texts, .init = set_up_with_jobs, .fini = tear_down);

static char *text_at(const char *path, const char *query) {
    struct api_response resp = send_request(HTTP_GET, path, query, NULL);
    cr_assert_eq(resp.status, 200);
    char *text = xstrdup(resp.text);
    api_response_clear(&resp);
    return text;
}

/* What is answered now, with texts that are kept as far as there are any, is what is answered when
 * none is kept, and what jansson makes of it. */
static void expect_fresh(const char *path, const char *query) {
    char *now = text_at(path, query), *again = text_at(path, query);
    api_clear(&api);
    char *fresh = text_at(path, query);
    json_t *value = json_loads(fresh, JSON_REJECT_DUPLICATES, NULL);
    char *dumped = json_dumps(value, JSON_COMPACT);
    cr_expect_str_eq(now, fresh);
    cr_expect_str_eq(again, fresh);
    cr_expect_str_eq(dumped, fresh);
    json_decref(value);
    free(now);
    free(again);
    free(fresh);
    free(dumped);
}

static void expect_all_fresh(void) {
    expect_fresh(JOBS, NULL);
    expect_fresh(JOBS, "limit=2");
    expect_fresh(JOBS, "metadata[k]=\xc3\xa9 \"");
    for (int i = 0; i < N; i++) {
        char *path = xasprintf(JOBS "/%s", ids[i]), *after = xasprintf("after=%s", ids[i]);
        expect_fresh(path, NULL);
        expect_fresh(JOBS, after);
        free(path);
        free(after);
    }
}

/* Keeps all there is to keep. */
static void show_all(void) {
    free(text_at(JOBS, NULL));
    for (int i = 0; i < N; i++) {
        char *path = xasprintf(JOBS "/%s", ids[i]);
        free(text_at(path, NULL));
        free(path);
    }
}

Test(job_texts, are_what_is_written_anew) {
    expect_all_fresh();
}

/* The model's file, which goes with it, is in its job's result_files. */
static void add_result_file(const char *job) {
    struct file_row f = {.id = "file-aaaaaaaaaaaaaaaaaaaaaaaa", .created_at = 1};
    f.project = xstrdup(project);
    f.filename = xstrdup("adapter_model.safetensors");
    f.purpose = xstrdup("fine-tune-results");
    f.sha256 = xstrdup("");
    f.path = xasprintf("jobs/%s/adapter/adapter_model.safetensors", job);
    cr_assert_eq(store_file_add(api.store, &f, NULL), ERR_OK);
    file_row_clear(&f);
}

/* Whether the text there is another one than before (taken over). */
static bool differs(char *before_take, const char *path) {
    char *now = text_at(path, NULL);
    bool other = strcmp(now, before_take) != 0;
    free(now);
    free(before_take);
    return other;
}

Test(job_texts, follow_every_change) {
    struct job_row j;
    json_t *data = json_pack("{s:{s:i}}", "training", "rows", 3);
    char *path = xasprintf(JOBS "/%s", ids[2]);
    add_result_file(ids[0]);
    show_all();
    char *list = text_at(JOBS, NULL), *one = text_at(path, NULL);
    cr_assert_eq(store_job_set_data(api.store, ids[2], data, NULL), ERR_OK);
    cr_expect(differs(one, path), "the data came");
    cr_assert_eq(store_job_get(api.store, "p", ids[0], &j, NULL), ERR_OK);
    char *model = xasprintf("/v1/models/%s", j.fine_tuned_model);
    json_decref(expect(send_request(HTTP_DELETE, model, NULL, NULL), 200));
    cr_expect(differs(list, JOBS), "the file went");
    list = text_at(JOBS, NULL);
    cr_assert_eq(store_job_move(api.store, ids[3], JOB_RUNNING, JOB_CANCELLED, 1, NULL, NULL),
                 ERR_OK);
    cr_expect(differs(list, JOBS), "a job ended");
    expect_all_fresh();
    job_row_clear(&j);
    json_decref(data);
    free(model);
    free(path);
}

Test(job_texts, of_another_project_are_not_shown) {
    char *path = xasprintf(JOBS "/%s", ids[0]);
    show_all();
    project = "q";
    expect_error(send_request(HTTP_GET, path, NULL, NULL), 404, "fine_tune_id");
    json_t *list = get(JOBS, NULL);
    cr_expect_eq(json_array_size(json_object_get(list, "data")), 0);
    json_decref(list);
    free(path);
}

/* ---- the texts alone ------------------------------------------------------------------------ */

Test(job_texts, take_no_more_room_than_they_may) {
    enum { JOBS_KEPT = 5000, MOST = 100 * 1024, LEN = 1000 };
    struct job_texts *t = job_texts_new(MOST);
    static char text[LEN];
    size_t len = 0, kept = 0;
    for (int64_t seq = 1; seq <= JOBS_KEPT; seq++) {
        memset(text, 'a' + (int)(seq % 26), LEN);
        job_texts_keep(t, seq, false, text, LEN);
        job_texts_keep(t, seq, true, text, 10);
        const char *found = job_texts_find(t, seq, false, &len);
        cr_assert_not_null(found);
        cr_assert_eq(len, LEN);
        cr_assert_eq(memcmp(found, text, LEN), 0);
    }
    for (int64_t seq = 1; seq <= JOBS_KEPT; seq++)
        for (int whole = 0; whole < 2; whole++)
            kept += job_texts_find(t, seq, whole, &len) != NULL ? len : 0;
    cr_expect_leq(kept, MOST);
    cr_expect_geq(kept, MOST / 2);
    job_texts_keep(t, 7, false, text, MOST);
    cr_expect_null(job_texts_find(t, 7, false, &len), "too large for its share");
    job_texts_free(t);
}

Test(job_texts, are_dropped_by_number) {
    struct job_texts *t = job_texts_new(1 << 20);
    size_t len = 0;
    for (int64_t seq = 1; seq < 4; seq++)
        for (int whole = 0; whole < 2; whole++)
            job_texts_keep(t, seq, whole, "x", 1);
    job_texts_drop(t, 2);
    cr_expect_null(job_texts_find(t, 2, false, &len));
    cr_expect_null(job_texts_find(t, 2, true, &len));
    cr_expect_not_null(job_texts_find(t, 1, true, &len));
    cr_expect_not_null(job_texts_find(t, 3, false, &len));
    /* Another job in the same place is another job. */
    cr_expect_null(job_texts_find(t, 1 + (1 << 16), false, &len));
    job_texts_drop(t, 1 + (1 << 16));
    cr_expect_not_null(job_texts_find(t, 1, false, &len));
    job_texts_free(t);
}
