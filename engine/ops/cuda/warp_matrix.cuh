/* warp_matrix: products of small bf16 matrices by a whole warp, on tensor cores.
 *
 * What:    the PTX instructions mma.m16n8k16 and ldmatrix (PTX ISA, sections 9.7.14 and 9.7.15),
 *          and how their operands lie in a tile of shared memory, whose rows begin on 16 bytes.
 *          With g = lane / 4 and t = lane % 4, a lane holds
 *          of A [16, 16] the pairs (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8);
 *          of B [16, 8] the pairs (2t, g), (2t + 8, g) down a column;
 *          of C [16, 8] the elements (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
 * Owns:    nothing.
 * Threads: all lanes of a warp take part.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_WARP_MATRIX_CUH
#define FFWD_ENGINE_OPS_CUDA_WARP_MATRIX_CUH

#include "engine/ops/cuda/reduce.cuh"
#include "engine/ops/cuda/warp_instructions.cuh"

/* Two neighbours as the instructions want them: the first in the lower half. */
__device__ inline uint32_t pair_of(float first, float second) {
    __nv_bfloat162 p = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<uint32_t *>(&p);
}

struct operand_a {
    uint32_t v[4];
};
/* Two B's side by side: 16 rows, 16 columns. */
struct operand_b {
    uint32_t v[4];
};

/* A [16, 16] from a tile, upper left corner at (row, col). */
__device__ inline operand_a load_a(const bf16 *tile, int stride, int row, int col) {
    int lane = static_cast<int>(threadIdx.x % WARP);
    operand_a a;
    load_matrices(a.v, tile + (row + lane % 16) * stride + col + lane / 16 * 8);
    return a;
}
/* B [16, 16] = the transpose of what lies in the tile at (row, col). */
__device__ inline operand_b load_b_transpose(const bf16 *tile, int stride, int row, int col) {
    int lane = static_cast<int>(threadIdx.x % WARP);
    operand_b b;
    load_matrices(b.v, tile + (row + lane / 16 * 8 + lane % 8) * stride + col + lane / 8 % 2 * 8);
    return b;
}
/* B [16, 16] as it lies in the tile at (row, col). */
__device__ inline operand_b load_b(const bf16 *tile, int stride, int row, int col) {
    int lane = static_cast<int>(threadIdx.x % WARP);
    operand_b b;
    load_matrices_transposed(b.v, tile + (row + lane % 16) * stride + col + lane / 16 * 8);
    return b;
}

/* N columns of f32 sums, 8 at a time; 16 rows a warp. */
template <int N> struct sums {
    float v[N / 8][4];

    __device__ void clear() {
#pragma unroll
        for (int j = 0; j < N / 8; j++)
            for (int e = 0; e < 4; e++)
                v[j][e] = 0.0f;
    }
    /* columns [16 · block, 16 · block + 16) += a b */
    __device__ void add(int block, const operand_a &a, const operand_b &b) {
        multiply_add(v[2 * block], a.v, b.v[0], b.v[1]);
        multiply_add(v[2 * block + 1], a.v, b.v[2], b.v[3]);
    }
    /* Columns [16 · block, 16 · block + 16), rounded, as the left factor of another product. */
    __device__ operand_a as_a(int block) const {
        const float(*x)[4] = v + 2 * block;
        return {{pair_of(x[0][0], x[0][1]), pair_of(x[0][2], x[0][3]), pair_of(x[1][0], x[1][1]),
                 pair_of(x[1][2], x[1][3])}};
    }
};

/* Where element e of v[j] stands. */
__device__ inline int sum_row(int e) {
    return static_cast<int>(threadIdx.x % WARP) / 4 + e / 2 * 8;
}
__device__ inline int sum_col(int j, int e) {
    return j * 8 + static_cast<int>(threadIdx.x % 4) * 2 + e % 2;
}

#endif
