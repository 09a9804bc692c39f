/* kernels: the choice between the instruction sets. */
#include "engine/ops/cpu/kernels.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct kernels *const tables[ISA_COUNT] = {
    [ISA_BASE] = &kernels_base,     [ISA_AVX2] = &kernels_avx2,
    [ISA_AVX512] = &kernels_avx512, [ISA_AVX512_BF16] = &kernels_avx512_bf16,
    [ISA_AMX] = &kernels_amx,
};

/* Linux lets a process use the tile registers after it asked (arch_prctl(2)). */
static bool tiles_permitted(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

static enum isa isa_of_processor(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("f16c"))
        return ISA_BASE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return ISA_AVX2;
    if (!__builtin_cpu_supports("avx512bf16"))
        return ISA_AVX512;
    return __builtin_cpu_supports("amx-bf16") && tiles_permitted() ? ISA_AMX : ISA_AVX512_BF16;
}

enum isa isa_best(void) {
    enum isa best = isa_of_processor();
    const char *most = getenv("FFWD_CPU_ISA");
    for (int i = 0; most && i < (int)best; i++)
        if (strcmp(most, isa_name((enum isa)i)) == 0)
            return (enum isa)i;
    return best;
}

const char *isa_name(enum isa isa) {
    return tables[isa]->name;
}

const struct kernels *kernels_of(enum isa isa) {
    return tables[isa];
}
