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

static enum err add_event(struct buf *text, const struct event_row *row) {
    struct json_text w;
    char *line = NULL;
    json_text_init(&w, BLOCK_MAX);
    event_write(&w, row->id, &row->event);
    enum err e = json_text_take(&w, &line, NULL);
    if (e == ERR_OK)
        e = buf_addf(text, "id: %s\ndata: %s\n\n", row->id, line);
    free(line);
    return e;
}

/* The text of as many of the rows as a block takes; clears the rows. *last: number of the last. */
static void write_rows(struct event_row *rows, int n, struct buf *text, int64_t *last) {
    bool room = true;
    for (int i = 0; i < n; i++) {
        room = room && text->len < ENOUGH && add_event(text, &rows[i]) == ERR_OK;
        if (room)
            *last = rows[i].seq;
        event_row_clear(&rows[i]);
    }
    free(rows);
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
    struct event_row *rows = NULL;
    struct buf text;
    int n = 0;
    f->queries++;
    enum err e = store_event_after(f->store, f->job_id, after_seq, PAGE, &rows, &n, em);
    if (e != ERR_OK || n == 0)
        return e;
    int64_t last = after_seq;
    buf_init(&text, BLOCK_MAX);
    write_rows(rows, n, &text, &last);
    if (last == after_seq) {
        buf_clear(&text);
        return err_set(em, ERR_LIMIT, "an event is larger than a stream's buffer");
    }
    *out = xcalloc(1, sizeof **out);
    **out =
        (struct feed_block){.users = 1, .after_seq = after_seq, .last_seq = last, .len = text.len};
    (*out)->text = buf_take(&text);
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
