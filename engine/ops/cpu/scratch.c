/* scratch: memory that operations work in, and what it will come to. */
#include <stdlib.h>

#include "base/mem.h"
#include "engine/ops/cpu/attention.h"
#include "engine/ops/cpu/linear.h"

#define LARGE ((size_t)1 << 20)            /* blocks of so many bytes ask for huge pages */
#define PRODUCTS_SCRATCH ((size_t)4 << 20) /* of a thread's products by oneDNN, */
#define KERNELS ((size_t)8 << 20)          /* which writes kernels as it meets shapes */
#define ROW_BLOCK_BYTES ((int64_t)64)      /* at least what attention notes of 32 positions */

/* ---- taking --------------------------------------------------------------------------------- */

void *cpu_scratch(struct cpu *c, int worker, enum cpu_slot slot, size_t bytes) {
    struct cpu_scratch *s = &c->scratch[worker];
    if (s->size[slot] < bytes) {
        free(s->p[slot]);
        s->size[slot] = bytes + bytes / 4; /* so that a slot grows rarely */
        s->p[slot] = cpu_block_alloc_large(s->size[slot], LARGE);
        if (!s->p[slot])
            xmalloc(SIZE_MAX / 2); /* ends the process as any exhausted host memory does */
    }
    return s->p[slot];
}

void *cpu_shared(struct cpu *c, enum cpu_slot slot, size_t bytes) {
    return cpu_scratch(c, team_size(c->team), slot, bytes);
}

float *cpu_scratch_f32(struct cpu *c, int worker, enum cpu_slot slot, int64_t n) {
    return cpu_scratch(c, worker, slot, (size_t)n * sizeof(float));
}

/* ---- counting ------------------------------------------------------------------------------- */

static int64_t at_least(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t at_most(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void ask(struct cpu_need *n, enum cpu_slot slot, int64_t bytes) {
    n->bytes[slot] = at_least(n->bytes[slot], bytes);
}

static size_t total(const struct cpu_need *n) {
    int64_t sum = 0;
    for (int i = 0; i < SLOT_COUNT; i++)
        sum += n->bytes[i];
    return (size_t)sum;
}

/* See packs_at_use. */
static bool packs_each_time(const struct cpu *c, const struct op_shapes *most) {
    const struct tiles *t = c->choice->tiles;
    return tiles_take(t, most->dtype) && !(most->dtype == DTYPE_BF16 && tiles_hold_bf16(t));
}

/* Rows of the tallest tile of a product with a frozen matrix (grid.c). */
static int64_t tallest_tile(const struct cpu *c, const struct op_shapes *most) {
    int64_t rows = c->choice->tile_rows;
    return at_most(most->tokens, packs_each_time(c, most) ? 4 * rows : rows);
}

/* Elements of the largest tile of an input's gradient: its columns are the hidden ones, heads', or
 * most of all. */
static int64_t gradient_tile(const struct cpu *c, const struct op_shapes *most) {
    const int64_t columns[] = {most->hidden, most->heads * most->head_dim, most->inputs};
    int64_t largest = 0;
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        struct linear lin = {.dtype = most->dtype,
                             .weight = packs_each_time(c, most) ? &lin : NULL,
                             .backward = tiling_make(columns[i], c->choice->tile_cols, 64)};
        const struct grid g = grid_backward(c, &lin, most->tokens);
        largest = at_least(largest, g.rows.size * g.cols[0].size);
    }
    return largest;
}

/* Bytes of a block of either side of tile_product, and of a panel. */
struct sides {
    int64_t left, right, panel;
};

static struct sides sides_of(const struct product_choice *p, enum dtype dtype) {
    const struct tiles *t = p->tiles, *b = p->bf16_tiles;
    struct sides s = {t->planes_f32 * t->left, t->planes_f32 * t->right, p->panel_bytes};
    if (dtype == DTYPE_F32)
        return s;
    s.left = b->planes_bf16 * b->left;
    s.right = b->planes_bf16 * b->right;
    if (b->sums == DTYPE_F32)
        return s;
    s.left = at_least(s.left, t->planes_bf16 * t->left);
    s.right = at_least(s.right, t->planes_bf16 * t->right);
    return s;
}

/* A product [m, k] [k, n], see tile_product; packed: its right side is so already. */
static void ask_product(struct cpu_need *need, const struct sides *s, int64_t m, int64_t n,
                        int64_t k, bool packed) {
    if (n == 0) /* no LoRA */
        return;
    int64_t cols = blocks_of(n), all = blocks_of(k), most = s->panel / (cols * s->right);
    int64_t length = at_most(all, at_least(most, 4));
    ask(need, SLOT_LEFT, length * s->left);
    ask(need, SLOT_RIGHT, packed ? 0 : length * cols * s->right);
    if (length < all || m <= TILE_NARROW)
        ask(need, SLOT_SUMS,
            blocks_of(m) * cols * BLOCK_UNIT * BLOCK_UNIT * (int64_t)sizeof(float));
}

/* Sides and sums of all products; the grids' tiles are at most as large (grid.c). */
static void ask_tiles(const struct cpu *c, const struct op_shapes *most, struct cpu_need *n) {
    const struct sides s = sides_of(c->choice, most->dtype);
    int64_t m = tallest_tile(c, most), tile = c->choice->tile_cols, rank = blocks_of(most->rank);
    int64_t in = at_most(most->inputs, tile), out = at_most(most->outputs, tile);
    int64_t hidden = at_most(most->hidden, tile);
    int64_t shrunk = at_least(most->inputs, most->outputs);
    bool packed = !packs_each_time(c, most);
    ask_product(n, &s, m, out, most->hidden, packed);
    ask_product(n, &s, m, hidden, most->inputs, packed);
    ask_product(n, &s, m, at_most(most->vocab, tile), most->hidden, packed);
    ask_product(n, &s, m, most->rank, shrunk, false);
    ask_product(n, &s, m, at_most(most->rank, BLOCK_UNIT), shrunk, false); /* longer chunks */
    ask(n, SLOT_LEFT_2, rank * s.left);
    ask(n, SLOT_RIGHT_2, rank * blocks_of(at_least(in, out)) * s.right);
    if (!most->backward)
        return;
    const struct sides f32 = sides_of(c->choice, DTYPE_F32);
    ask_product(n, &s, m, hidden, most->outputs, packed);
    ask_product(n, &s, m, in, most->hidden, packed);
    ask_product(n, &s, m, hidden, most->vocab, packed);
    ask_product(n, &s, most->rank, at_least(in, out), most->tokens, false);
    if (most->width > 0)
        ask_product(n, &f32, most->rank, in, at_most(most->tokens, DROPPED_ROWS), false);
}

/* The same where gemm.c widens bf16. */
static void ask_widened(const struct cpu *c, const struct op_shapes *most, struct cpu_need *n) {
    if (most->dtype == DTYPE_F32)
        return;
    int64_t depth = GEMM_WIDEN_DEPTH * (int64_t)sizeof(float);
    ask(n, SLOT_LEFT, at_least(even_rows(c, most->tokens).size, most->rank) * depth);
    ask(n, SLOT_RIGHT, c->choice->tile_cols * depth);
}

struct cpu_need cpu_worker_need(const struct cpu *c, const struct op_shapes *most) {
    const int64_t f32 = (int64_t)sizeof(float);
    int64_t cols = c->choice->tile_cols, in = at_most(most->inputs, cols);
    int64_t widest = at_most(at_least(most->inputs, most->outputs), cols);
    int64_t tile = most->backward && most->width > 0 ? gradient_tile(c, most) * f32 : 0;
    bool tiles = tiles_take(c->choice->tiles, most->dtype);
    struct cpu_need n = {0};
    if (tiles)
        ask_tiles(c, most, &n);
    else
        ask_widened(c, most, &n);
    ask(&n, SLOT_TILE,
        cpu_head_rows(packs_each_time(c, most), most->targets) * at_most(most->vocab, cols) * f32);
    ask(&n, SLOT_TILE, attention_forward_bytes(c, most));
    for (enum cpu_slot s = SLOT_ROW; s <= SLOT_ROW_3; s++)
        ask(&n, s, at_least(most->inputs, most->outputs) * f32);
    if (most->dtype != DTYPE_F32)
        ask(&n, SLOT_TILE, tiles ? tile : tallest_tile(c, most) * widest * f32);
    if (most->width > 0)
        ask(&n, SLOT_ROW, even_rows(c, most->tokens).size * most->width * f32);
    if (!most->backward)
        return n;
    ask(&n, SLOT_TILE, attention_backward_bytes(c, most));
    ask(&n, SLOT_TILE, most->rank * widest * f32);
    if (most->width > 0)
        ask(&n, SLOT_ROW, at_least(tile, at_most(most->tokens, DROPPED_ROWS) * in * f32));
    return n;
}

struct cpu_need cpu_shared_need(const struct cpu *c, const struct op_shapes *most) {
    const int64_t f32 = (int64_t)sizeof(float);
    int64_t blocks = at_most(most->tokens, blocks_of(most->tokens + (BLOCK_UNIT - 1) * most->seqs));
    int64_t keys = attention_keys_bytes(c, most, blocks), lora = most->tokens * most->rank * f32;
    struct cpu_need n = {0};
    ask(&n, SLOT_TILE, at_least(keys, lora));
    ask(&n, SLOT_ROW, at_least(keys, most->backward ? lora : 0));
    ask(&n, SLOT_ROW_2, blocks * ROW_BLOCK_BYTES);
    ask(&n, SLOT_ROW, most->dora > 0 ? most->outputs * f32 : 0);
    ask(&n, SLOT_TILE, most->dora > 0 ? most->rank * most->rank * (int64_t)sizeof(double) : 0);
    if (most->backward)
        ask(&n, SLOT_TILE, (int64_t)cpu_head_bytes(c, most->targets, most->vocab, most->dtype));
    return n;
}

size_t cpu_scratch_bytes(struct device *dev, const struct op_shapes *most) {
    const struct cpu *c = cpu_of(dev);
    const struct cpu_need worker = cpu_worker_need(c, most), shared = cpu_shared_need(c, most);
    size_t thread = total(&worker), all = total(&shared);
    if (!tiles_take(c->choice->tiles, most->dtype))
        thread += PRODUCTS_SCRATCH;
    else if (most->dtype == DTYPE_F32)
        all += KERNELS;
    return all + (size_t)team_size(c->team) * thread;
}
