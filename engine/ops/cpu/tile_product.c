/* tile_product: cpu_product by the functions of tiles.h.
 *
 * The shared dimension of the first term is walked in chunks whose right side, packed, stays in
 * a cache (panel_bytes in product_choice.c); within a chunk, 32 rows at a time meet all columns.
 * Where tiles hold bf16, a frozen matrix in bf16 is packed already; rows of the type that tiles
 * read in place stay where they lie; all else is packed as it is reached. Other terms are short and
 * join the last chunk. */
#include <string.h>

#include "engine/ops/cpu/product.h"
#include "engine/ops/cpu/tiles.h"

#define PANEL_BYTES_NARROW ((int64_t)1 << 19) /* of the right side of a chunk, for few rows */

/* One term as the current chunk sees it. */
struct side {
    const struct product_term *term;
    int64_t k0, k; /* the chunk's part of the shared dimension */
    bool direct;   /* rows are read where they lie */
    char *left;    /* else a packed group of 32 */
    char *packed;  /* memory for the right side; NULL: it is packed already */
    const char *right;
    int64_t group; /* bytes between groups of columns */
};

struct run {
    struct cpu *c;
    const struct tiles *t;
    const struct product *p;
    int64_t m, n;
    int planes;
    bool past_cache;
    int64_t left, right; /* bytes of a block */
    struct side side[PRODUCT_TERMS];
    float *sums; /* of blocks between chunks; NULL: not needed, or kept in out */
    int64_t sums_stride;
};

static int64_t blocks(int64_t n) {
    return (n + TILE_UNIT - 1) / TILE_UNIT;
}

static int64_t at_most(int64_t n, int64_t most) {
    return n < most ? n : most;
}

/* The block at (row, col) of op(x), which is [rows, cols]. */
static void pack_block(const struct tiles *t, struct operand op, int64_t row, int64_t rows,
                       int64_t col, int64_t cols, bool left, int planes, void *dst) {
    int64_t count = at_most(rows - row, TILE_UNIT), width = at_most(cols - col, TILE_UNIT);
    int64_t at = op.transposed ? col * op.stride + row : row * op.stride + col;
    struct tile_block b = {.data = (const char *)op.data + at * (int64_t)dtype_size(op.dtype),
                           .dtype = op.dtype,
                           .stride = op.stride,
                           .rows = op.transposed ? width : count,
                           .cols = op.transposed ? count : width};
    enum tile_form form = left ? TILE_LEFT : TILE_RIGHT;
    t->pack(dst, &b, op.transposed ? form + 1 : form, planes);
}

size_t tile_packed_size(int64_t k, int64_t n) {
    return (size_t)(blocks(k) * blocks(n)) * TILE_BYTES;
}

void tile_pack(const struct cpu *c, struct operand b, int64_t k, int64_t n, void *dst) {
    char *to = dst;
    for (int64_t j = 0; j < n; j += TILE_UNIT)
        for (int64_t l = 0; l < k; l += TILE_UNIT, to += TILE_BYTES)
            pack_block(c->choice->tiles, b, l, k, j, n, false, 1, to);
}

/* ---- a chunk -------------------------------------------------------------------------------- */

static void pack_right(const struct run *r, struct side *s) {
    struct operand b = s->term->b;
    int64_t size = r->right;
    if (!s->packed) {
        s->right = (const char *)b.data + s->k0 / TILE_UNIT * TILE_BYTES;
        s->group = b.stride * (int64_t)sizeof(uint16_t);
        return;
    }
    s->right = s->packed;
    s->group = blocks(s->k) * size;
    int64_t n = blocks(r->n), k = blocks(s->k);
    for (int64_t i = 0; i < n * k; i++) { /* along the rows as they are stored */
        int64_t j = b.transposed ? i / k : i % n, l = b.transposed ? i % k : i / n;
        pack_block(r->t, b, s->k0 + l * TILE_UNIT, s->k0 + s->k, j * TILE_UNIT, r->n, false,
                   r->planes, s->packed + j * s->group + l * size);
    }
}

/* The left side's group of rows from `row` on. */
static struct tile_term load_left(const struct run *r, const struct side *s, int64_t row) {
    struct operand a = s->term->a;
    int64_t size = r->left;
    int64_t element = (int64_t)dtype_size(a.dtype);
    if (s->direct && row + TILE_UNIT <= r->m)
        return (struct tile_term){.a = (const char *)a.data + (row * a.stride + s->k0) * element,
                                  .a_row = a.stride * element,
                                  .a_half = a.stride * TILE_UNIT / 2 * element,
                                  .a_step = TILE_UNIT * element,
                                  .steps = blocks(s->k),
                                  .rows = TILE_UNIT,
                                  .depth = s->k};
    char *to = s->left;
    for (int64_t l = s->k0; l < s->k0 + s->k; l += TILE_UNIT, to += size)
        pack_block(r->t, a, row, r->m, l, s->k0 + s->k, true, r->planes, to);
    return (struct tile_term){.a = s->left,
                              .a_row = r->t->row,
                              .a_half = r->t->row * TILE_UNIT / 2,
                              .a_step = size,
                              .steps = blocks(s->k),
                              .rows = at_most(r->m - row, TILE_UNIT),
                              .depth = s->k};
}

static void *tensor_at(struct tensor t, int64_t row, int64_t col) {
    return (char *)row_at(t, row) + col * (int64_t)dtype_size(t.dtype);
}

static void finish(const struct run *r, int64_t row, int64_t col, const float *tile, int64_t ld,
                   const struct tensor *residual) {
    const struct product *p = r->p;
    struct tile_out o = {.rows = at_most(r->m - row, TILE_UNIT),
                         .cols = at_most(r->n - col, TILE_UNIT),
                         .bias = p->bias ? p->bias + col : NULL,
                         .dtype = p->out.dtype,
                         .stride = p->out.stride,
                         .past_cache = r->past_cache,
                         .out = tensor_at(p->out, row, col)};
    if (residual) {
        o.residual = tensor_at(*residual, row, col);
        o.residual_dtype = residual->dtype;
        o.residual_stride = residual->stride;
    }
    r->t->finish(tile, ld, &o);
}

/* 32 rows and all columns of a chunk. */
static void row_group(const struct run *r, int64_t row, int n_sides, bool first, bool last) {
    struct tile_term term[PRODUCT_TERMS];
    float block[TILE_UNIT * TILE_UNIT] __attribute__((aligned(64)));
    for (int i = 0; i < n_sides; i++)
        term[i] = load_left(r, &r->side[i], row);
    for (int64_t col = 0; col < r->n; col += TILE_UNIT) {
        float *sum = r->sums ? r->sums + row * r->sums_stride + col : block;
        int64_t ld = r->sums ? r->sums_stride : TILE_UNIT;
        for (int i = 0; i < n_sides; i++) {
            term[i].b = r->side[i].right + col / TILE_UNIT * r->side[i].group;
            term[i].cols = at_most(r->n - col, TILE_UNIT);
        }
        r->t->product(term, n_sides, r->planes, sum, ld, !first);
        if (last)
            finish(r, row, col, sum, ld, r->p->residual);
    }
}

static void chunk(struct run *r, int64_t k0, int64_t k) {
    const struct product *p = r->p;
    bool last = k0 + k >= p->term[0].k;
    int n_sides = last ? p->n_terms : 1;
    r->side[0].k0 = k0;
    r->side[0].k = k;
    for (int i = 0; i < n_sides; i++)
        pack_right(r, &r->side[i]);
    for (int64_t row = 0; row < r->m; row += TILE_UNIT)
        row_group(r, row, n_sides, k0 == 0, last);
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* Length of a chunk: even pieces of the shared dimension, in whole blocks. The same for all tiles
 * of columns of a whole, however it is cut into them. */
static int64_t chunk_length(const struct run *r) {
    const struct product_term *t = &r->p->term[0];
    int64_t bytes =
        r->m <= TILE_NARROW && !t->b.packed ? PANEL_BYTES_NARROW : r->c->choice->panel_bytes;
    int64_t width = r->p->width ? at_most(r->p->width, r->c->choice->tile_cols) : r->n;
    int64_t most = bytes / (blocks(width) * r->right);
    most = (most > 4 ? most : 4) * TILE_UNIT;
    struct tiling even = tiling_make(t->k, most, TILE_UNIT);
    return even.size;
}

static void prepare(struct run *r, int worker, int64_t length) {
    static const enum cpu_slot left[] = {SLOT_LEFT, SLOT_LEFT_2};
    static const enum cpu_slot right[] = {SLOT_RIGHT, SLOT_RIGHT_2};
    for (int i = 0; i < r->p->n_terms; i++) {
        const struct product_term *t = &r->p->term[i];
        struct side *s = &r->side[i];
        int64_t k = i == 0 ? length : t->k;
        *s = (struct side){.term = t, .k = t->k};
        s->direct = t->a.dtype == r->t->in_place && !t->a.transposed && t->k % TILE_UNIT == 0;
        s->left = cpu_scratch(r->c, worker, left[i], (size_t)(blocks(k) * r->left));
        if (!t->b.packed)
            s->packed =
                cpu_scratch(r->c, worker, right[i], (size_t)(blocks(k) * blocks(r->n) * r->right));
    }
}

void tile_product(struct cpu *c, int worker, const struct product *p) {
    struct run r = {
        .c = c, .t = c->choice->tiles, .p = p, .m = p->out.rows, .n = p->out.cols, .planes = 1};
    r.past_cache = p->leaves && c->choice->writes_past_cache;
    if (r.m <= 0 || r.n <= 0)
        return;
    bool f32 = product_is_f32(p);
    if (!f32 && (c->choice->bf16_tiles->sums == DTYPE_F32 || p->out.dtype == DTYPE_BF16))
        r.t = c->choice->bf16_tiles;
    r.planes = f32 ? r.t->planes_f32 : r.t->planes_bf16;
    r.left = r.planes * r.t->left;
    r.right = r.planes * r.t->right;
    int64_t k = p->term[0].k, length = chunk_length(&r);
    prepare(&r, worker, length);
    if (length < k) {
        r.sums_stride = blocks(r.n) * TILE_UNIT;
        r.sums = cpu_scratch_f32(c, worker, SLOT_SUMS, blocks(r.m) * TILE_UNIT * r.sums_stride);
    }
    r.t->begin();
    for (int64_t k0 = 0; k0 < k; k0 += length)
        chunk(&r, k0, at_most(k - k0, length));
    r.t->end();
    if (r.past_cache)
        cpu_fence(c);
}
