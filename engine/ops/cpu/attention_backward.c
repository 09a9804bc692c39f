/* attention_backward: gradients of q, k, v, with the probabilities computed again from lse (Dao et
 * al. 2022, algorithm 4). An item is one key/value head of one example: it walks its query heads,
 * their blocks of queries, and for each the blocks of keys, so dk and dv are sums in a fixed
 * order. With P = exp(scale·S - lse), D = rowsum(dout · out):
 *   dV = Pᵀ dout,  dS = scale · P · (dout Vᵀ - D),  dQ = dS K,  dK = dSᵀ Q. */
#include <string.h>

#include "engine/ops/cpu/attention.h"

struct attention_back {
    struct cpu *c;
    const struct attention *a;
    const struct batch *b;
    struct tensor q, k, v, out, dout, dq, dk, dv;
    const float *lse;
    int64_t tokens;
};

/* One head's block of queries. */
struct query_work {
    int64_t head, kv, start, first, count;
    const float *lse; /* of the block's queries */
    float *delta;     /* D of the block's queries */
    float *dq;        /* [count, d] */
    float *dk, *dv;   /* [length of the example, d] */
};

static void probabilities(const struct attention_back *r, const struct query_work *w, int64_t k0,
                          int64_t n, float *s, float *dp) {
    for (int64_t i = 0; i < w->count; i++) {
        struct key_range seen = keys_in_block(r->a, w->first + i, k0, n);
        int64_t first = seen.first, end = seen.end;
        float *si = s + i * n, *dpi = dp + i * n;
        memset(si, 0, (size_t)first * sizeof *si);
        memset(dpi, 0, (size_t)first * sizeof *dpi);
        r->c->k->softmax_backward(si + first, dpi + first, r->a->scale, w->lse[i], w->delta[i],
                                  end - first);
        memset(si + end, 0, (size_t)(n - end) * sizeof *si);
        memset(dpi + end, 0, (size_t)(n - end) * sizeof *dpi);
    }
}

static void key_blocks(const struct attention_back *r, int worker, const struct query_work *w) {
    struct cpu *c = r->c;
    int64_t d = r->a->head_dim, m = w->count;
    struct key_range keys = keys_of_block(r->a, w->first, m);
    struct operand q = operand_of(head_rows(r->q, w->head, d, w->start + w->first, m));
    struct operand dout = operand_of(head_rows(r->dout, w->head, d, w->start + w->first, m));
    float *s = cpu_scratch_f32(c, worker, SLOT_TILE, (int64_t)QUERY_BLOCK * KEY_BLOCK);
    float *dp = cpu_scratch_f32(c, worker, SLOT_ROW, (int64_t)QUERY_BLOCK * KEY_BLOCK);
    for (int64_t k0 = keys.first; k0 < keys.end; k0 += KEY_BLOCK) {
        int64_t n = keys.end - k0 < KEY_BLOCK ? keys.end - k0 : KEY_BLOCK;
        struct operand k = operand_of(head_rows(r->k, w->kv, d, w->start + k0, n));
        struct operand v = operand_of(head_rows(r->v, w->kv, d, w->start + k0, n));
        gemm(c, worker, m, n, d, q, transposed(k), s, n, false);
        gemm(c, worker, m, n, d, dout, transposed(v), dp, n, false);
        probabilities(r, w, k0, n, s, dp);
        gemm(c, worker, n, d, m, transposed(operand_f32(s, n)), dout, w->dv + k0 * d, d, true);
        gemm(c, worker, n, d, m, transposed(operand_f32(dp, n)), q, w->dk + k0 * d, d, true);
        gemm(c, worker, m, d, n, operand_f32(dp, n), k, w->dq, d, k0 > keys.first);
    }
}

/* D of each query of the block. */
static void row_sums(const struct attention_back *r, int worker, const struct query_work *w) {
    int64_t d = r->a->head_dim;
    float *buf = cpu_scratch_f32(r->c, worker, SLOT_ROW_4, 2 * d);
    struct tensor out = head_rows(r->out, w->head, d, w->start + w->first, w->count);
    struct tensor dout = head_rows(r->dout, w->head, d, w->start + w->first, w->count);
    for (int64_t i = 0; i < w->count; i++) {
        const float *o = cpu_widen(r->c, out.dtype, row_at(out, i), d, buf);
        const float *g = cpu_widen(r->c, dout.dtype, row_at(dout, i), d, buf + d);
        w->delta[i] = r->c->k->dot(o, g, d);
    }
}

static void store(const struct attention_back *r, struct tensor t, int64_t head, int64_t first,
                  int64_t count, const float *src) {
    int64_t d = r->a->head_dim;
    struct tensor to = head_rows(t, head, d, first, count);
    for (int64_t i = 0; i < count; i++)
        cpu_narrow(r->c, to.dtype, row_at(to, i), src + i * d, d);
}

static void backward_item(void *arg, int64_t item, int worker) {
    struct attention_back *r = arg;
    const struct attention *a = r->a;
    int64_t seq = item / a->n_kv_heads, kv = item % a->n_kv_heads, d = a->head_dim;
    int64_t start = r->b->seq_start[seq], len = r->b->seq_start[seq + 1] - start;
    int64_t group = a->n_heads / a->n_kv_heads;
    float delta[QUERY_BLOCK];
    float *sums = cpu_scratch_f32(r->c, worker, SLOT_ROW_2, 2 * len * d);
    float *dq = cpu_scratch_f32(r->c, worker, SLOT_ROW_3, QUERY_BLOCK * d);
    memset(sums, 0, (size_t)(2 * len * d) * sizeof *sums);
    for (int64_t head = kv * group; head < (kv + 1) * group; head++)
        for (int64_t first = 0; first < len; first += QUERY_BLOCK) {
            struct query_work w = {.head = head,
                                   .kv = kv,
                                   .start = start,
                                   .first = first,
                                   .count = len - first < QUERY_BLOCK ? len - first : QUERY_BLOCK,
                                   .lse = r->lse + head * r->tokens + start + first,
                                   .delta = delta,
                                   .dq = dq,
                                   .dk = sums,
                                   .dv = sums + len * d};
            row_sums(r, worker, &w);
            key_blocks(r, worker, &w);
            store(r, r->dq, head, start + first, w.count, dq);
        }
    store(r, r->dk, kv, start, len, sums);
    store(r, r->dv, kv, start, len, sums + len * d);
}

void cpu_attention_backward(struct device *dev, const struct attention *a, const struct batch *b,
                            struct tensor q, struct tensor k, struct tensor v, struct tensor out,
                            const float *lse, struct tensor dout, struct tensor dq,
                            struct tensor dk, struct tensor dv) {
    struct attention_back r = {.c = cpu_of(dev),
                               .a = a,
                               .b = b,
                               .q = q,
                               .k = k,
                               .v = v,
                               .out = out,
                               .dout = dout,
                               .dq = dq,
                               .dk = dk,
                               .dv = dv,
                               .lse = lse,
                               .tokens = b->n_tokens};
    team_run(r.c->team, (int64_t)b->n_seqs * a->n_kv_heads, backward_item, &r);
}
