/* The functions of tiles.h for AMX. */
#include <immintrin.h>

#include "engine/ops/cpu/tiles.h"

#pragma GCC target("amx-tile,amx-bf16,avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")

/* 32 numbers rounded to nearest even. */
static inline __m512i rounded(__m512 low, __m512 high) {
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

#include "engine/ops/cpu/kernels_tiles.inc"

/* Intel's manual, volume 1, chapter 18: palette 1, here eight tiles of 16 rows of 64 bytes. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static void begin(void) {
    static const struct tile_config config = {.palette = 1,
                                              .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                              .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&config);
}

static void end(void) {
    _tile_release();
}

/* ---- packing -------------------------------------------------------------------------------- */

/* A row of f32 as planes: each takes what those before it left, so that their sum is x. */
static inline void split_row(uint16_t *dst, __m512 low, __m512 high, int planes) {
    for (int p = 0; p < planes; p++) {
        __m512i both = rounded(low, high);
        _mm512_store_si512(dst + p * ROW * ROW, both);
        low = _mm512_sub_ps(low, widened(_mm512_castsi512_si256(both)));
        high = _mm512_sub_ps(high, widened(_mm512_extracti64x4_epi64(both, 1)));
    }
}

/* The block as dense planes of bf16, zeros around. */
static void load_block(uint16_t *dst, const struct tile_block *b, int planes) {
    for (int64_t i = 0; i < ROW; i++, dst += ROW) {
        int64_t cols = i < b->rows ? b->cols : 0;
        if (b->dtype == DTYPE_F32) {
            const float *src = (const float *)b->data + (cols ? i * b->stride : 0);
            split_row(dst, _mm512_maskz_loadu_ps(first_of_16(cols), src),
                      _mm512_maskz_loadu_ps(first_of_16(cols - 16), src + 16), planes);
            continue;
        }
        const uint16_t *src = (const uint16_t *)b->data + (cols ? i * b->stride : 0);
        _mm512_store_si512(dst, _mm512_maskz_loadu_epi16(first_of_32(cols), src));
        for (int p = 1; p < planes; p++)
            _mm512_store_si512(dst + p * ROW * ROW, _mm512_setzero_si512());
    }
}

/* Elements of rows 2i and 2i + 1 side by side: 32 pairs, the first 16 in one tile. */
static void pair_rows(uint16_t *dst, const uint16_t *src, int64_t stride) {
    for (int64_t i = 0; i < ROW / 2; i++) {
        __m512i a = _mm512_loadu_si512(src + 2 * i * stride);
        __m512i b = _mm512_loadu_si512(src + (2 * i + 1) * stride);
        for (int half = 0; half < 2; half++) {
            __m512i x = _mm512_cvtepu16_epi32(half ? _mm512_extracti64x4_epi64(a, 1)
                                                   : _mm512_castsi512_si256(a));
            __m512i y = _mm512_cvtepu16_epi32(half ? _mm512_extracti64x4_epi64(b, 1)
                                                   : _mm512_castsi512_si256(b));
            _mm512_store_si512(dst + (half * ROW / 2 + i) * ROW,
                               _mm512_or_si512(x, _mm512_slli_epi32(y, 16)));
        }
    }
}

/* Transposes 16 rows of 16 pairs; step: elements between two rows of src. */
static void transpose_pairs(uint16_t *dst, const uint16_t *src, int64_t step) {
    __m512i r[16];
    for (int i = 0; i < 16; i++)
        r[i] = _mm512_loadu_si512(src + i * step);
    transpose_16(dst, ROW * 2, r);
}

static void arrange(uint16_t *dst, const uint16_t *src, int64_t stride, enum tile_form form) {
    uint16_t pairs[ROW * ROW] __attribute__((aligned(64)));
    switch (form) {
    case TILE_LEFT: /* dense as it is */
        break;
    case TILE_RIGHT:
        pair_rows(dst, src, stride);
        break;
    case TILE_RIGHT_TRANSPOSED:
        transpose_pairs(dst, src, stride);
        transpose_pairs(dst + ROW * ROW / 2, src + 16 * stride, stride);
        break;
    case TILE_LEFT_TRANSPOSED:
        pair_rows(pairs, src, stride);
        transpose_pairs(dst, pairs, ROW);
        transpose_pairs(dst + ROW * ROW / 2, pairs + ROW * ROW / 2, ROW);
        break;
    }
}

static void pack(void *dst, const struct tile_block *b, enum tile_form form, int planes) {
    uint16_t dense[TILE_PLANES * ROW * ROW] __attribute__((aligned(64)));
    if (form == TILE_LEFT) {
        load_block(dst, b, planes);
        return;
    }
    if (b->dtype == DTYPE_BF16 && planes == 1 && b->rows == ROW && b->cols == ROW) {
        arrange(dst, b->data, b->stride, form);
        return;
    }
    load_block(dense, b, planes);
    for (int p = 0; p < planes; p++)
        arrange((uint16_t *)dst + p * ROW * ROW, dense + p * ROW * ROW, ROW, form);
}

/* ---- products ------------------------------------------------------------------------------- */

/* Tiles 0 to 3 hold 32 x 32 sums, 4 and 5 rows of a, 6 and 7 columns of b. */
static inline __attribute__((always_inline)) void multiply_all(void) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

static inline __attribute__((always_inline)) void load_a(const char *a) {
    _tile_loadd(4, a, 64);
    _tile_loadd(5, a + 1024, 64);
}

static inline __attribute__((always_inline)) void load_b(const char *b) {
    _tile_loadd(6, b, 64);
    _tile_loadd(7, b + 1024, 64);
}

static void add_term(const struct tile_term *t) {
    const char *a = t->a, *b = t->b;
    for (int64_t s = 0; s < t->steps; s++, a += t->a_step, b += TILE_BYTES) {
        _tile_loadd(4, a, (size_t)t->a_row);
        _tile_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + 1024, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + t->a_half, (size_t)t->a_row);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

/* The six products of planes that matter, in an order that keeps one side's tiles. */
static void add_term_of_planes(const struct tile_term *t) {
    const char *a = t->a, *b = t->b;
    int64_t size = TILE_PLANES * TILE_BYTES;
    for (int64_t s = 0; s < t->steps; s++, a += size, b += size) {
        load_a(a + 2 * TILE_BYTES);
        load_b(b);
        multiply_all();
        load_a(a);
        load_b(b + 2 * TILE_BYTES);
        multiply_all();
        load_b(b + TILE_BYTES);
        multiply_all();
        load_a(a + TILE_BYTES);
        multiply_all();
        load_b(b);
        multiply_all();
        load_a(a);
        multiply_all();
    }
}

static void product(const struct tile_term *term, int n_terms, int planes, float *c, int64_t ldc,
                    bool accumulate) {
    size_t row = (size_t)ldc * sizeof *c;
    float *lower = c + 16 * ldc;
    if (accumulate) {
        _tile_loadd(0, c, row);
        _tile_loadd(1, c + 16, row);
        _tile_loadd(2, lower, row);
        _tile_loadd(3, lower + 16, row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int i = 0; i < n_terms; i++)
        if (planes == 1)
            add_term(&term[i]);
        else
            add_term_of_planes(&term[i]);
    _tile_stored(0, c, row);
    _tile_stored(1, c + 16, row);
    _tile_stored(2, lower, row);
    _tile_stored(3, lower + 16, row);
}

const struct tiles tiles_amx = {.planes_f32 = TILE_PLANES,
                                .planes_bf16 = 1,
                                .holds_bf16 = true,
                                .left = TILE_BYTES,
                                .right = TILE_BYTES,
                                .row = ROW * sizeof(uint16_t),
                                .in_place = DTYPE_BF16,
                                .begin = begin,
                                .end = end,
                                .pack = pack,
                                .product = product,
                                .finish = finish};
