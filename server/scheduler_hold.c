/* scheduler_hold: waiting for what is no job's fault: a training process or a check that does not
 * start, a folder of models that is gone. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/model_roots.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/scheduler_internal.h"

#define SHORTEST_HOLD 0.25 /* seconds between tries */
#define LONGEST_HOLD 60.0

double scheduler__pause(const struct scheduler *sc, int64_t count) {
    double seconds = (double)sc->server->config->limits.retry_seconds;
    for (int64_t i = 1; i < count && seconds < LONGEST_HOLD; i++)
        seconds *= 2;
    return seconds < LONGEST_HOLD ? seconds : LONGEST_HOLD;
}

static const char *const reasons[HOLDS] = {
    [HOLD_WORKER] = "the training process does not start",
    [HOLD_CHECKS] = "the process that checks files does not start",
    [HOLD_MODELS] = "a folder of models is gone",
};

const char *scheduler__why_held(const struct scheduler *sc) {
    for (int i = 0; i < HOLDS; i++)
        if (sc->holds[i].told)
            return reasons[i];
    return NULL;
}

static void tell_job(struct scheduler *sc, enum hold_kind kind, const char *job_id) {
    struct err_msg em = ERR_MSG_INIT;
    char *text = xasprintf("The queue waits: %s; the job stays in it", reasons[kind]);
    if (scheduler__event(sc, job_id, EVENT_WARN, text, &em) == ERR_OK)
        scheduler__wake_readers(sc, job_id);
    else
        scheduler__failed(sc, em.code, &em, "queue.held");
    free(text);
}

void scheduler__hold(struct scheduler *sc, enum hold_kind kind, const char *detail,
                     const char *job_id) {
    struct hold *h = &sc->holds[kind];
    int64_t bound = kind == HOLD_WORKER ? sc->server->config->limits.attempts : 1;
    double seconds = scheduler__pause(sc, ++h->times);
    seconds = seconds > SHORTEST_HOLD ? seconds : SHORTEST_HOLD;
    h->until = clock_mono() + seconds;
    log_warn("queue.wait", "reason=\"%s\" detail=\"%s\" times=%lld next_try_seconds=%.2f",
             reasons[kind], detail, (long long)h->times, seconds);
    if (h->times < bound || h->told)
        return;
    h->told = true;
    sc->server->api.not_ready = scheduler__why_held(sc);
    log_error("queue.held", "reason=\"%s\" detail=\"%s\" jobs stay queued", reasons[kind], detail);
    if (job_id != NULL)
        tell_job(sc, kind, job_id);
}

void scheduler__release(struct scheduler *sc, enum hold_kind kind) {
    bool told = sc->holds[kind].told;
    sc->holds[kind] = (struct hold){0};
    if (!told)
        return;
    sc->server->api.not_ready = scheduler__why_held(sc);
    log_info("queue.released", "reason=\"%s\" is over", reasons[kind]);
}

bool scheduler__holds(const struct scheduler *sc, enum hold_kind kind) {
    return clock_mono() < sc->holds[kind].until;
}

void scheduler__start_failed(struct scheduler *sc, const char *detail) {
    struct job_row next = {0};
    bool waits = store_job_next_queued(sc->server->store, &next, NULL) == ERR_OK;
    scheduler__hold(sc, HOLD_WORKER, detail, waits ? next.id : NULL);
    job_row_clear(&next);
}

/* ---- folders of models ---------------------------------------------------------------------- */

void scheduler__note_root(struct scheduler *sc, const char *model_dir) {
    char *const *roots = sc->server->config->model_roots;
    int n = 0;
    while (roots[n] != NULL)
        n++;
    if (sc->roots_used == NULL)
        sc->roots_used = xcalloc((size_t)n + 1, sizeof *sc->roots_used);
    for (int i = 0; i < n; i++) {
        size_t len = strlen(roots[i]);
        if (strncmp(model_dir, roots[i], len) == 0 && model_dir[len] == '/')
            sc->roots_used[i] = true;
    }
}

static bool has_models(char *root) {
    const char *const roots[2] = {root, NULL};
    struct model_entry *entries = NULL;
    int n = 0;
    model_roots_list(roots, &entries, &n);
    model_roots_free(entries, n);
    return n > 0;
}

static bool can_be_read(const char *folder) {
    DIR *d = opendir(folder);
    if (d == NULL)
        return false;
    closedir(d);
    return true;
}

/* A disk that is not mounted is a folder that is missing, or an empty one. An empty root is no
 * sign of that if others have models and none of it was ever used. */
const char *scheduler__root_gone(const struct scheduler *sc) {
    char *const *roots = sc->server->config->model_roots;
    const char *gone = NULL;
    bool any = false;
    for (int i = 0; roots[i] != NULL; i++) {
        bool used = sc->roots_used != NULL && sc->roots_used[i];
        if (has_models(roots[i]))
            any = true;
        else if (used || !can_be_read(roots[i]))
            gone = roots[i];
    }
    return any ? gone : roots[0];
}

void scheduler__look_for_models(struct scheduler *sc) {
    if (sc->holds[HOLD_MODELS].times == 0 || scheduler__holds(sc, HOLD_MODELS))
        return;
    const char *gone = scheduler__root_gone(sc);
    if (gone != NULL)
        scheduler__hold(sc, HOLD_MODELS, gone, NULL);
    else
        scheduler__release(sc, HOLD_MODELS);
}
