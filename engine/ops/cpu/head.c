/* head: cross entropy through the frozen output matrix, a chunk of rows at a time.
 *
 * For a chunk: logits by tiles, with each tile's maximum, its sum of exponentials and its arg max
 * per row; the tiles' figures are combined in order of columns; logits become their gradient in
 * place; dx is their product with the matrix. Logits of one chunk are all that is ever stored. */
#include <math.h>
#include <string.h>

#include "engine/ops/cpu/linear.h"

#define LOGIT_BYTES ((int64_t)32 << 20) /* of a chunk */
#define CHUNK_ROWS 256
#define CHUNK_ROWS_MIN 16
#define DX_ROWS 64

/* One row of one tile of columns. */
struct tile_max {
    float max, sum; /* sum of exp(logit - max) */
    int32_t arg;
};

struct head_run {
    struct cpu *c;
    const struct linear *head;
    struct tensor x, dx; /* of the chunk */
    bool want_dx;
    const int32_t *targets;
    float grad_scale;
    float *nll, *lse;
    uint8_t *correct;
    float *logits;           /* [rows, V] */
    struct tile_max *maxima; /* [rows, tiles of columns] */
    struct tiling cols, dx_rows;
};

static struct tile_max find_max(const struct kernels *k, const float *logits, int64_t col,
                                int64_t n) {
    struct tile_max t = {.max = k->max(logits, n), .arg = (int32_t)col};
    for (int64_t i = 0; i < n; i++)
        if (logits[i] == t.max) {
            t.arg = (int32_t)(col + i);
            break;
        }
    t.sum = k->sum_exp(logits, t.max, n);
    return t;
}

static void logits_item(void *arg, int64_t item, int worker) {
    struct head_run *r = arg;
    int64_t col = tiling_first(&r->cols, item), n = tiling_count(&r->cols, item);
    int64_t rows = r->x.rows, vocab = r->head->out;
    float *tile = r->logits + col;
    const float *bias = r->head->bias ? r->head->bias + col : NULL;
    for (int64_t i = 0; bias && i < rows; i++)
        memcpy(tile + i * vocab, bias, (size_t)n * sizeof *bias);
    gemm(r->c, worker, rows, n, r->head->in, operand_of(r->x), weight_forward(r->head, 0, item),
         tile, vocab, bias != NULL);
    for (int64_t i = 0; i < rows; i++)
        r->maxima[i * r->cols.count + item] = find_max(r->c->k, tile + i * vocab, col, n);
}

static void loss_item(void *arg, int64_t row, int worker) {
    struct head_run *r = arg;
    const struct tile_max *t = r->maxima + row * r->cols.count;
    struct tile_max best = t[0];
    (void)worker;
    for (int64_t i = 1; i < r->cols.count; i++)
        if (!(t[i].max <= best.max)) /* a NaN wins and stays */
            best = t[i];
    float sum = 0.0f;
    for (int64_t i = 0; i < r->cols.count; i++)
        sum += t[i].sum * expf(t[i].max - best.max);
    int32_t target = r->targets[row];
    r->lse[row] = best.max + logf(sum);
    r->nll[row] = r->lse[row] - r->logits[row * r->head->out + target];
    r->correct[row] = best.arg == target;
    if (!r->want_dx)
        return;
    float *logits = r->logits + row * r->head->out;
    r->c->k->exp_sum(logits, 1.0f, r->lse[row], r->head->out);
    logits[target] -= 1.0f;
    r->c->k->scale(logits, logits, r->grad_scale, r->head->out);
}

static void dx_item(void *arg, int64_t item, int worker) {
    struct head_run *r = arg;
    struct cpu *c = r->c;
    int64_t row = item % r->dx_rows.count, tile_col = item / r->dx_rows.count;
    int64_t first = tiling_first(&r->dx_rows, row), count = tiling_count(&r->dx_rows, row);
    int64_t col = tiling_first(&r->head->backward, tile_col),
            n = tiling_count(&r->head->backward, tile_col);
    struct tensor dx = tensor_rows(tensor_columns(r->dx, col, n), first, count);
    bool direct = dx.dtype == DTYPE_F32;
    float *tile = direct ? dx.data : cpu_scratch_f32(c, worker, SLOT_TILE, count * n);
    int64_t stride = direct ? dx.stride : n, vocab = r->head->out;
    struct operand d = operand_f32(r->logits + first * vocab, vocab);
    gemm(c, worker, count, n, vocab, d, weight_backward(r->head, tile_col), tile, stride, false);
    for (int64_t i = 0; !direct && i < count; i++)
        cpu_narrow(c, dx.dtype, row_at(dx, i), tile + i * stride, n);
}

void cpu_head_loss(struct device *dev, const struct linear *head, struct tensor x,
                   const int32_t *targets, float grad_scale, float *nll, uint8_t *correct,
                   const struct tensor *dx) {
    struct cpu *c = cpu_of(dev);
    int64_t most = LOGIT_BYTES / ((int64_t)sizeof(float) * head->out);
    most = most > CHUNK_ROWS ? CHUNK_ROWS : most < CHUNK_ROWS_MIN ? CHUNK_ROWS_MIN : most;
    struct tiling chunks = tiling_make(x.rows, most, 1);
    struct head_run r = {.c = c, .head = head, .want_dx = dx != NULL, .grad_scale = grad_scale};
    r.cols = head->forward[0];
    r.logits = cpu_shared(c, SLOT_TILE, (size_t)(chunks.size * head->out) * sizeof(float));
    r.maxima = cpu_shared(c, SLOT_ROW, (size_t)(chunks.size * r.cols.count) * sizeof *r.maxima);
    r.lse = cpu_shared(c, SLOT_ROW_2, (size_t)chunks.size * sizeof(float));
    for (int64_t i = 0; i < chunks.count; i++) {
        int64_t first = tiling_first(&chunks, i), count = tiling_count(&chunks, i);
        r.x = tensor_rows(x, first, count);
        r.targets = targets + first;
        r.nll = nll + first;
        r.correct = correct + first;
        team_run(c->team, r.cols.count, logits_item, &r);
        team_run(c->team, count, loss_item, &r);
        if (!dx)
            continue;
        r.dx = tensor_rows(*dx, first, count);
        r.dx_rows = tiling_make(count, DX_ROWS, 32);
        team_run(c->team, r.dx_rows.count * head->backward.count, dx_item, &r);
    }
}
