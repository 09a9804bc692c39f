/* The functions of tiles.h for AVX512-BF16 on processors that multiply pairs of bf16 at twice the
 * rate of f32 (Zen 4). Blocks are those of AMX. */
#include <immintrin.h>

#include "engine/ops/cpu/tiles.h"

#pragma GCC target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")

/* 32 numbers rounded to nearest even. */
static inline __m512i rounded(__m512 low, __m512 high) {
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

#include "engine/ops/cpu/kernels_tiles.inc"
#include "engine/ops/cpu/kernels_pairs.inc"

static void nothing(void) {
}

#define MOST_ROWS 16
#define UNROLLED 4 /* pairs of the shared dimension: what lies beyond its end are zeros */

/* `rows` rows of a times `vectors` vectors of columns of b, whose sums stay in registers. */
static inline __attribute__((always_inline)) void
add_term(const struct tile_term *t, int64_t row, int rows, int vectors, __m512 sum[MOST_ROWS][2]) {
    const char *b = t->b, *a = t->a + row * t->a_row;
    int64_t stride = t->a_row / (int64_t)sizeof(int32_t);
    for (int64_t l = 0; l < t->depth; l += ROW, a += t->a_step, b += TILE_BYTES) {
        int64_t depth = t->depth - l < ROW ? t->depth - l : ROW;
        const int32_t *pair = (const int32_t *)(const void *)a;
        const char *right = b;
        for (int64_t k = 0; k < depth; k += 2 * UNROLLED, pair += UNROLLED, right += 64 * UNROLLED)
#pragma GCC unroll 4
            for (int j = 0; j < UNROLLED; j++) {
                __m512bh b0 = (__m512bh)_mm512_load_si512(right + 64 * j), b1 = b0;
                if (vectors == 2)
                    b1 = (__m512bh)_mm512_load_si512(right + TILE_BYTES / 2 + 64 * j);
                const int32_t *quad = pair + j; /* four rows by one register and its multiples */
#pragma GCC unroll 16
                for (int i = 0; i < rows; i++) {
                    if (i > 0 && i % 4 == 0)
                        quad += 4 * stride;
                    __m512bh x = (__m512bh)_mm512_set1_epi32(quad[i % 4 * stride]);
                    sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, b0);
                    if (vectors == 2)
                        sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, b1);
                }
            }
    }
}

#include "engine/ops/cpu/kernels_sums.inc"

const struct tiles tiles_bf16 = {.planes_bf16 = 1,
                                 .left = TILE_BYTES,
                                 .right = TILE_BYTES,
                                 .row = ROW * sizeof(uint16_t),
                                 .in_place = DTYPE_BF16,
                                 .begin = nothing,
                                 .end = nothing,
                                 .pack = pack,
                                 .product = product,
                                 .finish = finish};
