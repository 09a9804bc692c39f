/* gemm: see gemm.h. */
#include "engine/ops/cpu/gemm.h"

#include <dnnl.h>
#include <string.h>

#include "engine/ops/cpu/primitives.h"
#include "engine/ops/cpu/product.h"

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
    return (struct operand){
        .data = buf, .dtype = DTYPE_F32, .stride = cols, .transposed = op.transposed};
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

/* ---- primitives ----------------------------------------------------------------------------- */

/* Columns of the shared dimension that one primitive takes, for the same reason as PRIMITIVE_UNIT:
 * sums over tokens would need a primitive for every number of tokens. */
#define PRIMITIVE_DEPTH 1024

static int64_t round_to_unit(int64_t n) {
    return (n + PRIMITIVE_UNIT - 1) / PRIMITIVE_UNIT * PRIMITIVE_UNIT;
}

/* A copy of op in `to`, with zeros up to padded_rows x padded_cols; sizes are as stored. */
static struct operand padded_copy(struct cpu *c, int worker, enum cpu_slot slot, struct operand op,
                                  enum dtype to, int64_t rows, int64_t cols, int64_t padded_rows,
                                  int64_t padded_cols) {
    int64_t from_size = (int64_t)dtype_size(op.dtype), size = (int64_t)dtype_size(to);
    char *buf = cpu_scratch(c, worker, slot, (size_t)(padded_rows * padded_cols * size));
    for (int64_t r = 0; r < padded_rows; r++) {
        char *dst = buf + r * padded_cols * size;
        int64_t filled = r < rows ? cols : 0;
        const char *src = (const char *)op.data + r * op.stride * from_size;
        if (filled && op.dtype == to)
            memcpy(dst, src, (size_t)(filled * size));
        else if (filled)
            cpu_narrow(c, to, dst, (const float *)(const void *)src, filled);
        memset(dst + filled * size, 0, (size_t)((padded_cols - filled) * size));
    }
    return (struct operand){
        .data = buf, .dtype = to, .stride = padded_cols, .transposed = op.transposed};
}

/* op with both sizes multiples of the unit and its elements of type `to`: itself where it is so
 * already. rows, cols: of op(x). */
static struct operand prepare(struct cpu *c, int worker, enum cpu_slot slot, struct operand op,
                              enum dtype to, int64_t rows, int64_t cols) {
    int64_t r = op.transposed ? cols : rows, n = op.transposed ? rows : cols;
    int64_t pr = round_to_unit(r), pn = round_to_unit(n);
    if (op.packed || (op.dtype == to && pr == r && pn == n))
        return op;
    return padded_copy(c, worker, slot, op, to, r, n, pr, pn);
}

/* Columns k0 … of op(a), or rows k0 … of op(b). */
static struct operand from_depth(struct operand op, bool depth_is_stored_rows, int64_t k0) {
    int64_t step = (depth_is_stored_rows ? op.stride : 1) * (int64_t)dtype_size(op.dtype);
    if (!op.packed)
        op.data = (const char *)op.data + k0 * step;
    return op;
}

/* false: c is untouched. */
static bool product_primitives(struct cpu *c, int worker, int64_t m, int64_t n, int64_t k,
                               struct operand a, struct operand b, float *out, int64_t ldc,
                               bool accumulate) {
    int64_t pm = round_to_unit(m), pn = round_to_unit(n);
    enum dtype type = a.dtype == DTYPE_F32 && b.dtype == DTYPE_F32 ? DTYPE_F32 : DTYPE_BF16;
    bool aside = pm != m || pn != n; /* the padded result does not fit where it goes */
    float *to = aside ? cpu_scratch_f32(c, worker, SLOT_GEMM_C, pm * pn) : out;
    struct operand pa = prepare(c, worker, SLOT_GEMM_A, a, type, m, k);
    struct operand pb = prepare(c, worker, SLOT_GEMM_B, b, type, k, n);
    if (!primitives_run(c, worker, pm, pn, round_to_unit(k), pa, pb, to, aside ? pn : ldc,
                        accumulate && !aside))
        return false;
    for (int64_t i = 0; aside && i < m; i++)
        if (accumulate)
            c->k->axpy(out + i * ldc, out + i * ldc, 1.0f, to + i * pn, n);
        else
            memcpy(out + i * ldc, to + i * pn, (size_t)n * sizeof *out);
    return true;
}

struct trial {
    struct cpu *c;
    bool works;
};

static void trial_item(void *arg, int64_t item, int worker) {
    enum { N = 64 };
    struct trial *t = arg;
    const struct kernels *k = t->c->k;
    uint16_t a[N * N], b[N * N];
    float wide_a[N * N], wide_b[N * N], got[N * N], want[N * N];
    (void)item;
    for (int i = 0; i < N * N; i++) {
        wide_a[i] = (float)(i * 7 % 19) - 9.0f; /* products and sums are exact */
        wide_b[i] = (float)(i * 5 % 23) - 11.0f;
    }
    k->narrow_bf16(a, wide_a, N * N);
    k->narrow_bf16(b, wide_b, N * N);
    struct operand a16 = {.data = a, .dtype = DTYPE_BF16, .stride = N};
    struct operand b16 = {.data = b, .dtype = DTYPE_BF16, .stride = N, .transposed = true};
    if (!primitives_run(t->c, worker, N, N, N, a16, b16, got, N, false))
        return;
    k->product(N, N, N, wide_a, N, false, wide_b, N, true, want, N, false);
    t->works = true;
    for (int i = 0; i < N * N; i++)
        t->works = t->works && got[i] == want[i];
}

bool gemm_bf16_works(struct cpu *c) {
    struct trial t = {.c = c};
    team_run(c->team, 1, trial_item, &t);
    return t.works;
}

/* ---- choice --------------------------------------------------------------------------------- */

/* A packed matrix that the primitives refuse for this shape: it is laid out plainly first. */
static struct operand unpack(struct cpu *c, int worker, int64_t n, int64_t k, struct operand b) {
    size_t bytes = (size_t)(n * k) * dtype_size(b.dtype);
    void *to = cpu_scratch(c, worker, SLOT_GEMM_C, bytes);
    if (!primitives_unpack(c, worker, b.packed, n, k, b.dtype, to))
        memset(to, 0xff, bytes); /* NaN: the loss shows it */
    return (struct operand){.data = to, .dtype = b.dtype, .stride = n};
}

/* One piece of the shared dimension. */
static void gemm_piece(struct cpu *c, int worker, int64_t m, int64_t n, int64_t k, struct operand a,
                       struct operand b, bool primitives, float *out, int64_t ldc,
                       bool accumulate) {
    if (primitives && product_primitives(c, worker, m, n, k, a, b, out, ldc, accumulate))
        return;
    if (b.packed)
        b = unpack(c, worker, n, k, b);
    if (a.dtype == DTYPE_F32 && b.dtype == DTYPE_F32)
        product_f32(c, m, n, k, a, b, out, ldc, accumulate);
    else
        product_widened(c, worker, m, n, k, a, b, out, ldc, accumulate);
}

/* Splitting the other side of so few rows or columns into planes costs more than an f32 product. */
#define SKINNY 64

void gemm(struct cpu *c, int worker, int64_t m, int64_t n, int64_t k, struct operand a,
          struct operand b, float *out, int64_t ldc, bool accumulate) {
    if (m <= 0 || n <= 0)
        return;
    bool f32 = a.dtype == DTYPE_F32 && b.dtype == DTYPE_F32;
    bool skinny = m <= SKINNY || n <= SKINNY;
    if (tiles_take(c->tiles, f32 ? DTYPE_F32 : DTYPE_BF16) && !(f32 && skinny)) {
        struct tensor to = {out, DTYPE_F32, m, n, ldc};
        struct product p = {.term[0] = {a, b, k}, .n_terms = 1, .out = to};
        if (accumulate)
            p.residual = &to;
        tile_product(c, worker, &p);
        return;
    }
    bool primitives = b.packed || (f32 ? c->product == CPU_PRODUCT_PRIMITIVES : c->native_bf16);
    int64_t depth = primitives && !b.packed ? PRIMITIVE_DEPTH : k;
    for (int64_t k0 = 0; k0 < k; k0 += depth)
        gemm_piece(c, worker, m, n, k - k0 < depth ? k - k0 : depth,
                   from_depth(a, a.transposed, k0), from_depth(b, !b.transposed, k0), primitives,
                   out, ldc, accumulate || k0 > 0);
}
