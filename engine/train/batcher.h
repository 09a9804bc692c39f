/* batcher: rows of a data set as packed batches for a pass.
 *
 * What:    reads and tokenizes the rows of one optimizer step (or of a piece of an evaluation),
 *          packs them into bins of at most `capacity` tokens, and lays each bin out as a
 *          host_batch.
 * Owns:    its buffers, allocated once; a batch is valid until the next call.
 * Threads: one owner at a time.
 * Errors:  those of reading the data set.
 */
#ifndef FFWD_ENGINE_TRAIN_BATCHER_H
#define FFWD_ENGINE_TRAIN_BATCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/model/model.h"
#include "engine/text/dataset.h"
#include "engine/text/pack.h"

struct batcher {
    int32_t capacity; /* tokens of a bin */
    int32_t max_rows; /* of one batcher_begin */
    bool packing;     /* false: a bin for each row */

    struct dataset *ds; /* borrowed, of the rows being read */
    int32_t *rows;      /* [n_rows] row numbers in ds */
    int32_t *lengths;   /* [n_rows] tokens */
    int n_rows, next_bin;
    struct packing bins;
    struct ids row_ids, row_labels;

    int32_t *ids, *pos, *target_rows, *target_ids; /* [capacity] */
    uint64_t *keys;                                /* [capacity] */
    int32_t *seq_start;                            /* [max_rows + 1] */
    int32_t *bin_lengths;                          /* [max_rows] tokens of each row of the batch */
};

/* capacity: at least the longest row that will be read. */
void batcher_init(struct batcher *b, int32_t capacity, int32_t max_rows, bool packing);
void batcher_clear(struct batcher *b);

/* Starts on n rows of ds (n ≤ max_rows); row i has the example number i in dropout's keys, however
 * the rows are packed. */
void batcher_begin(struct batcher *b, struct dataset *ds, const int32_t *rows, int n);
/* The next bin; *more false when there is none. b->bin_lengths [out->n_seqs] are its row lengths.
 */
enum err batcher_next(struct batcher *b, struct host_batch *out, bool *more,
                      struct err_msg *em) NODISCARD;

/* Tokens, and tokens trained on, of the rows of batcher_begin. */
int64_t batcher_tokens(const struct batcher *b);
int64_t batcher_targets(const struct batcher *b);

#endif
