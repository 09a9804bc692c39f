/* attention_forward: softmax(scale · q kᵀ) v by blocks (Dao et al. 2022): a running maximum and sum
 * for each query, so that nothing of size length² is ever in memory.
 *
 * First kᵀ and v of every key/value head are packed, block by block, once for all the query heads
 * and blocks that read them; then an item is one block of queries of one head of one example. */
#include <math.h>
#include <string.h>

#include "engine/ops/cpu/attention.h"

/* A block of one example's rows. */
struct row_block {
    int32_t start;        /* row where the example begins */
    int32_t first, count; /* positions within the example */
    int64_t packed;       /* row of the example among the packed rows */
};

struct attention_run {
    struct cpu *c;
    const struct attention *a;
    const struct blocks *e;
    struct tensor q, k, v, out;
    float *lse;
    int64_t tokens, packed_rows, width; /* width: head_dim rounded up */
    char *kt, *vp;                      /* packed, [kv heads, packed_rows, width] */
    struct row_block *blocks;
};

/* Longest examples' last blocks see the most keys; they are put first so that no thread is left
 * with one at the end. Returns how many blocks there are. */
static int64_t list_blocks(const struct batch *b, struct row_block *blocks) {
    const int32_t size = ATTENTION_BLOCK;
    int64_t n = 0;
    for (int32_t depth = (b->max_len + size - 1) / size; depth >= 0; depth--) {
        int64_t packed = 0;
        for (int32_t s = 0; s < b->n_seqs; s++) {
            int32_t start = b->seq_start[s], len = b->seq_start[s + 1] - start;
            int32_t first = depth * size;
            if (first < len)
                blocks[n++] = (struct row_block){start, first,
                                                 len - first < size ? len - first : size, packed};
            packed += block_round(len);
        }
    }
    return n;
}

/* Where a block of keys lies in a packed buffer. */
static char *packed_at(const struct attention_run *r, char *buffer, int64_t kv, int64_t row) {
    int64_t size = (int64_t)dtype_size(r->e->dtype);
    return buffer + (kv * r->packed_rows + row) * r->width * size;
}

static void pack_item(void *arg, int64_t item, int worker) {
    struct attention_run *r = arg;
    const struct row_block *b = &r->blocks[item / r->a->n_kv_heads];
    int64_t kv = item % r->a->n_kv_heads, d = r->a->head_dim, n = block_round(b->count);
    int64_t row = b->packed + b->first;
    size_t bytes = ATTENTION_BLOCK * (size_t)r->width * sizeof(float);
    void *dense = cpu_scratch(r->c, worker, SLOT_ROW, bytes);
    attention_load(r->c, r->e, r->k, kv, d, b->start + b->first, b->count, dense);
    r->e->pack_transposed(packed_at(r, r->kt, kv, row), dense, n, r->width);
    attention_load(r->c, r->e, r->v, kv, d, b->start + b->first, b->count, dense);
    r->e->pack(packed_at(r, r->vp, kv, row), dense, n, r->width);
}

#define WHOLE 16 /* lanes of the kernels */

/* Turns a row of scores for keys [k0, k0 + n) into exp(scale · s - max), rescales what was summed
 * before, and rounds the row to the products' type. state: running maximum and sum. */
static void softmax_row(const struct attention_run *r, int64_t query, int64_t k0, int64_t n,
                        float *s, void *p, float *out, float *state) {
    const struct kernels *k = r->c->k;
    struct range seen = range_in(keys_seen(r->a, query), k0, n);
    int64_t first = seen.first, end = seen.end;
    memset(s, 0, (size_t)first * sizeof *s);
    if (first < end) {
        for (; end % WHOLE != 0; end++) /* exp is 0 there; no kernel ends within a vector */
            s[end] = -INFINITY;
        float max = r->a->scale * k->max(s + first, end - first);
        max = max <= state[0] ? state[0] : max;
        float sum = k->exp_sum(s + first, r->a->scale, max, end - first);
        float keep = state[1] > 0.0f ? expf(state[0] - max) : 0.0f;
        if (keep != 1.0f)
            k->scale(out, out, keep, r->width);
        state[0] = max;
        state[1] = state[1] * keep + sum;
    }
    memset(s + end, 0, (size_t)(n - end) * sizeof *s);
    cpu_narrow(r->c, r->e->dtype, p, s, n);
}

static void forward_item(void *arg, int64_t item, int worker) {
    struct attention_run *r = arg;
    struct cpu *c = r->c;
    const struct attention *a = r->a;
    const struct row_block *b = &r->blocks[item / a->n_heads];
    int64_t head = item % a->n_heads, kv = head / (a->n_heads / a->n_kv_heads), d = a->head_dim;
    int64_t rows = block_round(b->count), size = (int64_t)dtype_size(r->e->dtype);
    int64_t square = ATTENTION_BLOCK * ATTENTION_BLOCK, strip = ATTENTION_BLOCK * r->width;
    float *scores = cpu_scratch_f32(c, worker, SLOT_TILE, square);
    char *p = (char *)cpu_scratch_f32(c, worker, SLOT_ROW_2, square);
    float *out = cpu_scratch_f32(c, worker, SLOT_ROW_3, strip);
    float *q = cpu_scratch_f32(c, worker, SLOT_ROW, strip);
    float state[ATTENTION_BLOCK][2];
    attention_load(c, r->e, r->q, head, d, b->start + b->first, b->count, q);
    memset(out, 0, (size_t)(rows * r->width) * sizeof *out);
    for (int64_t i = 0; i < b->count; i++)
        state[i][0] = -INFINITY, state[i][1] = 0.0f;
    int64_t first_key = keys_seen(a, b->first).first / ATTENTION_BLOCK * ATTENTION_BLOCK;
    for (int64_t k0 = first_key; k0 <= b->first; k0 += ATTENTION_BLOCK) {
        int64_t n = k0 < b->first ? ATTENTION_BLOCK : rows;
        r->e->product(rows, n, r->width, q, packed_at(r, r->kt, kv, b->packed + k0), scores, false);
        for (int64_t i = 0; i < b->count; i++)
            softmax_row(r, b->first + i, k0, n, scores + i * n, p + i * n * size,
                        out + i * r->width, state[i]);
        memset(p + b->count * n * size, 0, (size_t)((rows - b->count) * n * size));
        r->e->product(rows, r->width, n, p, packed_at(r, r->vp, kv, b->packed + k0), out, true);
    }
    for (int64_t i = 0; i < b->count; i++) {
        float *row = out + i * r->width;
        c->k->scale(row, row, 1.0f / state[i][1], d);
        r->lse[head * r->tokens + b->start + b->first + i] = state[i][0] + logf(state[i][1]);
    }
    attention_store(c, r->out, head, d, b->start + b->first, b->count, out);
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
                              .width = block_round(a->head_dim)};
    for (int32_t s = 0; s < b->n_seqs; s++)
        r.packed_rows += block_round(b->seq_start[s + 1] - b->seq_start[s]);
    size_t bytes = (size_t)(a->n_kv_heads * r.packed_rows * r.width) * dtype_size(r.e->dtype);
    size_t most = (size_t)(b->n_tokens / ATTENTION_BLOCK + b->n_seqs);
    r.kt = cpu_shared(r.c, SLOT_TILE, bytes);
    r.vp = cpu_shared(r.c, SLOT_ROW, bytes);
    r.blocks = cpu_shared(r.c, SLOT_ROW_2, most * sizeof *r.blocks);
    int64_t n = list_blocks(b, r.blocks);
    team_run(r.c->team, n * a->n_kv_heads, pack_item, &r);
    team_run(r.c->team, n * a->n_heads, forward_item, &r);
}
