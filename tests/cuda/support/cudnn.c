/* cudnn: linked into a test, it puts cuDNN in the place of our own attention kernels. */
#include <stdlib.h>

#include "tests/cuda/emulation/emulation.h"

__attribute__((constructor)) static void install(void) {
    emulated_cudnn = 92600;
    (void)setenv("FFWD_CUDA_ATTENTION", "cudnn", 1);
}
