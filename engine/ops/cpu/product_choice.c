/* product_choice: see product_choice.h. */
#include "engine/ops/cpu/product_choice.h"

#include "engine/ops/cpu/tiles.h"

/* Sizes of a panel. On Intel's processors two thirds of the second-level cache, which the rows and
 * the results pass through: those with AVX512-FP16 have 2 MiB, older ones 1 or more; with tiles,
 * half of it. On others a core's part of the third-level cache, which is fast enough there (Zen 4).
 * No cache is asked for its size, since sums are cut by it: the same instructions on processors of
 * one maker give the same bytes. */
#define L2_1M (((int64_t)1 << 20) / 16 * 11)
#define L2_2M (((int64_t)2 << 20) / 16 * 11)
#define L2_AMX ((int64_t)1 << 20)
#define L3_4M ((int64_t)4 << 20)

static const struct product_choice plain = {.tile_rows = 128, .tile_cols = 256};

/* In the order of the structure. Intel's processors multiply pairs of bf16 outside of tiles at half
 * the rate of f32, AMD's at twice that rate. Writing past the cache is measured on Zen 4 only: a
 * line that is written whole is not read first. */
static const struct product_choice intel[ISA_COUNT] = {
    [ISA_BASE] = {NULL, NULL, true, false, false, false, 128, 256, 0},
    [ISA_AVX2] = {NULL, NULL, true, false, false, false, 128, 256, 0},
    [ISA_AVX512] = {&tiles_avx512, &tiles_avx512, true, false, false, false, 256, 640, L2_1M},
    [ISA_AVX512_BF16] = {&tiles_avx512, &tiles_avx512, true, true, false, false, 256, 640, L2_1M},
    [ISA_AVX512_FP16] = {&tiles_avx512, &tiles_fp16, true, true, false, false, 256, 640, L2_2M},
    [ISA_AMX] = {&tiles_amx, &tiles_amx, true, true, true, false, 256, 512, L2_AMX},
};
static const struct product_choice other[ISA_COUNT] = {
    [ISA_BASE] = {NULL, NULL, true, false, false, false, 128, 256, 0},
    [ISA_AVX2] = {NULL, NULL, true, false, false, false, 128, 256, 0},
    [ISA_AVX512] = {&tiles_avx512, &tiles_avx512, true, false, false, true, 256, 640, L3_4M},
    [ISA_AVX512_BF16] = {&tiles_avx512, &tiles_bf16, true, true, true, true, 256, 640, L3_4M},
    [ISA_AVX512_FP16] = {&tiles_avx512, &tiles_fp16, true, true, true, true, 256, 640, L3_4M},
    [ISA_AMX] = {&tiles_amx, &tiles_amx, true, true, true, false, 256, 512, L2_AMX},
};

const struct product_choice *product_choice(enum cpu_product product, enum isa isa) {
    switch (product) {
    case CPU_PRODUCT_BEST:
        return __builtin_cpu_is("intel") ? &intel[isa] : &other[isa];
    case CPU_PRODUCT_PAIRS:
        return &other[isa < ISA_AVX512_BF16 ? isa : ISA_AVX512_BF16];
    case CPU_PRODUCT_WIDENED:
        return &other[ISA_AVX2];
    case CPU_PRODUCT_PLAIN:
        break;
    }
    return &plain;
}
