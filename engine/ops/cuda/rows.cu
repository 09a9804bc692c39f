/* rows: embedding, gather and scatter: all of them move rows from one place to another. */
#include "engine/ops/cuda/element.cuh"

/* dst[dst_rows[i]] = scale · src[src_rows[i]]; a list that is NULL counts 0, 1, 2, … Block x is i.
 */
template <typename From, typename To, int N>
__global__ void move_rows(view<const From> src, const int32_t *src_rows, view<To> dst,
                          const int32_t *dst_rows, int64_t cols, float scale) {
    int64_t i = blockIdx.x;
    const From *from = src.row(src_rows ? src_rows[i] : i);
    To *to = dst.row(dst_rows ? dst_rows[i] : i);
    for (int64_t col = static_cast<int64_t>(threadIdx.x) * N; col < cols;
         col += static_cast<int64_t>(blockDim.x) * N) {
        float x[N];
        load<From, N>(x, from + col);
        for (int k = 0; k < N; k++)
            x[k] *= scale;
        store<To, N>(to + col, x);
    }
}

static void move(struct device *dev, struct tensor src, const int32_t *src_rows, struct tensor dst,
                 const int32_t *dst_rows, int64_t n, float scale) {
    struct cuda *c = cuda_of(dev);
    bool wide = src.dtype == dst.dtype && is_wide(src) && is_wide(dst);
    dim3 grid(static_cast<unsigned>(n));
    with_any_type(src.dtype, [&](auto from) {
        with_type(dst.dtype, [&](auto to) {
            using From = decltype(from);
            using To = decltype(to);
            constexpr int N = sizeof(From) == sizeof(To) ? 16 / static_cast<int>(sizeof(To)) : 1;
            launch(c, "move_rows", wide ? move_rows<From, To, N> : move_rows<From, To, 1>, grid,
                   threads_for(dst.cols / (wide ? N : 1), 256), 0, view_of<const From>(src),
                   src_rows, view_of<To>(dst), dst_rows, dst.cols, scale);
        });
    });
}

extern "C" void cuda_embed(struct device *dev, struct tensor table, const struct batch *b,
                           float scale, struct tensor x) {
    move(dev, table, b->ids, x, nullptr, x.rows, scale);
}

extern "C" void cuda_rows_gather(struct device *dev, struct tensor x, const int32_t *rows,
                                 struct tensor out) {
    move(dev, x, rows, out, nullptr, out.rows, 1.0f);
}

extern "C" void cuda_rows_scatter(struct device *dev, struct tensor dout, const int32_t *rows,
                                  struct tensor dx) {
    struct cuda *c = cuda_of(dev);
    size_t size = dtype_size(dx.dtype);
    if (c->fault.code == ERR_OK && dx.rows > 0)
        cuda_check(c,
                   cudaMemset2DAsync(dx.data, static_cast<size_t>(dx.stride) * size, 0,
                                     static_cast<size_t>(dx.cols) * size,
                                     static_cast<size_t>(dx.rows), c->stream),
                   "cudaMemset2DAsync");
    move(dev, dout, nullptr, dx, rows, dout.rows, 1.0f);
}
