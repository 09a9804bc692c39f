/* product_choice: how products are computed, by instruction set and maker of the processor.
 *
 * What:    one row of a table for each device, from its opening on.
 * Owns:    nothing: rows are constant.
 * Threads: pure functions of their arguments and the processor.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_OPS_CPU_PRODUCT_CHOICE_H
#define FFWD_ENGINE_OPS_CPU_PRODUCT_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ops/cpu/kernels.h"

/* BEST: each type as the processor does it fastest. PAIRS: our own AVX-512 products as AMD's
 * processors have them, bf16 by AVX512-BF16's pairs where there are any, though another way is
 * faster. WIDENED: no products of our own, and bf16 matrices are widened to f32. PLAIN: our own C,
 * baseline kernels. All but the first exist so that tests reach every path on every machine. */
enum cpu_product { CPU_PRODUCT_BEST, CPU_PRODUCT_PAIRS, CPU_PRODUCT_WIDENED, CPU_PRODUCT_PLAIN };

struct tiles; /* tiles.h */

struct product_choice {
    const struct tiles *tiles;      /* our own products; NULL: not used */
    const struct tiles *bf16_tiles; /* the same where a factor is bf16; see tile_product */
    bool sgemm;                     /* f32 products that tiles leave: by oneDNN, else by plain C */
    bool native_bf16;               /* bf16 products in hardware */
    bool bf16_attention;            /* attention of bf16 tensors multiplies in bf16, not in f32 */
    bool writes_past_cache;         /* results that are large */
    int64_t tile_rows, tile_cols;   /* of an item of a product; multiples of 64 */
    int64_t panel_bytes;            /* of a packed right side that stays in the cache (tiles.h) */
};

/* Nothing in a row depends on the number of threads. */
const struct product_choice *product_choice(enum cpu_product product, enum isa isa);

#endif
