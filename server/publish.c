/* publish: the files of a job that succeeded, as files a client can fetch.
 *
 * Their hashes are computed on one of libuv's threads: an adapter may be large. */
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

struct result_files {
    uv_work_t thread;
    struct scheduler *scheduler;
    char *folder;
    bool ready;
    enum err result;
    struct err_msg em;
    int n;
    char *names[MAX_FILES];
    int64_t bytes[MAX_FILES];
    char sha256[MAX_FILES][SHA256_HEX_SIZE];
};

/* Table first: it is what a client of this API expects in result_files. */
static int by_name(const void *a, const void *b) {
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    bool xm = strcmp(x, METRICS) == 0, ym = strcmp(y, METRICS) == 0;
    return xm != ym ? (xm ? -1 : 1) : strcmp(x, y);
}

/* ---- on the thread -------------------------------------------------------------------------- */

static enum err list_files(struct result_files *f) {
    DIR *d = file_open_folder(f->folder);
    if (d == NULL)
        return err_set_errno(&f->em, errno, "the job left no adapter");
    for (struct dirent *entry; (entry = readdir(d)) != NULL && f->n < MAX_FILES;) {
        char *path = xasprintf("%s/%s", f->folder, entry->d_name);
        if (file_size(path) >= 0 && strstr(entry->d_name, ".tmp-") == NULL)
            f->names[f->n++] = xstrdup(entry->d_name);
        free(path);
    }
    closedir(d);
    qsort(f->names, (size_t)f->n, sizeof f->names[0], by_name);
    return f->n > 0 ? ERR_OK : err_set(&f->em, ERR_NOT_FOUND, "the job left no adapter");
}

static void hash(uv_work_t *thread) {
    struct result_files *f = thread->data;
    f->result = list_files(f);
    for (int i = 0; f->result == ERR_OK && i < f->n; i++) {
        char *path = xasprintf("%s/%s", f->folder, f->names[i]);
        f->bytes[i] = file_size(path);
        f->result = sha256_file(path, f->sha256[i], &f->em);
        free(path);
    }
}

/* ---- on the loop ---------------------------------------------------------------------------- */

static void hashed(uv_work_t *thread, int status) {
    struct result_files *f = thread->data;
    (void)status;
    f->ready = true;
    scheduler_wake(f->scheduler);
}

void scheduler__forget_files(struct scheduler *sc) {
    struct result_files *f = sc->running.files;
    sc->running.files = NULL;
    if (f == NULL)
        return;
    for (int i = 0; i < f->n; i++)
        free(f->names[i]);
    free(f->folder);
    free(f);
}

bool scheduler__files_ready(struct scheduler *sc) {
    const char *status = json_string_value(json_object_get(sc->running.done, "status"));
    struct result_files *f = sc->running.files;
    if (f != NULL || status == NULL || strcmp(status, "succeeded") != 0)
        return f == NULL || f->ready;
    char *out = blobs_job_dir(sc->server->config->data_dir, sc->running.id);
    f = sc->running.files = xcalloc(1, sizeof *f);
    f->scheduler = sc;
    f->thread.data = f;
    f->folder = xasprintf("%s/adapter", out != NULL ? out : "");
    free(out);
    if (uv_queue_work(&sc->server->loop, &f->thread, hash, hashed) == 0)
        return false;
    scheduler__forget_files(sc);
    return false;
}

static enum err add_file(struct scheduler *sc, const struct job_row *job, int i, json_t *ids,
                         struct err_msg *em) {
    struct result_files *files = sc->running.files;
    struct file_row f = {.project = job->project,
                         .filename = files->names[i],
                         .purpose = (char *)(uintptr_t) "fine-tune-results",
                         .sha256 = files->sha256[i],
                         .bytes = files->bytes[i],
                         .created_at = clock_unix()};
    f.path = xasprintf("jobs/%s/adapter/%s", job->id, f.filename);
    store_new_id("file-", f.id);
    enum err e = store_file_add(sc->server->store, &f, em);
    if (e == ERR_OK)
        (void)json_array_append_new(ids, json_string(f.id));
    free(f.path);
    return e;
}

enum err scheduler__publish(struct scheduler *sc, const struct job_row *job, json_t **ids,
                            struct err_msg *em) {
    const struct result_files *f = sc->running.files;
    *ids = json_array();
    enum err e = f->result;
    if (e != ERR_OK) {
        *em = f->em;
        scheduler__forget_files(sc); /* another look the next time */
        return e;
    }
    for (int i = 0; e == ERR_OK && i < f->n; i++)
        e = add_file(sc, job, i, *ids, em);
    return e;
}
