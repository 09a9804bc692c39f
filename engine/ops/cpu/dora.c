/* dora: the norms of W + scale · B A by row, and the outputs scaled by m / n.
 *
 * A row's squared norm is ‖W_o‖² + 2 scale · B_o · (A W_oᵀ) + scale² · B_o (A Aᵀ) B_oᵀ: ‖W_o‖² is
 * known since linear_new, and the rest costs rank products with W and no matrix of W's size. */
#include <math.h>

#include "engine/ops/cpu/linear.h"

struct dora_run {
    struct cpu *c;
    const struct linear *lin;
    const struct lora *lora;
    const struct adapter_mem *ad;
    int part;
    double *gram; /* [rank, rank] A Aᵀ of the part */
    float *n;
    const float *norms, *factor; /* [Σout] n, and m / n (1 without LoRA) */
    struct tensor z, dy, y;
    const struct tensor *residual;
    struct tiling cols;
};

/* ---- norms ---------------------------------------------------------------------------------- */

/* Σ_kl b_k (2 scale · p_k + scale² · Σ_l G_kl b_l), where p_k = A_k · W_o */
static double change(const struct dora_run *r, const float *b, const float *p, int64_t p_stride) {
    int64_t rank = r->lora->rank[r->part];
    double scale = (double)r->lora->scale, sum = 0;
    for (int64_t k = 0; k < rank; k++) {
        double gb = 0;
        for (int64_t l = 0; l < rank; l++)
            gb += r->gram[k * rank + l] * (double)b[l];
        sum += (double)b[k] * (2 * scale * (double)p[k * p_stride] + scale * scale * gb);
    }
    return sum;
}

static void norms_item(void *arg, int64_t item, int worker) {
    struct dora_run *r = arg;
    const struct linear *lin = r->lin;
    const struct tiling *rows = &lin->forward[r->part];
    int64_t rank = r->lora->rank[r->part], count = tiling_count(rows, item);
    int64_t first = tiling_first(rows, item), at = lin->first[r->part] + first;
    const float *b = r->ad->w + r->lora->b[r->part] + first * rank;
    float *p = cpu_scratch_f32(r->c, worker, SLOT_TILE, rank * count);
    struct operand a = adapter_operand(r->c, r->ad, r->lora->a[r->part], lin->in, lin->dtype);
    gemm(r->c, worker, rank, count, lin->in, a, weight_forward(lin, r->part, first), p, count,
         false);
    for (int64_t i = 0; i < count; i++) {
        double square = (double)lin->squares[at + i] + change(r, b + i * rank, p + i, count);
        r->n[at + i] = (float)sqrt(square > 0 ? square : 0);
    }
}

static void gram_item(void *arg, int64_t k, int worker) {
    struct dora_run *r = arg;
    int64_t in = r->lin->in, rank = r->lora->rank[r->part];
    const float *a = r->ad->w + r->lora->a[r->part];
    (void)worker;
    for (int64_t l = 0; l < rank; l++)
        r->gram[k * rank + l] = (double)r->c->k->dot(a + k * in, a + l * in, in);
}

void cpu_dora_norms(struct device *dev, const struct linear *lin, const struct lora *lora,
                    const struct adapter_mem *ad, float *n) {
    struct dora_run r = {.c = cpu_of(dev), .lin = lin, .lora = lora, .ad = ad, .n = n};
    for (r.part = 0; r.part < lin->n_parts; r.part++) {
        int64_t rank = lora->rank[r.part];
        for (int64_t o = lin->first[r.part]; rank == 0 && o < lin->first[r.part + 1]; o++)
            n[o] = 1;
        if (rank == 0)
            continue;
        r.gram = cpu_shared(r.c, SLOT_TILE, (size_t)(rank * rank) * sizeof *r.gram);
        team_run(r.c->team, rank, gram_item, &r);
        team_run(r.c->team, lin->forward[r.part].count, norms_item, &r);
    }
}

/* ---- outputs -------------------------------------------------------------------------------- */

/* m / n, [Σout], in memory that the workers of a run share; 0 for a row of zeros. */
static const float *factors(struct cpu *c, const struct linear *lin, const struct lora *lora,
                            const struct adapter_mem *ad, const float *n) {
    float *out = cpu_shared(c, SLOT_ROW, (size_t)lin->out * sizeof *out);
    for (int i = 0; i < lin->n_parts; i++)
        for (int64_t o = lin->first[i]; o < lin->first[i + 1]; o++) {
            float m = lora->rank[i] > 0 ? ad->w[lora->m[i] + (size_t)(o - lin->first[i])] : 1;
            out[o] = n[o] > 0 ? m / n[o] : 0;
        }
    return out;
}

static void forward_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct dora_run *r = arg;
    struct cpu *c = r->c;
    int64_t cols = r->lin->out;
    const float *bias = r->lin->bias;
    float *buf = cpu_scratch_f32(c, worker, SLOT_ROW, cols);
    float *add = cpu_scratch_f32(c, worker, SLOT_ROW_2, cols);
    float *out = cpu_scratch_f32(c, worker, SLOT_ROW_3, cols);
    for (int64_t i = first; i < first + count; i++) {
        const float *z = cpu_widen(c, r->z.dtype, row_at(r->z, i), cols, buf);
        for (int64_t o = 0; o < cols; o++)
            out[o] = bias ? r->factor[o] * (z[o] - bias[o]) + bias[o] : r->factor[o] * z[o];
        if (r->residual) {
            const float *x = cpu_widen(c, r->residual->dtype, row_at(*r->residual, i), cols, add);
            c->k->axpy(out, out, 1.0f, x, cols);
        }
        cpu_narrow(c, r->y.dtype, row_at(r->y, i), out, cols);
    }
}

void cpu_dora_forward(struct device *dev, const struct linear *lin, const struct lora *lora,
                      const struct adapter_mem *ad, const float *n, struct tensor z,
                      const struct tensor *residual, struct tensor y) {
    struct dora_run r = {.c = cpu_of(dev), .lin = lin, .z = z, .residual = residual, .y = y};
    r.factor = factors(r.c, lin, lora, ad, n);
    cpu_for_rows(r.c, z.rows, z.cols, forward_rows, &r);
}

/* Adds sum / n of columns [first, first + count) to the gradients of the parts they belong to. */
static void add_magnitude_gradient(const struct dora_run *r, int64_t first, int64_t count,
                                   const float *sum) {
    for (int i = 0; i < r->lin->n_parts; i++) {
        int64_t begin = r->lin->first[i], end = r->lin->first[i + 1];
        float *g = r->ad->g + r->lora->m[i];
        for (int64_t o = first; r->lora->rank[i] > 0 && o < first + count; o++)
            if (o >= begin && o < end && r->norms[o] > 0)
                g[o - begin] += sum[o - first] / r->norms[o];
    }
}

/* A strip of columns through all tokens, so that its sums have one order. */
static void backward_item(void *arg, int64_t item, int worker) {
    struct dora_run *r = arg;
    struct cpu *c = r->c;
    int64_t first = tiling_first(&r->cols, item), count = tiling_count(&r->cols, item);
    struct tensor z = tensor_columns(r->z, first, count), dy = tensor_columns(r->dy, first, count);
    const float *bias = r->lin->bias ? r->lin->bias + first : NULL, *factor = r->factor + first;
    float *zbuf = cpu_scratch_f32(c, worker, SLOT_ROW, count);
    float *dbuf = cpu_scratch_f32(c, worker, SLOT_ROW_2, count);
    float *dz = cpu_scratch_f32(c, worker, SLOT_ROW_3, count);
    float *sum = cpu_scratch_f32(c, worker, SLOT_ROW_4, count);
    c->k->scale(sum, factor, 0.0f, count);
    for (int64_t t = 0; t < z.rows; t++) {
        const float *zt = cpu_widen(c, z.dtype, row_at(z, t), count, zbuf);
        const float *d = cpu_widen(c, dy.dtype, row_at(dy, t), count, dbuf);
        for (int64_t o = 0; o < count; o++) {
            sum[o] += d[o] * (bias ? zt[o] - bias[o] : zt[o]);
            dz[o] = factor[o] * d[o];
        }
        cpu_narrow(c, z.dtype, row_at(z, t), dz, count);
    }
    add_magnitude_gradient(r, first, count, sum);
}

void cpu_dora_backward(struct device *dev, const struct linear *lin, const struct lora *lora,
                       const struct adapter_mem *ad, const float *n, struct tensor dy,
                       struct tensor z) {
    struct dora_run r = {.c = cpu_of(dev),
                         .lin = lin,
                         .lora = lora,
                         .ad = ad,
                         .norms = n,
                         .z = z,
                         .dy = dy,
                         .cols = tiling_make(lin->out, 256, 64)};
    r.factor = factors(r.c, lin, lora, ad, n);
    team_run(r.c->team, r.cols.count, backward_item, &r);
}
