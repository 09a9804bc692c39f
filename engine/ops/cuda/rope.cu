/* rope: rotary position embedding (Su et al. 2021) in halves, in place. */
#include "engine/ops/cuda/element.cuh"

constexpr unsigned THREADS = 128;

/* A thread turns N neighbouring pairs (x[i], x[i + half]) of one head of one row. */
template <typename T, int N>
__global__ void rotate(struct rope r, const int32_t *pos, int32_t n_heads, int32_t head_dim,
                       float sign, view<T> x) {
    int32_t half = r.dim / 2, per_head = half / N;
    int64_t row = blockIdx.x;
    const float *cos_row = r.cos + static_cast<int64_t>(pos[row]) * half;
    const float *sin_row = r.sin + static_cast<int64_t>(pos[row]) * half;
    for (int32_t item = static_cast<int32_t>(threadIdx.x); item < n_heads * per_head;
         item += static_cast<int32_t>(blockDim.x)) {
        int32_t i = item % per_head * N;
        T *at = x.row(row) + static_cast<int64_t>(item / per_head) * head_dim + i;
        float a[N], b[N], turned[N];
        load<T, N>(a, at);
        load<T, N>(b, at + half);
        for (int k = 0; k < N; k++)
            turned[k] = a[k] * cos_row[i + k] - sign * b[k] * sin_row[i + k];
        store<T, N>(at, turned);
        for (int k = 0; k < N; k++)
            turned[k] = b[k] * cos_row[i + k] + sign * a[k] * sin_row[i + k];
        store<T, N>(at + half, turned);
    }
}

extern "C" void cuda_rope(struct device *dev, const struct rope *r, const struct batch *b,
                          int32_t n_heads, int32_t head_dim, bool inverse, struct tensor x) {
    int64_t half = r->dim / 2, size = static_cast<int64_t>(dtype_size(x.dtype));
    bool wide = is_wide(x) && half * size % 16 == 0 && head_dim * size % 16 == 0;
    if (half == 0)
        return;
    with_type(x.dtype, [&](auto zero) {
        using T = decltype(zero);
        with_width<T>(wide, [&](auto width) {
            constexpr int N = decltype(width)::value;
            launch(cuda_of(dev), "rotate", rotate<T, N>, dim3(static_cast<unsigned>(x.rows)),
                   threads_for(n_heads * half / N, THREADS), 0, *r, b->pos, n_heads, head_dim,
                   inverse ? -1.0f : 1.0f, view_of<T>(x));
        });
    });
}
