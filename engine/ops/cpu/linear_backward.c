/* linear_backward: dx = dy W + drop'(dS A), dA += dSᵀ drop(x), dB += dyᵀ (scale · s), where
 * dS = scale · dy B. The frozen weights' gradient is never formed.
 *
 * First dS by blocks of rows; then one run over all tiles of dx, dA and dB. Sums over tokens run
 * inside one tile, so their order never depends on the threads. */
#include "engine/ops/cpu/linear.h"

struct backward_run {
    struct cpu *c;
    const struct linear *lin;
    const struct lora *lora;
    const struct adapter_mem *ad;
    const struct dropout *drop;
    const struct batch *b;
    struct tensor dy, x, s;
    const struct tensor *dx;
    struct lora_plan plan;
    float *ds, *scaled; /* [T, Σrank]: dS, and scale · s */
    struct tiling rows; /* of dS */
    struct grid grid;   /* of dx */
    int64_t n_dx, n_da; /* items of dx, then of dA; the rest are dB's */
};

static void shrink_item(void *arg, int64_t item, int worker) {
    struct backward_run *r = arg;
    int64_t first = tiling_first(&r->rows, item), count = tiling_count(&r->rows, item);
    int64_t rank = r->plan.rank;
    float *ds = r->ds + first * rank, *scaled = r->scaled + first * rank;
    for (int i = 0; i < r->lin->n_parts; i++) {
        int64_t out = r->lin->first[i + 1] - r->lin->first[i], ri = r->lora->rank[i];
        if (ri == 0)
            continue;
        struct tensor dy = tensor_columns(r->dy, r->lin->first[i], out);
        struct operand b = adapter_operand(r->c, r->ad, r->lora->b[i], ri, dy.dtype);
        gemm(r->c, worker, count, ri, out, operand_of(tensor_rows(dy, first, count)), b,
             ds + r->plan.first[i], rank, false);
    }
    r->c->k->scale(ds, ds, r->lora->scale, count * rank);
    for (int64_t i = 0; i < count; i++) {
        float *row = scaled + i * rank;
        const float *s = cpu_widen(r->c, r->s.dtype, row_at(r->s, first + i), rank, row);
        r->c->k->scale(row, s, r->lora->scale, rank);
    }
}

/* Group g's part of LoRA's in a tile of dx: rows first …, columns col …. */
static struct product_term lora_term(const struct backward_run *r, int g, int64_t first,
                                     int64_t col) {
    const struct lora_group *group = &r->plan.group[g];
    struct operand a =
        adapter_operand(r->c, r->ad, group->offset + (size_t)col, r->lin->in, r->dy.dtype);
    float *ds = r->ds + first * r->plan.rank + group->first;
    return (struct product_term){operand_f32(ds, r->plan.rank), a, group->rank};
}

/* LoRA's part by itself, through the mask or from several groups, added to a tile in f32. Its sums
 * are cut as those of whole rows, however wide the tiles are. */
static void add_lora_dx(struct backward_run *r, int worker, int64_t first, int64_t col,
                        struct tensor tile) {
    struct cpu *c = r->c;
    int64_t count = tile.rows, n = tile.cols;
    float *sum = cpu_scratch_f32(c, worker, SLOT_ROW, count * n);
    struct tensor all = {sum, DTYPE_F32, count, n, n};
    for (int g = 0; g < r->plan.n_groups; g++)
        cpu_product(c, worker,
                    &(struct product){.term[0] = lora_term(r, g, first, col),
                                      .n_terms = 1,
                                      .width = grid_width(&r->grid, 0),
                                      .residual = g > 0 ? &all : NULL,
                                      .out = all});
    for (int64_t i = 0; i < count; i++) {
        float *row = sum + i * n, *to = row_at(tile, i);
        if (dropout_on(r->drop))
            c->k->dropout(row, row, r->drop, r->b->keys[first + i], col, n);
        c->k->axpy(to, to, 1.0f, row, n);
    }
}

static void dx_item(struct backward_run *r, int worker, int64_t item) {
    struct grid_tile tile = grid_tile_of(&r->grid, item);
    int64_t first = tile.row, count = tile.rows, col = tile.col, n = tile.cols;
    bool apart = r->plan.n_groups > 1 || (r->plan.n_groups == 1 && dropout_on(r->drop));
    struct tensor dx = tensor_rows(tensor_columns(*r->dx, col, n), first, count);
    struct product p = {
        .n_terms = 1, .width = grid_width(&r->grid, 0), .leaves = !apart, .out = dx};
    p.term[0] = (struct product_term){operand_of(tensor_rows(r->dy, first, count)),
                                      weight_backward(r->lin, col), r->lin->out};
    if (r->plan.n_groups == 1 && !apart)
        p.term[p.n_terms++] = lora_term(r, 0, first, col);
    if (apart && dx.dtype != DTYPE_F32)
        p.out = (struct tensor){cpu_scratch_f32(r->c, worker, SLOT_TILE, count * n), DTYPE_F32,
                                count, n, n};
    cpu_product(r->c, worker, &p);
    if (!apart)
        return;
    add_lora_dx(r, worker, first, col, p.out);
    for (int64_t i = 0; dx.dtype != DTYPE_F32 && i < count; i++)
        cpu_narrow(r->c, dx.dtype, row_at(dx, i), row_at(p.out, i), n);
}

/* Columns of dA += dSᵀ drop(x). */
static void da_item(struct backward_run *r, int worker, int64_t item) {
    struct cpu *c = r->c;
    int64_t col = tiling_first(&r->lin->backward, item), n = tiling_count(&r->lin->backward, item);
    int64_t tokens = r->x.rows, rank = r->plan.rank;
    bool masked = dropout_on(r->drop);
    int64_t step = masked ? DROPPED_ROWS : tokens;
    float *buf = masked ? cpu_scratch_f32(c, worker, SLOT_ROW, step * n) : NULL;
    for (int64_t t = 0; t < tokens; t += step) {
        int64_t count = tokens - t < step ? tokens - t : step;
        struct tensor x = tensor_rows(tensor_columns(r->x, col, n), t, count);
        struct operand xs = operand_of(x);
        for (int64_t i = 0; masked && i < count; i++) {
            const float *src = cpu_widen(c, x.dtype, row_at(x, i), n, buf + i * n);
            c->k->dropout(buf + i * n, src, r->drop, r->b->keys[t + i], col, n);
        }
        if (masked)
            xs = operand_f32(buf, n);
        for (int g = 0; g < r->plan.n_groups; g++) {
            const struct lora_group *group = &r->plan.group[g];
            struct operand ds = operand_f32(r->ds + t * rank + group->first, rank);
            gemm(c, worker, group->rank, n, count, transposed(ds), xs,
                 r->ad->g + group->offset + col, r->lin->in, true);
        }
    }
}

/* Rows of dB_i += dy_iᵀ (scale · s_i), computed transposed: of dy, which is the larger side, whole
 * rows are packed then. */
static void db_item(struct backward_run *r, int worker, int64_t item) {
    int i = 0;
    while (item >= r->lin->forward[i].count)
        item -= r->lin->forward[i++].count;
    int64_t ri = r->lora->rank[i];
    if (ri == 0)
        return;
    int64_t first = tiling_first(&r->lin->forward[i], item);
    int64_t count = tiling_count(&r->lin->forward[i], item);
    struct tensor dy = tensor_columns(r->dy, r->lin->first[i] + first, count);
    struct operand s = operand_f32(r->scaled + r->plan.first[i], r->plan.rank);
    float *turned = cpu_scratch_f32(r->c, worker, SLOT_TILE, ri * count);
    gemm(r->c, worker, ri, count, r->dy.rows, transposed(s), operand_of(dy), turned, count, false);
    float *g = r->ad->g + r->lora->b[i] + first * ri;
    for (int64_t row = 0; row < count; row++)
        for (int64_t j = 0; j < ri; j++)
            *g++ += turned[j * count + row];
}

static void backward_item(void *arg, int64_t item, int worker) {
    struct backward_run *r = arg;
    if (item < r->n_dx)
        dx_item(r, worker, item);
    else if (item < r->n_dx + r->n_da)
        da_item(r, worker, item - r->n_dx);
    else
        db_item(r, worker, item - r->n_dx - r->n_da);
}

void cpu_linear_backward(struct device *dev, const struct linear *lin, const struct lora *lora,
                         const struct adapter_mem *ad, const struct dropout *drop,
                         const struct batch *b, struct tensor dy, struct tensor x, struct tensor s,
                         const struct tensor *dx) {
    struct backward_run r = {.c = cpu_of(dev),
                             .lin = lin,
                             .lora = lora,
                             .ad = ad,
                             .drop = drop,
                             .b = b,
                             .dy = dy,
                             .x = x,
                             .s = s,
                             .dx = dx,
                             .plan = lora_plan_make(lora, lin->n_parts, lin->in),
                             .rows = even_rows(cpu_of(dev), dy.rows),
                             .grid = grid_backward(cpu_of(dev), lin, dy.rows)};
    int64_t n_db = 0;
    if (r.plan.rank > 0) {
        size_t bytes = (size_t)(dy.rows * r.plan.rank) * sizeof(float);
        r.ds = cpu_shared(r.c, SLOT_TILE, bytes);
        r.scaled = cpu_shared(r.c, SLOT_ROW, bytes);
        team_run(r.c->team, r.rows.count, shrink_item, &r);
        r.n_da = lin->backward.count;
        for (int i = 0; i < lin->n_parts; i++)
            n_db += lin->forward[i].count;
    }
    r.n_dx = dx ? grid_items(&r.grid) : 0;
    team_run(r.c->team, r.n_dx + r.n_da + n_db, backward_item, &r);
}
