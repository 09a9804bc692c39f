/* The kernels of kernels.h for baseline x86-64. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/ops/cpu/blocks.h"
#include "engine/ops/cpu/kernels.h"
#include "engine/ops/ops.h"

#include "engine/ops/cpu/half.h"
#include "engine/ops/philox.h"

#define BLOCK_ROWS 2
#define BLOCK_VECTORS 4
#define REGISTER_LANES 4
#include "engine/ops/cpu/kernels_rows.inc"
#include "engine/ops/cpu/kernels_math.inc"
#include "engine/ops/cpu/kernels_blocks.inc"

const struct kernels kernels_base = KERNELS("base", narrow_bf16, NULL, NULL);
