/* grid: the items of a product with a frozen matrix. See linear.h. */
#include "engine/ops/cpu/linear.h"

#define ROWS_LEAST 128 /* of a tile, where the matrix is packed for each, */
#define COLS_LEAST 96  /* and where rows are read again for each */
#define ROWS_SHORT 64  /* gemm.c and tile_product.c sum up to as many rows in another order */

/* What packing the matrix costs an item, as rows of the product; what reading the rows does, as
 * columns. */
#define PACKING 32
#define READING 8

/* Tiles of at most `most` rows; short only where all rows together are. */
static struct tiling tall(int64_t rows, int64_t most) {
    struct tiling t = tiling_make(rows, most, 32);
    while (t.count > 1 && tiling_count(&t, t.count - 1) <= ROWS_SHORT)
        t = tiling_make(rows, most += 32, 32);
    return t;
}

struct tiling even_rows(const struct cpu *c, int64_t rows) {
    return tall(rows, c->choice->tile_rows);
}

/* Columns of at most `width` each. */
static void cut_columns(struct grid *g, const int64_t *n, int64_t width) {
    g->columns = 0;
    for (int i = 0; i < g->n_parts; i++) {
        g->cols[i] = tiling_make(n[i], width, TILE_UNIT);
        g->columns += g->cols[i].count;
    }
}

/* The longest that a thread takes, where each item takes as long as the largest. */
static int64_t cost(const struct grid *g, int threads) {
    int64_t widest = 0, rounds = (grid_items(g) + threads - 1) / threads;
    for (int i = 0; i < g->n_parts; i++)
        widest = g->cols[i].size > widest ? g->cols[i].size : widest;
    return rounds * (widest + READING) * (g->rows.size + PACKING);
}

/* Tall tiles pack less and wide ones read less; but the threads shall end together. */
static struct grid best_grid(const struct cpu *c, int n_parts, const int64_t *n, int64_t rows) {
    struct grid best = {0}, g = {.n_parts = n_parts, .chosen = true};
    for (int64_t height = 4 * c->choice->tile_rows; height >= ROWS_LEAST; height /= 2) {
        g.rows = tall(rows, height);
        for (int64_t width = c->choice->tile_cols; width >= COLS_LEAST; width -= TILE_UNIT) {
            cut_columns(&g, n, width);
            if (best.n_parts == 0 || cost(&g, team_size(c->team)) < cost(&best, team_size(c->team)))
                best = g;
        }
    }
    return best;
}

static struct grid make(const struct cpu *c, const struct linear *lin, int n_parts,
                        const struct tiling *cols, int64_t rows) {
    struct grid g = {.n_parts = n_parts, .rows = tiling_make(rows, c->choice->tile_rows, 32)};
    int64_t n[LINEAR_PARTS];
    for (int i = 0; i < n_parts; i++) {
        n[i] = cols[i].n;
        g.cols[i] = cols[i];
        g.columns += cols[i].count;
    }
    return packs_at_use(c, lin) ? best_grid(c, n_parts, n, rows) : g;
}

struct grid grid_forward(const struct cpu *c, const struct linear *lin, int64_t rows) {
    return make(c, lin, lin->n_parts, lin->forward, rows);
}

struct grid grid_backward(const struct cpu *c, const struct linear *lin, int64_t rows) {
    return make(c, lin, 1, &lin->backward, rows);
}

struct grid_tile grid_tile_of(const struct grid *g, int64_t item) {
    int64_t row = item % g->rows.count, col = item / g->rows.count;
    struct grid_tile t = {.row = tiling_first(&g->rows, row), .rows = tiling_count(&g->rows, row)};
    while (col >= g->cols[t.part].count)
        col -= g->cols[t.part++].count;
    t.col = tiling_first(&g->cols[t.part], col);
    t.cols = tiling_count(&g->cols[t.part], col);
    return t;
}
