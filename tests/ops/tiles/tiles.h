/* The tile instructions that the AMX kernels use, in C: included before those sources, it lets them
 * run where the processor has no tile registers. Tiles are 16 rows of 64 bytes, as the kernels
 * configure them. To use one that is not configured ends the program.
 *
 * TDPBF16PS (Intel, Instruction Set Extensions Programming Reference, chapter 3): element (m, n) of
 * c gains a[m][2k] · b[k][2n], then a[m][2k + 1] · b[k][2n + 1], for k = 0 to 15. */
#ifndef FFWD_TESTS_OPS_TILES_H
#define FFWD_TESTS_OPS_TILES_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { TILE_ROWS = 16, TILE_ROW_BYTES = 64 };

struct emulated_tile {
    union {
        float sums[TILE_ROWS][16];
        uint16_t halves[TILE_ROWS][32];
        char rows[TILE_ROWS][TILE_ROW_BYTES];
    };
};

static _Thread_local struct emulated_tile emulated_tiles[8];
static _Thread_local bool emulated_configured;

static inline struct emulated_tile *emulated_tile(int i) {
    if (!emulated_configured)
        __builtin_trap();
    return &emulated_tiles[i];
}

static inline void emulated_load(int i, const void *from, size_t stride) {
    struct emulated_tile *t = emulated_tile(i);
    for (size_t r = 0; r < TILE_ROWS; r++)
        memcpy(t->rows[r], (const char *)from + r * stride, TILE_ROW_BYTES);
}

static inline void emulated_store(int i, void *to, size_t stride) {
    const struct emulated_tile *t = emulated_tile(i);
    for (size_t r = 0; r < TILE_ROWS; r++)
        memcpy((char *)to + r * stride, t->rows[r], TILE_ROW_BYTES);
}

static inline float emulated_widened(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline void emulated_product(int into, int left, int right) {
    struct emulated_tile *c = emulated_tile(into);
    const struct emulated_tile *a = emulated_tile(left), *b = emulated_tile(right);
    for (int m = 0; m < TILE_ROWS; m++)
        for (int k = 0; k < 32; k++)
            for (int n = 0; n < 16; n++)
                c->sums[m][n] += emulated_widened(a->halves[m][k]) *
                                 emulated_widened(b->halves[k / 2][2 * n + k % 2]);
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) ((void)(config), (void)(emulated_configured = true))
#define _tile_release() ((void)(emulated_configured = false))
#define _tile_zero(i) ((void)memset(emulated_tile(i), 0, sizeof(struct emulated_tile)))
#define _tile_loadd(i, from, stride) emulated_load(i, from, (size_t)(stride))
#define _tile_stored(i, to, stride) emulated_store(i, to, (size_t)(stride))
#define _tile_dpbf16ps(c, a, b) emulated_product(c, a, b)

#endif
