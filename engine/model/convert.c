/* weights: conversion between stored and working number formats. */
#include <string.h>

#include "engine/model/weights.h"

static float bf16_to_f32(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction. */
static float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 0x1F, fraction = h & 0x3FFu;
    uint32_t u;
    if (exponent == 0) { /* zero or subnormal: fraction · 2^-24 */
        float f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    if (exponent == 31)
        u = sign | 0x7F800000u | fraction << 13;
    else
        u = sign | (exponent + 112) << 23 | fraction << 13;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Round to nearest even; a NaN stays a NaN. */
static uint16_t f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFFu + (u >> 16 & 1)) >> 16);
}

static float load(const void *src, enum dtype dtype, int64_t i) {
    switch (dtype) {
    case DTYPE_BF16:
        return bf16_to_f32(((const uint16_t *)src)[i]);
    case DTYPE_F16:
        return f16_to_f32(((const uint16_t *)src)[i]);
    default:
        return ((const float *)src)[i];
    }
}

void convert_elements(const void *src, enum dtype src_dtype, void *dst, enum dtype dst_dtype,
                      int64_t n) {
    if (src_dtype == dst_dtype) {
        memcpy(dst, src, (size_t)n * dtype_size(dst_dtype));
        return;
    }
    if (dst_dtype == DTYPE_F32)
        for (int64_t i = 0; i < n; i++)
            ((float *)dst)[i] = load(src, src_dtype, i);
    else
        for (int64_t i = 0; i < n; i++)
            ((uint16_t *)dst)[i] = f32_to_bf16(load(src, src_dtype, i));
}
