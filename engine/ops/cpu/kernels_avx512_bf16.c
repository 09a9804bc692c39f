/* The kernels of kernels.h for AVX-512 with bf16 products (Zen 4, Cooper Lake and later). */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/ops/cpu/blocks.h"
#include "engine/ops/cpu/kernels.h"
#include "engine/ops/ops.h"

/* From here on, the headers with inline arithmetic included. */
#pragma GCC target(                                                                                \
    "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#include "engine/ops/cpu/half.h"
#include "engine/ops/philox.h"

#define BLOCK_ROWS 8
#define BLOCK_VECTORS 2
#define REGISTER_LANES 16
#include "engine/ops/cpu/kernels_rows.inc"
#include "engine/ops/cpu/kernels_math.inc"
#include "engine/ops/cpu/kernels_blocks.inc"
#include "engine/ops/cpu/kernels_bf16.inc"

/* BLOCK_ROWS rows of c, 32 columns; a and b are read as pairs of bf16. */
static ALWAYS_INLINE void product_rows_bf16(const struct block_product *p, const char *a,
                                            float *c) {
    enum { PAIRS = BLOCK_UNIT / 2 };
    const char *b = p->b;
    __m512 sum[BLOCK_ROWS][2];
    for (int i = 0; i < BLOCK_ROWS; i++)
        for (int j = 0; j < 2; j++)
            sum[i][j] =
                p->accumulate ? _mm512_loadu_ps(c + i * p->ldc + j * LANES) : _mm512_setzero_ps();
    for (int64_t s = 0; s < p->steps; s++, a += p->a_step, b += TILE_BYTES) {
        const uint32_t *left = (const uint32_t *)(const void *)a;
        for (int64_t l = 0; l < PAIRS; l++) {
            __m512bh b0 = (__m512bh)_mm512_loadu_si512(b + l * 64);
            __m512bh b1 = (__m512bh)_mm512_loadu_si512(b + TILE_BYTES / 2 + l * 64);
            for (int i = 0; i < BLOCK_ROWS; i++) {
                __m512bh pair = (__m512bh)_mm512_set1_epi32((int)left[i * PAIRS + l]);
                sum[i][0] = _mm512_dpbf16_ps(sum[i][0], pair, b0);
                sum[i][1] = _mm512_dpbf16_ps(sum[i][1], pair, b1);
            }
        }
    }
    for (int i = 0; i < BLOCK_ROWS; i++)
        for (int j = 0; j < 2; j++)
            _mm512_storeu_ps(c + i * p->ldc + j * LANES, sum[i][j]);
}

static void block_product_bf16(const struct block_product *p) {
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t i = 0; i < BLOCK_UNIT; i += BLOCK_ROWS)
            product_rows_bf16(p, p->a + r * p->a_row + i * BLOCK_UNIT * 2,
                              p->c + (r * BLOCK_UNIT + i) * p->ldc);
}

static const struct blocks blocks_bf16 = {.dtype = DTYPE_BF16,
                                          .begin = block_nothing,
                                          .end = block_nothing,
                                          .pack = block_pack_bf16,
                                          .product = block_product_bf16,
                                          .softmax = block_softmax_bf16,
                                          .softmax_backward = block_gradient_bf16,
                                          .mask = block_mask,
                                          .turn = block_turn};

const struct kernels kernels_avx512_bf16 =
    KERNELS("avx512_bf16", narrow_bf16_native, narrow_bf16_past_cache, &blocks_bf16);

/* What is more there are products (kernels_avx512_fp16_tiles.c). */
const struct kernels kernels_avx512_fp16 =
    KERNELS("avx512_fp16", narrow_bf16_native, narrow_bf16_past_cache, &blocks_bf16);
