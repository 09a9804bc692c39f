/* api_adapter: the trained adapter of a job, whole or file by file. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"

static const struct {
    const char *name, *content_type;
} files[] = {
    {"adapter_model.safetensors", "application/octet-stream"},
    {"adapter_config.json", "application/json"},
    {"README.md", "text/markdown; charset=utf-8"},
    {"metrics.csv", "text/csv; charset=utf-8"},
};

/* The adapter's folder, or NULL with *resp filled. */
static char *adapter_dir(struct api *api, const struct api_request *req, const char *job_id,
                         struct api_response *resp) {
    struct job_row job;
    if (!api__job(api, req, job_id, &job, resp))
        return NULL;
    char *folder = NULL;
    if (job.status != JOB_SUCCEEDED) {
        api_error(resp, 404, "adapter_not_found", NULL,
                  "Job %s has no adapter: it is %s; one is there when it has succeeded.", job.id,
                  job_status_name(job.status));
    } else {
        char *dir = blobs_job_dir(api->config->data_dir, job.id);
        folder = xasprintf("%s/adapter", dir);
        free(dir);
    }
    job_row_clear(&job);
    return folder;
}

/* Changes with the content: an adapter is written once, by rename. NULL: not a regular file. */
static char *etag_of(const char *path, const char *kind) {
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return NULL;
    return xasprintf("\"%s%llx-%llx.%lx\"", kind, (unsigned long long)st.st_size,
                     (unsigned long long)st.st_mtim.tv_sec, (unsigned long)st.st_mtim.tv_nsec);
}

API_HANDLER(api__adapter_tar) {
    char *folder = adapter_dir(api, req, params->value[0], resp);
    if (folder == NULL)
        return;
    char *weights = xasprintf("%s/%s", folder, files[0].name);
    char *etag = etag_of(weights, "tar-");
    free(weights);
    if (etag == NULL) {
        api_error(resp, 404, "adapter_not_found", NULL, "The adapter of job %s was removed.",
                  params->value[0]);
        free(folder);
        return;
    }
    resp->status = 200;
    resp->kind = API_BODY_TAR;
    resp->content_type = "application/x-tar";
    resp->path = folder;
    resp->filename = xasprintf("%s.tar", params->value[0]);
    resp->etag = etag;
}

API_HANDLER(api__adapter_file) {
    const char *name = params->value[1], *content_type = NULL;
    char *folder = adapter_dir(api, req, params->value[0], resp);
    if (folder == NULL)
        return;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (strcmp(files[i].name, name) == 0)
            content_type = files[i].content_type;
    char *path = xasprintf("%s/%s", folder, name);
    char *etag = content_type != NULL ? etag_of(path, "") : NULL;
    free(folder);
    if (etag == NULL) {
        api_error(resp, 404, "file_not_found", "file", "The adapter has no file %s.", name);
        free(path);
        return;
    }
    resp->status = 200;
    resp->kind = API_BODY_FILE;
    resp->content_type = content_type;
    resp->path = path;
    resp->filename = xstrdup(name);
    resp->etag = etag;
}
