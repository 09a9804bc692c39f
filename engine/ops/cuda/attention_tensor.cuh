/* attention_tensor: attention on tensor cores, for bf16 and heads of 16, 32, 64 or 128.
 *
 * What:    tiles, and who takes this way instead of the plain one. A block of four warps works on
 *          OWN rows of its own, 16 a warp, and walks tiles of other rows.
 * Owns:    nothing.
 * Threads: see warp_matrix.cuh.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_ATTENTION_TENSOR_CUH
#define FFWD_ENGINE_OPS_CUDA_ATTENTION_TENSOR_CUH

#include "engine/ops/cuda/attention.cuh"
#include "engine/ops/cuda/warp_matrix.cuh"

constexpr unsigned TENSOR_THREADS = 4 * WARP;
constexpr int OWN = 64;

/* Elements between rows of a tile: 16 bytes more than the head, so that eight rows lie in different
 * banks. */
template <int D> constexpr int PITCH = D + 8;

struct alignas(16) quad {
    uint32_t v[4];
};

/* Rows [first, first + ROWS_OF) of one head into a tile; rows from the example's end on become 0.
 */
template <int D, int ROWS_OF>
__device__ inline void load_rows(bf16 *tile, view<const bf16> t, int64_t head, example e,
                                 int32_t first) {
    constexpr int PER_ROW = D / 8;
    for (int i = static_cast<int>(threadIdx.x); i < ROWS_OF * PER_ROW;
         i += static_cast<int>(TENSOR_THREADS)) {
        int row = i / PER_ROW, col = i % PER_ROW * 8;
        quad x = {};
        if (first + row < e.len)
            x = *reinterpret_cast<const quad *>(t.row(e.start + first + row) + head * D + col);
        *reinterpret_cast<quad *>(tile + row * PITCH<D> + col) = x;
    }
}

/* sum [16, N] += (rows `row`… of own) (rows of other)ᵀ */
template <int D, int N>
__device__ inline void multiply_rows(sums<N> &sum, const bf16 *own, int row, const bf16 *other) {
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        operand_a a = load_a(own, PITCH<D>, row, k);
#pragma unroll
        for (int n = 0; n < N / 16; n++)
            sum.add(n, a, load_b_transpose(other, PITCH<D>, 16 * n, k));
    }
}

/* sum [16, D] += weights [16, N] other [N, D] */
template <int D, int N>
__device__ inline void add_rows(sums<D> &sum, const sums<N> &weights, const bf16 *other) {
#pragma unroll
    for (int k = 0; k < N / 16; k++) {
        operand_a a = weights.as_a(k);
#pragma unroll
        for (int n = 0; n < D / 16; n++)
            sum.add(n, a, load_b(other, PITCH<D>, 16 * k, 16 * n));
    }
}

/* Rows row… of one head, as many as the example has. */
template <int D>
__device__ inline void save_rows(const sums<D> &sum, view<bf16> to, int64_t head, example e,
                                 int32_t row) {
#pragma unroll
    for (int low = 0; low < 2; low++) {
        int32_t at = row + sum_row(2 * low);
        if (at >= e.len)
            continue;
        for (int j = 0; j < D / 8; j++) {
            float two[2] = {sum.v[j][2 * low], sum.v[j][2 * low + 1]};
            store<bf16, 2>(to.row(e.start + at) + head * D + sum_col(j, 0), two);
        }
    }
}

/* ---- host ---- */

inline bool rows_are_quads(struct tensor t) {
    return t.dtype == DTYPE_BF16 && reinterpret_cast<uintptr_t>(t.data) % 16 == 0 &&
           t.stride % 8 == 0;
}
/* True if all of these can take this way. */
template <typename... T> bool takes_tensor_cores(int32_t head_dim, T... tensors) {
    bool size = head_dim == 16 || head_dim == 32 || head_dim == 64 || head_dim == 128;
    return size && (rows_are_quads(tensors) && ...);
}
/* f(number<D>()) */
template <typename F> void with_tensor_head(int32_t head_dim, F f) {
    if (head_dim == 16)
        f(number<16>());
    else if (head_dim == 32)
        f(number<32>());
    else if (head_dim == 64)
        f(number<64>());
    else
        f(number<128>());
}

#endif
