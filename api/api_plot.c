/* api_plot: a job's losses, stages and learning rate as a picture.
 *
 * The file may be long: it is read away from the loop thread. */
#include "api/api_internal.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/plot.h"

struct plot_work {
    struct api_work work; /* first */
    char *csv, *title;
    struct buf svg;
    enum err e;
    struct err_msg em;
};

static void run(struct api_work *work) {
    struct plot_work *w = (struct plot_work *)work;
    struct curve *c = xmalloc(sizeof *c);
    w->e = curve_read(w->csv, &work->stop, c, &w->em);
    if (w->e == ERR_NOT_FOUND) { /* no step was made yet: an empty picture */
        err_clear(&w->em);
        w->e = ERR_OK;
    }
    if (w->e == ERR_OK)
        w->e = plot_svg(c, w->title, &w->svg, &w->em);
    free(c);
}

static void done(struct api *api, struct api_work *work, struct api_response *resp) {
    struct plot_work *w = (struct plot_work *)work;
    (void)api;
    if (w->e == ERR_OK) {
        resp->status = 200;
        resp->kind = API_BODY_TEXT;
        resp->content_type = "image/svg+xml";
        resp->text = buf_take(&w->svg);
    } else if (w->e == ERR_STOPPED) {
        api_error(resp, 503, "shutting_down", NULL,
                  "The server is shutting down; try again in a moment.");
    } else {
        api_error_from(resp, &w->em);
    }
    buf_clear(&w->svg);
    free(w->csv);
    free(w->title);
    free(w);
}

API_HANDLER(api__jobs_plot) {
    struct job_row job;
    if (!api__job(api, req, params->value[0], &job, resp))
        return;
    struct plot_work *w = xcalloc(1, sizeof *w);
    char *dir = blobs_job_dir(api->config->data_dir, job.id);
    w->work.run = run;
    w->work.done = done;
    w->e = ERR_STOPPED; /* unless it runs */
    w->csv = curve_file(dir);
    w->title = xasprintf("%s on %s: %s", job.id, job.model, job_status_name(job.status));
    buf_init(&w->svg, PLOT_BYTES);
    resp->work = &w->work;
    free(dir);
    job_row_clear(&job);
}
