/* answers: what was just answered from the store, while that holds.
 *
 * What:    clients that wait for a job ask the same again and again, and many at once. An answer
 *          that was read from the store alone is kept as bytes and given again as long as no row
 *          has changed, within the second it was made in.
 * Owns:    copies of the answers: ANSWERS_SLOTS of at most ANSWERS_BYTES.
 * Threads: the loop thread only.
 * Errors:  none; what does not fit is not kept.
 */
#ifndef FFWD_SERVER_ANSWERS_H
#define FFWD_SERVER_ANSWERS_H

#include <stddef.h>
#include <stdint.h>

#define ANSWERS_SLOTS 256
#define ANSWERS_BYTES (64 << 10)

struct answers {
    struct answer {
        char *key;
        char *text;
        size_t len;
        int64_t version, second;
    } slots[ANSWERS_SLOTS];
};

/* uri: with its query. version: store_version. NULL: it must be made; else good until the next
 * call with this struct. */
const struct answer *answers_find(const struct answers *a, const char *project, const char *uri,
                                  int64_t version);
void answers_keep(struct answers *a, const char *project, const char *uri, int64_t version,
                  const char *text, size_t len);
void answers_clear(struct answers *a);

#endif
