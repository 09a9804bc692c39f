/* The kernels of kernels.h for AVX-512. */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/ops/cpu/blocks.h"
#include "engine/ops/cpu/kernels.h"
#include "engine/ops/ops.h"

/* From here on, the headers with inline arithmetic included. */
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#include "engine/ops/cpu/half.h"
#include "engine/ops/philox.h"

#define BLOCK_ROWS 8
#define BLOCK_VECTORS 2
#define REGISTER_LANES 16
#include "engine/ops/cpu/kernels_rows.inc"
#include "engine/ops/cpu/kernels_math.inc"
#include "engine/ops/cpu/kernels_blocks.inc"

const struct kernels kernels_avx512 = KERNELS("avx512", narrow_bf16, NULL, NULL);
