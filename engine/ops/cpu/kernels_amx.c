/* The kernels of kernels.h for AMX (Sapphire Rapids and later): AVX512-BF16's, products on tiles.
 */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/cpu/tiles.h"
#include "engine/ops/ops.h"

/* From here on, the headers with inline arithmetic included. */
#pragma GCC target(                                                                                \
    "amx-tile,amx-bf16,avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#include "engine/ops/cpu/half.h"
#include "engine/ops/philox.h"

#define BLOCK_ROWS 8
#define BLOCK_VECTORS 2
#include "engine/ops/cpu/kernels_rows.inc"
#include "engine/ops/cpu/kernels_math.inc"
#include "engine/ops/cpu/kernels_blocks.inc"
#include "engine/ops/cpu/kernels_bf16.inc"

/* Intel's manual, volume 1, chapter 18: palette 1, here eight tiles of 16 rows of 64 bytes. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
#define TILE_16x64                                                                                 \
    .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},                                   \
    .rows = {16, 16, 16, 16, 16, 16, 16, 16}

/* 32 x 32 elements of c in tiles 0 to 3, from 32 rows of a (tiles 4, 5), 32 columns of b (6, 7). */
static void product_tiles(int64_t n, int64_t k, const uint16_t *a, const uint32_t *b, float *c,
                          bool accumulate) {
    size_t a_row = (size_t)k * sizeof *a, b_row = (size_t)n * sizeof *b;
    size_t c_row = (size_t)n * sizeof *c;
    if (accumulate) {
        _tile_loadd(0, c, c_row);
        _tile_loadd(1, c + 16, c_row);
        _tile_loadd(2, c + 16 * n, c_row);
        _tile_loadd(3, c + 16 * n + 16, c_row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t l = 0; l < k; l += 32) {
        _tile_loadd(4, a + l, a_row);
        _tile_loadd(6, b + l / 2 * n, b_row);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + l / 2 * n + 16, b_row);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 16 * k + l, a_row);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_row);
    _tile_stored(1, c + 16, c_row);
    _tile_stored(2, c + 16 * n, c_row);
    _tile_stored(3, c + 16 * n + 16, c_row);
}

static void block_product_bf16(int64_t m, int64_t n, int64_t k, const void *a, const void *b,
                               float *c, bool accumulate) {
    static const struct tile_config config = {TILE_16x64};
    _tile_loadconfig(&config);
    for (int64_t j = 0; j < n; j += 32)
        for (int64_t i = 0; i < m; i += 32)
            product_tiles(n, k, (const uint16_t *)a + i * k, (const uint32_t *)b + j, c + i * n + j,
                          accumulate);
    _tile_release();
}

static const struct blocks blocks_bf16 = {.dtype = DTYPE_BF16,
                                          .pack = pack_bf16,
                                          .pack_transposed = pack_transposed_bf16,
                                          .transpose = transpose_bf16,
                                          .product = block_product_bf16};

const struct kernels kernels_amx = KERNELS("amx", narrow_bf16_native, &blocks_bf16, &tiles_amx);
