/* attention_backward: gradients of q, k, v, with the probabilities computed again from lse (Dao et
 * al. 2022, algorithm 4). An item is one key/value head of one example: it walks its query heads,
 * their blocks of queries, and for each the blocks of keys, so dk and dv are sums in a fixed
 * order. With P = exp(scale·S - lse), D = rowsum(dout · out):
 *   dV = Pᵀ dout,  dS = scale · P · (dout Vᵀ - D),  dQ = dS K,  dK = dSᵀ Q.
 * All is computed transposed, a row for a key: Sᵀ = K Qᵀ and dPᵀ = V doutᵀ make Pᵀ and dSᵀ, which
 * are the left operands of dV and dK as they stand, and dQᵀ = Kᵀ dSᵀ. lse and D are then vectors
 * along a row. */
#include <string.h>

#include "engine/ops/cpu/attention.h"

struct attention_back {
    struct cpu *c;
    const struct attention *a;
    const struct batch *b;
    const struct blocks *e;
    struct tensor q, k, v, out, dout, dq, dk, dv;
    const float *lse;
    int64_t tokens, width; /* width: head_dim rounded up */
};

/* What one item has in memory. Blocks are of the products' type unless they are float. */
struct back_item {
    int64_t kv, start, len;
    char *k, *v, *kt;             /* [len, width] of the example; kt: each block transposed */
    float *dk, *dv;               /* [len, width] */
    char *qt, *q, *dout_t, *dout; /* a block of queries, packed */
    char *dense;                  /* one before it is packed */
    float *s, *dp;                /* Sᵀ, then Pᵀ; dPᵀ, then dSᵀ: [keys, queries] */
    char *p, *ds, *ds_packed;     /* the same rounded */
    float *dqt, *dq;              /* [width, queries], [queries, width] */
    float lse[ATTENTION_BLOCK], delta[ATTENTION_BLOCK];
};

/* Memory handed out piece by piece; base NULL: only counted. */
struct pieces {
    char *base;
    size_t used;
};

static void *piece(struct pieces *p, int64_t n) {
    char *at = p->base ? p->base + p->used : NULL;
    p->used += (size_t)(n + 63) / 64 * 64;
    return at;
}

static void lay_out(const struct attention_back *r, struct back_item *w, struct pieces *m) {
    int64_t size = (int64_t)dtype_size(r->e->dtype), f32 = (int64_t)sizeof(float);
    int64_t rows = block_round(w->len) * r->width;
    int64_t strip = ATTENTION_BLOCK * r->width, square = ATTENTION_BLOCK * ATTENTION_BLOCK;
    char **const of_rows[] = {&w->k, &w->v, &w->kt};
    char **const of_strip[] = {&w->qt, &w->q, &w->dout_t, &w->dout, &w->dense};
    char **const of_square[] = {&w->p, &w->ds, &w->ds_packed};
    for (int i = 0; i < 3; i++)
        *of_rows[i] = piece(m, rows * size);
    for (int i = 0; i < 5; i++)
        *of_strip[i] = piece(m, strip * size);
    for (int i = 0; i < 3; i++)
        *of_square[i] = piece(m, square * size);
    w->dk = piece(m, rows * f32);
    w->dv = piece(m, rows * f32);
    w->s = piece(m, square * f32);
    w->dp = piece(m, square * f32);
    w->dqt = piece(m, strip * f32);
    w->dq = piece(m, strip * f32);
}

static int64_t block_count(int64_t len, int64_t first) {
    return len - first < ATTENTION_BLOCK ? len - first : ATTENTION_BLOCK;
}

static void load_keys(const struct attention_back *r, struct back_item *w) {
    int64_t d = r->a->head_dim, size = (int64_t)dtype_size(r->e->dtype);
    attention_load(r->c, r->e, r->k, w->kv, d, w->start, w->len, w->k);
    attention_load(r->c, r->e, r->v, w->kv, d, w->start, w->len, w->v);
    for (int64_t k0 = 0; k0 < w->len; k0 += ATTENTION_BLOCK) {
        int64_t at = k0 * r->width * size;
        r->e->transpose(w->kt + at, w->k + at, block_round(block_count(w->len, k0)), r->width);
    }
    memset(w->dk, 0, (size_t)(block_round(w->len) * r->width) * sizeof *w->dk);
    memset(w->dv, 0, (size_t)(block_round(w->len) * r->width) * sizeof *w->dv);
}

/* lse and D = dout · out of the queries; 0 beyond them, where S and dP are 0. */
static void load_statistics(const struct attention_back *r, struct back_item *w, int64_t head,
                            int64_t first, int64_t count) {
    int64_t d = r->a->head_dim, row = w->start + first;
    float *buf = w->s; /* not in use yet */
    struct tensor out = tensor_columns(r->out, head * d, d);
    struct tensor dout = tensor_columns(r->dout, head * d, d);
    memset(w->lse, 0, sizeof w->lse);
    memset(w->delta, 0, sizeof w->delta);
    memcpy(w->lse, r->lse + head * r->tokens + row, (size_t)count * sizeof *w->lse);
    for (int64_t i = 0; i < count; i++) {
        const float *o = cpu_widen(r->c, out.dtype, row_at(out, row + i), d, buf);
        const float *g = cpu_widen(r->c, dout.dtype, row_at(dout, row + i), d, buf + d);
        w->delta[i] = r->c->k->dot(o, g, d);
    }
}

static void load_queries(const struct attention_back *r, struct back_item *w, int64_t head,
                         int64_t first, int64_t count) {
    const struct blocks *e = r->e;
    int64_t d = r->a->head_dim, rows = block_round(count);
    attention_load(r->c, e, r->q, head, d, w->start + first, count, w->dense);
    e->pack_transposed(w->qt, w->dense, rows, r->width);
    e->pack(w->q, w->dense, rows, r->width);
    attention_load(r->c, e, r->dout, head, d, w->start + first, count, w->dense);
    e->pack_transposed(w->dout_t, w->dense, rows, r->width);
    e->pack(w->dout, w->dense, rows, r->width);
    load_statistics(r, w, head, first, count);
}

/* Sᵀ and dPᵀ of one block become Pᵀ and dSᵀ; m queries from `first` on, n keys from k0 on. */
static void probabilities(const struct attention_back *r, struct back_item *w, int64_t first,
                          int64_t m, int64_t k0, int64_t n) {
    int64_t size = (int64_t)dtype_size(r->e->dtype);
    for (int64_t j = 0; j < n; j++) {
        struct range seen = range_in(queries_seeing(r->a, k0 + j), first, m);
        int64_t begin = seen.first, end = seen.end;
        float *s = w->s + j * m, *dp = w->dp + j * m;
        memset(s, 0, (size_t)begin * sizeof *s);
        memset(dp, 0, (size_t)begin * sizeof *dp);
        r->c->k->softmax_backward(s + begin, dp + begin, r->a->scale, w->lse + begin,
                                  w->delta + begin, end - begin);
        memset(s + end, 0, (size_t)(m - end) * sizeof *s);
        memset(dp + end, 0, (size_t)(m - end) * sizeof *dp);
        cpu_narrow(r->c, r->e->dtype, w->p + j * m * size, s, m);
        cpu_narrow(r->c, r->e->dtype, w->ds + j * m * size, dp, m);
    }
}

/* One block of queries with all blocks of keys that it sees. */
static void query_block(const struct attention_back *r, struct back_item *w, int64_t head,
                        int64_t first) {
    const struct blocks *e = r->e;
    int64_t size = (int64_t)dtype_size(e->dtype), d = r->a->head_dim;
    int64_t count = block_count(w->len, first), m = block_round(count);
    int64_t first_key = keys_seen(r->a, first).first / ATTENTION_BLOCK * ATTENTION_BLOCK;
    load_queries(r, w, head, first, count);
    for (int64_t k0 = first_key; k0 <= first; k0 += ATTENTION_BLOCK) {
        int64_t n = k0 < first ? ATTENTION_BLOCK : m, at = k0 * r->width;
        e->product(n, m, r->width, w->k + at * size, w->qt, w->s, false);
        e->product(n, m, r->width, w->v + at * size, w->dout_t, w->dp, false);
        probabilities(r, w, first, m, k0, n);
        e->product(n, r->width, m, w->p, w->dout, w->dv + at, true);
        e->product(n, r->width, m, w->ds, w->q, w->dk + at, true);
        e->pack(w->ds_packed, w->ds, n, m);
        e->product(r->width, m, n, w->kt + at * size, w->ds_packed, w->dqt, k0 > first_key);
    }
    r->c->k->f32->transpose(w->dq, w->dqt, r->width, m);
    attention_store(r->c, r->dq, head, d, w->start + first, count, w->dq);
}

static void backward_item(void *arg, int64_t item, int worker) {
    struct attention_back *r = arg;
    const struct attention *a = r->a;
    int64_t seq = item / a->n_kv_heads, group = a->n_heads / a->n_kv_heads;
    struct back_item w = {.kv = item % a->n_kv_heads, .start = r->b->seq_start[seq]};
    w.len = r->b->seq_start[seq + 1] - w.start;
    struct pieces m = {0};
    lay_out(r, &w, &m);
    m = (struct pieces){.base = cpu_scratch(r->c, worker, SLOT_TILE, m.used)};
    lay_out(r, &w, &m);
    load_keys(r, &w);
    for (int64_t head = w.kv * group; head < (w.kv + 1) * group; head++)
        for (int64_t first = 0; first < w.len; first += ATTENTION_BLOCK)
            query_block(r, &w, head, first);
    attention_store(r->c, r->dk, w.kv, a->head_dim, w.start, w.len, w.dk);
    attention_store(r->c, r->dv, w.kv, a->head_dim, w.start, w.len, w.dv);
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
                               .width = block_round(a->head_dim)};
    team_run(r.c->team, (int64_t)b->n_seqs * a->n_kv_heads, backward_item, &r);
}
