/* norm: RMSNorm (Zhang & Sennrich 2019) and LayerNorm (Ba et al. 2016), a block for each row. The
 * row is read from memory once; further passes over it find it in the cache. */
#include "engine/ops/cuda/reduce.cuh"

/* Sum over the row of f(column, x[column]), the same on all threads. */
template <typename T, int N, typename F>
__device__ inline float row_sum(const T *x, int64_t cols, F f) {
    float sum = 0.0f;
    for (int64_t col = static_cast<int64_t>(threadIdx.x) * N; col < cols;
         col += static_cast<int64_t>(blockDim.x) * N) {
        float v[N];
        load<T, N>(v, x + col);
        for (int i = 0; i < N; i++)
            sum += f(col + i, v[i]);
    }
    return block_sum(sum);
}

/* y = (x - mean) / std · weight + bias; y may be x. */
template <typename T, int N>
__device__ inline void apply(const T *x, T *y, int64_t cols, float mean, float inv,
                             const float *weight, const float *bias) {
    for (int64_t col = static_cast<int64_t>(threadIdx.x) * N; col < cols;
         col += static_cast<int64_t>(blockDim.x) * N) {
        float v[N];
        load<T, N>(v, x + col);
        for (int i = 0; i < N; i++)
            v[i] = (v[i] - mean) * inv * weight[col + i] + (bias ? bias[col + i] : 0.0f);
        store<T, N>(y + col, v);
    }
}

/* stats: mean (0 for RMS) and 1 / sqrt(mean square of the differences + eps). A thread writes what
 * it alone has read. */
template <typename T, int N>
__global__ void norm_rows(struct norm norm, view<const T> x, view<T> y, int64_t cols,
                          float *stats) {
    int64_t row = blockIdx.x;
    const T *from = x.row(row);
    float n = static_cast<float>(cols), mean = 0.0f;
    if (norm.kind == NORM_LAYER)
        mean = row_sum<T, N>(from, cols, [](int64_t, float v) { return v; }) / n;
    float square =
        row_sum<T, N>(from, cols, [=](int64_t, float v) { return (v - mean) * (v - mean); }) / n;
    float inv = 1.0f / sqrtf(square + norm.eps);
    if (threadIdx.x == 0) {
        stats[2 * row] = mean;
        stats[2 * row + 1] = inv;
    }
    apply<T, N>(from, y.row(row), cols, mean, inv, norm.weight, norm.bias);
}

template <typename T, int N>
__global__ void norm_again(struct norm norm, view<const T> x, const float *stats, view<T> y,
                           int64_t cols) {
    int64_t row = blockIdx.x;
    apply<T, N>(x.row(row), y.row(row), cols, stats[2 * row], stats[2 * row + 1], norm.weight,
                norm.bias);
}

/* With u = (x - mean) / std and g = weight · dy:
 * dx += (g - [layer] mean(g) - u · mean(g · u)) / std */
template <typename T, int N>
__global__ void norm_back(enum norm_kind kind, view<const T> dy, view<const T> x,
                          const float *stats, const float *weight, view<T> dx, int64_t cols) {
    int64_t row = blockIdx.x;
    const T *dy_row = dy.row(row), *x_row = x.row(row);
    T *dx_row = dx.row(row);
    float mean = stats[2 * row], inv = stats[2 * row + 1], n = static_cast<float>(cols);
    float mean_gu = 0.0f, mean_g = 0.0f;
    for (int64_t col = static_cast<int64_t>(threadIdx.x) * N; col < cols;
         col += static_cast<int64_t>(blockDim.x) * N) {
        float v[N], g[N];
        load<T, N>(v, x_row + col);
        load<T, N>(g, dy_row + col);
        for (int i = 0; i < N; i++) {
            mean_gu += weight[col + i] * g[i] * (v[i] - mean) * inv;
            mean_g += weight[col + i] * g[i];
        }
    }
    mean_gu = block_sum(mean_gu) / n;
    mean_g = kind == NORM_LAYER ? block_sum(mean_g) / n : 0.0f;
    for (int64_t col = static_cast<int64_t>(threadIdx.x) * N; col < cols;
         col += static_cast<int64_t>(blockDim.x) * N) {
        float v[N], g[N], d[N];
        load<T, N>(v, x_row + col);
        load<T, N>(g, dy_row + col);
        load<T, N>(d, dx_row + col);
        for (int i = 0; i < N; i++)
            d[i] += (weight[col + i] * g[i] - mean_g - (v[i] - mean) * inv * mean_gu) * inv;
        store<T, N>(dx_row + col, d);
    }
}

/* ---- host ---- */

static unsigned row_threads(int64_t cols, int width) {
    return threads_for((cols + width - 1) / width, 256);
}

extern "C" void cuda_norm_forward(struct device *dev, const struct norm *n, struct tensor x,
                                  struct tensor y, float *stats) {
    with_type(x.dtype, [&](auto zero) {
        using T = decltype(zero);
        with_width<T>(is_wide(x) && is_wide(y), [&](auto width) {
            constexpr int N = decltype(width)::value;
            launch(cuda_of(dev), "norm_rows", norm_rows<T, N>, dim3(static_cast<unsigned>(x.rows)),
                   row_threads(x.cols, N), 0, *n, view_of<const T>(x), view_of<T>(y), x.cols,
                   stats);
        });
    });
}

extern "C" void cuda_norm_apply(struct device *dev, const struct norm *n, struct tensor x,
                                const float *stats, struct tensor y) {
    with_type(x.dtype, [&](auto zero) {
        using T = decltype(zero);
        with_width<T>(is_wide(x) && is_wide(y), [&](auto width) {
            constexpr int N = decltype(width)::value;
            launch(cuda_of(dev), "norm_again", norm_again<T, N>,
                   dim3(static_cast<unsigned>(x.rows)), row_threads(x.cols, N), 0, *n,
                   view_of<const T>(x), stats, view_of<T>(y), x.cols);
        });
    });
}

extern "C" void cuda_norm_backward(struct device *dev, const struct norm *n, struct tensor dy,
                                   struct tensor x, const float *stats, struct tensor dx) {
    with_type(x.dtype, [&](auto zero) {
        using T = decltype(zero);
        with_width<T>(is_wide(dy) && is_wide(x) && is_wide(dx), [&](auto width) {
            constexpr int N = decltype(width)::value;
            launch(cuda_of(dev), "norm_back", norm_back<T, N>, dim3(static_cast<unsigned>(x.rows)),
                   row_threads(x.cols, N), 0, n->kind, view_of<const T>(dy), view_of<const T>(x),
                   stats, n->weight, view_of<T>(dx), x.cols);
        });
    });
}
