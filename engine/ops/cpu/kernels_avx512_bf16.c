/* The kernels of kernels.h for AVX-512 with bf16 products (Zen 4, Cooper Lake and later). */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/ops.h"

/* From here on, the headers with inline arithmetic included. */
#pragma GCC target(                                                                                \
    "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#include "engine/ops/cpu/half.h"
#include "engine/ops/philox.h"

#define BLOCK_ROWS 8
#define BLOCK_VECTORS 2
#include "engine/ops/cpu/kernels_rows.inc"
#include "engine/ops/cpu/kernels_math.inc"
#include "engine/ops/cpu/kernels_blocks.inc"
#include "engine/ops/cpu/kernels_bf16.inc"

/* BLOCK_ROWS rows of c, two vectors of columns; a and b are read as pairs of bf16. */
static inline __attribute__((always_inline)) void product_tile_bf16(int64_t n, int64_t k,
                                                                    const uint32_t *a,
                                                                    const uint32_t *b, float *c,
                                                                    bool accumulate) {
    __m512 sum[BLOCK_ROWS][2];
    for (int i = 0; i < BLOCK_ROWS; i++)
        for (int j = 0; j < 2; j++)
            sum[i][j] = accumulate ? _mm512_loadu_ps(c + i * n + j * LANES) : _mm512_setzero_ps();
    for (int64_t l = 0; l < k; l++) {
        __m512bh b0 = (__m512bh)_mm512_loadu_si512(b + l * n);
        __m512bh b1 = (__m512bh)_mm512_loadu_si512(b + l * n + LANES);
        for (int i = 0; i < BLOCK_ROWS; i++) {
            __m512bh pair = (__m512bh)_mm512_set1_epi32((int)a[i * k + l]);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], pair, b0);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], pair, b1);
        }
    }
    for (int i = 0; i < BLOCK_ROWS; i++)
        for (int j = 0; j < 2; j++)
            _mm512_storeu_ps(c + i * n + j * LANES, sum[i][j]);
}

static void block_product_bf16(int64_t m, int64_t n, int64_t k, const void *a, const void *b,
                               float *c, bool accumulate) {
    int64_t pairs = k / 2;
    for (int64_t j = 0; j < n; j += 2 * LANES)
        for (int64_t i = 0; i < m; i += BLOCK_ROWS)
            product_tile_bf16(n, pairs, (const uint32_t *)a + i * pairs, (const uint32_t *)b + j,
                              c + i * n + j, accumulate);
}

static const struct blocks blocks_bf16 = {.dtype = DTYPE_BF16,
                                          .pack = pack_bf16,
                                          .pack_transposed = pack_transposed_bf16,
                                          .transpose = transpose_bf16,
                                          .product = block_product_bf16};

const struct kernels kernels_avx512_bf16 =
    KERNELS("avx512_bf16", narrow_bf16_native, &blocks_bf16, NULL);
