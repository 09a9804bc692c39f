/* answers: what was just answered from the store, while that holds.
 *
 * What:    clients that wait for a job ask the same again and again, and many at once. An answer
 *          that was read from the store alone is kept as bytes and given again as long as no row
 *          has changed, within the second it was made in.
 * Owns:    ANSWERS_SLOTS answers of at most ANSWERS_BYTES.
 * Threads: the loop thread only.
 * Errors:  none; what does not fit is not kept.
 */
#ifndef FFWD_SERVER_ANSWERS_H
#define FFWD_SERVER_ANSWERS_H

#include <stddef.h>
#include <stdint.h>

#define ANSWERS_SLOTS 256
#define ANSWERS_BYTES (64 << 10)

/* The text of an answer, held by the slot that keeps it and by each response that sends it. */
struct answer {
    int holders;
    char *text; /* not changed any more */
    size_t len;
};

/* text_take: from malloc. The caller is the one holder. */
struct answer *answer_new(char *text_take, size_t len);
struct answer *answer_hold(struct answer *a); /* returns it */
void answer_let_go(struct answer *a);         /* NULL: nothing */

struct answers {
    struct answer_slot {
        char *key; /* NULL: empty */
        struct answer *answer;
        int64_t version, second;
    } slots[ANSWERS_SLOTS];
};

/* uri: with its query. version: store_version. NULL: it must be made; else good until the next
 * call with this struct, or for as long as the caller holds it. */
struct answer *answers_find(const struct answers *a, const char *project, const char *uri,
                            int64_t version);
void answers_keep(struct answers *a, const char *project, const char *uri, int64_t version,
                  struct answer *answer);
void answers_clear(struct answers *a);

#endif
