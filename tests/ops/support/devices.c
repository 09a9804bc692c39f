/* devices: what every case of tests/ops runs on: the CPU in all its forms. */
#include <criterion/criterion.h>

#include "engine/ops/cpu/cpu.h"
#include "tests/ops/support/scene.h"

/* Whether this way of products is another than the best one here: a processor without AVX512-BF16
 * has no pairs. */
static bool is_another(enum cpu_product product) {
    return product != CPU_PRODUCT_PAIRS || isa_best() >= ISA_AVX512_BF16;
}

/* 1, 2 and 3 threads (whose results must agree to the byte), pairs of bf16 by 1 and 2, bf16 by
 * widening, and plain C. */
void each_device(void (*run)(struct scene *s, const void *arg), const void *arg) {
    static const struct {
        const char *label;
        enum cpu_product product;
        int threads;
    } kinds[] = {{"1 thread", CPU_PRODUCT_BEST, 1},  {"2 threads", CPU_PRODUCT_BEST, 2},
                 {"3 threads", CPU_PRODUCT_BEST, 3}, {"pairs, 1 thread", CPU_PRODUCT_PAIRS, 1},
                 {"pairs", CPU_PRODUCT_PAIRS, 2},    {"widened", CPU_PRODUCT_WIDENED, 2},
                 {"plain", CPU_PRODUCT_PLAIN, 2}};
    for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        uint64_t first = 0;
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            if (!is_another(kinds[i].product))
                continue;
            struct scene s = {.dtype = (enum dtype)dtype, .label = kinds[i].label, .random = 42};
            struct err_msg em = ERR_MSG_INIT;
            cr_assert_eq(cpu_open(kinds[i].threads, kinds[i].product, &s.dev, &em), ERR_OK);
            s.ops = s.dev->ops;
            run(&s, arg);
            scene_clear(&s);
            device_close(s.dev);
            if (kinds[i].threads == 1)
                first = s.digest;
            if (kinds[i].product <= CPU_PRODUCT_PAIRS)
                cr_assert_eq(s.digest, first, "%s, %s: other bytes than with 1 thread", s.label,
                             dtype_name(s.dtype));
        }
    }
}
