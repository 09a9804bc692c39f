/* The kernels of kernels.h for AMX (Sapphire Rapids and later): AVX512-BF16's, products on tiles.
 */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/ops/cpu/blocks.h"
#include "engine/ops/cpu/kernels.h"
#include "engine/ops/ops.h"

/* From here on, the headers with inline arithmetic included. */
#pragma GCC target(                                                                                \
    "amx-tile,amx-bf16,avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#include "engine/ops/cpu/half.h"
#include "engine/ops/philox.h"

#define BLOCK_ROWS 8
#define BLOCK_VECTORS 2
#define REGISTER_LANES 16
#include "engine/ops/cpu/kernels_rows.inc"
#include "engine/ops/cpu/kernels_math.inc"
#include "engine/ops/cpu/kernels_blocks.inc"
#include "engine/ops/cpu/kernels_bf16.inc"

static void block_begin(void) {
    tiles_amx.begin();
}

static void block_end(void) {
    tiles_amx.end();
}

static void block_product_bf16(const struct block_product *p) {
    struct tile_term t = {.a = p->a,
                          .b = p->b,
                          .a_row = BLOCK_UNIT * 2,
                          .a_half = TILE_BYTES / 2,
                          .a_step = p->a_step,
                          .steps = p->steps};
    for (int64_t r = 0; r < p->rows; r++, t.a += p->a_row)
        tiles_amx.product(&t, 1, 1, p->c + r * BLOCK_UNIT * p->ldc, p->ldc, p->accumulate);
}

static const struct blocks blocks_bf16 = {.dtype = DTYPE_BF16,
                                          .begin = block_begin,
                                          .end = block_end,
                                          .pack = block_pack_bf16,
                                          .product = block_product_bf16,
                                          .softmax = block_softmax_bf16,
                                          .softmax_backward = block_gradient_bf16,
                                          .mask = block_mask,
                                          .turn = block_turn};

const struct kernels kernels_amx =
    KERNELS("amx", narrow_bf16_native, narrow_bf16_past_cache, &blocks_bf16);
