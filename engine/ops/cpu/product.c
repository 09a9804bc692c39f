/* product: see product.h. */
#include "engine/ops/cpu/product.h"

#include <string.h>

/* What a block starts from: residual and bias. false: nothing. */
static bool begin(struct cpu *c, int worker, const struct product *p, float *block,
                  int64_t stride) {
    if (!p->residual && !p->bias)
        return false;
    int64_t n = p->out.cols;
    float *buf = cpu_scratch_f32(c, worker, SLOT_RIGHT_2, n);
    for (int64_t i = 0; i < p->out.rows; i++) {
        float *row = block + i * stride;
        if (!p->residual) {
            memcpy(row, p->bias, (size_t)n * sizeof *row);
            continue;
        }
        const float *src = cpu_widen(c, p->residual->dtype, row_at(*p->residual, i), n, buf);
        if (p->bias)
            c->k->axpy(row, p->bias, 1.0f, src, n);
        else if (row != src)
            memcpy(row, src, (size_t)n * sizeof *row);
    }
    return true;
}

bool product_is_f32(const struct product *p) {
    bool f32 = true;
    for (int i = 0; i < p->n_terms; i++)
        f32 = f32 && p->term[i].a.dtype == DTYPE_F32 && p->term[i].b.dtype == DTYPE_F32;
    return f32;
}

void cpu_product(struct cpu *c, int worker, const struct product *p) {
    if (tiles_take(c->choice->tiles, product_is_f32(p) ? DTYPE_F32 : DTYPE_BF16)) {
        tile_product(c, worker, p);
        return;
    }
    int64_t m = p->out.rows, n = p->out.cols;
    bool direct = p->out.dtype == DTYPE_F32;
    float *block = direct ? p->out.data : cpu_scratch_f32(c, worker, SLOT_TILE, m * n);
    int64_t stride = direct ? p->out.stride : n;
    bool begun = begin(c, worker, p, block, stride);
    for (int i = 0; i < p->n_terms; i++)
        gemm(c, worker, m, n, p->term[i].k, p->term[i].a, p->term[i].b, block, stride,
             begun || i > 0);
    for (int64_t i = 0; !direct && i < m; i++)
        cpu_narrow(c, p->out.dtype, row_at(p->out, i), block + i * n, n);
}
