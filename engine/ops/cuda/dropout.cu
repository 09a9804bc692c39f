/* dropout: the mask of philox.h, as on every device: four columns a draw. */
#include "engine/ops/cuda/element.cuh"

#define PHILOX_FUNCTION __host__ __device__ inline
#include "engine/ops/philox.h"

constexpr unsigned THREADS = 128;
constexpr int QUAD = 4;

/* N: columns that a thread moves at once, QUAD or 1; dst may be src. Block x is a row, block y a
 * piece of it. */
template <typename T, int N>
__global__ void drop_rows(struct dropout d, const struct dropout_draw *draw, const uint64_t *keys,
                          view<const T> src, view<T> dst, int64_t cols) {
    int64_t row = blockIdx.x;
    int64_t quad = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
    float scale = 1.0f / (1.0f - d.p);
    uint64_t seed = draw ? draw->seed : d.seed;
    uint32_t step = draw ? draw->step : d.step;
    if (quad * QUAD >= cols)
        return;
    struct philox uniform = philox_site(seed, step, d.site, keys[row], static_cast<uint32_t>(quad));
    for (int first = 0; first < QUAD; first += N) {
        int64_t col = quad * QUAD + first;
        if (col >= cols)
            break;
        float x[N], y[N];
        load<T, N>(x, src.row(row) + col);
        for (int i = 0; i < N; i++)
            y[i] = philox_uniform(uniform.x[first + i]) >= d.p ? x[i] * scale : 0.0f;
        store<T, N>(dst.row(row) + col, y);
    }
}

static bool quads_are_wide(struct tensor t) {
    int64_t bytes = QUAD * static_cast<int64_t>(dtype_size(t.dtype));
    return reinterpret_cast<uintptr_t>(t.data) % static_cast<uintptr_t>(bytes) == 0 &&
           t.stride % QUAD == 0 && t.cols % QUAD == 0;
}

extern "C" void cuda_dropout(struct cuda *c, const struct dropout *d, const struct batch *b,
                             struct tensor src, struct tensor dst) {
    dim3 grid(static_cast<unsigned>(src.rows), blocks_for(src.cols, QUAD * THREADS));
    bool wide = quads_are_wide(src) && quads_are_wide(dst);
    with_type(src.dtype, [&](auto zero) {
        using T = decltype(zero);
        launch(c, "drop_rows", wide ? drop_rows<T, QUAD> : drop_rows<T, 1>, grid, THREADS, 0, *d,
               b->draw, b->keys, view_of<const T>(src), view_of<T>(dst), src.cols);
    });
}
