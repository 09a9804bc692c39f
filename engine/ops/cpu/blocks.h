/* blocks: attention's arithmetic on blocks that lie in cache.
 *
 * What:    matrices cut into dense blocks of 32 x 32 elements, their products, and the softmax
 *          between two products. Scores are kept transposed, [keys, 32 queries]: what belongs to a
 *          query (maximum, sum, log-sum-exp) is then a lane, and no sum runs across a vector.
 * Owns:    nothing.
 * Threads: begin and end set up the calling thread; the rest are functions of their arguments.
 * Errors:  none. Whoever packs a block at the end of a matrix gets zeros around it.
 */
#ifndef FFWD_ENGINE_OPS_CPU_BLOCKS_H
#define FFWD_ENGINE_OPS_CPU_BLOCKS_H

#include "engine/ops/cpu/tiles.h"

#define BLOCK_UNIT TILE_UNIT

/* c [32·rows, 32] = a b, or added to c. a: blocks a_row bytes apart down the rows of c, a_step
 * bytes along the sum; b: one block after the other along the sum; c: ldc floats between rows. */
struct block_product {
    int64_t rows, steps; /* in blocks */
    const char *a, *b;
    int64_t a_row, a_step;
    float *c;
    int64_t ldc;
    bool accumulate;
};

/* 32 queries while their keys are walked. In powers of two, and max is a whole number: what was
 * summed before is then rescaled exactly, and seldom. */
struct block_softmax {
    float max[BLOCK_UNIT], sum[BLOCK_UNIT];
};
#define BLOCK_MAX_NONE (-1e30f) /* max before the first key */

/* Where the backward softmax puts P and dS: as left blocks, step bytes apart from 32 keys to the
 * next, and dS as right blocks, one after the other. */
struct block_gradient {
    char *p, *ds, *ds_right;
    int64_t step;
};

struct blocks {
    enum dtype dtype;
    void (*begin)(void);
    void (*end)(void);
    /* dst: a block of 32 x 32 elements in the form that products read. */
    void (*pack)(void *dst, const struct tile_block *b, enum tile_form form);
    void (*product)(const struct block_product *p);
    /* p: right blocks of 2^(factor · s - max) of s [n, 32]; n a multiple of 32. Where max grows,
     * the sums and out [width, 32] are rescaled. */
    void (*softmax)(const float *s, int64_t n, float factor, struct block_softmax *state, void *p,
                    float *out, int64_t width);
    /* P = 2^(factor · s - lse), dS = P · (dp - delta); s, dp [n, 32], lse and delta [32]. */
    void (*softmax_backward)(const float *s, const float *dp, int64_t n, float factor,
                             const float *lse, const float *delta, const struct block_gradient *to);
    /* s [32, 32], key j and query i: stays where 0 <= behind + i - j < window, else -infinity. */
    void (*mask)(float *s, int32_t behind, int32_t window);
    /* dst [32, width] = the transposed of src [width, 32], each column times its factor. */
    void (*turn)(float *dst, const float *src, int64_t width, const float *factor);
};

#endif
