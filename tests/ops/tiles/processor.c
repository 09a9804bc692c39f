/* A processor with tile registers, wherever the rest of what their kernels need is there. */
#include "engine/ops/cpu/processor.h"

enum isa processor_isa(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16") ? ISA_AMX : ISA_BASE;
}
