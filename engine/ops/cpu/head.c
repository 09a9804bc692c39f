/* head: cross entropy through the frozen output matrix, a chunk of rows at a time.
 *
 * For a chunk: logits by tiles that stay in cache, of which each row's maximum m is kept and, where
 * a gradient is wanted, e = exp(logit - m) in the type of dx's product; the tiles' figures make the
 * loss; e becomes the logits' gradient in place, by a factor for each row and tile; dx is its
 * product with the matrix. Logits themselves are never stored, and each exponential is computed
 * once. */
#include <math.h>
#include <string.h>

#include "engine/ops/cpu/linear.h"

#define CHUNK_BYTES ((int64_t)128 << 20) /* of e */
#define CHUNK_ROWS 512
#define CHUNK_ROWS_MIN 16
#define LOGIT_ROWS 128 /* of a tile */

/* One row of one tile of columns. */
struct tile_max {
    float max, sum; /* sum of exp(logit - max) */
};

struct head_run {
    struct cpu *c;
    const struct linear *head;
    struct tensor x, dx; /* of the chunk */
    bool want_dx;
    const int32_t *targets;
    float grad_scale;
    float *nll;
    uint8_t *correct;
    struct tensor e;         /* [rows, V] */
    struct tile_max *maxima; /* [rows, tiles of columns] */
    float *target;           /* [rows] logit of the target */
    bool *first;             /* [rows] no logit before the target's in its tile is as high */
    struct tiling cols;
    struct grid grid; /* of dx */
};

/* One row of a tile of n logits from column col on. */
static void reduce_row(struct head_run *r, int64_t row, int64_t item, int64_t col, int64_t n,
                       float *logits) {
    const struct kernels *k = r->c->k;
    struct tile_max *t = &r->maxima[row * r->cols.count + item];
    int64_t target = r->targets[row] - col;
    if (target >= 0 && target < n) {
        r->target[row] = logits[target];
        r->first[row] = target == 0 || k->max(logits, target) < logits[target];
    }
    t->max = k->max(logits, n);
    if (!r->want_dx) {
        t->sum = k->sum_exp(logits, t->max, n);
        return;
    }
    t->sum = k->exp_sum(logits, 1.0f, t->max, n);
    cpu_narrow(r->c, r->e.dtype, row_at(tensor_columns(r->e, col, n), row), logits, n);
}

/* Rows of a tile of logits. */
static struct tiling logit_rows(bool packs_at_use, int64_t rows) {
    return tiling_make(rows, packs_at_use ? CHUNK_ROWS : LOGIT_ROWS, 32);
}

static void logits_item(void *arg, int64_t item, int worker) {
    struct head_run *r = arg;
    int64_t col = tiling_first(&r->cols, item), n = tiling_count(&r->cols, item);
    struct tiling rows = logit_rows(packs_at_use(r->c, r->head), r->x.rows);
    float *tile = cpu_scratch_f32(r->c, worker, SLOT_TILE, rows.size * n);
    const float *bias = r->head->bias ? r->head->bias + col : NULL;
    for (int64_t b = 0; b < rows.count; b++) {
        int64_t first = tiling_first(&rows, b), count = tiling_count(&rows, b);
        struct product p = {.n_terms = 1, .bias = bias, .out = {tile, DTYPE_F32, count, n, n}};
        p.term[0] = (struct product_term){operand_of(tensor_rows(r->x, first, count)),
                                          weight_forward(r->head, 0, col), r->head->in};
        cpu_product(r->c, worker, &p);
        for (int64_t i = 0; i < count; i++)
            reduce_row(r, first + i, item, col, n, tile + i * n);
    }
}

/* Of a row that has no target. */
static void no_loss(const struct head_run *r, int64_t row) {
    r->nll[row] = 0.0f;
    r->correct[row] = 0;
    if (r->want_dx)
        memset(row_at(r->e, row), 0, (size_t)r->head->out * dtype_size(r->e.dtype));
}

/* e of one row becomes grad_scale · (p - 1 at the target). */
static void gradient_row(const struct head_run *r, int worker, int64_t row, float lse) {
    const struct kernels *k = r->c->k;
    float scale = isfinite(r->nll[row]) ? r->grad_scale : NAN;
    float *buf = cpu_scratch_f32(r->c, worker, SLOT_ROW, r->cols.size);
    int64_t target = r->targets[row];
    for (int64_t i = 0; i < r->cols.count; i++) {
        int64_t col = tiling_first(&r->cols, i), n = tiling_count(&r->cols, i);
        void *e = row_at(tensor_columns(r->e, col, n), row);
        float factor = scale * expf(r->maxima[row * r->cols.count + i].max - lse);
        k->scale(buf, cpu_widen(r->c, r->e.dtype, e, n, buf), factor, n);
        if (target >= col && target < col + n)
            buf[target - col] = scale * (expf(r->target[row] - lse) - 1.0f);
        cpu_narrow(r->c, r->e.dtype, e, buf, n);
    }
}

/* The target is the answer if no logit is higher, and none before it as high. */
static void loss_row(struct head_run *r, int64_t row, int worker) {
    const struct tile_max *t = r->maxima + row * r->cols.count;
    if (r->targets[row] < 0) {
        no_loss(r, row);
        return;
    }
    float target = r->target[row], max = t[0].max, sum = 0.0f;
    bool correct = r->first[row];
    for (int64_t i = 0; i < r->cols.count; i++) {
        bool before = tiling_first(&r->cols, i) + tiling_count(&r->cols, i) <= r->targets[row];
        correct = correct && (before ? t[i].max < target : t[i].max <= target);
        max = t[i].max <= max ? max : t[i].max; /* a NaN stays in its tile's sum */
    }
    for (int64_t i = 0; i < r->cols.count; i++)
        sum += t[i].sum * expf(t[i].max - max);
    float lse = max + logf(sum);
    r->nll[row] = lse - target;
    r->correct[row] = correct;
    if (r->want_dx)
        gradient_row(r, worker, row, lse);
}

static void loss_rows(void *arg, int64_t first, int64_t count, int worker) {
    for (int64_t row = first; row < first + count; row++)
        loss_row(arg, row, worker);
}

static void dx_item(void *arg, int64_t item, int worker) {
    struct head_run *r = arg;
    struct grid_tile t = grid_tile_of(&r->grid, item);
    struct product p = {.n_terms = 1,
                        .width = grid_width(&r->grid, 0),
                        .out = tensor_rows(tensor_columns(r->dx, t.col, t.cols), t.row, t.rows)};
    p.term[0] = (struct product_term){operand_of(tensor_rows(r->e, t.row, t.rows)),
                                      weight_backward(r->head, t.col), r->head->out};
    cpu_product(r->c, worker, &p);
}

static void head_chunk(struct head_run *r) {
    struct team *team = r->c->team;
    team_run(team, r->cols.count, logits_item, r);
    cpu_for_rows(r->c, r->x.rows, r->head->out, loss_rows, r);
    if (!r->want_dx)
        return;
    r->grid = grid_backward(r->c, r->head, r->x.rows);
    team_run(team, grid_items(&r->grid), dx_item, r);
}

static enum dtype product_type(const struct cpu *c, enum dtype head) {
    return head == DTYPE_BF16 && c->choice->native_bf16 ? DTYPE_BF16 : DTYPE_F32;
}

static struct tiling chunks_of(int64_t rows, int64_t vocab, enum dtype type) {
    int64_t most = CHUNK_BYTES / ((int64_t)dtype_size(type) * vocab);
    most = most > CHUNK_ROWS ? CHUNK_ROWS : most < CHUNK_ROWS_MIN ? CHUNK_ROWS_MIN : most;
    return tiling_make(rows, most, 1);
}

size_t cpu_head_bytes(const struct cpu *c, int64_t rows, int64_t vocab, enum dtype head) {
    enum dtype type = product_type(c, head);
    return (size_t)(chunks_of(rows, vocab, type).size * vocab) * dtype_size(type);
}

int64_t cpu_head_rows(bool packs_at_use, int64_t rows) {
    return logit_rows(packs_at_use, rows < CHUNK_ROWS ? rows : CHUNK_ROWS).size;
}

void cpu_head_loss(struct device *dev, const struct linear *head, struct tensor x,
                   const int32_t *targets, const float *grad_scale, float *nll, uint8_t *correct,
                   const struct tensor *dx) {
    struct cpu *c = cpu_of(dev);
    enum dtype type = product_type(c, head->dtype);
    struct tiling chunks = chunks_of(x.rows, head->out, type);
    struct head_run r = {.c = c, .head = head, .want_dx = dx != NULL};
    r.grad_scale = dx ? *grad_scale : 0.0f;
    r.cols = head->forward[0];
    size_t rows = (size_t)chunks.size;
    r.maxima = cpu_shared(c, SLOT_ROW, rows * (size_t)r.cols.count * sizeof *r.maxima);
    r.target = cpu_shared(c, SLOT_ROW_2, rows * sizeof *r.target);
    r.first = cpu_shared(c, SLOT_ROW_3, rows * sizeof *r.first);
    r.e = (struct tensor){NULL, type, chunks.size, head->out, head->out};
    if (r.want_dx)
        r.e.data = cpu_shared(c, SLOT_TILE, rows * (size_t)head->out * dtype_size(type));
    for (int64_t i = 0; i < chunks.count; i++) {
        int64_t first = tiling_first(&chunks, i), count = tiling_count(&chunks, i);
        r.x = tensor_rows(x, first, count);
        r.targets = targets + first;
        r.nll = nll + first;
        r.correct = correct + first;
        if (r.want_dx)
            r.dx = tensor_rows(*dx, first, count);
        head_chunk(&r);
    }
}
