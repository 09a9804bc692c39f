/* attention: blocks of queries and keys shared by the two passes.
 *
 * What:    which blocks there are and which keys a query sees.
 * Owns:    nothing.
 * Threads: pure functions.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_OPS_CPU_ATTENTION_H
#define FFWD_ENGINE_OPS_CPU_ATTENTION_H

#include "engine/ops/cpu/cpu.h"
#include "engine/ops/cpu/gemm.h"

#define QUERY_BLOCK 128
#define KEY_BLOCK 256

/* Keys of one example that query i sees: [first, end), positions within the example. */
struct key_range {
    int64_t first, end;
};
static inline struct key_range keys_seen(const struct attention *a, int64_t query) {
    int64_t first = a->window > 0 && query >= a->window ? query - a->window + 1 : 0;
    return (struct key_range){first, query + 1};
}
/* The same for any of the queries first … first + count - 1. */
static inline struct key_range keys_of_block(const struct attention *a, int64_t first,
                                             int64_t count) {
    return (struct key_range){keys_seen(a, first).first, first + count};
}

/* Which of the keys k0 … k0 + n - 1 a query sees, counted from k0; empty: {0, 0}. */
static inline struct key_range keys_in_block(const struct attention *a, int64_t query, int64_t k0,
                                             int64_t n) {
    struct key_range r = keys_seen(a, query);
    r.first = r.first > k0 ? r.first - k0 : 0;
    r.end = r.end < k0 + n ? r.end - k0 : n;
    return r.first < r.end ? r : (struct key_range){0, 0};
}

/* Rows [first, first + count) of one head. */
static inline struct tensor head_rows(struct tensor t, int64_t head, int64_t head_dim,
                                      int64_t first, int64_t count) {
    return tensor_rows(tensor_columns(t, head * head_dim, head_dim), first, count);
}

#endif
