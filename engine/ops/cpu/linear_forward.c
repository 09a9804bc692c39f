/* linear_forward: y = residual + x Wᵀ + bias + scale · (drop(x) Aᵀ) Bᵀ.
 *
 * First s = drop(x) Aᵀ by blocks of rows; then tiles of y, in which the base's product, LoRA's,
 * residual and bias are added while they are in cache. */
#include "engine/ops/cpu/linear.h"

struct forward_run {
    struct cpu *c;
    const struct linear *lin;
    const struct lora *lora;
    const struct adapter_mem *ad;
    const struct dropout *drop;
    const struct batch *b;
    struct tensor x, y, s;
    const struct tensor *residual;
    struct lora_plan plan;
    float *scaled;      /* [T, Σrank] scale · s */
    struct tiling rows; /* of s */
    struct grid grid;   /* of y */
};

/* Rows of drop(x) as an operand. */
static struct operand dropped_rows(struct forward_run *r, int worker, int64_t first,
                                   int64_t count) {
    struct tensor x = tensor_rows(r->x, first, count);
    if (!dropout_on(r->drop))
        return operand_of(x);
    float *buf = cpu_scratch_f32(r->c, worker, SLOT_ROW, count * x.cols);
    for (int64_t i = 0; i < count; i++) {
        float *row = buf + i * x.cols;
        const float *src = cpu_widen(r->c, x.dtype, row_at(x, i), x.cols, row);
        r->c->k->dropout(row, src, r->drop, r->b->keys[first + i], 0, x.cols);
    }
    return operand_f32(buf, x.cols);
}

static void shrink_item(void *arg, int64_t item, int worker) {
    struct forward_run *r = arg;
    int64_t first = tiling_first(&r->rows, item), count = tiling_count(&r->rows, item);
    int64_t in = r->lin->in, rank = r->plan.rank;
    float *tile = r->scaled + first * rank;
    struct operand x = dropped_rows(r, worker, first, count);
    for (int g = 0; g < r->plan.n_groups; g++) {
        const struct lora_group *group = &r->plan.group[g];
        struct operand a = adapter_operand(r->c, r->ad, group->offset, in, r->x.dtype);
        gemm(r->c, worker, count, group->rank, in, x, transposed(a), tile + group->first, rank,
             false);
    }
    for (int64_t i = 0; i < count; i++) {
        float *row = tile + i * rank;
        void *dst = row_at(r->s, first + i);
        cpu_narrow(r->c, r->s.dtype, dst, row, rank);
        /* The backward pass sees s as it was stored. */
        const float *stored = cpu_widen(r->c, r->s.dtype, dst, rank, row);
        r->c->k->scale(row, stored, r->lora->scale, rank);
    }
}

static void forward_item(void *arg, int64_t item, int worker) {
    struct forward_run *r = arg;
    struct grid_tile t = grid_tile_of(&r->grid, item);
    int i = t.part;
    int64_t col = r->lin->first[i] + t.col, n = t.cols, first = t.row, count = t.rows;
    int64_t rank = r->lora ? r->lora->rank[i] : 0;
    struct tensor residual;
    struct product p = {.n_terms = 1,
                        .width = grid_width(&r->grid, i),
                        .leaves = true,
                        .bias = r->lin->bias ? r->lin->bias + col : NULL,
                        .out = tensor_rows(tensor_columns(r->y, col, n), first, count)};
    p.term[0] = (struct product_term){operand_of(tensor_rows(r->x, first, count)),
                                      weight_forward(r->lin, i, t.col), r->lin->in};
    if (r->residual) {
        residual = tensor_rows(tensor_columns(*r->residual, col, n), first, count);
        p.residual = &residual;
    }
    if (rank > 0) {
        struct operand s =
            operand_f32(r->scaled + first * r->plan.rank + r->plan.first[i], r->plan.rank);
        size_t offset = r->lora->b[i] + (size_t)(t.col * rank);
        struct operand b = adapter_operand(r->c, r->ad, offset, rank, r->x.dtype);
        p.term[p.n_terms++] = (struct product_term){s, transposed(b), rank};
    }
    cpu_product(r->c, worker, &p);
}

void cpu_linear_forward(struct device *dev, const struct linear *lin, const struct lora *lora,
                        const struct adapter_mem *ad, const struct dropout *drop,
                        const struct batch *b, struct tensor x, const struct tensor *residual,
                        struct tensor y, struct tensor s) {
    struct forward_run r = {.c = cpu_of(dev),
                            .lin = lin,
                            .lora = lora,
                            .ad = ad,
                            .drop = drop,
                            .b = b,
                            .x = x,
                            .y = y,
                            .s = s,
                            .residual = residual,
                            .plan = lora_plan_make(lora, lin->n_parts, lin->in),
                            .rows = even_rows(cpu_of(dev), x.rows),
                            .grid = grid_forward(cpu_of(dev), lin, x.rows)};
    if (r.plan.rank > 0) {
        size_t bytes = (size_t)(x.rows * r.plan.rank) * sizeof(float);
        r.scaled = cpu_shared(r.c, SLOT_TILE, bytes);
        team_run(r.c->team, r.rows.count, shrink_item, &r);
    }
    team_run(r.c->team, grid_items(&r.grid), forward_item, &r);
}
