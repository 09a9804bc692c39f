/* tiles: products of matrices packed for the processor's tile registers (AMX).
 *
 * What:    the inner functions of tile_product.c. A left matrix is packed in groups of 32 rows, a
 *          right one in groups of 32 columns; a group is a row of blocks of 32 x 32 along the
 *          shared dimension, TILE_BYTES each, zeros where the matrix ends. An f32 matrix may be
 *          packed as three planes, block by block: x = high + middle + low, each rounded to bf16.
 * Owns:    nothing.
 * Threads: begin and end set up the calling thread; the rest are functions of their arguments.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_OPS_CPU_TILES_H
#define FFWD_ENGINE_OPS_CPU_TILES_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ops/ops.h"

#define TILE_UNIT 32
#define TILE_BYTES 2048 /* 32 x 32 elements of bf16 */
#define TILE_PLANES 3

/* A block of at most 32 x 32 elements as it is stored, f32 or bf16. */
struct tile_block {
    const void *data;
    enum dtype dtype;
    int64_t stride, rows, cols;
};

/* What becomes of a block: part of a left matrix [m, k] stored as it is or transposed, or of a
 * right one [k, n]. */
enum tile_form { TILE_LEFT, TILE_LEFT_TRANSPOSED, TILE_RIGHT, TILE_RIGHT_TRANSPOSED };

/* A group of 32 rows times a group of 32 columns over `steps` blocks. The left one may lie as it
 * is stored: a_row bytes between rows, a_half between row 0 and row 16, a_step between blocks. */
struct tile_term {
    const char *a, *b;
    int64_t a_row, a_half, a_step, steps;
};

/* Where a block of a result goes: out = tile + bias + residual. */
struct tile_out {
    int64_t rows, cols;
    const float *bias;    /* [cols], or NULL */
    const void *residual; /* [rows, cols], or NULL; f32 or bf16; may be out */
    enum dtype residual_dtype, dtype;
    int64_t residual_stride, stride;
    void *out;
};

struct tiles {
    void (*begin)(void);
    void (*end)(void);
    /* dst: planes · TILE_BYTES; planes 1 or TILE_PLANES. */
    void (*pack)(void *dst, const struct tile_block *b, enum tile_form form, int planes);
    /* c [32, 32], ldc floats between rows, = sum of the terms, or added to c. With TILE_PLANES
     * both sides are packed so; the sum leaves out what is below 2^-24 of a product. */
    void (*product)(const struct tile_term *term, int n_terms, int planes, float *c, int64_t ldc,
                    bool accumulate);
    void (*finish)(const float *tile, int64_t ld, const struct tile_out *o);
};

extern const struct tiles tiles_amx;

#endif
