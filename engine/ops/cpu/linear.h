/* linear: the frozen matrices of one product.
 *
 * What:    struct linear of the CPU and helpers for linear_forward.c, linear_backward.c, head.c.
 * Owns:    a linear owns its copy of the weights.
 * Threads: read-only after linear_new.
 * Errors:  linear_new: ERR_NO_MEMORY.
 */
#ifndef FFWD_ENGINE_OPS_CPU_LINEAR_H
#define FFWD_ENGINE_OPS_CPU_LINEAR_H

#include "engine/ops/cpu/cpu.h"
#include "engine/ops/cpu/product.h"

/* The frozen matrix is stored plainly, or packed: tile by tile in the blocks that the products of
 * the forward pass read, and once more for those of the backward pass; or in bf16 for tiles.h. */
struct linear {
    int64_t in, out; /* out: of all parts together */
    int n_parts;
    int64_t first[LINEAR_PARTS + 1]; /* first row of a part; the last is out */
    enum dtype dtype;
    void *weight;   /* [out, stride], the parts one below the other; NULL: packed */
    bool borrowed;  /* weight lies in the memory of linear_new's caller */
    int64_t stride; /* elements between rows of weight */
    float *bias;    /* [out], or NULL */
    float *squares; /* [out] squared norms of the rows */
    struct tiling forward[LINEAR_PARTS], backward; /* tiles of a part's rows; of columns */
    struct packed **packed_forward[LINEAR_PARTS], **packed_backward; /* a matrix for each tile */
    void *tiled_forward[LINEAR_PARTS], *tiled_backward;
};

/* Wᵀ [in, n] of tile i of a part, and W [Σout, n] of tile i of the columns. */
struct operand weight_forward(const struct linear *lin, int part, int64_t i);
struct operand weight_backward(const struct linear *lin, int64_t i);

/* Element `offset` of the adapter as an operand for a product with matrices of dtype `with`: the
 * bf16 copy for bf16 products, else the f32 weights themselves. */
struct operand adapter_operand(const struct cpu *c, const struct adapter_mem *ad, size_t offset,
                               int64_t stride, enum dtype with);

/* Whether products pack the frozen matrix each time. */
static inline bool packs_at_use(const struct cpu *c, const struct linear *lin) {
    return lin->weight && tiles_take(c->tiles, lin->dtype);
}

/* Tiles of the rows of a product that has `columns` tiles of columns. */
struct tiling row_tiles(const struct cpu *c, const struct linear *lin, int64_t rows,
                        int64_t columns);

static inline bool dropout_on(const struct dropout *d) {
    return d && d->p > 0.0f;
}

#endif
