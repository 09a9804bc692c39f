/* linear: the frozen matrices of one product.
 *
 * What:    struct linear of the CPU and helpers for linear_forward.c, linear_backward.c, head.c.
 * Owns:    a linear owns its copy of the weights, or borrows those that are used as they lie.
 * Threads: read-only after linear_new.
 * Errors:  linear_new: ERR_NO_MEMORY.
 */
#ifndef FFWD_ENGINE_OPS_CPU_LINEAR_H
#define FFWD_ENGINE_OPS_CPU_LINEAR_H

#include "engine/ops/cpu/cpu.h"
#include "engine/ops/cpu/product.h"

/* The frozen matrix is stored plainly; or, where tiles hold bf16, packed for the products of the
 * forward pass, and once more for those of the backward pass. */
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
    struct tiling forward[LINEAR_PARTS], backward;        /* tiles of a part's rows; of columns */
    void *packed_forward[LINEAR_PARTS], *packed_backward; /* NULL: not packed */
};

/* Wᵀ [in, …] from column `col` of a part on, and W [Σout, …] from column `col` on, where a tile of
 * the linear or of a grid begins. */
struct operand weight_forward(const struct linear *lin, int part, int64_t col);
struct operand weight_backward(const struct linear *lin, int64_t col);

/* Element `offset` of the adapter as an operand for a product with matrices of dtype `with`: the
 * bf16 copy for bf16 products, else the f32 weights themselves. */
struct operand adapter_operand(const struct cpu *c, const struct adapter_mem *ad, size_t offset,
                               int64_t stride, enum dtype with);

/* Whether products pack the frozen matrix each time. */
static inline bool packs_at_use(const struct cpu *c, const struct linear *lin) {
    return lin->weight && tiles_take(c->choice->tiles, lin->dtype);
}

/* How a product with a frozen matrix is cut into items. No result depends on it, so that it may
 * depend on the number of threads. */
struct grid {
    int n_parts;
    struct tiling rows, cols[LINEAR_PARTS];
    int64_t columns; /* tiles of all parts */
    bool chosen;     /* for the threads; else they are the linear's */
};
/* product.width of a part's tiles. */
static inline int64_t grid_width(const struct grid *g, int part) {
    return g->chosen ? g->cols[part].n : 0;
}
struct grid grid_forward(const struct cpu *c, const struct linear *lin, int64_t rows);
struct grid grid_backward(const struct cpu *c, const struct linear *lin, int64_t rows);

/* Rows and columns of one item. */
struct grid_tile {
    int part;
    int64_t row, rows, col, cols; /* col: within the part */
};
static inline int64_t grid_items(const struct grid *g) {
    return g->rows.count * g->columns;
}
struct grid_tile grid_tile_of(const struct grid *g, int64_t item);

/* Tokens of drop(x) that are in memory at a time, where sums run over tokens. */
#define DROPPED_ROWS 256

/* Tiles of at most c->choice->tile_rows rows that are all summed in the same order (gemm.h). */
struct tiling even_rows(const struct cpu *c, int64_t rows);

static inline bool dropout_on(const struct dropout *d) {
    return d && d->p > 0.0f;
}

#endif
