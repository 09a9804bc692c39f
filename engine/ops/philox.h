/* philox: counter-based random numbers (Salmon et al., SC 2011: Philox4x32-10).
 *
 * What:    a pure function of (key, counter), the same on every device: nothing to store in a
 *          checkpoint, nothing that depends on order or threads.
 * Owns, Threads, Errors: none; inline arithmetic.
 */
#ifndef FFWD_ENGINE_OPS_PHILOX_H
#define FFWD_ENGINE_OPS_PHILOX_H

#include <stdint.h>

/* A device that compiles these for its own processor defines this first. */
#ifndef PHILOX_FUNCTION
#define PHILOX_FUNCTION static inline
#endif

struct philox {
    uint32_t x[4];
};

PHILOX_FUNCTION struct philox philox4x32(uint64_t key, struct philox c) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c.x[0];
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c.x[2];
        struct philox next = {{(uint32_t)(p1 >> 32) ^ c.x[1] ^ k0, (uint32_t)p1,
                               (uint32_t)(p0 >> 32) ^ c.x[3] ^ k1, (uint32_t)p0}};
        c = next;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

/* Uniform in [0, 1) with 24 bits. */
PHILOX_FUNCTION float philox_uniform(uint32_t x) {
    return (float)(x >> 8) * 0x1p-24f;
}

/* Four draws for columns 4·quad … 4·quad+3 of one row of a dropout or initialisation site. */
PHILOX_FUNCTION struct philox philox_site(uint64_t seed, uint32_t step, uint32_t site,
                                          uint64_t row_key, uint32_t quad) {
    uint64_t key = seed ^ ((uint64_t)step << 32 | site) * 0x9E3779B97F4A7C15ull;
    struct philox counter = {{quad, (uint32_t)row_key, (uint32_t)(row_key >> 32), site}};
    return philox4x32(key, counter);
}

#endif
