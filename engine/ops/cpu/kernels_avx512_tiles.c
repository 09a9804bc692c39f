/* The functions of tiles.h for AVX-512: bf16 widened to f32. Without tile registers, Intel's
 * processors multiply bf16 at half the rate of f32. */
#include <immintrin.h>

#include "engine/ops/cpu/tiles.h"

#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")

/* To nearest even; NaN stays NaN. */
static inline __m256i rounded_16(__m512 x) {
    __m512i bits = _mm512_castps_si512(x), high = _mm512_srli_epi32(bits, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(_mm512_srli_epi32(sum, 16), nan, quiet));
}

static inline __m512i rounded(__m512 low, __m512 high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(rounded_16(low)), rounded_16(high), 1);
}

#include "engine/ops/cpu/kernels_tiles.inc"

/* A block is 32 x 32 elements of f32: rows of a left matrix, or of a right one, one after the
 * other. */
static void begin(void) {
}

/* ---- packing -------------------------------------------------------------------------------- */

/* Half a row, 16 elements from column `at` on; zeros where the block ends. */
static inline __attribute__((always_inline)) __m512
half_row(const struct tile_block *b, enum dtype dtype, int64_t i, int64_t at) {
    if (i >= b->rows)
        return _mm512_setzero_ps();
    const char *row = (const char *)b->data + i * b->stride * (dtype == DTYPE_F32 ? 4 : 2);
    return read_16(row, dtype, at, first_of_16(b->cols - at));
}

/* The same; of a whole block without masks. */
static inline __attribute__((always_inline)) __m512
part_of_row(const struct tile_block *b, enum dtype dtype, bool whole, int64_t i, int64_t at) {
    const char *row = (const char *)b->data + i * b->stride * (dtype == DTYPE_F32 ? 4 : 2);
    return whole ? read_16(row, dtype, at, 0xffff) : half_row(b, dtype, i, at);
}

static inline __attribute__((always_inline)) void copy_block(float *dst, const struct tile_block *b,
                                                             enum dtype dtype, bool whole) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < ROW; i++) {
        _mm512_store_ps(dst + i * ROW, part_of_row(b, dtype, whole, i, 0));
        _mm512_store_ps(dst + i * ROW + 16, part_of_row(b, dtype, whole, i, 16));
    }
}

static inline __attribute__((always_inline)) void turn_block(float *dst, const struct tile_block *b,
                                                             enum dtype dtype, bool whole) {
    __m512i r[16];
    for (int64_t i = 0; i < ROW; i += 16)
        for (int64_t j = 0; j < ROW; j += 16) {
#pragma GCC unroll 16
            for (int64_t l = 0; l < 16; l++)
                r[l] = _mm512_castps_si512(part_of_row(b, dtype, whole, i + l, j));
            transpose_16(dst + j * ROW + i, ROW * 4, r);
        }
}

static inline __attribute__((always_inline)) void
pack_block(float *dst, const struct tile_block *b, enum dtype dtype, bool whole, bool turned) {
    if (turned)
        turn_block(dst, b, dtype, whole);
    else
        copy_block(dst, b, dtype, whole);
}

static void pack(void *dst, const struct tile_block *b, enum tile_form form, int planes) {
    bool turned = form == TILE_LEFT_TRANSPOSED || form == TILE_RIGHT_TRANSPOSED;
    bool whole = b->rows == ROW && b->cols == ROW;
    (void)planes;
    if (b->dtype == DTYPE_F32 && whole)
        pack_block(dst, b, DTYPE_F32, true, turned);
    else if (b->dtype == DTYPE_F32)
        pack_block(dst, b, DTYPE_F32, false, turned);
    else if (whole)
        pack_block(dst, b, DTYPE_BF16, true, turned);
    else
        pack_block(dst, b, DTYPE_BF16, false, turned);
}

/* ---- products ------------------------------------------------------------------------------- */

#define MOST_ROWS 16

#define UNROLLED 4 /* of the shared dimension: what lies beyond its end are zeros */

/* `rows` rows of a times `vectors` vectors of columns of b, whose sums stay in registers. */
static inline __attribute__((always_inline)) void
add_term(const struct tile_term *t, int64_t row, int rows, int vectors, __m512 sum[MOST_ROWS][2]) {
    const float *b = (const float *)(const void *)t->b;
    int64_t stride = t->a_row / (int64_t)sizeof(float);
    for (int64_t l = 0; l < t->depth; l += ROW) {
        const float *a = (const float *)(const void *)(t->a + l / ROW * t->a_step + row * t->a_row);
        int64_t depth = t->depth - l < ROW ? t->depth - l : ROW;
        for (int64_t k = 0; k < depth; k += UNROLLED, b += UNROLLED * ROW, a += UNROLLED)
#pragma GCC unroll 4
            for (int j = 0; j < UNROLLED; j++) {
                __m512 b0 = _mm512_load_ps(b + j * ROW), b1 = b0;
                if (vectors == 2)
                    b1 = _mm512_load_ps(b + j * ROW + 16);
                const float *quad = a + j; /* four rows by one register and its multiples */
#pragma GCC unroll 16
                for (int i = 0; i < rows; i++) {
                    if (i > 0 && i % 4 == 0)
                        quad += 4 * stride;
                    __m512 x = _mm512_set1_ps(quad[i % 4 * stride]);
                    sum[i][0] = _mm512_fmadd_ps(x, b0, sum[i][0]);
                    if (vectors == 2)
                        sum[i][1] = _mm512_fmadd_ps(x, b1, sum[i][1]);
                }
            }
    }
}

#include "engine/ops/cpu/kernels_sums.inc"

const struct tiles tiles_avx512 = {.planes_f32 = 2,
                                   .planes_bf16 = 2,
                                   .left = TILE_BYTES,
                                   .right = TILE_BYTES,
                                   .row = ROW * sizeof(float),
                                   .in_place = DTYPE_F32,
                                   .begin = begin,
                                   .end = begin,
                                   .pack = pack,
                                   .product = product,
                                   .finish = finish};
