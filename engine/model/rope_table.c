/* rope: cos and sin of every position, in f32 with transformers' order of operations
 * (modeling_rope_utils.py), so that long contexts get the same angles. */
#include <math.h>

#include "engine/model/internal.h"

static const float TWO_PI = 6.28318530717958647692f;

/* Llama 3.1: long wavelengths are stretched by factor, short ones kept, the rest interpolated. */
static float llama3_frequency(const struct rope_config *r, float f) {
    float low = (float)(r->original_positions / r->low_freq_factor);
    float high = (float)(r->original_positions / r->high_freq_factor);
    float wavelength = TWO_PI / f;
    if (wavelength > low)
        return f / (float)r->factor;
    if (wavelength < high)
        return f;
    float smooth = ((float)r->original_positions / wavelength - (float)r->low_freq_factor) /
                   (float)(r->high_freq_factor - r->low_freq_factor);
    return (1 - smooth) * f / (float)r->factor + smooth * f;
}

/* Frequency of column pair i of a head of dim columns. */
static float frequency(const struct rope_config *r, int32_t dim, int32_t i) {
    float f = 1.0f / powf((float)r->theta, (float)(2 * i) / (float)dim);
    switch (r->kind) {
    case ROPE_LINEAR:
        return f / (float)r->factor;
    case ROPE_LLAMA3:
        return llama3_frequency(r, f);
    default:
        return f;
    }
}

void rope_tables(const struct model_config *c, int32_t n, float *cos_out, float *sin_out) {
    int32_t dim = rope_columns(c), half = dim / 2;
    for (int32_t i = 0; i < half; i++) {
        float f = frequency(&c->rope, dim, i);
        for (int32_t p = 0; p < n; p++) {
            float angle = (float)p * f;
            cos_out[(int64_t)p * half + i] = cosf(angle);
            sin_out[(int64_t)p * half + i] = sinf(angle);
        }
    }
}
