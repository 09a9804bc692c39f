/* store_resume: the resume points of jobs that have ended, which nobody goes on from.
 *
 * They hold an adapter three times over, and its moments, so of many jobs they would be most of
 * what DATA holds. They go after the commit that ends a job; what a crash between the two leaves
 * goes at the next start. The metrics beside them, which a job without an adapter has nowhere else,
 * move to the job's own folder: its plot is drawn from them. */
#include "storage/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "storage/blobs.h"
#include "storage/trash.h"

/* NULL: id is not a job's. */
static char *folder_of(const struct store *s, const char *job_id) {
    char *job = blobs_job_dir(s->dir, job_id);
    char *folder = job != NULL ? xasprintf("%s/resume", job) : NULL;
    free(job);
    return folder;
}

/* From the folder of resume points to the one above it. */
static enum err keep_metrics(const char *folder, struct err_msg *em) {
    char *from = xasprintf("%s/metrics.csv", folder), *to = xasprintf("%s/../metrics.csv", folder);
    enum err e = ERR_OK;
    if (rename(from, to) != 0 && errno != ENOENT)
        e = err_set_errno(em, errno, "cannot move %s", from);
    free(from);
    free(to);
    return e;
}

static enum err drop(struct store *s, const char *job_id, struct err_msg *em) {
    int64_t status = 0;
    enum err e =
        store__integer(s, em, &status, "SELECT status FROM jobs WHERE id = ?1", "s", job_id);
    if (e == ERR_NOT_FOUND || (e == ERR_OK && !job_status_ended((enum job_status)status)))
        return ERR_OK;
    char *folder = e == ERR_OK ? folder_of(s, job_id) : NULL;
    if (folder != NULL && status != JOB_SUCCEEDED)
        e = keep_metrics(folder, em);
    if (folder != NULL && e == ERR_OK)
        e = trash_put(s->dir, folder, em);
    free(folder);
    return e;
}

void store_resume_drop(struct store *s, const char *job_id) {
    struct err_msg em = ERR_MSG_INIT;
    if (s->depth == 0 && drop(s, job_id, &em) != ERR_OK)
        log_warn("job.resume_points", "id=%s error=%s", job_id, em.text);
}

enum err store_resume_sweep(struct store *s, struct err_msg *em) {
    char *jobs = xasprintf("%s/jobs", s->dir);
    enum err e = ERR_OK;
    DIR *d = opendir(jobs);
    if (d == NULL && errno != ENOENT)
        e = err_set_errno(em, errno, "cannot open folder %s", jobs);
    for (struct dirent *entry; d != NULL && e == ERR_OK && (entry = readdir(d)) != NULL;) {
        char *folder = folder_of(s, entry->d_name);
        if (folder != NULL && access(folder, F_OK) == 0)
            e = drop(s, entry->d_name, em);
        free(folder);
    }
    if (d != NULL)
        closedir(d);
    free(jobs);
    return e;
}
