/* attention_backward: gradients of q, k, v, with the probabilities computed again from lse (Dao et
 * al. 2022, algorithm 4). An item is one key/value head of one example: it walks positions, with
 * the query heads that share the key/value head side by side, and for each the keys, so dk and dv
 * are sums in a fixed order. With P = exp(scale·S - lse), D = rowsum(dout · out):
 *   dV = Pᵀ dout,  dS = P · (dout Vᵀ - D),  dQ = scale · dS K,  dK = scale · dSᵀ Q.
 * All is computed transposed, a row for a key: Sᵀ = K Qᵀ and dPᵀ = V doutᵀ make Pᵀ and dSᵀ, which
 * are the left operands of dV and dK as they stand, and dQᵀ = Kᵀ dSᵀ. */
#include <string.h>

#include "engine/ops/cpu/attention.h"

#define ITEM_BLOCKS 2 /* of positions at a time */
#define KEY_BLOCKS 2

struct attention_back {
    struct cpu *c;
    const struct attention *a;
    const struct batch *b;
    const struct blocks *e;
    struct tensor q, k, v, out, dout, dq, dk, dv;
    const float *lse;
    int64_t tokens, group, wide; /* query heads of a key/value head; blocks of head_dim */
};

/* 32 queries of one head. */
struct back_panel {
    int64_t head, block;
    bool begun;
    char *qt, *dout_t; /* right blocks of the transposed, [wide] */
    float *dq;         /* dQᵀ [wide · 32, 32] */
    float lse[BLOCK_UNIT], delta[BLOCK_UNIT];
};

/* What one item has in memory. */
struct back_item {
    int64_t kv, start, len, most; /* most: panels at a time */
    char *k, *v, *kt;             /* left blocks [len / 32, wide]; kt of the transposed */
    float *dk, *dv;               /* [len, wide · 32] */
    int64_t first, n_panels;      /* the panels at work: from which block on */
    struct back_panel *panels;
    char *q, *dout; /* right blocks [wide, most] */
    float *s, *dp;  /* [KEY_BLOCKS · 32, 32] */
    char *p, *ds;   /* left blocks [KEY_BLOCKS, most] */
    char *ds_right; /* right blocks [KEY_BLOCKS] of a panel */
    float *rows;    /* [32, wide · 32] */
};

static void lay_out(const struct attention_back *r, struct back_item *w, struct pieces *m) {
    int64_t size = block_bytes(r->e), f32 = BLOCK_UNIT * BLOCK_UNIT * (int64_t)sizeof(float);
    int64_t all = blocks_of(w->len) * r->wide;
    w->k = piece(m, all * size);
    w->v = piece(m, all * size);
    w->kt = piece(m, all * size);
    w->dk = piece(m, all * f32);
    w->dv = piece(m, all * f32);
    w->q = piece(m, w->most * r->wide * size);
    w->dout = piece(m, w->most * r->wide * size);
    w->s = piece(m, KEY_BLOCKS * f32);
    w->dp = piece(m, KEY_BLOCKS * f32);
    w->p = piece(m, KEY_BLOCKS * w->most * size);
    w->ds = piece(m, KEY_BLOCKS * w->most * size);
    w->ds_right = piece(m, KEY_BLOCKS * size);
    w->rows = piece(m, r->wide * f32);
    w->panels = piece(m, w->most * (int64_t)sizeof *w->panels);
    for (int64_t i = 0; i < w->most; i++) {
        char *qt = piece(m, r->wide * size), *dout_t = piece(m, r->wide * size);
        float *dq = piece(m, r->wide * f32);
        if (m->base)
            w->panels[i] = (struct back_panel){.qt = qt, .dout_t = dout_t, .dq = dq};
    }
}

static struct head_rows head_of(const struct attention_back *r, struct tensor t, int64_t head) {
    return (struct head_rows){t, head, r->a->head_dim};
}

static int64_t rows_in(const struct back_item *w, int64_t block) {
    int64_t left = w->len - block * BLOCK_UNIT;
    return left < BLOCK_UNIT ? left : BLOCK_UNIT;
}

static void load_keys(const struct attention_back *r, struct back_item *w) {
    int64_t size = block_bytes(r->e), blocks = blocks_of(w->len);
    struct head_rows k = head_of(r, r->k, w->kv), v = head_of(r, r->v, w->kv);
    for (int64_t i = 0; i < blocks; i++) {
        int64_t row = w->start + i * BLOCK_UNIT, n = rows_in(w, i), at = i * r->wide * size;
        attention_pack(r->e, k, row, n, TILE_LEFT, size, w->k + at);
        attention_pack(r->e, k, row, n, TILE_LEFT_TRANSPOSED, size, w->kt + at);
        attention_pack(r->e, v, row, n, TILE_LEFT, size, w->v + at);
    }
    size_t bytes = (size_t)(blocks * r->wide * BLOCK_UNIT * BLOCK_UNIT) * sizeof *w->dk;
    memset(w->dk, 0, bytes);
    memset(w->dv, 0, bytes);
}

/* lse and D = dout · out of the queries; 0 beyond them, where S and dP are 0. */
static void load_statistics(const struct attention_back *r, struct back_item *w,
                            struct back_panel *p) {
    int64_t d = r->a->head_dim, n = rows_in(w, p->block), row = w->start + p->block * BLOCK_UNIT;
    float *buf = w->rows; /* not in use yet */
    struct tensor out = head_tensor(head_of(r, r->out, p->head), row, n);
    struct tensor dout = head_tensor(head_of(r, r->dout, p->head), row, n);
    memset(p->lse, 0, sizeof p->lse);
    memset(p->delta, 0, sizeof p->delta);
    for (int64_t i = 0; i < n; i++) {
        const float *o = cpu_widen(r->c, out.dtype, row_at(out, i), d, buf);
        const float *g = cpu_widen(r->c, dout.dtype, row_at(dout, i), d, buf + d);
        p->delta[i] = r->c->k->dot(o, g, d);
        p->lse[i] = r->lse[p->head * r->tokens + row + i] * LOG2_E;
    }
}

static void load_panels(const struct attention_back *r, struct back_item *w, int64_t first) {
    struct range blocks =
        range_in((struct range){first, first + ITEM_BLOCKS}, 0, blocks_of(w->len));
    int64_t size = block_bytes(r->e), step = w->most * size;
    w->first = first;
    w->n_panels = (blocks.end - blocks.first) * r->group;
    for (int64_t i = 0; i < w->n_panels; i++) {
        struct back_panel *p = &w->panels[i];
        p->head = w->kv * r->group + i % r->group;
        p->block = first + i / r->group;
        p->begun = false;
        int64_t row = w->start + p->block * BLOCK_UNIT, n = rows_in(w, p->block);
        struct head_rows q = head_of(r, r->q, p->head), dout = head_of(r, r->dout, p->head);
        attention_pack(r->e, q, row, n, TILE_RIGHT_TRANSPOSED, size, p->qt);
        attention_pack(r->e, q, row, n, TILE_RIGHT, step, w->q + i * size);
        attention_pack(r->e, dout, row, n, TILE_RIGHT_TRANSPOSED, size, p->dout_t);
        attention_pack(r->e, dout, row, n, TILE_RIGHT, step, w->dout + i * size);
        load_statistics(r, w, p);
    }
}

/* Pᵀ and dSᵀ of panel i with keys from block k on, and what they add to dQᵀ. */
static void panel_keys(const struct attention_back *r, struct back_item *w, int64_t i, int64_t k) {
    const struct blocks *e = r->e;
    struct back_panel *p = &w->panels[i];
    struct range keys = range_in(blocks_seen(r->a, p->block), k, k + KEY_BLOCKS);
    int64_t size = block_bytes(e), n = keys.end - keys.first, at = keys.first * r->wide * size;
    int64_t step = w->most * size, left = (keys.first - k) * step + i * size;
    if (n <= 0)
        return;
    struct block_product scores = {.rows = n,
                                   .steps = r->wide,
                                   .a = w->k + at,
                                   .a_row = r->wide * size,
                                   .a_step = size,
                                   .b = p->qt,
                                   .c = w->s,
                                   .ldc = BLOCK_UNIT};
    e->product(&scores);
    attention_mask(r->a, e, p->block, keys, w->s);
    scores.a = w->v + at, scores.b = p->dout_t, scores.c = w->dp;
    e->product(&scores);
    struct block_gradient to = {w->p + left, w->ds + left, w->ds_right, step};
    e->softmax_backward(w->s, w->dp, n * BLOCK_UNIT, r->a->scale * LOG2_E, p->lse, p->delta, &to);
    e->product(&(struct block_product){.rows = r->wide,
                                       .steps = n,
                                       .a = w->kt + at,
                                       .a_row = size,
                                       .a_step = r->wide * size,
                                       .b = w->ds_right,
                                       .c = p->dq,
                                       .ldc = BLOCK_UNIT,
                                       .accumulate = p->begun});
    p->begun = true;
}

/* What the panels that see a block of keys add to its dV and dK; k: where the walk is. */
static void add_to_keys(const struct attention_back *r, struct back_item *w, int64_t block,
                        int64_t k) {
    int64_t size = block_bytes(r->e), step = w->most * size, first = w->n_panels, end = 0;
    for (int64_t i = 0; i < w->n_panels; i++) {
        struct range seen = blocks_seen(r->a, w->panels[i].block);
        if (seen.first <= block && block < seen.end) {
            first = i < first ? i : first;
            end = i + 1;
        }
    }
    int64_t left = (block - k) * step + first * size;
    struct block_product add = {.rows = 1,
                                .steps = end - first,
                                .a_step = size,
                                .ldc = r->wide * BLOCK_UNIT,
                                .accumulate = true};
    for (int64_t i = 0; i < r->wide && first < end; i++) {
        int64_t right = i * step + first * size;
        int64_t to = (block * BLOCK_UNIT * r->wide + i) * BLOCK_UNIT;
        add.a = w->p + left, add.b = w->dout + right, add.c = w->dv + to;
        r->e->product(&add);
        add.a = w->ds + left, add.b = w->q + right, add.c = w->dk + to;
        r->e->product(&add);
    }
}

static void store_panels(const struct attention_back *r, const struct back_item *w) {
    float factor[BLOCK_UNIT];
    for (int64_t i = 0; i < BLOCK_UNIT; i++)
        factor[i] = r->a->scale;
    for (int64_t i = 0; i < w->n_panels; i++) {
        const struct back_panel *p = &w->panels[i];
        attention_store(r->c, r->e, head_of(r, r->dq, p->head), w->start + p->block * BLOCK_UNIT,
                        rows_in(w, p->block), p->dq, factor, w->rows);
    }
}

static void store_keys(const struct attention_back *r, struct back_item *w) {
    int64_t width = r->wide * BLOCK_UNIT, d = r->a->head_dim;
    struct tensor dk = head_tensor(head_of(r, r->dk, w->kv), w->start, w->len);
    struct tensor dv = head_tensor(head_of(r, r->dv, w->kv), w->start, w->len);
    r->c->k->scale(w->dk, w->dk, r->a->scale, w->len * width);
    for (int64_t i = 0; i < w->len; i++) {
        cpu_write(r->c, r->dk, row_at(dk, i), w->dk + i * width, d);
        cpu_write(r->c, r->dv, row_at(dv, i), w->dv + i * width, d);
    }
}

int64_t attention_backward_bytes(const struct cpu *c, const struct op_shapes *most) {
    const struct attention_back r = {.e = attention_blocks(c, most->dtype),
                                     .wide = blocks_of(most->head_dim)};
    struct back_item w = {.len = most->longest,
                          .most = ITEM_BLOCKS * most->heads * most->head_dim / most->keys};
    struct pieces m = {0};
    lay_out(&r, &w, &m);
    return (int64_t)m.used;
}

static void backward_item(void *arg, int64_t item, int worker) {
    struct attention_back *r = arg;
    int64_t seq = item / r->a->n_kv_heads;
    struct back_item w = {.kv = item % r->a->n_kv_heads, .start = r->b->seq_start[seq]};
    w.len = r->b->seq_start[seq + 1] - w.start;
    w.most = ITEM_BLOCKS * r->group;
    struct pieces m = {0};
    lay_out(r, &w, &m);
    m = (struct pieces){.base = cpu_scratch(r->c, worker, SLOT_TILE, m.used)};
    lay_out(r, &w, &m);
    load_keys(r, &w);
    for (int64_t first = 0; first < blocks_of(w.len); first += ITEM_BLOCKS) {
        load_panels(r, &w, first);
        struct range keys = {blocks_seen(r->a, first).first, first + w.n_panels / r->group};
        r->e->begin();
        for (int64_t k = keys.first; k < keys.end; k += KEY_BLOCKS) {
            for (int64_t i = 0; i < w.n_panels; i++)
                panel_keys(r, &w, i, k);
            for (int64_t block = k; block < k + KEY_BLOCKS && block < keys.end; block++)
                add_to_keys(r, &w, block, k);
        }
        r->e->end();
        store_panels(r, &w);
    }
    store_keys(r, &w);
    cpu_fence(r->c);
}

void cpu_attention_backward(struct device *dev, const struct attention *a, const struct batch *b,
                            struct tensor q, struct tensor k, struct tensor v, struct tensor out,
                            const float *lse, struct tensor dout, struct tensor dq,
                            struct tensor dk, struct tensor dv) {
    struct attention_back r = {.c = cpu_of(dev),
                               .a = a,
                               .b = b,
                               .e = attention_blocks(cpu_of(dev), q.dtype),
                               .q = q,
                               .k = k,
                               .v = v,
                               .out = out,
                               .dout = dout,
                               .dq = dq,
                               .dk = dk,
                               .dv = dv,
                               .lse = lse,
                               .tokens = b->n_tokens,
                               .group = a->n_heads / a->n_kv_heads,
                               .wide = blocks_of(a->head_dim)};
    team_run(r.c->team, (int64_t)b->n_seqs * a->n_kv_heads, backward_item, &r);
}
