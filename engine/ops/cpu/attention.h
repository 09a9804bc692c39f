/* attention: blocks of queries and keys shared by the two passes.
 *
 * What:    which blocks there are, which keys a query sees, and heads as dense blocks in the type
 *          that products are done in.
 * Owns:    nothing.
 * Threads: pure functions.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_OPS_CPU_ATTENTION_H
#define FFWD_ENGINE_OPS_CPU_ATTENTION_H

#include "engine/ops/cpu/cpu.h"

/* Queries, and keys, of a block. One size, so that the causal border runs through one block of a
 * row of blocks only, and a packed block is always used whole. */
#define ATTENTION_BLOCK 128

/* Positions within an example: [first, end). */
struct range {
    int64_t first, end;
};

/* Keys that a query sees, and queries that see a key. */
static inline struct range keys_seen(const struct attention *a, int64_t query) {
    int64_t first = a->window > 0 && query >= a->window ? query - a->window + 1 : 0;
    return (struct range){first, query + 1};
}
static inline struct range queries_seeing(const struct attention *a, int64_t key) {
    return (struct range){key, a->window > 0 ? key + a->window : INT64_MAX};
}

/* The part of r in [start, start + n), counted from start; empty: {0, 0}. */
static inline struct range range_in(struct range r, int64_t start, int64_t n) {
    r.first = r.first > start ? r.first - start : 0;
    r.end = r.end < start + n ? r.end - start : n;
    return r.first < r.end ? r : (struct range){0, 0};
}

static inline int64_t block_round(int64_t n) {
    return (n + BLOCK_UNIT - 1) / BLOCK_UNIT * BLOCK_UNIT;
}

/* bf16 where the processor has products in it, else f32. */
const struct blocks *attention_blocks(const struct cpu *c, enum dtype dtype);

/* Rows [first, first + count) of one head as a dense block of element type e->dtype,
 * [block_round(count), block_round(head_dim)], zeros around. */
void attention_load(const struct cpu *c, const struct blocks *e, struct tensor t, int64_t head,
                    int64_t head_dim, int64_t first, int64_t count, void *dst);
/* The first count rows of src, f32 [rows, block_round(head_dim)], into a head's columns. */
void attention_store(const struct cpu *c, struct tensor t, int64_t head, int64_t head_dim,
                     int64_t first, int64_t count, const float *src);

#endif
