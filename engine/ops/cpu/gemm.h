/* gemm: one tile of a matrix product, on the calling thread.
 *
 * What:    c [m, n] f32 = op(a) op(b), or added to c. The implementation is chosen by the device
 *          and the element types: oneDNN in bf16 or f32, or plain C.
 * Owns:    nothing; uses the worker's SLOT_GEMM_A and SLOT_GEMM_B.
 * Threads: any worker of a run, or the control thread as worker 0.
 * Errors:  none. The result depends on the arguments only, not on the thread.
 */
#ifndef FFWD_ENGINE_OPS_CPU_GEMM_H
#define FFWD_ENGINE_OPS_CPU_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ops/cpu/cpu.h"

struct operand {
    const void *data;
    enum dtype dtype; /* f32 or bf16 */
    int64_t stride;   /* elements between rows as stored */
    bool transposed;  /* stored [cols, rows] */
};

/* A tensor's data as an operand, stored as it is. */
static inline struct operand operand_of(struct tensor t) {
    return (struct operand){.data = t.data, .dtype = t.dtype, .stride = t.stride};
}

/* ldc: elements between rows of c. */
void gemm(struct cpu *c, int worker, int64_t m, int64_t n, int64_t k, struct operand a,
          struct operand b, float *out, int64_t ldc, bool accumulate);

#endif
