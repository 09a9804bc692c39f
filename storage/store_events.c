/* store_events: the events of a job, numbered from 1 without gaps.
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
#define NUMBER_END 2821109907456 /* 36^8 */

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

void event_row_clear(struct event_row *e) {
    free(e->memory);
    *e = (struct event_row){0};
}

static void make_id(const char *job_id, int64_t seq, char id[STORE_ID_SIZE]) {
    char number[NUMBER_PART + 1];
    number[NUMBER_PART] = '\0';
    for (int i = NUMBER_PART - 1; i >= 0; i--, seq /= 36)
        number[i] = digits[seq % 36];
    (void)snprintf(id, STORE_ID_SIZE, PREFIX "%.*s%s", JOB_PART, job_id + strlen(JOB_PREFIX),
                   number);
}

/* The number in an id of this job's events; 0 if it is none. */
static int64_t number_of(const char *job_id, const char *id) {
    size_t head = strlen(PREFIX) + JOB_PART;
    char mine[STORE_ID_SIZE];
    if (strncmp(job_id, JOB_PREFIX, strlen(JOB_PREFIX)) != 0)
        return 0;
    make_id(job_id, 0, mine);
    if (strlen(id) != head + NUMBER_PART || strncmp(id, mine, head) != 0)
        return 0;
    int64_t seq = 0;
    for (const char *p = id + head; *p != '\0'; p++) {
        const char *digit = strchr(digits, *p);
        if (digit == NULL)
            return 0;
        seq = seq * 36 + (digit - digits);
    }
    return seq;
}

static enum err last_number(struct store *s, int64_t job_seq, int64_t *seq, struct err_msg *em) {
    return store__integer(s, em, seq, "SELECT coalesce(max(seq), 0) FROM events WHERE job_seq = ?1",
                          "i", job_seq);
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
    if (e == ERR_OK && last + 1 >= NUMBER_END)
        e = err_set(em, ERR_LIMIT, "job %s has too many events", job_id);
    if (e == ERR_OK)
        e = store__run(s, em, &changes,
                       "INSERT INTO events(job_seq, seq, created_at, level, type, step, kind, "
                       "message, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
                       "ON CONFLICT(job_seq, step, kind) WHERE step > 0 DO NOTHING",
                       "iiiiiiisj", job_seq, last + 1, ev->created_at, (int64_t)ev->level,
                       (int64_t)ev->type, step, (int64_t)kind_of(ev), ev->message, ev->data);
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

static void read_row(sqlite3_stmt *q, const char *job_id, struct event_row *out) {
    *out = (struct event_row){.seq = sqlite3_column_int64(q, 0)};
    out->event = (struct event_text){
        .created_at = sqlite3_column_int64(q, 1),
        .level = (enum event_level)sqlite3_column_int(q, 2),
        .type = (enum event_type)sqlite3_column_int(q, 3),
    };
    const char **const texts[] = {&out->event.message, &out->event.data};
    out->memory = store__texts(q, 4, texts, 2);
    make_id(job_id, out->seq, out->id);
}

static enum err read_list(struct store *s, sqlite3_stmt *q, const char *job_id, int64_t wanted,
                          struct event_row **rows, int *n, bool *more, struct err_msg *em) {
    bool row = true;
    enum err e = ERR_OK;
    while ((e = store__next(s, q, &row, em)) == ERR_OK && row) {
        if (*n == wanted - 1) {
            *more = true;
            sqlite3_reset(q);
            return ERR_OK;
        }
        *rows = store__grow(*rows, *n, sizeof **rows);
        read_row(q, job_id, &(*rows)[(*n)++]);
    }
    for (int i = 0; e != ERR_OK && i < *n; i++)
        event_row_clear(&(*rows)[i]);
    if (e != ERR_OK) {
        free(*rows);
        *rows = NULL;
        *n = 0;
    }
    return e;
}

#define FIELDS "SELECT seq, created_at, level, type, message, data FROM events "
#define LIST FIELDS "WHERE job_seq = ?1 AND "

/* The page of the job job_seq, whose id is job_id. */
static enum err list(struct store *s, const char *job_id, int64_t job_seq, int64_t from,
                     bool ascending, int64_t wanted, struct event_row **rows, int *n, bool *more,
                     struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    enum err e = store__query(s, em, &q,
                              ascending ? LIST "seq > ?2 ORDER BY seq ASC LIMIT ?3"
                                        : LIST "seq < ?2 ORDER BY seq DESC LIMIT ?3",
                              "iii", job_seq, from, wanted);
    return e == ERR_OK ? read_list(s, q, job_id, wanted, rows, n, more, em) : e;
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
                          const struct page *page, struct event_row **rows, int *n, bool *more,
                          struct err_msg *em) {
    int64_t job_seq = 0, from = page->ascending ? 0 : INT64_MAX;
    *rows = NULL;
    *n = 0;
    *more = false;
    enum err e = store_job_number(s, project, job_id, &job_seq, em);
    if (e == ERR_OK && page->after != NULL)
        e = number_in(s, job_id, job_seq, page->after, &from, em);
    if (e != ERR_OK)
        return e;
    return list(s, job_id, job_seq, from, page->ascending, store__page_rows(page), rows, n, more,
                em);
}

enum err store_event_after(struct store *s, const char *job_id, int64_t after_seq, int limit,
                           struct event_row **rows, int *n, struct err_msg *em) {
    bool more = false;
    int64_t job_seq = 0;
    *rows = NULL;
    *n = 0;
    enum err e = store__job_seq(s, job_id, &job_seq, em);
    if (e != ERR_OK)
        return e;
    return list(s, job_id, job_seq, after_seq, true, (int64_t)limit + 1, rows, n, &more, em);
}

enum err store_event_seq(struct store *s, const char *job_id, const char *event_id, int64_t *seq,
                         struct err_msg *em) {
    int64_t job_seq = 0;
    enum err e = store__job_seq(s, job_id, &job_seq, em);
    return e == ERR_OK ? number_in(s, job_id, job_seq, event_id, seq, em) : e;
}

enum err store_event_at_step(struct store *s, const char *job_id, int64_t step,
                             struct event_row **rows, int *n, struct err_msg *em) {
    int64_t job_seq = 0;
    sqlite3_stmt *q = NULL;
    bool more = false;
    *rows = NULL;
    *n = 0;
    enum err e = store__job_seq(s, job_id, &job_seq, em);
    if (e == ERR_OK)
        e = store__query(s, em, &q,
                         FIELDS "INDEXED BY events_step WHERE job_seq = ?1 AND step = ?2 AND "
                                "step > 0 AND type = 1",
                         "ii", job_seq, step);
    return e == ERR_OK ? read_list(s, q, job_id, INT32_MAX, rows, n, &more, em) : e;
}
