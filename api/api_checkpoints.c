/* api_checkpoints: /v1/fine_tuning/jobs/{id}/checkpoints, read from the job's folder. */
#include "api/api_internal.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"

#define STEP_PREFIX "step-"
#define WEIGHTS "adapter_model.safetensors"

struct checkpoint {
    int64_t step, created_at;
};

/* "ftckpt_", 16 characters of the job's id and the step: found again without being stored. */
static void checkpoint_id(const struct job_row *job, int64_t step, char id[STORE_ID_SIZE]) {
    (void)snprintf(id, STORE_ID_SIZE, "ftckpt_%.16s%08lld", job->id + strlen("ftjob-"),
                   (long long)step);
}

static int newest_first(const void *a, const void *b) {
    const struct checkpoint *x = a, *y = b;
    return (x->step < y->step) - (x->step > y->step);
}

/* Folders step-N that hold an adapter, newest first. New array. */
static struct checkpoint *scan(const char *folder, int *n) {
    struct checkpoint *out = NULL;
    DIR *d = opendir(folder);
    *n = 0;
    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
        struct stat st;
        int64_t step = 0;
        if (strncmp(entry->d_name, STEP_PREFIX, strlen(STEP_PREFIX)) != 0 ||
            !api__integer(entry->d_name + strlen(STEP_PREFIX), 0, INT32_MAX, &step))
            continue;
        char *weights = xasprintf("%s/%s/" WEIGHTS, folder, entry->d_name);
        if (stat(weights, &st) == 0) {
            out = xreallocarray(out, (size_t)*n + 1, sizeof *out);
            out[(*n)++] = (struct checkpoint){.step = step, .created_at = st.st_mtim.tv_sec};
        }
        free(weights);
    }
    if (d != NULL)
        closedir(d);
    if (*n > 0)
        qsort(out, (size_t)*n, sizeof *out, newest_first);
    return out;
}

static bool read_metrics(void *arg, const struct event_row *row) {
    static const char *const names[] = {"train_loss",      "train_mean_token_accuracy",
                                        "valid_loss",      "valid_mean_token_accuracy",
                                        "full_valid_loss", "full_valid_mean_token_accuracy"};
    enum { N = sizeof names / sizeof names[0] };
    struct json_part of[N];
    json_parts(json_part_of(row->line, "data").at, names, N, of);
    for (int i = 0; i < N; i++)
        if (json_part_kind(of[i]) == '0')
            json_object_set_new(arg, names[i],
                                json_loadb(of[i].at, of[i].len, JSON_DECODE_ANY, NULL));
    return true;
}

/* What the events of a step measured, as far as they can be read. */
static json_t *metrics_json(struct api *api, const char *job_id, int64_t step) {
    struct err_msg ignored = ERR_MSG_INIT;
    json_t *o = json_object();
    json_object_set_new(o, "step", json_integer(step));
    enum err e = store_event_at_step(api->store, job_id, step, read_metrics, o, &ignored);
    (void)e;
    return o;
}

static json_t *checkpoint_json(struct api *api, const struct job_row *job,
                               const struct checkpoint *c) {
    char id[STORE_ID_SIZE];
    checkpoint_id(job, c->step, id);
    char *model = api_fine_tuned_model_name(job);
    char *name = xasprintf("%s" API_CHECKPOINT_MARK "%lld", model, (long long)c->step);
    json_t *o = json_object();
    json_object_set_new(o, "object", json_string("fine_tuning.job.checkpoint"));
    json_object_set_new(o, "id", json_string(id));
    json_object_set_new(o, "created_at", json_integer(c->created_at));
    json_object_set_new(o, "fine_tuned_model_checkpoint", api__string(name));
    json_object_set_new(o, "fine_tuning_job_id", json_string(job->id));
    json_object_set_new(o, "step_number", json_integer(c->step));
    json_object_set_new(o, "metrics", metrics_json(api, job->id, c->step));
    free(name);
    free(model);
    return o;
}

/* Index to start from; -1 for an unknown `after`. */
static int start_of(const struct job_row *job, const struct checkpoint *all, int n,
                    const char *after) {
    char id[STORE_ID_SIZE];
    for (int i = 0; after != NULL && i < n; i++) {
        checkpoint_id(job, all[i].step, id);
        if (strcmp(id, after) == 0)
            return i + 1;
    }
    return after == NULL ? 0 : -1;
}

API_HANDLER(api__checkpoints_list) {
    struct job_row job;
    struct page page;
    int n = 0;
    if (!api__page(req, 10, &page, resp) || !api__job(api, req, params->value[0], &job, resp))
        return;
    char *dir = blobs_job_dir(api->config->data_dir, job.id);
    char *folder = xasprintf("%s/checkpoints", dir);
    struct checkpoint *all = scan(folder, &n);
    int from = start_of(&job, all, n, page.after);
    if (from < 0) {
        api_error(resp, 404, NULL, "after", "job %s has no checkpoint %s", job.id, page.after);
    } else {
        int64_t end = from + page.limit < n ? from + page.limit : n;
        json_t *data = json_array();
        for (int64_t i = from; i < end; i++)
            json_array_append_new(data, checkpoint_json(api, &job, &all[i]));
        api__ok(resp, api__list(data, end < n, json_null()));
    }
    free(all);
    free(folder);
    free(dir);
    job_row_clear(&job);
}
