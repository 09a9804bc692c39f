/* warp_instructions, emulated: what the three instructions do, from what all lanes gave. */
#ifndef FFWD_EMULATION_WARP_INSTRUCTIONS_CUH
#define FFWD_EMULATION_WARP_INSTRUCTIONS_CUH

#include "engine/ops/cuda/element.cuh"
#include "tests/cuda/emulation/emulation.h"

struct emulated_factors {
    uint32_t a[4], b[2];
};

inline float emulated_half_of(uint32_t pair, int second) {
    return __bfloat162float({static_cast<uint16_t>(second ? pair >> 16 : pair)});
}

/* The sums are made in f32, in order of k; the hardware's own order is not documented. */
inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    emulated_factors mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const emulated_factors *all = emulated_gather(mine, 3);
    int g = static_cast<int>(emulated_lane()) / 4, t = static_cast<int>(emulated_lane()) % 4;
    for (int e = 0; e < 4; e++) {
        int row = g, col = 2 * t + e % 2, low = e / 2;
        for (int k = 0; k < 16; k++) {
            uint32_t left = all[row * 4 + k % 8 / 2].a[k / 8 * 2 + low];
            uint32_t right = all[col * 4 + k % 8 / 2].b[k / 8];
            d[e] += emulated_half_of(left, k % 2) * emulated_half_of(right, k % 2);
        }
    }
}

inline void emulated_load(uint32_t (&r)[4], const bf16 *row, bool transposed) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
        emulated_stop("a row of a matrix is not on 16 bytes");
    const bf16 *const *rows = emulated_gather(row, 4);
    int g = static_cast<int>(emulated_lane()) / 4, t = static_cast<int>(emulated_lane()) % 4;
    for (int i = 0; i < 4; i++) {
        bf16 first = transposed ? rows[8 * i + 2 * t][g] : rows[8 * i + g][2 * t];
        bf16 second = transposed ? rows[8 * i + 2 * t + 1][g] : rows[8 * i + g][2 * t + 1];
        r[i] = first.bits | static_cast<uint32_t>(second.bits) << 16;
    }
}
inline void load_matrices(uint32_t (&r)[4], const bf16 *row) {
    emulated_load(r, row, false);
}
inline void load_matrices_transposed(uint32_t (&r)[4], const bf16 *row) {
    emulated_load(r, row, true);
}

#endif
