/* The functions of tiles.h for AMX. */
#include <immintrin.h>

#include "engine/ops/cpu/tiles.h"

#pragma GCC target("amx-tile,amx-bf16,avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")

/* 32 numbers rounded to nearest even. */
static inline __m512i rounded(__m512 low, __m512 high) {
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

#include "engine/ops/cpu/kernels_tiles.inc"
#include "engine/ops/cpu/kernels_pairs.inc"

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
