/* streams: jobs' events as server-sent events. */
#include "server/streams.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/connection.h"
#include "server/feed.h"
#include "server/http.h"
#include "server/request.h"
#include "server/server.h"

#define BLOCK 2048        /* bytes handed to a client of HTTP/1.0 at once */
#define SEND_BUFFER 65536 /* bytes that the kernel keeps for a reader that is behind */
#define AT_ONCE 128       /* readers resumed at one turn of the loop */
#define TICK_MS 100

static const char done[] = "data: [DONE]\n\n";
static const char beat[] = ":\n\n";

/* A ring of links; the head is one that belongs to no stream. */
struct link {
    struct link *prev, *next;
};

/* What the readers of one job share. */
struct topic {
    struct topic *prev, *next;
    struct feed feed;
    struct link waiting; /* suspended streams */
    int readers;
};

struct project {
    struct project *next;
    char *name;
    int streams;
};

enum state { SENDING, WAITING, READY };

struct stream {
    struct link link; /* in its topic's ring, or the ready one, or alone */
    struct link beat; /* in a slot of the wheel */
    enum state state;
    struct streams *all;
    struct topic *topic;
    struct project *project;
    struct request *request; /* while the answer is read */
    struct MHD_Connection *mhd;
    struct connection *connection;
    int64_t after_seq;
    struct feed_block *block; /* being sent, or NULL: */
    const char *text;         /* … a constant text, or NULL */
    size_t len, sent;
    double last; /* when something was last given to the client */
    bool heartbeat, ended, revoked;
    char key_id[STORE_ID_SIZE]; /* "": none was needed */
};

struct streams {
    struct server *server;
    struct topic *topics;
    struct project *projects;
    int count;
    bool closing;
    struct link ready; /* suspended streams that have something to do */
    uv_idle_t turn;    /* runs while there are any */
    uv_timer_t timer;
    struct link *wheel; /* streams by the tick of their heartbeat */
    size_t slots, slot, next_slot;
};

#define STREAM_OF(l, member)                                                                       \
    ((struct stream *)(void *)((char *)(l)-offsetof(struct stream, member)))

/* ---- rings ---------------------------------------------------------------------------------- */

static void ring_init(struct link *l) {
    l->prev = l->next = l;
}

static bool ring_is_empty(const struct link *head) {
    return head->next == head;
}

static void ring_remove(struct link *l) {
    l->prev->next = l->next;
    l->next->prev = l->prev;
    ring_init(l);
}

static void ring_add(struct link *head, struct link *l) {
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

/* ---- topics and projects -------------------------------------------------------------------- */

static struct topic *find_topic(struct streams *all, const char *job_id) {
    struct topic *t = all->topics;
    while (t != NULL && strcmp(t->feed.job_id, job_id) != 0)
        t = t->next;
    return t;
}

static struct topic *join_topic(struct streams *all, const char *job_id) {
    struct topic *t = find_topic(all, job_id);
    if (t == NULL) {
        t = xcalloc(1, sizeof *t);
        feed_init(&t->feed, all->server->store, job_id);
        ring_init(&t->waiting);
        t->next = all->topics;
        if (t->next != NULL)
            t->next->prev = t;
        all->topics = t;
    }
    t->readers++;
    return t;
}

static void leave_topic(struct streams *all, struct topic *t) {
    if (--t->readers > 0)
        return;
    if (t->prev != NULL)
        t->prev->next = t->next;
    else
        all->topics = t->next;
    if (t->next != NULL)
        t->next->prev = t->prev;
    feed_clear(&t->feed);
    free(t);
}

/* Projects are few and are kept. */
static struct project *find_project(struct streams *all, const char *name) {
    struct project *p = all->projects;
    while (p != NULL && strcmp(p->name, name) != 0)
        p = p->next;
    if (p != NULL)
        return p;
    p = xcalloc(1, sizeof *p);
    p->name = xstrdup(name);
    p->next = all->projects;
    all->projects = p;
    return p;
}

/* ---- reading -------------------------------------------------------------------------------- */

static void say(struct stream *st, const char *text, size_t len) {
    st->text = text;
    st->len = len;
    st->sent = 0;
}

/* Chooses what to send next; false: nothing now. */
static bool next_text(struct stream *st, struct err_msg *em) {
    bool over = false;
    enum err e = feed_next(&st->topic->feed, st->after_seq, &st->block, &over, em);
    if (e != ERR_OK)
        return true;
    if (st->block != NULL) {
        say(st, st->block->text, st->block->len);
        st->after_seq = st->block->last_seq;
    } else if (over) {
        say(st, done, sizeof done - 1);
        st->ended = true;
    } else if (st->heartbeat) {
        say(st, beat, sizeof beat - 1);
    } else {
        return false;
    }
    st->heartbeat = false;
    return true;
}

static ssize_t give(struct stream *st, char *out, size_t max) {
    size_t n = st->len - st->sent;
    n = n < max ? n : max;
    memcpy(out, st->text + st->sent, n);
    st->sent += n;
    st->request->bytes_out += (int64_t)n;
    st->last = clock_mono();
    return (ssize_t)n;
}

static ssize_t read_stream(void *cls, uint64_t pos, char *out, size_t max) {
    struct stream *st = cls;
    struct err_msg em = ERR_MSG_INIT;
    (void)pos;
    if (st->sent < st->len)
        return give(st, out, max);
    feed_block_release(st->block);
    st->block = NULL;
    st->len = st->sent = 0;
    if (st->ended || st->revoked || st->all->closing)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (next_text(st, &em)) {
        if (em.code == ERR_OK)
            return give(st, out, max);
        log_error("stream.read", "job=%s error=%s", st->topic->feed.job_id, em.text);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    st->state = WAITING;
    ring_add(&st->topic->waiting, &st->link);
    MHD_suspend_connection(st->mhd);
    return 0;
}

/* ---- waking --------------------------------------------------------------------------------- */

static void on_turn(uv_idle_t *turn) {
    struct streams *all = turn->data;
    for (int i = 0; i < AT_ONCE && !ring_is_empty(&all->ready); i++) {
        struct stream *st = STREAM_OF(all->ready.next, link);
        ring_remove(&st->link);
        st->state = SENDING;
        MHD_resume_connection(st->mhd);
    }
    if (ring_is_empty(&all->ready))
        (void)uv_idle_stop(turn);
    http_wake(all->server->http);
}

static void make_ready(struct stream *st) {
    if (st->state != WAITING)
        return;
    ring_remove(&st->link);
    ring_add(&st->all->ready, &st->link);
    st->state = READY;
    (void)uv_idle_start(&st->all->turn, on_turn);
}

static void wake_all(struct topic *t) {
    feed_changed(&t->feed);
    while (!ring_is_empty(&t->waiting))
        make_ready(STREAM_OF(t->waiting.next, link));
}

void streams_wake(struct streams *all, const char *job_id) {
    struct topic *t = find_topic(all, job_id);
    if (t != NULL)
        wake_all(t);
}

/* A suspended connection that went away is only seen by writing to it; one that is not suspended
 * has a client that does not read. */
static void visit(struct stream *st, double now) {
    double slow = (double)st->all->server->config->limits.reply_seconds;
    if (st->state == WAITING) {
        st->heartbeat = true;
        make_ready(st);
    } else if (st->state == SENDING && now - st->last > slow && st->connection != NULL) {
        log_info("stream.slow", "job=%s", st->topic->feed.job_id);
        connection_drop(st->connection);
        http_wake(st->all->server->http);
    }
}

/* Each stream is visited once an interval, at its own slot. */
static void on_tick(uv_timer_t *timer) {
    struct streams *all = timer->data;
    double now = clock_mono();
    all->slot = (all->slot + 1) % all->slots;
    if (all->slot == 0) /* should a wake have been missed, a heartbeat brings the events */
        for (struct topic *t = all->topics; t != NULL; t = t->next)
            feed_changed(&t->feed);
    struct link *head = &all->wheel[all->slot];
    for (struct link *l = head->next; l != head; l = l->next)
        visit(STREAM_OF(l, beat), now);
}

/* ---- a stream's life ------------------------------------------------------------------------ */

static void free_stream(void *cls) {
    struct stream *st = cls;
    struct streams *all = st->all;
    ring_remove(&st->link);
    ring_remove(&st->beat);
    feed_block_release(st->block);
    leave_topic(all, st->topic);
    st->project->streams--;
    all->count--;
    free(st);
}

static struct stream *new_stream(struct streams *all, struct request *r, const char *job_id,
                                 int64_t after_seq, struct project *project) {
    struct stream *st = xcalloc(1, sizeof *st);
    *st = (struct stream){.all = all,
                          .request = r,
                          .mhd = r->mhd,
                          .connection = r->connection,
                          .after_seq = after_seq,
                          .project = project,
                          .topic = join_topic(all, job_id),
                          .last = clock_mono()};
    memcpy(st->key_id, r->key_id, sizeof st->key_id);
    ring_init(&st->link);
    ring_init(&st->beat);
    ring_add(&all->wheel[all->next_slot], &st->beat);
    all->next_slot = (all->next_slot + 1) % all->slots;
    project->streams++;
    all->count++;
    return st;
}

/* Without a setting, projects leave places for each other. Without keys there is only one. */
static int64_t most_of_project(const struct server *s) {
    const struct config_limits *limits = &s->config->limits;
    if (limits->streams_per_project > 0)
        return limits->streams_per_project;
    return s->keys_exist ? (limits->streams + 3) / 4 : limits->streams;
}

enum err streams_open(struct streams *all, struct request *r, const char *job_id, int64_t after_seq,
                      struct MHD_Response **out, struct err_msg *em) {
    const struct config_limits *limits = &all->server->config->limits;
    const int bytes = SEND_BUFFER;
    struct project *project = find_project(all, r->project != NULL ? r->project : "default");
    if (all->count >= limits->streams || project->streams >= most_of_project(all->server))
        return err_set(em, ERR_LIMIT,
                       "Too many event streams are open; close one or read the events list.");
    struct stream *st = new_stream(all, r, job_id, after_seq, project);
    *out = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, st, free_stream);
    if (*out == NULL) {
        free_stream(st);
        return err_set(em, ERR_NO_MEMORY, "no memory for another event stream");
    }
    if (r->connection != NULL && r->connection->fd >= 0)
        (void)setsockopt(r->connection->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return ERR_OK;
}

/* ---- all of them ---------------------------------------------------------------------------- */

struct streams *streams_new(struct server *s) {
    struct streams *all = xcalloc(1, sizeof *all);
    all->server = s;
    ring_init(&all->ready);
    all->slots = (size_t)s->config->limits.stream_heartbeat_seconds * 1000 / TICK_MS;
    all->wheel = xcalloc(all->slots, sizeof *all->wheel);
    for (size_t i = 0; i < all->slots; i++)
        ring_init(&all->wheel[i]);
    (void)uv_idle_init(&s->loop, &all->turn);
    (void)uv_timer_init(&s->loop, &all->timer);
    all->turn.data = all->timer.data = all;
    (void)uv_timer_start(&all->timer, on_tick, TICK_MS, TICK_MS);
    return all;
}

void streams_revoke(struct streams *all, const char *key_id) {
    for (size_t i = 0; i < all->slots; i++)
        for (struct link *l = all->wheel[i].next; l != &all->wheel[i]; l = l->next) {
            struct stream *st = STREAM_OF(l, beat);
            if (strcmp(st->key_id, key_id) == 0) {
                st->revoked = true;
                make_ready(st);
            }
        }
}

int streams_count(const struct streams *all) {
    return all->count;
}

void streams_end(struct streams *all) {
    all->closing = true;
    for (struct topic *t = all->topics; t != NULL; t = t->next)
        wake_all(t);
}

void streams_close(struct streams *all) {
    uv_close((uv_handle_t *)&all->timer, NULL);
    uv_close((uv_handle_t *)&all->turn, NULL);
}

void streams_free(struct streams *all) {
    if (all == NULL)
        return;
    for (struct project *p = all->projects, *next; p != NULL; p = next) {
        next = p->next;
        free(p->name);
        free(p);
    }
    free(all->wheel);
    free(all);
}
