/* The kernels of kernels.h for baseline x86-64. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/ops.h"

#include "engine/ops/cpu/half.h"
#include "engine/ops/philox.h"

#include "engine/ops/cpu/kernels_rows.inc"
#include "engine/ops/cpu/kernels_math.inc"

const struct kernels kernels_base = KERNELS("base");
