/* attention: tiles and masks shared by the forward and the backward kernels.
 *
 * What:    a block works on ROWS rows of its own and walks tiles of ROWS other rows, both held in
 *          shared memory in f32. LANES neighbouring threads share a row; each takes every LANES-th
 *          row of the other tile, and every LANES-th column of the head.
 * Owns:    nothing.
 * Threads: a block is ROWS · LANES threads.
 * Errors:  none.
 *
 * This is the plain form: any head size up to HEAD_MAX, any element type, no tensor cores.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_ATTENTION_CUH
#define FFWD_ENGINE_OPS_CUDA_ATTENTION_CUH

#include "engine/ops/cuda/reduce.cuh"

constexpr int ROWS = 32;
constexpr int LANES = 4;
constexpr unsigned ATTENTION_THREADS = ROWS * LANES;
constexpr int PER_LANE = ROWS / LANES; /* rows of the other tile that a thread takes */
constexpr int HEAD_MAX = 256;

/* One example of the packed batch. */
struct example {
    int32_t start, len; /* rows */
};
__device__ inline example example_at(const int32_t *seq_start, unsigned i) {
    return {seq_start[i], seq_start[i + 1] - seq_start[i]};
}

/* Query q sees key k (positions within one example): causal, and not further back than window. */
__device__ inline bool sees(int32_t q, int32_t k, int32_t window) {
    return k <= q && (window == 0 || q - k < window);
}

/* Elements between rows of a tile: odd, so that a column's rows lie in different banks. */
__host__ __device__ constexpr int tile_stride(int head_dim) {
    return head_dim | 1;
}
__host__ __device__ constexpr size_t tile_floats(int head_dim) {
    return static_cast<size_t>(ROWS) * static_cast<size_t>(tile_stride(head_dim));
}

/* Rows [first, first + ROWS) of one head into a tile; rows from `end` on become zeros. */
template <typename T>
__device__ inline void load_tile(float *tile, view<const T> t, int64_t head, int head_dim,
                                 example e, int32_t first) {
    for (int i = static_cast<int>(threadIdx.x); i < ROWS * head_dim;
         i += static_cast<int>(ATTENTION_THREADS)) {
        int row = i / head_dim, col = i % head_dim;
        tile[row * tile_stride(head_dim) + col] =
            first + row < e.len ? to_float(t.row(e.start + first + row)[head * head_dim + col])
                                : 0.0f;
    }
}

__device__ inline float dot(const float *a, const float *b, int n) {
    float sum = 0.0f;
    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* What a thread sums up for its row: every LANES-th column of a head of up to COLS columns. */
template <int COLS> struct row_part {
    float v[COLS / LANES];

    __device__ void clear() {
#pragma unroll
        for (int i = 0; i < COLS / LANES; i++)
            v[i] = 0.0f;
    }
    __device__ void scale(float by) {
#pragma unroll
        for (int i = 0; i < COLS / LANES; i++)
            v[i] *= by;
    }
    /* += weight · row */
    __device__ void add(float weight, const float *row, int lane, int head_dim) {
#pragma unroll
        for (int i = 0; i < COLS / LANES; i++)
            if (lane + i * LANES < head_dim)
                v[i] += weight * row[lane + i * LANES];
    }
    template <typename T> __device__ void save(T *row, int lane, int head_dim) const {
#pragma unroll
        for (int i = 0; i < COLS / LANES; i++)
            if (lane + i * LANES < head_dim)
                row[lane + i * LANES] = from_float<T>(v[i]);
    }
};

/* ---- host ---- */

/* f(number<COLS>()) for the smallest COLS that holds the head. */
template <typename F> void with_head(int32_t head_dim, F f) {
    if (head_dim <= 64)
        f(number<64>());
    else if (head_dim <= 128)
        f(number<128>());
    else
        f(number<HEAD_MAX>());
}

/* Keeps a fault for heads that no kernel covers. */
inline bool head_fits(struct cuda *c, int32_t head_dim) {
    if (head_dim <= HEAD_MAX)
        return true;
    cuda_fault_set(c, ERR_UNSUPPORTED, "attention on a CUDA device: heads are at most 256 wide");
    return false;
}

#endif
