/* publish: the job's folder, listed checkpoints, the adapter. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "engine/train/card.h"
#include "engine/train/report.h"
#include "engine/train/run.h"

#define RESULT_FILE "result.json"
#define ADAPTER_DIR "adapter" /* its name appears last: where it is, everything else is */

/* ---- OUT ------------------------------------------------------------------------------------ */

static enum err dir_is_empty(const char *dir, bool *empty, struct err_msg *em) {
    DIR *d = opendir(dir);
    if (d == NULL)
        return err_set_errno(em, errno, "cannot open folder %s", dir);
    *empty = true;
    for (struct dirent *entry; (entry = readdir(d)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            *empty = false;
    closedir(d);
    return ERR_OK;
}

static bool is_dir(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static enum err lock_out(struct run *r, struct err_msg *em) {
    const char *out = r->job->out_dir;
    r->lock = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->lock < 0)
        return err_set_errno(em, errno, "cannot open folder %s", out);
    if (flock(r->lock, LOCK_EX | LOCK_NB) != 0)
        return err_set(em, ERR_CONFLICT, "another process is training in %s", out);
    return ERR_OK;
}

enum err train_result(const char *out_dir, json_t **result, struct err_msg *em) {
    char *adapter = xasprintf("%s/" ADAPTER_DIR, out_dir);
    bool complete = is_dir(adapter);
    *result = NULL;
    free(adapter);
    if (!complete)
        return ERR_OK;
    char *path = xasprintf("%s/" RESULT_FILE, out_dir);
    char *text = NULL;
    enum err e = file_read(path, LIMIT_PIPE_LINE, &text, NULL, em);
    if (e == ERR_OK)
        *result = json_loads(text, 0, NULL);
    if (e == ERR_OK && *result == NULL)
        e = err_set(em, ERR_INPUT, "%s is not JSON", path);
    free(text);
    free(path);
    return e;
}

enum err run_claim_out(struct run *r, json_t **result, struct err_msg *em) {
    const char *out = r->job->out_dir;
    bool empty = true;
    *result = NULL;
    r->resume_dir = xasprintf("%s/resume", out);
    r->adapter_dir = xasprintf("%s/" ADAPTER_DIR, out);
    enum err e = file_make_dirs(out, em);
    if (e == ERR_OK)
        e = lock_out(r, em);
    if (e == ERR_OK)
        e = dir_is_empty(out, &empty, em);
    if (e != ERR_OK)
        return e;
    if (!empty && !r->job->resume)
        return err_set(em, ERR_USAGE,
                       "%s is not empty: --resume goes on with the job in it; for a new job choose "
                       "another folder",
                       out);
    return train_result(out, result, em);
}

/* ---- folders that appear whole -------------------------------------------------------------- */

/* An empty folder beside dir, to be filled and renamed to it. The caller frees. */
static char *temp_of(const char *dir, enum err *e, struct err_msg *em) {
    char *temp = xasprintf("%s.tmp-new", dir);
    *e = file_remove_tree(temp, em);
    if (*e == ERR_OK)
        *e = file_make_dirs(temp, em);
    return temp;
}

/* Renames temp to dir (replacing it) or, after an error, removes it. Frees temp. */
static enum err settle(char *temp, const char *dir, enum err e, struct err_msg *em) {
    if (e == ERR_OK)
        e = file_remove_tree(dir, em);
    if (e == ERR_OK)
        e = file_rename_dir(temp, dir, em);
    if (e != ERR_OK && file_remove_tree(temp, em) != ERR_OK) {
        /* em keeps the first error; the folder is removed before it is used again */
    }
    free(temp);
    return e;
}

static char *checkpoint_dir(const struct run *r) {
    return xasprintf("%s/checkpoints/step-%lld", r->job->out_dir, (long long)r->state.step);
}

bool run_has_checkpoint(const struct run *r) {
    char *dir = checkpoint_dir(r);
    bool has = is_dir(dir);
    free(dir);
    return has;
}

/* Into dir, which exists. */
static enum err save_adapter(struct run *r, const char *dir, struct err_msg *em) {
    average_show(&r->average);
    enum err e = adapter_save(r->adapter, dir, r->job->model_name, em);
    average_hide(&r->average);
    return e;
}

enum err run_write_checkpoint(struct run *r, struct err_msg *em) {
    long long step = (long long)r->state.step;
    char *dir = checkpoint_dir(r);
    enum err e;
    char *temp = temp_of(dir, &e, em);
    if (e == ERR_OK)
        e = save_adapter(r, temp, em);
    e = settle(temp, dir, e, em);
    if (e == ERR_OK)
        report_message(r->hooks, EVENT_INFO,
                       json_pack("{sIsoso}", "step", (json_int_t)step, "checkpoint",
                                 json_sprintf("checkpoints/step-%lld", step), "metrics",
                                 report_checkpoint_metrics(&r->state)),
                       "Checkpoint created at step %lld", step);
    free(dir);
    return e;
}

static enum err write_card(struct run *r, const char *dir, struct err_msg *em) {
    const struct card c = {
        .model_name = r->job->model_name,
        .request = r->job->request,
        .plan = &r->plan,
        .lora = adapter_options(r->adapter),
        .train = &r->train_report,
        .valid = r->valid != NULL ? &r->valid_report : NULL,
        .state = &r->state,
        .device = r->device.kind,
        .dtype = dtype_name(model_dtype(r->job->model)),
        .fast_forward = r->ff.direction != NULL,
        .max_seq_len = r->max_seq_len,
        .seed = r->seed,
    };
    char *path = xasprintf("%s/README.md", dir);
    enum err e = card_write(&c, path, em);
    free(path);
    return e;
}

static enum err copy_metrics(struct run *r, const char *dir, struct err_msg *em) {
    char *path = xasprintf("%s/metrics.csv", dir);
    enum err e = metrics_copy(&r->metrics, path, em);
    free(path);
    return e;
}

static enum err write_result(struct run *r, const json_t *result, struct err_msg *em) {
    char *path = xasprintf("%s/" RESULT_FILE, r->job->out_dir);
    char *text = json_dumps(result, JSON_INDENT(1));
    enum err e = file_write(path, text, strlen(text), em);
    free(text);
    free(path);
    return e;
}

enum err run_publish(struct run *r, json_t **result, struct err_msg *em) {
    r->state.seconds = run_seconds(r);
    *result = report_result(&r->state, r->adapter_dir);
    enum err e;
    char *temp = temp_of(r->adapter_dir, &e, em);
    if (e == ERR_OK)
        e = save_adapter(r, temp, em);
    if (e == ERR_OK)
        e = write_card(r, temp, em);
    if (e == ERR_OK)
        e = copy_metrics(r, temp, em);
    if (e == ERR_OK)
        e = write_result(r, *result, em);
    e = settle(temp, r->adapter_dir, e, em);
    if (e != ERR_OK) {
        json_decref(*result);
        *result = NULL;
    }
    return e;
}
