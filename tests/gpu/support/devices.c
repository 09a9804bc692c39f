/* devices: the cases of tests/ops and tests/reference on the CUDA device of this machine. */
#include <criterion/criterion.h>

#include "tests/ops/support/scene.h"
#include "tests/reference/support/case.h"

/* Twice: a device must give the same bytes every time. */
void each_device(void (*run)(struct scene *s, const void *arg), const void *arg) {
    for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        uint64_t first = 0;
        for (int again = 0; again < 2; again++) {
            struct scene s = {.dtype = (enum dtype)dtype, .label = "cuda", .random = 42};
            struct err_msg em = ERR_MSG_INIT;
            cr_assert_eq(device_open("cuda", 0, &s.dev, &em), ERR_OK, "%s", em.text);
            s.ops = s.dev->ops;
            run(&s, arg);
            cr_assert_eq(s.ops->sync(s.dev, &em), ERR_OK, "%s", em.text);
            scene_clear(&s);
            device_close(s.dev);
            if (!again)
                first = s.digest;
            cr_assert_eq(s.digest, first, "%s: other bytes the second time", dtype_name(s.dtype));
        }
    }
}

const size_t ref_steps_most = SIZE_MAX;

enum err ref_device_open(int threads, struct device **out, struct err_msg *em) {
    (void)threads;
    return device_open("cuda", 0, out, em);
}
