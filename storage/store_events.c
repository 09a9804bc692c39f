/* store_events: the events of a job, numbered from 1 without gaps, as the JSON they are shown as.
 *
 * The key of a row is its job's number and its own in one integer, job << 32 | number, so a page is
 * a few neighbouring rows wherever it begins.
 *
 * The id of an event is computed, not stored: "ftevent-", the first 16 random characters of the
 * job's id, and the event's number in 8 base-36 digits. So an id is found by seeking its number and
 * no index of ids has to be kept for millions of rows.
 */
#include "storage/store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define PREFIX "ftevent-"
#define JOB_PREFIX "ftjob-"
#define JOB_PART 16
#define NUMBER_PART 8
#define NUMBER_END 0x100000000 /* 32 bits, which 8 digits can say */
#define FIRST "(?1 << 32)"
#define LAST "(?1 << 32 | 0xffffffff)"

static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";

/* What an event tells, so that the events of one step are told apart. */
enum kind { KIND_STEP, KIND_FAST_FORWARD, KIND_EVALUATION, KIND_MESSAGE };

static enum kind kind_of(const struct event *ev) {
    if (ev->type == EVENT_MESSAGE)
        return KIND_MESSAGE;
    if (json_object_get(ev->data, "fast_forward") != NULL)
        return KIND_FAST_FORWARD;
    return json_object_get(ev->data, "train_loss") != NULL ? KIND_STEP : KIND_EVALUATION;
}

enum { ID_HEAD = sizeof PREFIX - 1 + JOB_PART };

/* All of an id but its number, in the place for one. */
static void put_head(const char *job_id, char id[STORE_ID_SIZE]) {
    (void)snprintf(id, STORE_ID_SIZE, PREFIX "%-*.*s", JOB_PART, JOB_PART,
                   job_id + strlen(JOB_PREFIX));
}

static void put_number(int64_t seq, char id[STORE_ID_SIZE]) {
    id[ID_HEAD + NUMBER_PART] = '\0';
    for (int i = NUMBER_PART - 1; i >= 0; i--, seq /= 36)
        id[ID_HEAD + i] = digits[seq % 36];
}

/* The number in an id of this job's events; 0 if it is none. */
static int64_t number_of(const char *job_id, const char *id) {
    char mine[STORE_ID_SIZE];
    if (strncmp(job_id, JOB_PREFIX, strlen(JOB_PREFIX)) != 0)
        return 0;
    put_head(job_id, mine);
    if (strlen(id) != ID_HEAD + NUMBER_PART || strncmp(id, mine, ID_HEAD) != 0)
        return 0;
    int64_t seq = 0;
    for (const char *p = id + ID_HEAD; *p != '\0'; p++) {
        const char *digit = strchr(digits, *p);
        if (digit == NULL)
            return 0;
        seq = seq * 36 + (digit - digits);
    }
    return seq;
}

/* 0: it has none. */
static enum err last_number(struct store *s, int64_t job_seq, int64_t *seq, struct err_msg *em) {
    *seq = 0;
    enum err e = store__integer(s, em, seq,
                                "SELECT place & 0xffffffff FROM events WHERE place BETWEEN " FIRST
                                " AND " LAST " ORDER BY place DESC LIMIT 1",
                                "i", job_seq);
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

static enum err insert_event(struct store *s, int64_t place, const struct event *ev, int64_t step,
                             int *changes, struct err_msg *em) {
    char *line = event_to_line(ev, NULL);
    enum err e = store__run(s, em, changes,
                            "INSERT INTO events(place, step, kind, line) VALUES (?, ?, ?, ?) "
                            "ON CONFLICT(place >> 32, step, kind) WHERE step > 0 DO NOTHING",
                            "iiis", place, step, (int64_t)kind_of(ev), line);
    free(line);
    return e;
}

enum err store_event_add(struct store *s, const char *job_id, const struct event *ev, int64_t step,
                         int64_t *seq, struct err_msg *em) {
    int64_t job_seq = 0, last = 0;
    int changes = 0;
    *seq = 0;
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__job_seq(s, job_id, &job_seq, em);
    if (e == ERR_OK)
        e = last_number(s, job_seq, &last, em);
    if (e == ERR_OK && last + 1 >= NUMBER_END - 1)
        e = err_set(em, ERR_LIMIT, "job %s has too many events", job_id);
    if (e == ERR_OK)
        e = insert_event(s, job_seq << 32 | (last + 1), ev, step, &changes, em);
    e = store__end(s, e, em);
    if (e == ERR_OK && changes > 0)
        *seq = last + 1;
    return e;
}

enum err store__event_note(struct store *s, const char *job_id, const char *text,
                           struct err_msg *em) {
    struct event ev;
    int64_t seq = 0;
    event_init(&ev, EVENT_INFO, EVENT_MESSAGE, text, NULL);
    enum err e = store_event_add(s, job_id, &ev, 0, &seq, em);
    event_clear(&ev);
    return e;
}

/* Shows the rows of q, most of them at most. *more: there was another one. */
static enum err read_rows(struct store *s, sqlite3_stmt *q, const char *job_id, int64_t most,
                          store_event_reader *read, void *arg, bool *more, struct err_msg *em) {
    struct event_row out;
    bool row = true;
    put_head(job_id, out.id);
    for (int64_t n = 0;; n++) {
        enum err e = store__next(s, q, &row, em);
        if (e != ERR_OK || !row)
            return e;
        if (n == most)
            break;
        out.seq = sqlite3_column_int64(q, 0) & (NUMBER_END - 1);
        put_number(out.seq, out.id);
        out.line = (const char *)sqlite3_column_text(q, 1);
        out.len = (size_t)sqlite3_column_bytes(q, 1);
        if (!read(arg, &out)) {
            sqlite3_reset(q);
            return ERR_OK;
        }
    }
    *more = true;
    sqlite3_reset(q);
    return ERR_OK;
}

#define FIELDS "SELECT place, line FROM events "

/* The page of the job job_seq, whose id is job_id. */
static enum err list(struct store *s, const char *job_id, int64_t job_seq, int64_t from,
                     bool ascending, int64_t most, store_event_reader *read, void *arg, bool *more,
                     struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(s, em, &q,
                              ascending ? FIELDS "WHERE place > (?1 << 32 | ?2) AND place <= " LAST
                                                 " ORDER BY place ASC LIMIT ?3"
                                        : FIELDS "WHERE place < (?1 << 32 | ?2) AND place > " FIRST
                                                 " ORDER BY place DESC LIMIT ?3",
                              "iii", job_seq, from, most + 1);
    return e == ERR_OK ? read_rows(s, q, job_id, most, read, arg, more, em) : e;
}

/* The number that an id of this job's events stands for. */
static enum err number_in(struct store *s, const char *job_id, int64_t job_seq,
                          const char *event_id, int64_t *seq, struct err_msg *em) {
    int64_t last = 0;
    enum err e = last_number(s, job_seq, &last, em);
    if (e != ERR_OK)
        return e;
    *seq = number_of(job_id, event_id);
    if (*seq < 1 || *seq > last)
        return err_set_param(em, ERR_NOT_FOUND, "after", "job %s has no event %s", job_id,
                             event_id);
    return ERR_OK;
}

enum err store_event_list(struct store *s, const char *project, const char *job_id,
                          const struct page *page, store_event_reader *read, void *arg, bool *more,
                          struct err_msg *em) {
    int64_t job_seq = 0, from = page->ascending ? 0 : NUMBER_END - 1;
    *more = false;
    enum err e = store_job_number(s, project, job_id, &job_seq, em);
    if (e == ERR_OK && page->after != NULL)
        e = number_in(s, job_id, job_seq, page->after, &from, em);
    if (e != ERR_OK)
        return e;
    return list(s, job_id, job_seq, from, page->ascending, store__page_rows(page) - 1, read, arg,
                more, em);
}

enum err store_event_after(struct store *s, const char *job_id, int64_t after_seq, int limit,
                           store_event_reader *read, void *arg, struct err_msg *em) {
    bool more = false;
    int64_t job_seq = 0;
    enum err e = store__job_seq(s, job_id, &job_seq, em);
    return e == ERR_OK ? list(s, job_id, job_seq, after_seq, true, limit, read, arg, &more, em) : e;
}

enum err store_event_seq(struct store *s, const char *job_id, const char *event_id, int64_t *seq,
                         struct err_msg *em) {
    int64_t job_seq = 0;
    enum err e = store__job_seq(s, job_id, &job_seq, em);
    return e == ERR_OK ? number_in(s, job_id, job_seq, event_id, seq, em) : e;
}

enum err store_event_at_step(struct store *s, const char *job_id, int64_t step,
                             store_event_reader *read, void *arg, struct err_msg *em) {
    int64_t job_seq = 0;
    sqlite3_stmt *q = NULL;
    bool more = false;
    enum err e = store__job_seq(s, job_id, &job_seq, em);
    if (e == ERR_OK)
        e = store__query(s, em, &q,
                         FIELDS "INDEXED BY events_step WHERE place >> 32 = ?1 AND step = ?2 AND "
                                "step > 0 AND kind <> ?3",
                         "iii", job_seq, step, (int64_t)KIND_MESSAGE);
    return e == ERR_OK ? read_rows(s, q, job_id, INT32_MAX, read, arg, &more, em) : e;
}
