/* product: a block of a result, whole: sums of products, residual, bias and rounding.
 *
 * What:    out = residual + bias + Σ a b over the terms, on the calling thread: by tiles.h where
 *          the device has it (tile_product.c), else by gemm.h and passes over a block in cache.
 * Owns:    nothing; uses the worker's SLOT_LEFT to SLOT_SUMS, and SLOT_TILE.
 * Threads: any worker of a run.
 * Errors:  none. The result depends on the arguments only, not on the thread.
 */
#ifndef FFWD_ENGINE_OPS_CPU_PRODUCT_H
#define FFWD_ENGINE_OPS_CPU_PRODUCT_H

#include "engine/ops/cpu/gemm.h"

struct product_term {
    struct operand a, b; /* [m, k], [k, n] */
    int64_t k;
};

#define PRODUCT_TERMS 2
struct product {
    struct product_term term[PRODUCT_TERMS];
    int n_terms;
    int64_t width;                 /* of the whole whose columns out is; 0: out's. It cuts sums */
    const float *bias;             /* [n], or NULL */
    const struct tensor *residual; /* [m, n], or NULL; may be out */
    bool leaves;                   /* out is not read again soon, and not residual */
    struct tensor out;             /* [m, n] */
};

void cpu_product(struct cpu *c, int worker, const struct product *p);

/* Whether all operands are f32; their product then has errors as f32 products have. */
bool product_is_f32(const struct product *p);

/* The same by tiles that take it. Up to so many rows, chunks are shorter. */
#define TILE_NARROW 64
void tile_product(struct cpu *c, int worker, const struct product *p);

/* Bytes of op(b) [k, n] in bf16 as tile_product reads it packed, and the packing. */
size_t tile_packed_size(int64_t k, int64_t n);
void tile_pack(const struct cpu *c, struct operand b, int64_t k, int64_t n, void *dst);

#endif
