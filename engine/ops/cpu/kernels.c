/* kernels: the choice between the instruction sets. */
#include "engine/ops/cpu/kernels.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/ops/cpu/processor.h"

static const struct kernels *const tables[ISA_COUNT] = {
    [ISA_BASE] = &kernels_base,
    [ISA_AVX2] = &kernels_avx2,
    [ISA_AVX512] = &kernels_avx512,
    [ISA_AVX512_BF16] = &kernels_avx512_bf16,
    [ISA_AVX512_FP16] = &kernels_avx512_fp16,
    [ISA_AMX] = &kernels_amx,
};

enum isa isa_best(void) {
    enum isa best = processor_isa();
    const char *most = getenv("FFWD_CPU_ISA");
    for (int i = ISA_BASE; most && i <= ISA_AMX; i++)
        if (strcmp(most, isa_name((enum isa)i)) == 0)
            return i < (int)best ? (enum isa)i : best;
    if (most)
        log_warn("cpu.isa", "FFWD_CPU_ISA=%s names no instruction set", most);
    return best;
}

const char *isa_name(enum isa isa) {
    return tables[isa]->name;
}

const struct kernels *kernels_of(enum isa isa) {
    return tables[isa];
}
