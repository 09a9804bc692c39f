/* convert: matrices from one element type to another. */
#include "engine/ops/cuda/element.cuh"

constexpr unsigned THREADS = 256;

/* A block converts a row, or a piece of one. */
template <typename From, typename To>
__global__ void convert_rows(view<const From> src, view<To> dst, int64_t cols) {
    const From *from = src.row(blockIdx.x);
    To *to = dst.row(blockIdx.x);
    for (int64_t i = threadIdx.x + static_cast<int64_t>(blockIdx.y) * blockDim.x; i < cols;
         i += static_cast<int64_t>(gridDim.y) * blockDim.x)
        to[i] = from_float<To>(to_float(from[i]));
}

extern "C" void cuda_convert(struct cuda *c, struct tensor src, struct tensor dst) {
    unsigned pieces = blocks_for(dst.cols, 16 * THREADS);
    dim3 grid(static_cast<unsigned>(dst.rows), pieces < 256 ? pieces : 256);
    with_any_type(src.dtype, [&](auto from) {
        with_type(dst.dtype, [&](auto to) {
            using From = decltype(from);
            using To = decltype(to);
            launch(c, "convert_rows", convert_rows<From, To>, grid, THREADS, 0,
                   view_of<const From>(src), view_of<To>(dst), dst.cols);
        });
    });
}
