/* gemm_bf16: products of bf16 matrices in hardware (AVX512-BF16, AMX), by oneDNN.
 *
 * What:    a cache of oneDNN's matrix product primitives, by shape.
 * Owns:    the primitives; made when a shape is first used.
 * Threads: gemm_bf16 from any worker.
 * Errors:  a processor or library that cannot do it gives NULL from _new or false from gemm_bf16;
 *          the caller then widens to f32.
 */
#ifndef FFWD_ENGINE_OPS_CPU_GEMM_BF16_H
#define FFWD_ENGINE_OPS_CPU_GEMM_BF16_H

#include "engine/ops/cpu/gemm.h"

/* NULL where the processor has no bf16 products, or where a trial product comes out wrong. */
struct bf16_products *bf16_products_new(struct cpu *c);
void bf16_products_free(struct bf16_products *p);

/* As gemm; a and b are bf16. false: not possible, c is untouched. */
bool gemm_bf16(struct bf16_products *p, int worker, int64_t m, int64_t n, int64_t k,
               struct operand a, struct operand b, float *out, int64_t ldc, bool accumulate);

#endif
