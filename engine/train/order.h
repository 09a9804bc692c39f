/* order: which rows are trained on, set apart, and in what order.
 *
 * What:    lists of row numbers, a permutation that depends on (seed, epoch) only, and the endless
 *          sequence of rows that batches are cut from: epoch after epoch, each in its own order.
 * Owns:    the lists; free with row_list_clear and order_clear.
 * Threads: one owner at a time.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_TRAIN_ORDER_H
#define FFWD_ENGINE_TRAIN_ORDER_H

#include <stdbool.h>
#include <stdint.h>

/* Row numbers of one data set, ascending. */
struct row_list {
    int32_t *rows;
    int64_t n;
};
void row_list_clear(struct row_list *l);

/* Rows first … first + n - 1. */
void row_list_range(struct row_list *l, int64_t first, int64_t n);
/* Splits rows 0 … total - 1 into k chosen ones and the others. The choice depends on total and k
 * only, so that runs with different seeds measure on the same rows. 0 ≤ k ≤ total. */
void row_list_set_apart(int64_t total, int64_t k, struct row_list *chosen, struct row_list *others);

/* Fills perm [n] with a permutation of 0 … n - 1 (Fisher-Yates with Philox draws). */
void order_permute(int32_t *perm, int64_t n, uint64_t seed, int64_t epoch);

struct order {
    const struct row_list *list; /* borrowed */
    bool shuffle;
    uint64_t seed;
    int64_t epoch; /* of perm; -1: none yet */
    int32_t *perm;
};
void order_init(struct order *o, const struct row_list *list, bool shuffle, uint64_t seed);
void order_clear(struct order *o);
/* Row at a position (from 0) of the endless sequence; the list must not be empty. */
int32_t order_row(struct order *o, int64_t position);

#endif
