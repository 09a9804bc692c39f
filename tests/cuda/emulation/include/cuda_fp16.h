/* cuda_fp16, emulated by the conversions of engine/ops/cpu, which have tests of their own. */
#ifndef FFWD_EMULATION_CUDA_FP16_H
#define FFWD_EMULATION_CUDA_FP16_H

#include <stdint.h>
#include <string.h>

struct __half {
    uint16_t bits;
};

extern "C" float emulated_half_to_float(uint16_t bits);
extern "C" uint16_t emulated_half_from_float(float value);

inline float __half2float(__half x) {
    return emulated_half_to_float(x.bits);
}
inline __half __float2half_rn(float value) {
    return {emulated_half_from_float(value)};
}

#endif
