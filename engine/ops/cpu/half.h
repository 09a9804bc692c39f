/* half: IEEE 754 binary16 (f16) to and from f32.
 *
 * What:    two exact conversions, the second rounding to nearest, ties to even.
 * Owns, Threads, Errors: none; inline arithmetic. NaN stays NaN.
 */
#ifndef FFWD_ENGINE_OPS_CPU_HALF_H
#define FFWD_ENGINE_OPS_CPU_HALF_H

#include <stdint.h>

union half_bits {
    float value;
    uint32_t bits;
};

static inline float half_to_float(uint16_t h) {
    uint32_t rest = h & 0x7fffu;
    union half_bits x = {.bits = (rest << 13) + 0x38000000u}; /* exponent bias 127 - 15 */
    if (rest >= 0x7c00u)
        x.bits += 0x38000000u; /* infinity, NaN */
    if (rest < 0x0400u)
        x.value = (float)rest * 0x1p-24f; /* zero, subnormal */
    x.bits |= (uint32_t)(h & 0x8000u) << 16;
    return x.value;
}

static inline uint16_t half_from_float(float value) {
    union half_bits x = {.value = value};
    uint32_t sign = x.bits >> 16 & 0x8000u, rest = x.bits & 0x7fffffffu;
    if (rest > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (rest >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (rest < 0x38800000u) { /* below 2^-14: a multiple of 2^-24, rounded by an addition */
        union half_bits sum = {.bits = rest};
        sum.value += 0.5f; /* the last bit of 0.5 is 2^-24 */
        return (uint16_t)(sign | (sum.bits - 0x3f000000u));
    }
    uint32_t rounded = rest + 0x0fffu + (rest >> 13 & 1);
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

#endif
