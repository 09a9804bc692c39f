/* cuda_runtime, emulated: CUDA's C++ for kernels, run by the host.
 *
 * What:    the words of the language (__global__, threadIdx, __syncthreads, …) and launching. A
 *          __shared__ variable is thread_local, which makes it static in a function, legal after
 *          extern, and one for the block that is running.
 * Owns:    see emulation.h.
 * Threads: one; a block's threads are fibers (fibers.cc).
 * Errors:  a barrier that not all threads reach ends the program with a message.
 */
#ifndef FFWD_EMULATION_CUDA_RUNTIME_H
#define FFWD_EMULATION_CUDA_RUNTIME_H

#include <math.h>
#include <string.h>

#include <type_traits>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __shared__ thread_local
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {
    }
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

/* Dynamic shared memory: kernels say `extern __shared__ float shared[];`. */
extern thread_local float shared[];

/* ---- barriers and exchange within a warp; line: where, to tell divergent barriers apart ---- */

void emulated_block_barrier(int line);
void emulated_warp_barrier(unsigned mask, int line);
/* What the lanes of mask gave, lane by lane; size: bytes of each, at most 32. */
const void *emulated_exchange(unsigned mask, const void *value, size_t size, int line);
unsigned emulated_lane();

template <typename V> const V *emulated_gather(const V &mine, int line) {
    static_assert(sizeof(V) <= 32, "lanes exchange at most 32 bytes");
    return static_cast<const V *>(emulated_exchange(0xffffffffu, &mine, sizeof mine, line));
}

#define __syncthreads() emulated_block_barrier(__LINE__)

inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulated_warp_barrier(mask, 0);
}

template <typename V> V emulated_shuffle(unsigned mask, V value, unsigned source) {
    return static_cast<const V *>(emulated_exchange(mask, &value, sizeof value, 1))[source % 32];
}
template <typename V> V __shfl_sync(unsigned mask, V value, int source) {
    return emulated_shuffle(mask, value, static_cast<unsigned>(source));
}
template <typename V> V __shfl_xor_sync(unsigned mask, V value, int with) {
    return emulated_shuffle(mask, value, emulated_lane() ^ static_cast<unsigned>(with));
}
template <typename V> V __shfl_down_sync(unsigned mask, V value, unsigned by) {
    unsigned source = emulated_lane() + by;
    return emulated_shuffle(mask, value, source < 32 ? source : emulated_lane());
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    const int *all =
        static_cast<const int *>(emulated_exchange(mask, &predicate, sizeof predicate, 2));
    unsigned votes = 0;
    for (unsigned lane = 0; lane < 32; lane++)
        if (mask >> lane & 1)
            votes |= static_cast<unsigned>(all[lane] != 0) << lane;
    return votes;
}
inline int __any_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) == mask;
}

/* Fibers change places at barriers only, so plain arithmetic is atomic. */
template <typename V> V atomicAdd(V *at, V by) {
    V old = *at;
    *at = old + by;
    return old;
}
template <typename V> V atomicMax(V *at, V with) {
    V old = *at;
    *at = old > with ? old : with;
    return old;
}
template <typename V> V atomicCAS(V *at, V expected, V desired) {
    V old = *at;
    *at = old == expected ? desired : old;
    return old;
}

/* ---- launching ---- */

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    void *attrs;
    unsigned numAttrs;
};

/* Runs every block of the grid, one after the other; or records it with a copy of the arguments. */
cudaError_t emulated_launch(const cudaLaunchConfig_t *config, const void *kernel,
                            void (*body)(void *), const void *arg, size_t bytes);

template <typename... P, typename... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...),
                               A &&...args) {
    auto body = [=] { kernel(args...); };
    static_assert(std::is_trivially_copyable<decltype(body)>::value, "arguments are bytes");
    return emulated_launch(
        config, reinterpret_cast<const void *>(kernel),
        [](void *p) { (*static_cast<decltype(body) *>(p))(); }, &body, sizeof body);
}

#endif
