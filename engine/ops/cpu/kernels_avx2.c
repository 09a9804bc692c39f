/* The kernels of kernels.h for AVX2 with FMA. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/ops/cpu/blocks.h"
#include "engine/ops/cpu/kernels.h"
#include "engine/ops/ops.h"

/* From here on, the headers with inline arithmetic included. */
#pragma GCC target("avx2,fma,f16c")
#include "engine/ops/cpu/half.h"
#include "engine/ops/philox.h"

#define BLOCK_ROWS 4
#define BLOCK_VECTORS 2
#define REGISTER_LANES 8
#include "engine/ops/cpu/kernels_rows.inc"
#include "engine/ops/cpu/kernels_math.inc"
#include "engine/ops/cpu/kernels_blocks.inc"

const struct kernels kernels_avx2 = KERNELS("avx2", narrow_bf16, NULL, NULL);
