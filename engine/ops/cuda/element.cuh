/* element: what every kernel needs: element types, wide loads, and launching.
 *
 * What:    to_float and from_float for f32, bf16 and f16; pack<T, N>, N neighbours moved at once;
 *          with_type and with_width, which turn a tensor's properties into template arguments; and
 *          launch.
 * Owns:    nothing.
 * Threads: device functions are pure; host functions belong to the control thread.
 * Errors:  launch keeps a fault; after one it does nothing.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_ELEMENT_CUH
#define FFWD_ENGINE_OPS_CUDA_ELEMENT_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "engine/ops/cuda/cuda.h"

using bf16 = __nv_bfloat16;

__device__ inline float to_float(float x) {
    return x;
}
__device__ inline float to_float(bf16 x) {
    return __bfloat162float(x);
}
__device__ inline float to_float(__half x) {
    return __half2float(x);
}

/* To nearest, ties to even. */
template <typename T> __device__ T from_float(float x);
template <> __device__ inline float from_float<float>(float x) {
    return x;
}
template <> __device__ inline bf16 from_float<bf16>(float x) {
    return __float2bfloat16_rn(x);
}
template <> __device__ inline __half from_float<__half>(float x) {
    return __float2half_rn(x);
}

/* N neighbours of a row, loaded and stored in one access. */
template <typename T, int N> struct alignas(sizeof(T) * N) pack { T v[N]; };
template <typename T, int N> __device__ inline void load(float (&to)[N], const T *from) {
    pack<T, N> p = *reinterpret_cast<const pack<T, N> *>(from);
#pragma unroll
    for (int i = 0; i < N; i++)
        to[i] = to_float(p.v[i]);
}
template <typename T, int N> __device__ inline void store(T *to, const float (&from)[N]) {
    pack<T, N> p;
#pragma unroll
    for (int i = 0; i < N; i++)
        p.v[i] = from_float<T>(from[i]);
    *reinterpret_cast<pack<T, N> *>(to) = p;
}

/* A matrix as a kernel sees it. */
template <typename T> struct view {
    T *data;
    int64_t stride;
    __device__ T *row(int64_t i) const {
        return data + i * stride;
    }
};
template <typename T> view<T> view_of(struct tensor t) {
    return {static_cast<T *>(t.data), t.stride};
}

/* ---- host ---- */

/* A compile-time number that a generic lambda can receive. */
template <int N> struct number { static constexpr int value = N; };

/* f(T()) for the element type. */
template <typename F> void with_type(enum dtype dtype, F f) {
    if (dtype == DTYPE_F32)
        f(float());
    else
        f(bf16());
}
/* The same for types that occur in weight files only. */
template <typename F> void with_any_type(enum dtype dtype, F f) {
    if (dtype == DTYPE_F16)
        f(__half());
    else
        with_type(dtype, f);
}

/* Rows that 16-byte accesses cover exactly. */
inline bool is_wide(struct tensor t) {
    int64_t size = static_cast<int64_t>(dtype_size(t.dtype));
    return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && t.stride * size % 16 == 0 &&
           t.cols * size % 16 == 0;
}
/* f(number<N>()): 16 bytes of T at a time, or one element. */
template <typename T, typename F> void with_width(bool wide, F f) {
    if (wide)
        f(number<16 / static_cast<int>(sizeof(T))>());
    else
        f(number<1>());
}

inline unsigned blocks_for(int64_t items, int64_t per_block) {
    return static_cast<unsigned>((items + per_block - 1) / per_block);
}
/* Whole warps for `items` threads, at most `most`. */
inline unsigned threads_for(int64_t items, unsigned most) {
    int64_t n = (items + 31) / 32 * 32;
    return n < most ? static_cast<unsigned>(n > 0 ? n : 32) : most;
}

/* More shared memory than this has to be asked for. */
constexpr size_t SHARED_DEFAULT = 48 << 10;

/* Enqueues kernel<<<grid, threads, shared>>>(args…). name: for the text of a fault. An empty
 * grid launches nothing. */
template <typename... P, typename... A>
void launch(struct cuda *c, const char *name, void (*kernel)(P...), dim3 grid, unsigned threads,
            size_t shared, A... args) {
    if (c->fault.code != ERR_OK || grid.x == 0 || grid.y == 0 || grid.z == 0)
        return;
    if (shared > SHARED_DEFAULT &&
        !cuda_check(c,
                    cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(shared)),
                    "cudaFuncSetAttribute"))
        return;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = c->stream;
    cuda_launched(c, name);
    cuda_check(c, cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...),
               "cudaLaunchKernelEx");
}

#endif
