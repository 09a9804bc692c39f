/* warp_instructions: three instructions of the tensor cores, and nothing else, so that tests can
 * put their own in this file's place.
 *
 * What:    see warp_matrix.cuh.
 * Owns:    nothing.
 * Threads: all lanes of a warp take part.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_WARP_INSTRUCTIONS_CUH
#define FFWD_ENGINE_OPS_CUDA_WARP_INSTRUCTIONS_CUH

#include "engine/ops/cuda/element.cuh"

/* d += A B */
__device__ inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                    uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four 8 x 8 matrices; lane 8 i + j gives the address of row j of matrix i. */
__device__ inline void load_matrices(uint32_t (&r)[4], const bf16 *row) {
    uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&r)[4], const bf16 *row) {
    uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

#endif
