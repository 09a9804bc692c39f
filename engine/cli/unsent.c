/* unsent: the last metrics events of a job, for a server that may not have read them. */
#include "engine/cli/unsent.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

#define KEPT 256 /* more than a pipe holds unread */

static char *path_of(const char *out_dir) {
    return xasprintf("%s/resume/unsent.json", out_dir);
}

void unsent_note(struct unsent *u, const struct event *ev) {
    if (ev->type != EVENT_METRICS)
        return;
    if (u->events == NULL)
        u->events = json_array();
    if (json_array_size(u->events) == KEPT)
        (void)json_array_remove(u->events, 0);
    (void)json_array_append_new(u->events, event_to_json(ev, NULL));
}

void unsent_save(const struct unsent *u, const char *out_dir) {
    struct err_msg em = ERR_MSG_INIT;
    char *text = u->events != NULL ? json_dumps(u->events, JSON_COMPACT) : NULL;
    if (text == NULL)
        return;
    char *path = path_of(out_dir);
    if (file_write(path, text, strlen(text), &em) != ERR_OK)
        log_warn("worker.unsent", "error=\"%s\"", em.text);
    free(path);
    free(text);
}

void unsent_load(struct unsent *u, const char *out_dir) {
    char *path = path_of(out_dir);
    char *text = NULL;
    size_t n = 0;
    json_t *events = NULL;
    if (access(path, F_OK) == 0 && file_read(path, LIMIT_PIPE_LINE, &text, &n, NULL) == ERR_OK)
        events = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    free(path);
    unsent_clear(u);
    if (json_is_array(events))
        u->events = events;
    else
        json_decref(events);
}

void unsent_clear(struct unsent *u) {
    json_decref(u->events);
    u->events = NULL;
}
