/* attention_forward: softmax(scale · q kᵀ) v by blocks (Dao et al. 2022): a running maximum and sum
 * for each query, so that nothing of size length² is ever in memory.
 *
 * First k and vᵀ of every key/value head are packed, once for all that read them. An item is then
 * some positions of one example in all the query heads that share a key/value head: one panel of 32
 * queries for each head and 32 positions, so that a block of keys is used while it is in cache. All
 * is computed transposed: Sᵀ = k qᵀ, outᵀ = vᵀ Pᵀ. */
#include <math.h>
#include <string.h>

#include "engine/ops/cpu/attention.h"

#define ITEM_BLOCKS 2 /* of positions; also what is packed at once */
#define KEY_BLOCKS 4  /* walked at once */

/* Positions of one example. */
struct row_block {
    int32_t start;  /* row where the example begins */
    int32_t len;    /* of the example */
    int32_t first;  /* block within the example */
    int64_t packed; /* the example's first block among the packed ones */
};

struct attention_run {
    struct cpu *c;
    const struct attention *a;
    const struct blocks *e;
    struct tensor q, k, v, out;
    float *lse;
    int64_t tokens, packed, wide; /* blocks in all; blocks of head_dim */
    char *kp, *vp;                /* [kv heads, packed, wide] */
    struct row_block *blocks;
};

/* Examples' last blocks see the most keys; they are put first so that no thread is left with one at
 * the end. Returns how many there are. */
static int64_t list_blocks(const struct batch *b, struct row_block *blocks) {
    int64_t n = 0;
    for (int64_t first = blocks_of(b->max_len) / ITEM_BLOCKS * ITEM_BLOCKS; first >= 0;
         first -= ITEM_BLOCKS) {
        int64_t packed = 0;
        for (int32_t s = 0; s < b->n_seqs; s++) {
            int32_t start = b->seq_start[s], len = b->seq_start[s + 1] - start;
            if (first < blocks_of(len))
                blocks[n++] = (struct row_block){start, len, (int32_t)first, packed};
            packed += blocks_of(len);
        }
    }
    return n;
}

static int64_t rows_in(int64_t len, int64_t block) {
    int64_t left = len - block * BLOCK_UNIT;
    return left < BLOCK_UNIT ? left : BLOCK_UNIT;
}

static struct range item_blocks(const struct row_block *b) {
    return range_in((struct range){b->first, b->first + ITEM_BLOCKS}, 0, blocks_of(b->len));
}

/* Where a block of keys lies in a packed buffer. */
static char *packed_at(const struct attention_run *r, char *buffer, int64_t kv, int64_t block) {
    return buffer + (kv * r->packed + block) * r->wide * block_bytes(r->e);
}

static void pack_item(void *arg, int64_t item, int worker) {
    (void)worker;
    struct attention_run *r = arg;
    const struct row_block *b = &r->blocks[item / r->a->n_kv_heads];
    int64_t kv = item % r->a->n_kv_heads, size = block_bytes(r->e);
    struct head_rows k = {r->k, kv, r->a->head_dim}, v = {r->v, kv, r->a->head_dim};
    struct range blocks = item_blocks(b);
    for (int64_t i = blocks.first; i < blocks.end; i++) {
        int64_t row = b->start + i * BLOCK_UNIT, n = rows_in(b->len, i);
        attention_pack(r->e, k, row, n, TILE_LEFT, size, packed_at(r, r->kp, kv, b->packed + i));
        attention_pack(r->e, v, row, n, TILE_LEFT_TRANSPOSED, size,
                       packed_at(r, r->vp, kv, b->packed + i));
    }
}

/* 32 queries of one head. */
struct panel {
    int64_t head, block;
    bool begun;
    struct block_softmax state;
    char *q;    /* qᵀ, right blocks [wide] */
    float *out; /* outᵀ [wide · 32, 32] */
};

struct forward_item {
    const struct row_block *b;
    int64_t kv, n_panels;
    struct panel *panels;
    float *s; /* [KEY_BLOCKS · 32, 32] */
    char *p;  /* right blocks [KEY_BLOCKS] */
    float *rows;
};

static void lay_out(const struct attention_run *r, struct forward_item *w, struct pieces *m) {
    int64_t size = block_bytes(r->e), square = BLOCK_UNIT * BLOCK_UNIT * (int64_t)sizeof(float);
    w->panels = piece(m, w->n_panels * (int64_t)sizeof *w->panels);
    for (int64_t i = 0; i < w->n_panels; i++) {
        char *q = piece(m, r->wide * size);
        float *out = piece(m, r->wide * square);
        if (m->base)
            w->panels[i] = (struct panel){.q = q, .out = out};
    }
    w->s = piece(m, KEY_BLOCKS * square);
    w->p = piece(m, KEY_BLOCKS * size);
    w->rows = piece(m, r->wide * square);
}

static void load_panels(const struct attention_run *r, struct forward_item *w) {
    int64_t group = r->a->n_heads / r->a->n_kv_heads;
    for (int64_t i = 0; i < w->n_panels; i++) {
        struct panel *p = &w->panels[i];
        p->head = w->kv * group + i % group;
        p->block = w->b->first + i / group;
        for (int64_t j = 0; j < BLOCK_UNIT; j++)
            p->state.max[j] = BLOCK_MAX_NONE;
        attention_pack(r->e, (struct head_rows){r->q, p->head, r->a->head_dim},
                       w->b->start + p->block * BLOCK_UNIT, rows_in(w->b->len, p->block),
                       TILE_RIGHT_TRANSPOSED, block_bytes(r->e), p->q);
    }
}

static void panel_keys(const struct attention_run *r, struct forward_item *w, struct panel *p,
                       struct range keys) {
    const struct blocks *e = r->e;
    int64_t size = block_bytes(e), n = keys.end - keys.first, at = w->b->packed + keys.first;
    e->product(&(struct block_product){.rows = n,
                                       .steps = r->wide,
                                       .a = packed_at(r, r->kp, w->kv, at),
                                       .a_row = r->wide * size,
                                       .a_step = size,
                                       .b = p->q,
                                       .c = w->s,
                                       .ldc = BLOCK_UNIT});
    attention_mask(r->a, e, p->block, keys, w->s);
    e->softmax(w->s, n * BLOCK_UNIT, r->a->scale * LOG2_E, &p->state, w->p,
               p->begun ? p->out : NULL, r->wide * BLOCK_UNIT);
    e->product(&(struct block_product){.rows = r->wide,
                                       .steps = n,
                                       .a = packed_at(r, r->vp, w->kv, at),
                                       .a_row = size,
                                       .a_step = r->wide * size,
                                       .b = w->p,
                                       .c = p->out,
                                       .ldc = BLOCK_UNIT,
                                       .accumulate = p->begun});
    p->begun = true;
}

static void store_panel(const struct attention_run *r, const struct forward_item *w,
                        const struct panel *p) {
    int64_t row = w->b->start + p->block * BLOCK_UNIT, n = rows_in(w->b->len, p->block);
    float factor[BLOCK_UNIT];
    for (int64_t i = 0; i < BLOCK_UNIT; i++)
        factor[i] = 1.0f / p->state.sum[i];
    for (int64_t i = 0; i < n; i++)
        r->lse[p->head * r->tokens + row + i] = p->state.max[i] * LN_2 + logf(p->state.sum[i]);
    attention_store(r->c, r->e, (struct head_rows){r->out, p->head, r->a->head_dim}, row, n, p->out,
                    factor, w->rows);
}

int64_t attention_forward_bytes(const struct cpu *c, const struct op_shapes *most) {
    const struct attention_run r = {.e = attention_blocks(c, most->dtype),
                                    .wide = blocks_of(most->head_dim)};
    struct forward_item w = {.n_panels = ITEM_BLOCKS * most->heads * most->head_dim / most->keys};
    struct pieces m = {0};
    lay_out(&r, &w, &m);
    return (int64_t)m.used;
}

static void forward_item(void *arg, int64_t item, int worker) {
    struct attention_run *r = arg;
    const struct attention *a = r->a;
    struct forward_item w = {.b = &r->blocks[item / a->n_kv_heads], .kv = item % a->n_kv_heads};
    struct range blocks = item_blocks(w.b);
    w.n_panels = (blocks.end - blocks.first) * (a->n_heads / a->n_kv_heads);
    struct pieces m = {0};
    lay_out(r, &w, &m);
    m = (struct pieces){.base = cpu_scratch(r->c, worker, SLOT_TILE, m.used)};
    lay_out(r, &w, &m);
    load_panels(r, &w);
    r->e->begin();
    for (int64_t k = blocks_seen(a, blocks.first).first; k < blocks.end; k += KEY_BLOCKS)
        for (int64_t i = 0; i < w.n_panels; i++) {
            struct range seen = range_in(blocks_seen(a, w.panels[i].block), k, k + KEY_BLOCKS);
            if (seen.first < seen.end)
                panel_keys(r, &w, &w.panels[i], seen);
        }
    r->e->end();
    for (int64_t i = 0; i < w.n_panels; i++)
        store_panel(r, &w, &w.panels[i]);
    cpu_fence(r->c);
}

void cpu_attention_forward(struct device *dev, const struct attention *a, const struct batch *b,
                           struct tensor q, struct tensor k, struct tensor v, struct tensor out,
                           float *lse) {
    struct attention_run r = {.c = cpu_of(dev),
                              .a = a,
                              .e = attention_blocks(cpu_of(dev), q.dtype),
                              .q = q,
                              .k = k,
                              .v = v,
                              .out = out,
                              .lse = lse,
                              .tokens = b->n_tokens,
                              .wide = blocks_of(a->head_dim)};
    for (int32_t s = 0; s < b->n_seqs; s++)
        r.packed += blocks_of(b->seq_start[s + 1] - b->seq_start[s]);
    size_t bytes = (size_t)(a->n_kv_heads * r.packed * r.wide * block_bytes(r.e));
    r.kp = cpu_shared(r.c, SLOT_TILE, bytes);
    r.vp = cpu_shared(r.c, SLOT_ROW, bytes);
    r.blocks = cpu_shared(r.c, SLOT_ROW_2, (size_t)r.packed * sizeof *r.blocks);
    int64_t n = list_blocks(b, r.blocks);
    team_run(r.c->team, n * a->n_kv_heads, pack_item, &r);
    team_run(r.c->team, n * a->n_kv_heads, forward_item, &r);
}
