/* processor: what this machine's processor can do. */
#include "engine/ops/cpu/processor.h"

#include <sys/syscall.h>
#include <unistd.h>

/* Linux lets a process use the tile registers after it asked (arch_prctl(2)). */
static bool tiles_permitted(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

enum isa processor_isa(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("f16c"))
        return ISA_BASE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return ISA_AVX2;
    if (!__builtin_cpu_supports("avx512bf16"))
        return ISA_AVX512;
    if (__builtin_cpu_supports("amx-bf16") && tiles_permitted())
        return ISA_AMX;
    return __builtin_cpu_supports("avx512fp16") ? ISA_AVX512_FP16 : ISA_AVX512_BF16;
}
