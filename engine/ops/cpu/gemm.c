/* gemm: see gemm.h. */
#include "engine/ops/cpu/gemm.h"

#include <dnnl.h>
#include <stdlib.h>

#include "base/log.h"
#include "engine/ops/cpu/gemm_bf16.h"

/* Columns of the shared dimension that are widened at a time. */
#define WIDEN_DEPTH 512

static void product_f32(const struct cpu *c, int64_t m, int64_t n, int64_t k, struct operand a,
                        struct operand b, float *out, int64_t ldc, bool accumulate) {
    if (c->product == CPU_PRODUCT_PLAIN) {
        c->k->product(m, n, k, a.data, a.stride, a.transposed, b.data, b.stride, b.transposed, out,
                      ldc, accumulate);
        return;
    }
    dnnl_status_t status =
        dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', m, n, k, 1.0f, a.data,
                   a.stride, b.data, b.stride, accumulate ? 1.0f : 0.0f, out, ldc);
    if (status != dnnl_success) /* bad arguments or no memory: neither can be repaired here */
        c->k->product(m, n, k, a.data, a.stride, a.transposed, b.data, b.stride, b.transposed, out,
                      ldc, accumulate);
}

/* Part [k0, k0 + kn) of the shared dimension of op, as f32; cols_first: op's shared dimension is
 * its stored rows. other: its other dimension. */
static struct operand widen_part(const struct cpu *c, struct operand op, bool cols_first,
                                 int64_t other, int64_t k0, int64_t kn, float *buf) {
    int64_t size = (int64_t)dtype_size(op.dtype);
    op.data = (const char *)op.data + (cols_first ? k0 * op.stride : k0) * size;
    if (op.dtype == DTYPE_F32)
        return op;
    int64_t rows = cols_first ? kn : other, cols = cols_first ? other : kn;
    for (int64_t r = 0; r < rows; r++)
        cpu_widen(c, op.dtype, (const char *)op.data + r * op.stride * size, cols, buf + r * cols);
    return (struct operand){buf, DTYPE_F32, cols, op.transposed};
}

static void product_widened(struct cpu *c, int worker, int64_t m, int64_t n, int64_t k,
                            struct operand a, struct operand b, float *out, int64_t ldc,
                            bool accumulate) {
    int64_t depth = k < WIDEN_DEPTH ? k : WIDEN_DEPTH;
    float *abuf = cpu_scratch_f32(c, worker, SLOT_GEMM_A, m * depth);
    float *bbuf = cpu_scratch_f32(c, worker, SLOT_GEMM_B, n * depth);
    for (int64_t k0 = 0; k0 < k; k0 += depth) {
        int64_t kn = k - k0 < depth ? k - k0 : depth;
        product_f32(c, m, n, kn, widen_part(c, a, a.transposed, m, k0, kn, abuf),
                    widen_part(c, b, !b.transposed, n, k0, kn, bbuf), out, ldc,
                    accumulate || k0 > 0);
    }
}

/* op as bf16, dense. rows, cols: as stored. */
static struct operand to_bf16(const struct cpu *c, struct operand op, int64_t rows, int64_t cols,
                              uint16_t *buf) {
    if (op.dtype == DTYPE_BF16)
        return op;
    const float *src = op.data;
    for (int64_t r = 0; r < rows; r++)
        c->k->narrow_bf16(buf + r * cols, src + r * op.stride, cols);
    return (struct operand){buf, DTYPE_BF16, cols, op.transposed};
}

static bool product_bf16(struct cpu *c, int worker, int64_t m, int64_t n, int64_t k,
                         struct operand a, struct operand b, float *out, int64_t ldc,
                         bool accumulate) {
    uint16_t *abuf = NULL, *bbuf = NULL;
    if (a.dtype == DTYPE_F32)
        abuf = cpu_scratch(c, worker, SLOT_GEMM_A, (size_t)(m * k) * sizeof *abuf);
    if (b.dtype == DTYPE_F32)
        bbuf = cpu_scratch(c, worker, SLOT_GEMM_B, (size_t)(n * k) * sizeof *bbuf);
    struct operand a16 = to_bf16(c, a, a.transposed ? k : m, a.transposed ? m : k, abuf);
    struct operand b16 = to_bf16(c, b, b.transposed ? n : k, b.transposed ? k : n, bbuf);
    return gemm_bf16(c->bf16, worker, m, n, k, a16, b16, out, ldc, accumulate);
}

void gemm(struct cpu *c, int worker, int64_t m, int64_t n, int64_t k, struct operand a,
          struct operand b, float *out, int64_t ldc, bool accumulate) {
    if (m <= 0 || n <= 0)
        return;
    bool any_bf16 = a.dtype == DTYPE_BF16 || b.dtype == DTYPE_BF16;
    if (!any_bf16)
        product_f32(c, m, n, k, a, b, out, ldc, accumulate);
    else if (!c->bf16 || !product_bf16(c, worker, m, n, k, a, b, out, ldc, accumulate))
        product_widened(c, worker, m, n, k, a, b, out, ldc, accumulate);
}
