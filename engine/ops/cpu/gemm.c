/* gemm: see gemm.h. */
#include "engine/ops/cpu/gemm.h"

#include <dnnl.h>

#include "engine/ops/cpu/product.h"

void gemm_limit(enum isa isa) {
    static const dnnl_cpu_isa_t most[ISA_COUNT] = {
        [ISA_BASE] = dnnl_cpu_isa_sse41,
        [ISA_AVX2] = dnnl_cpu_isa_avx2,
        [ISA_AVX512] = dnnl_cpu_isa_avx512_core_vnni,
        [ISA_AVX512_BF16] = dnnl_cpu_isa_avx512_core_bf16,
        [ISA_AVX512_FP16] = dnnl_cpu_isa_avx512_core_bf16,
        [ISA_AMX] = dnnl_cpu_isa_all};
    (void)dnnl_set_max_cpu_isa(most[isa]); /* refused after the first product */
}

static void product_f32(const struct cpu *c, int64_t m, int64_t n, int64_t k, struct operand a,
                        struct operand b, float *out, int64_t ldc, bool accumulate) {
    if (c->choice->sgemm &&
        dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', m, n, k, 1.0f, a.data,
                   a.stride, b.data, b.stride, accumulate ? 1.0f : 0.0f, out, ldc) == dnnl_success)
        return;
    /* where it was asked: bad arguments or no memory; neither can be repaired here */
    c->k->product(m, n, k, a.data, a.stride, a.transposed, b.data, b.stride, b.transposed, out, ldc,
                  accumulate);
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
    return (struct operand){
        .data = buf, .dtype = DTYPE_F32, .stride = cols, .transposed = op.transposed};
}

static void product_widened(struct cpu *c, int worker, int64_t m, int64_t n, int64_t k,
                            struct operand a, struct operand b, float *out, int64_t ldc,
                            bool accumulate) {
    int64_t depth = k < GEMM_WIDEN_DEPTH ? k : GEMM_WIDEN_DEPTH;
    float *abuf = cpu_scratch_f32(c, worker, SLOT_LEFT, m * depth);
    float *bbuf = cpu_scratch_f32(c, worker, SLOT_RIGHT, n * depth);
    for (int64_t k0 = 0; k0 < k; k0 += depth) {
        int64_t kn = k - k0 < depth ? k - k0 : depth;
        product_f32(c, m, n, kn, widen_part(c, a, a.transposed, m, k0, kn, abuf),
                    widen_part(c, b, !b.transposed, n, k0, kn, bbuf), out, ldc,
                    accumulate || k0 > 0);
    }
}

/* Splitting the other side of so few rows or columns into planes costs more than an f32 product. */
#define SKINNY 64

void gemm(struct cpu *c, int worker, int64_t m, int64_t n, int64_t k, struct operand a,
          struct operand b, float *out, int64_t ldc, bool accumulate) {
    if (m <= 0 || n <= 0)
        return;
    bool f32 = a.dtype == DTYPE_F32 && b.dtype == DTYPE_F32;
    bool skinny = m <= SKINNY || n <= SKINNY;
    if (tiles_take(c->choice->tiles, f32 ? DTYPE_F32 : DTYPE_BF16) && !(f32 && skinny)) {
        struct tensor to = {out, DTYPE_F32, m, n, ldc};
        struct product p = {.term[0] = {a, b, k}, .n_terms = 1, .out = to};
        if (accumulate)
            p.residual = &to;
        tile_product(c, worker, &p);
    } else if (f32) {
        product_f32(c, m, n, k, a, b, out, ldc, accumulate);
    } else {
        product_widened(c, worker, m, n, k, a, b, out, ldc, accumulate);
    }
}
