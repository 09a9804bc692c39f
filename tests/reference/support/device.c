/* device: the cases of tests/reference run on the CPU. */
#include "tests/reference/support/case.h"

const size_t ref_steps_most = SIZE_MAX;

enum err ref_device_open(int threads, struct device **out, struct err_msg *em) {
    return device_open("cpu", threads, out, em);
}
