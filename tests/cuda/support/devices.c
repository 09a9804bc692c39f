/* devices: the cases of tests/ops and tests/reference on the emulated CUDA device. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "engine/ops/cuda/cuda.h"
#include "tests/cuda/emulation/emulation.h"
#include "tests/ops/support/scene.h"
#include "tests/reference/support/case.h"

/* Timing products would multiply what is computed and counted; test_choices.c is about it. */
__attribute__((constructor)) static void time_nothing(void) {
    (void)setenv("FFWD_CUDA_ALGORITHMS", "off", 0);
}

/* Blocks and threads from the first to the last and from the last to the first: a result that
 * depends on the order is a race. */
void each_device(void (*run)(struct scene *s, const void *arg), const void *arg) {
    for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        uint64_t first = 0;
        for (int reverse = 0; reverse < 2; reverse++) {
            struct scene s = {.dtype = (enum dtype)dtype,
                              .label = reverse ? "cuda, reversed" : "cuda",
                              .random = 42};
            struct err_msg em = ERR_MSG_INIT;
            emulation_reverse(reverse);
            cr_assert_eq(ffwd_cuda_open(0, &s.dev, &em), ERR_OK, "%s", em.text);
            s.ops = s.dev->ops;
            run(&s, arg);
            cr_assert_eq(s.ops->sync(s.dev, &em), ERR_OK, "%s", em.text);
            scene_clear(&s);
            device_close(s.dev);
            if (!reverse)
                first = s.digest;
            cr_assert_eq(s.digest, first, "%s: other bytes in the reverse order",
                         dtype_name(s.dtype));
        }
    }
    emulation_reverse(false);
}

const size_t ref_steps_most = 6;

enum err ref_device_open(int threads, struct device **out, struct err_msg *em) {
    (void)threads;
    return ffwd_cuda_open(0, out, em);
}
