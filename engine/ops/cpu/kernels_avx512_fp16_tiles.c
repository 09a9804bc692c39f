/* The functions of tiles.h for AVX512-FP16 without tile registers, for results that are rounded to
 * bf16: twice 16 products are summed in fp16, which has twice the lanes of f32, and these sums are
 * added in f32.
 *
 * A block has a scale, a power of two, that brings its largest element to [16, 32): no sum of 32
 * products leaves fp16's range, elements down to 2^-18 of the largest keep all digits of bf16, and
 * those below 2^-29 of it are lost. A sum of 16 is wrong by about 2^-12 of its size; bf16 was wrong
 * by up to 2^-9 in each factor, and the result will be again. In one chain of 32 the errors were
 * seen in the losses. */
#include <immintrin.h>

#include "engine/ops/cpu/tiles.h"

#pragma GCC target(                                                                                \
    "avx512fp16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")

/* A left block is 32 rows of 32 elements, each twice, so that a load spreads it over a vector; a
 * right one is 32 rows. The inverse of the scale stands behind them. */
#define ELEMENTS (TILE_UNIT * TILE_UNIT)
#define RIGHT_ROW 64
#define LEFT_ROW 128
#define RIGHT_SCALE (TILE_UNIT * RIGHT_ROW)
#define LEFT_SCALE (TILE_UNIT * LEFT_ROW)

static void nothing(void) {
}

/* ---- packing -------------------------------------------------------------------------------- */

/* The power of two that goes with a block in f32; NaN stays NaN. */
static float scale_exponent(const float *block) {
    __m512 most[4];
    for (int i = 0; i < 4; i++)
        most[i] = _mm512_setzero_ps();
    for (int i = 0; i < ELEMENTS; i += 64)
        for (int j = 0; j < 4; j++)
            most[j] = _mm512_max_ps(_mm512_abs_ps(_mm512_load_ps(block + i + 16 * j)), most[j]);
    __m512 all = _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
    float largest = _mm512_reduce_max_ps(_mm512_max_ps(all, _mm512_set1_ps(0x1p-100f)));
    return _mm_cvtss_f32(_mm_getexp_ss(_mm_setzero_ps(), _mm_set_ss(largest))) - 4.0f;
}

static inline __m256i narrowed(const float *from, __m512 scale) {
    return _mm512_cvtps_ph(_mm512_mul_ps(_mm512_load_ps(from), scale), _MM_FROUND_TO_NEAREST_INT);
}

static inline __m512i twice(__m256i half) {
    __m512i x = _mm512_cvtepu16_epi32(half);
    return _mm512_or_si512(x, _mm512_slli_epi32(x, 16));
}

static float power_of_two(float exponent) {
    return _mm_cvtss_f32(_mm_scalef_ss(_mm_set_ss(1.0f), _mm_set_ss(exponent)));
}

static void pack(void *dst, const struct tile_block *b, enum tile_form form, int planes) {
    float block[ELEMENTS] __attribute__((aligned(64)));
    (void)planes;
    tiles_avx512.pack(block, b, form, 2);
    bool left = form == TILE_LEFT || form == TILE_LEFT_TRANSPOSED;
    float exponent = scale_exponent(block);
    __m512 scale = _mm512_set1_ps(power_of_two(-exponent));
    char *to = dst;
    *(float *)(void *)(to + (left ? LEFT_SCALE : RIGHT_SCALE)) = power_of_two(exponent);
    if (left)
        for (int i = 0; i < ELEMENTS; i += 16)
            _mm512_store_si512(to + 4 * i, twice(narrowed(block + i, scale)));
    else
        for (int i = 0; i < ELEMENTS; i += 16)
            _mm256_store_si256((__m256i *)(void *)(to + 2 * i), narrowed(block + i, scale));
}

/* ---- products ------------------------------------------------------------------------------- */

#define ROWS 16 /* whose sums are in registers */
#define UNROLLED 4
#define HALF 16

/* Adds the scaled sums of a block to 32 floats of a row, or begins with them. */
static inline __attribute__((always_inline)) void put(float *c, __m512h sum, __m512 scale,
                                                      bool accumulate) {
    __m256i half[2] = {_mm512_castsi512_si256(_mm512_castph_si512(sum)),
                       _mm512_extracti64x4_epi64(_mm512_castph_si512(sum), 1)};
    for (int h = 0; h < 2; h++) {
        __m512 x = _mm512_cvtxph_ps(_mm256_castsi256_ph(half[h]));
        __m512 before = accumulate ? _mm512_loadu_ps(c + 16 * h) : _mm512_setzero_ps();
        _mm512_storeu_ps(c + 16 * h, _mm512_fmadd_ps(x, scale, before));
    }
}

/* Sums of at most 16 products. */
static inline __attribute__((always_inline)) void sum_half(const char *a, const char *b,
                                                           int64_t depth, __m512h sum[ROWS]) {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
        sum[i] = _mm512_setzero_ph();
    for (int64_t k = 0; k < depth; k += UNROLLED, a += 4 * UNROLLED, b += RIGHT_ROW * UNROLLED)
#pragma GCC unroll 4
        for (int j = 0; j < UNROLLED; j++) {
            __m512h right = _mm512_castsi512_ph(_mm512_load_si512(b + j * RIGHT_ROW));
#pragma GCC unroll 16
            for (int i = 0; i < ROWS; i++) {
                const int32_t *left = (const int32_t *)(const void *)(a + i * LEFT_ROW) + j;
                __m512h x = _mm512_castsi512_ph(_mm512_set1_epi32(*left));
                sum[i] = _mm512_fmadd_ph(x, right, sum[i]);
            }
        }
}

/* 16 rows of a left block times a right one. */
static inline __attribute__((always_inline)) void block_rows(const char *a, const char *b,
                                                             int64_t depth, __m512 scale, float *c,
                                                             int64_t ldc, bool accumulate) {
    __m512h sum[ROWS];
    __m512i first[ROWS];
    sum_half(a, b, depth < HALF ? depth : HALF, sum);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
        _mm512_store_si512(&first[i], _mm512_castph_si512(sum[i]));
    sum_half(a + 4 * HALF, b + RIGHT_ROW * HALF, depth - HALF, sum);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
        __m512h other = _mm512_castsi512_ph(_mm512_load_si512(&first[i]));
        put(c + i * ldc, _mm512_add_ph(sum[i], other), scale, accumulate);
    }
}

static void product(const struct tile_term *term, int n_terms, int planes, float *c, int64_t ldc,
                    bool accumulate) {
    (void)planes;
    for (int64_t row = 0; row < term->rows; row += ROWS, c += ROWS * ldc) {
        bool begun = accumulate;
        for (const struct tile_term *t = term; t < term + n_terms; t++)
            for (int64_t l = 0; l < t->steps; l++, begun = true) {
                const char *a = t->a + l * t->a_step, *b = t->b + l * (RIGHT_SCALE + 64);
                int64_t left = t->depth - l * TILE_UNIT;
                float scale = *(const float *)(const void *)(a + LEFT_SCALE) *
                              *(const float *)(const void *)(b + RIGHT_SCALE);
                block_rows(a + row * LEFT_ROW, b, left < TILE_UNIT ? left : TILE_UNIT,
                           _mm512_set1_ps(scale), c, ldc, begun);
            }
    }
}

static void finish(const float *tile, int64_t ld, const struct tile_out *o) {
    tiles_avx512.finish(tile, ld, o);
}

const struct tiles tiles_fp16 = {.planes_bf16 = 1,
                                 .left = LEFT_SCALE + 64,
                                 .right = RIGHT_SCALE + 64,
                                 .row = LEFT_ROW,
                                 .in_place = DTYPE_F16,
                                 .sums = DTYPE_F16,
                                 .begin = nothing,
                                 .end = nothing,
                                 .pack = pack,
                                 .product = product,
                                 .finish = finish};
