/* feed: the events of one job as the text of a stream, read once for all its readers.
 *
 * What:    a block is the text of stored events after a number. Events never change once stored, so
 *          a block stays good and is shared by every reader that is at its start. That there is
 *          nothing after some number is remembered until feed_changed.
 * Owns:    blocks by count of their users; a feed holds the newest ones for readers to come.
 * Threads: the loop thread only.
 * Errors:  the store's; ERR_LIMIT for an event that is larger than a block may be.
 */
#ifndef FFWD_SERVER_FEED_H
#define FFWD_SERVER_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "storage/store.h"

struct feed_block {
    int users;
    int64_t after_seq, last_seq; /* events after … up to and with … */
    size_t len;
    char *text; /* "id: …\ndata: …\n\n" each */
};
void feed_block_release(struct feed_block *b); /* may be NULL */

#define FEED_BLOCKS 16 /* kept for readers to come */

struct feed {
    struct store *store;
    char job_id[STORE_ID_SIZE];
    struct feed_block *blocks[FEED_BLOCKS];
    int next;        /* the place that is used next */
    int64_t end_seq; /* nothing was stored after this … */
    bool at_end;     /* … and that is known */
    bool over;       /* with at_end: nothing ever will be */
    int64_t queries; /* reads of the store, for measurements */
};

void feed_init(struct feed *f, struct store *store, const char *job_id);
void feed_clear(struct feed *f);
/* There may be new events, or the job may have ended. */
void feed_changed(struct feed *f);
/* The block after a number, for feed_block_release; NULL: there is none now. *over: there will be
 * none, the job has ended. */
enum err feed_next(struct feed *f, int64_t after_seq, struct feed_block **out, bool *over,
                   struct err_msg *em) NODISCARD;

#endif
