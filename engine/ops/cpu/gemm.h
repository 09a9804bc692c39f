/* gemm: one tile of a matrix product, on the calling thread.
 *
 * What:    c [m, n] f32 = op(a) op(b), or added to c. The implementation is chosen by the device
 *          and the element types: tiles (tile_product.c), oneDNN's f32 product, or plain C; the
 *          last two widen bf16 first.
 * Owns:    nothing; uses the worker's SLOT_LEFT and SLOT_RIGHT, and those of tile_product.
 * Threads: any worker of a run.
 * Errors:  none. The result depends on the arguments only, not on the thread.
 */
#ifndef FFWD_ENGINE_OPS_CPU_GEMM_H
#define FFWD_ENGINE_OPS_CPU_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ops/cpu/cpu.h"

/* Of the shared dimension, where bf16 is widened. */
#define GEMM_WIDEN_DEPTH 512

struct operand {
    const void *data;
    enum dtype dtype; /* f32 or bf16 */
    int64_t stride;   /* elements between rows as stored */
    bool transposed;  /* stored [cols, rows] */
    bool packed;      /* b only: as tiles.h says, bf16; stride: elements between two groups */
};

/* A tensor's data as an operand, stored as it is. */
static inline struct operand operand_of(struct tensor t) {
    return (struct operand){.data = t.data, .dtype = t.dtype, .stride = t.stride};
}
static inline struct operand operand_f32(const float *data, int64_t stride) {
    return (struct operand){.data = data, .dtype = DTYPE_F32, .stride = stride};
}
static inline struct operand transposed(struct operand op) {
    op.transposed = !op.transposed;
    return op;
}

/* ldc: elements between rows of c. */
void gemm(struct cpu *c, int worker, int64_t m, int64_t n, int64_t k, struct operand a,
          struct operand b, float *out, int64_t ldc, bool accumulate);

/* Holds oneDNN to an instruction set. The first call in a process decides. */
void gemm_limit(enum isa isa);

#endif
