/* attention_forward: softmax(scale · q kᵀ) v by blocks (Dao et al. 2022): a running maximum and sum
 * for each query, so that nothing of size length² is ever in memory. An item is one block of
 * queries of one head of one example. */
#include <math.h>
#include <string.h>

#include "engine/ops/cpu/attention.h"

struct query_block {
    int32_t start;        /* row where the example begins */
    int32_t first, count; /* queries, positions within the example */
};

struct attention_run {
    struct cpu *c;
    const struct attention *a;
    struct tensor q, k, v, out;
    float *lse;
    int64_t tokens;
    struct query_block *blocks;
};

/* Longest examples' last blocks see the most keys; they are put first so that no thread is left
 * with one at the end. Returns how many blocks there are. */
static int64_t list_blocks(const struct batch *b, struct query_block *blocks) {
    int64_t n = 0;
    int32_t deepest = (b->max_len + QUERY_BLOCK - 1) / QUERY_BLOCK;
    for (int32_t depth = deepest; depth >= 0; depth--)
        for (int32_t s = 0; s < b->n_seqs; s++) {
            int32_t start = b->seq_start[s], len = b->seq_start[s + 1] - start;
            int32_t first = depth * QUERY_BLOCK;
            if (first >= len)
                continue;
            int32_t count = len - first < QUERY_BLOCK ? len - first : QUERY_BLOCK;
            blocks[n++] = (struct query_block){start, first, count};
        }
    return n;
}

/* Turns a row of scores for keys [k0, k0 + n) into exp(scale · s - max) and rescales what was
 * summed before. state: running maximum and sum. */
static void softmax_row(const struct attention_run *r, int64_t query, int64_t k0, int64_t n,
                        float *s, float *out, float *state) {
    const struct kernels *k = r->c->k;
    struct key_range seen = keys_in_block(r->a, query, k0, n);
    int64_t first = seen.first, end = seen.end;
    if (first == end) {
        memset(s, 0, (size_t)n * sizeof *s);
        return;
    }
    memset(s, 0, (size_t)first * sizeof *s);
    memset(s + end, 0, (size_t)(n - end) * sizeof *s);
    /* scale may be negative in principle, so the maximum is of the scaled scores */
    k->scale(s + first, s + first, r->a->scale, end - first);
    float max = k->max(s + first, end - first);
    max = max <= state[0] ? state[0] : max;
    float sum = k->exp_sum(s + first, 1.0f, max, end - first);
    float keep = state[1] > 0.0f ? expf(state[0] - max) : 0.0f;
    if (keep != 1.0f)
        k->scale(out, out, keep, r->a->head_dim);
    state[0] = max;
    state[1] = state[1] * keep + sum;
}

static void forward_item(void *arg, int64_t item, int worker) {
    struct attention_run *r = arg;
    struct cpu *c = r->c;
    const struct attention *a = r->a;
    const struct query_block *b = &r->blocks[item / a->n_heads];
    int64_t head = item % a->n_heads, kv = head / (a->n_heads / a->n_kv_heads), d = a->head_dim;
    struct key_range keys = keys_of_block(a, b->first, b->count);
    struct tensor q = head_rows(r->q, head, d, b->start + b->first, b->count);
    float *scores = cpu_scratch_f32(c, worker, SLOT_TILE, (int64_t)QUERY_BLOCK * KEY_BLOCK);
    float *out = cpu_scratch_f32(c, worker, SLOT_ROW, QUERY_BLOCK * d);
    float state[QUERY_BLOCK][2];
    memset(out, 0, (size_t)(b->count * d) * sizeof *out);
    for (int64_t i = 0; i < b->count; i++)
        state[i][0] = -INFINITY, state[i][1] = 0.0f;
    for (int64_t k0 = keys.first; k0 < keys.end; k0 += KEY_BLOCK) {
        int64_t n = keys.end - k0 < KEY_BLOCK ? keys.end - k0 : KEY_BLOCK;
        struct tensor k = head_rows(r->k, kv, d, b->start + k0, n);
        struct tensor v = head_rows(r->v, kv, d, b->start + k0, n);
        gemm(c, worker, b->count, n, d, operand_of(q), transposed(operand_of(k)), scores, n, false);
        for (int64_t i = 0; i < b->count; i++)
            softmax_row(r, b->first + i, k0, n, scores + i * n, out + i * d, state[i]);
        gemm(c, worker, b->count, d, n, operand_f32(scores, n), operand_of(v), out, d, true);
    }
    for (int64_t i = 0; i < b->count; i++) {
        int64_t row = b->start + b->first + i;
        c->k->scale(out + i * d, out + i * d, 1.0f / state[i][1], d);
        cpu_narrow(c, r->out.dtype, row_at(tensor_columns(r->out, head * d, d), row), out + i * d,
                   d);
        r->lse[head * r->tokens + row] = state[i][0] + logf(state[i][1]);
    }
}

void cpu_attention_forward(struct device *dev, const struct attention *a, const struct batch *b,
                           struct tensor q, struct tensor k, struct tensor v, struct tensor out,
                           float *lse) {
    struct attention_run r = {.c = cpu_of(dev),
                              .a = a,
                              .q = q,
                              .k = k,
                              .v = v,
                              .out = out,
                              .lse = lse,
                              .tokens = b->n_tokens};
    size_t most = (size_t)(b->n_tokens / QUERY_BLOCK + b->n_seqs + 1);
    r.blocks = cpu_shared(r.c, SLOT_ROW, most * sizeof *r.blocks);
    int64_t n = list_blocks(b, r.blocks);
    team_run(r.c->team, n * a->n_heads, forward_item, &r);
}
