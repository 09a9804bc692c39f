/* feed: the events of one job as the text of a stream, read once for all its readers. */
#include "server/feed.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

#define PAGE 64      /* events read at once */
#define ENOUGH 65536 /* bytes of a block after which no event is added */
#define BLOCK_MAX (8u << 20)

void feed_block_release(struct feed_block *b) {
    if (b == NULL || --b->users > 0)
        return;
    free(b->text);
    free(b);
}

void feed_init(struct feed *f, struct store *store, const char *job_id) {
    *f = (struct feed){.store = store};
    memcpy(f->job_id, job_id, sizeof f->job_id);
}

void feed_clear(struct feed *f) {
    for (int i = 0; i < FEED_BLOCKS; i++)
        feed_block_release(f->blocks[i]);
    *f = (struct feed){0};
}

void feed_changed(struct feed *f) {
    f->at_end = false;
}

struct block_text {
    struct buf text;
    int64_t last; /* number of the last event in it */
    bool asked;   /* there was an event */
};

/* As many events as a block takes. */
static bool add_event(void *arg, const struct event_row *row) {
    struct block_text *b = arg;
    struct json_text w;
    char *line = NULL;
    b->asked = true;
    json_text_init(&w, BLOCK_MAX);
    event_write(&w, row->id, row->line, row->len);
    bool fits = json_text_take(&w, &line, NULL) == ERR_OK &&
                buf_addf(&b->text, "id: %s\ndata: %s\n\n", row->id, line) == ERR_OK;
    free(line);
    if (fits)
        b->last = row->seq;
    return fits && b->text.len < ENOUGH;
}

static void keep(struct feed *f, struct feed_block *b) {
    feed_block_release(f->blocks[f->next]);
    f->blocks[f->next] = b;
    b->users++;
    f->next = (f->next + 1) % FEED_BLOCKS;
}

/* Reads the events after a number from the store; *out NULL: there are none. */
static enum err read_block(struct feed *f, int64_t after_seq, struct feed_block **out,
                           struct err_msg *em) {
    struct block_text b = {.last = after_seq};
    f->queries++;
    buf_init(&b.text, BLOCK_MAX);
    enum err e = store_event_after(f->store, f->job_id, after_seq, PAGE, add_event, &b, em);
    if (e == ERR_OK && b.asked && b.last == after_seq)
        e = err_set(em, ERR_LIMIT, "an event is larger than a stream's buffer");
    if (e != ERR_OK || !b.asked) {
        buf_clear(&b.text);
        return e;
    }
    *out = xcalloc(1, sizeof **out);
    **out = (struct feed_block){
        .users = 1, .after_seq = after_seq, .last_seq = b.last, .len = b.text.len};
    (*out)->text = buf_take(&b.text);
    keep(f, *out);
    return ERR_OK;
}

/* Whether the job has ended; asked only after nothing was found, and events come no later. */
static enum err read_end(struct feed *f, int64_t after_seq, struct err_msg *em) {
    struct job_row job;
    f->queries++;
    enum err e = store_job_get(f->store, NULL, f->job_id, &job, em);
    if (e != ERR_OK)
        return e;
    f->end_seq = after_seq;
    f->at_end = true;
    f->over = job_status_ended(job.status);
    job_row_clear(&job);
    return ERR_OK;
}

enum err feed_next(struct feed *f, int64_t after_seq, struct feed_block **out, bool *over,
                   struct err_msg *em) {
    *out = NULL;
    *over = false;
    for (int i = 0; i < FEED_BLOCKS; i++) {
        struct feed_block *b = f->blocks[i];
        if (b == NULL || b->after_seq != after_seq)
            continue;
        b->users++;
        *out = b;
        return ERR_OK;
    }
    enum err e = ERR_OK;
    bool known = f->at_end && f->end_seq == after_seq;
    if (!known)
        e = read_block(f, after_seq, out, em);
    if (!known && e == ERR_OK && *out == NULL)
        e = read_end(f, after_seq, em);
    if (e == ERR_OK && *out == NULL)
        *over = f->over;
    return e;
}
