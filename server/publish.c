/* publish: the files of a job that succeeded, as files a client can fetch. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "server/scheduler_internal.h"

#define METRICS "metrics.csv"
#define MAX_FILES 64

/* Table first: it is what a client of this API expects in result_files. */
static int by_name(const void *a, const void *b) {
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    bool xm = strcmp(x, METRICS) == 0, ym = strcmp(y, METRICS) == 0;
    return xm != ym ? (xm ? -1 : 1) : strcmp(x, y);
}

static enum err list_files(const char *folder, char *names[MAX_FILES], int *n, struct err_msg *em) {
    DIR *d = opendir(folder);
    if (d == NULL)
        return err_set_errno(em, errno, "the job left no adapter");
    for (struct dirent *entry; (entry = readdir(d)) != NULL && *n < MAX_FILES;) {
        char *path = xasprintf("%s/%s", folder, entry->d_name);
        if (file_size(path) >= 0 && strstr(entry->d_name, ".tmp-") == NULL)
            names[(*n)++] = xstrdup(entry->d_name);
        free(path);
    }
    closedir(d);
    qsort(names, (size_t)*n, sizeof names[0], by_name);
    return ERR_OK;
}

static enum err add_file(struct scheduler *sc, const struct job_row *job, const char *folder,
                         char *name, json_t *ids, struct err_msg *em) {
    struct file_row f = {.project = job->project,
                         .filename = name,
                         .purpose = (char *)(uintptr_t) "fine-tune-results",
                         .created_at = clock_unix()};
    char sha256[SHA256_HEX_SIZE];
    char *path = xasprintf("%s/%s", folder, name);
    f.path = xasprintf("jobs/%s/adapter/%s", job->id, name);
    f.sha256 = sha256;
    f.bytes = file_size(path);
    store_new_id("file-", f.id);
    enum err e = sha256_file(path, sha256, em);
    if (e == ERR_OK)
        e = store_file_add(sc->server->store, &f, em);
    if (e == ERR_OK)
        (void)json_array_append_new(ids, json_string(f.id));
    free(f.path);
    free(path);
    return e;
}

enum err scheduler__publish(struct scheduler *sc, const struct job_row *job, json_t **ids,
                            struct err_msg *em) {
    char *names[MAX_FILES];
    int n = 0;
    char *out = blobs_job_dir(sc->server->config->data_dir, job->id);
    char *folder = xasprintf("%s/adapter", out != NULL ? out : "");
    *ids = json_array();
    enum err e = list_files(folder, names, &n, em);
    if (e == ERR_OK && n == 0)
        e = err_set(em, ERR_NOT_FOUND, "the job left no adapter");
    for (int i = 0; i < n; i++) {
        if (e == ERR_OK)
            e = add_file(sc, job, folder, names[i], *ids, em);
        free(names[i]);
    }
    free(folder);
    free(out);
    return e;
}
