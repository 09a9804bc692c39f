/* streams: jobs' events as server-sent events. */
#include "server/streams.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/http.h"
#include "server/request.h"
#include "server/server.h"
#include "storage/store.h"

#define BLOCK 16384   /* bytes handed to libmicrohttpd at once */
#define PAGE 64       /* events read at once */
#define ENOUGH 262144 /* bytes of a page after which no event is added */
#define OUT_MAX (8u << 20)
#define TICK_MS 1000

struct stream {
    struct stream *prev, *next;
    struct streams *all;
    struct MHD_Connection *mhd;
    char job_id[STORE_ID_SIZE];
    char *project;
    int64_t after_seq;
    struct buf out;
    size_t sent; /* of out */
    double last; /* when something was last given to the client */
    bool suspended, heartbeat, ended;
};

struct streams {
    struct server *server;
    struct stream *first;
    int count;
    bool closing;
    uv_timer_t timer;
};

static bool add_event(struct stream *st, const struct event_row *row) {
    json_t *object = event_to_json(&row->event, row->id);
    char *line = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    bool fits = line != NULL && buf_addf(&st->out, "id: %s\ndata: %s\n\n", row->id, line) == ERR_OK;
    free(line);
    return fits;
}

/* Events after the cursor. *n: how many there were. */
static enum err fill(struct stream *st, int *n, struct err_msg *em) {
    struct event_row *rows = NULL;
    enum err e =
        store_event_after(st->all->server->store, st->job_id, st->after_seq, PAGE, &rows, n, em);
    if (e != ERR_OK)
        return e;
    bool room = true;
    for (int i = 0; i < *n; i++) {
        if (room && (st->out.len == 0 || st->out.len < ENOUGH)) {
            if (add_event(st, &rows[i]))
                st->after_seq = rows[i].seq;
            else
                room = false;
        } else {
            room = false;
        }
        event_row_clear(&rows[i]);
    }
    free(rows);
    if (*n > 0 && st->out.len == 0)
        return err_set(em, ERR_LIMIT, "an event is larger than a stream's buffer");
    return ERR_OK;
}

static enum err job_is_over(struct stream *st, bool *over, struct err_msg *em) {
    struct job_row job;
    enum err e = store_job_get(st->all->server->store, NULL, st->job_id, &job, em);
    if (e != ERR_OK)
        return e;
    *over = job_status_ended(job.status);
    job_row_clear(&job);
    return ERR_OK;
}

/* Puts the next bytes into out; false: there is nothing to send now. */
static bool next_bytes(struct stream *st, struct err_msg *em) {
    int n = 0;
    bool over = false;
    if (fill(st, &n, em) != ERR_OK || n > 0)
        return true;
    if (job_is_over(st, &over, em) != ERR_OK)
        return true;
    if (over && buf_addf(&st->out, "data: [DONE]\n\n") == ERR_OK) {
        st->ended = true;
        return true;
    }
    if (st->heartbeat && buf_addf(&st->out, ":\n\n") == ERR_OK) {
        st->heartbeat = false;
        return true;
    }
    return false;
}

static ssize_t give(struct stream *st, char *out, size_t max) {
    size_t n = st->out.len - st->sent;
    n = n < max ? n : max;
    memcpy(out, st->out.data + st->sent, n);
    st->sent += n;
    st->last = clock_mono();
    return (ssize_t)n;
}

static ssize_t read_stream(void *cls, uint64_t pos, char *out, size_t max) {
    struct stream *st = cls;
    struct err_msg em = ERR_MSG_INIT;
    (void)pos;
    st->suspended = false;
    if (st->sent < st->out.len)
        return give(st, out, max);
    buf_reset(&st->out);
    st->sent = 0;
    if (st->ended || st->all->closing)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (next_bytes(st, &em)) {
        if (em.code == ERR_OK)
            return give(st, out, max);
        log_error("stream.read", "job=%s error=%s", st->job_id, em.text);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    st->suspended = true;
    MHD_suspend_connection(st->mhd);
    return 0;
}

static void free_stream(void *cls) {
    struct stream *st = cls;
    struct streams *all = st->all;
    if (st->prev != NULL)
        st->prev->next = st->next;
    else
        all->first = st->next;
    if (st->next != NULL)
        st->next->prev = st->prev;
    all->count--;
    buf_clear(&st->out);
    free(st->project);
    free(st);
}

static int count_of(const struct streams *all, const char *project) {
    int n = 0;
    for (const struct stream *st = all->first; st != NULL; st = st->next)
        n += strcmp(st->project, project) == 0;
    return n;
}

enum err streams_open(struct streams *all, struct request *r, const char *job_id, int64_t after_seq,
                      struct MHD_Response **out, struct err_msg *em) {
    const struct config_limits *limits = &all->server->config->limits;
    const char *project = r->project != NULL ? r->project : "default";
    if (all->count >= limits->streams || count_of(all, project) >= limits->streams_per_project)
        return err_set(em, ERR_LIMIT,
                       "Too many event streams are open; close one or read the events list.");
    struct stream *st = xcalloc(1, sizeof *st);
    st->all = all;
    st->mhd = r->mhd;
    st->after_seq = after_seq;
    st->project = xstrdup(project);
    st->last = clock_mono();
    memcpy(st->job_id, job_id, sizeof st->job_id);
    buf_init(&st->out, OUT_MAX);
    st->next = all->first;
    if (st->next != NULL)
        st->next->prev = st;
    all->first = st;
    all->count++;
    *out = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, st, free_stream);
    if (*out != NULL)
        return ERR_OK;
    free_stream(st);
    return err_set(em, ERR_NO_MEMORY, "no memory for another event stream");
}

static void resume(struct stream *st) {
    if (!st->suspended)
        return;
    st->suspended = false;
    MHD_resume_connection(st->mhd);
}

void streams_wake(struct streams *all, const char *job_id) {
    bool any = false;
    for (struct stream *st = all->first; st != NULL; st = st->next) {
        if (!st->suspended || strcmp(st->job_id, job_id) != 0)
            continue;
        resume(st);
        any = true;
    }
    if (any)
        http_wake(all->server->http);
}

/* A suspended connection that went away is only seen by writing to it. */
static void on_tick(uv_timer_t *timer) {
    struct streams *all = timer->data;
    double due = clock_mono() - (double)all->server->config->limits.stream_heartbeat_seconds;
    bool any = false;
    for (struct stream *st = all->first; st != NULL; st = st->next) {
        if (!st->suspended || st->last > due)
            continue;
        st->heartbeat = true;
        resume(st);
        any = true;
    }
    if (any)
        http_wake(all->server->http);
}

struct streams *streams_new(struct server *s) {
    struct streams *all = xcalloc(1, sizeof *all);
    all->server = s;
    (void)uv_timer_init(&s->loop, &all->timer);
    all->timer.data = all;
    (void)uv_timer_start(&all->timer, on_tick, TICK_MS, TICK_MS);
    return all;
}

int streams_count(const struct streams *all) {
    return all->count;
}

void streams_end(struct streams *all) {
    all->closing = true;
    for (struct stream *st = all->first; st != NULL; st = st->next)
        resume(st);
    if (all->first != NULL)
        http_wake(all->server->http);
}

void streams_close(struct streams *all) {
    uv_close((uv_handle_t *)&all->timer, NULL);
}

void streams_free(struct streams *all) {
    free(all);
}
