/* reduce: sums and maxima over a warp and over a block, in an order that never changes.
 *
 * What:    every thread gets the result. A warp is folded as a butterfly, in which all lanes add
 *          the same pairs; a block adds its warps' results one after the other.
 * Owns:    32 values of static shared memory for each kernel and type that uses it.
 * Threads: all threads of the warp or block take part; blocks are whole warps.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_REDUCE_CUH
#define FFWD_ENGINE_OPS_CUDA_REDUCE_CUH

#include "engine/ops/cuda/element.cuh"

constexpr unsigned WARP = 32;
constexpr unsigned WHOLE_WARP = 0xffffffffu;

/* Sum over groups of `width` neighbouring lanes, a power of two. */
template <typename V> __device__ inline V lanes_sum(V x, unsigned width) {
    for (unsigned step = width / 2; step > 0; step /= 2)
        x += __shfl_xor_sync(WHOLE_WARP, x, static_cast<int>(step));
    return x;
}
__device__ inline float lanes_max(float x, unsigned width) {
    for (unsigned step = width / 2; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(WHOLE_WARP, x, static_cast<int>(step)));
    return x;
}

template <typename V> __device__ inline V block_sum(V x) {
    __shared__ V warps[WARP];
    x = lanes_sum(x, WARP);
    if (threadIdx.x % WARP == 0)
        warps[threadIdx.x / WARP] = x;
    __syncthreads();
    V sum = warps[0];
    for (unsigned w = 1; w < blockDim.x / WARP; w++)
        sum += warps[w];
    __syncthreads(); /* the next call writes to warps */
    return sum;
}

#endif
