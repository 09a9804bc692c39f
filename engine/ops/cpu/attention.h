/* attention: panels of 32 queries and blocks of 32 keys, shared by the two passes.
 *
 * What:    which blocks of keys a panel sees, packing heads into blocks, and the scores of a panel.
 * Owns:    nothing.
 * Threads: functions of their arguments.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_OPS_CPU_ATTENTION_H
#define FFWD_ENGINE_OPS_CPU_ATTENTION_H

#include "engine/ops/cpu/blocks.h"
#include "engine/ops/cpu/cpu.h"

#define LOG2_E 1.44269504f
#define LN_2 0.693147181f

static inline int64_t blocks_of(int64_t n) {
    return (n + BLOCK_UNIT - 1) / BLOCK_UNIT;
}

/* Blocks [first, end). */
struct range {
    int64_t first, end;
};

/* Blocks of keys that the queries of a block see: its own, which the diagonal runs through, and
 * those before it. */
static inline struct range blocks_seen(const struct attention *a, int64_t block) {
    int64_t query = block * BLOCK_UNIT;
    bool bounded = a->window > 0 && query >= a->window;
    return (struct range){bounded ? (query - a->window + 1) / BLOCK_UNIT : 0, block + 1};
}

static inline struct range range_in(struct range r, int64_t first, int64_t end) {
    return (struct range){r.first > first ? r.first : first, r.end < end ? r.end : end};
}

/* A head's part of a tensor. */
struct head_rows {
    struct tensor t;
    int64_t head, head_dim;
};
static inline struct tensor head_tensor(struct head_rows h, int64_t first, int64_t count) {
    return tensor_rows(tensor_columns(h.t, h.head * h.head_dim, h.head_dim), first, count);
}

/* Pieces of memory, handed out one after the other; base NULL: only counted. */
struct pieces {
    char *base;
    size_t used;
};
void *piece(struct pieces *p, int64_t bytes);

/* The kernels for tensors of this type: bf16 where its products are faster than those of f32. */
const struct blocks *attention_blocks(const struct cpu *c, enum dtype dtype);
int64_t block_bytes(const struct blocks *e);

/* Bytes of a pass: packed keys of so many blocks of positions, or values; of an item's memory. */
int64_t attention_keys_bytes(const struct cpu *c, const struct op_shapes *most, int64_t blocks);
int64_t attention_forward_bytes(const struct cpu *c, const struct op_shapes *most);
int64_t attention_backward_bytes(const struct cpu *c, const struct op_shapes *most);

/* `count` <= 32 rows of a head as blocks_of(head_dim) blocks, step bytes apart. */
void attention_pack(const struct blocks *e, struct head_rows h, int64_t first, int64_t count,
                    enum tile_form form, int64_t step, char *dst);
/* A panel of results, f32 [blocks_of(head_dim) · 32, 32 queries], times a factor for each query,
 * into `count` rows of a head. rows: memory as large as the panel. */
void attention_store(const struct cpu *c, const struct blocks *e, struct head_rows h, int64_t first,
                     int64_t count, const float *panel, const float *factor, float *rows);

/* Takes out of s [32 · (keys.end - keys.first), 32] what the queries of a block do not see. */
void attention_mask(const struct attention *a, const struct blocks *e, int64_t block,
                    struct range keys, float *s);

#endif
