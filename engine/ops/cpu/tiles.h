/* tiles: products of matrices packed in blocks, for tile registers (AMX) or vectors (AVX-512).
 *
 * What:    the inner functions of tile_product.c. A left matrix is packed in groups of 32 rows, a
 *          right one in groups of 32 columns; a group is a row of blocks of 32 x 32 along the
 *          shared dimension, zeros where the matrix ends. A block is one or more planes.
 *          AMX: one plane is bf16; three are f32 as x = high + middle + low, each
 *          rounded to bf16. AVX-512: two planes are f32, widened. AVX512-BF16: one plane is bf16,
 *          as for AMX. AVX512-FP16: one plane is fp16, scaled.
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
 * is stored, and then ends with a whole block: a_row bytes between rows, a_half between row 0 and
 * row 16, a_step between blocks. */
struct tile_term {
    const char *a, *b;
    int64_t a_row, a_half, a_step, steps;
    int64_t rows, cols, depth; /* that matter: of the groups, and of the blocks together */
};

/* Where a block of a result goes: out = tile + bias + residual. */
struct tile_out {
    int64_t rows, cols;
    const float *bias;    /* [cols], or NULL */
    const void *residual; /* [rows, cols], or NULL; f32 or bf16; may be out */
    enum dtype residual_dtype, dtype;
    int64_t residual_stride, stride;
    bool past_cache; /* whole lines are written to memory, not to the cache */
    void *out;
};

struct tiles {
    int planes_f32;      /* of a product of f32 matrices; 0: those are left to gemm.h */
    int planes_bf16;     /* of others */
    bool holds_bf16;     /* frozen matrices in bf16 are packed once */
    int64_t left, right; /* bytes of a plane of a block of these matrices; multiples of 64 */
    int64_t row;         /* bytes of a row of a left one */
    enum dtype in_place; /* left matrices of this type are read where they lie; f16: none */
    enum dtype sums;     /* f16: good for results in bf16 only */
    void (*begin)(void);
    void (*end)(void);
    /* dst: as many planes of such a block. */
    void (*pack)(void *dst, const struct tile_block *b, enum tile_form form, int planes);
    /* c [32, 32], ldc floats between rows, = sum of the terms, or added to c; rows and columns that
     * do not matter may stay undefined. Three planes leave out what is below 2^-24 of a product. */
    void (*product)(const struct tile_term *term, int n_terms, int planes, float *c, int64_t ldc,
                    bool accumulate);
    void (*finish)(const float *tile, int64_t ld, const struct tile_out *o);
};

static inline bool tiles_hold_bf16(const struct tiles *t) {
    return t && t->holds_bf16;
}

/* Whether products of matrices in this type are done by t, which may be NULL. */
static inline bool tiles_take(const struct tiles *t, enum dtype dtype) {
    return t && (dtype == DTYPE_F32 ? t->planes_f32 : t->planes_bf16) > 0;
}

extern const struct tiles tiles_amx, tiles_avx512, tiles_bf16, tiles_fp16;

#endif
