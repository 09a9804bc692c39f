/* clock: the time that waiting for the device takes. The emulation of tests/cuda has its own, in
 * which a pause costs nothing. */
#include "base/clock.h"

#include <time.h>

#include "engine/ops/cuda/cuda.h"

double cuda_clock(void) {
    return clock_mono();
}

void cuda_pause(double seconds) {
    struct timespec t = {.tv_nsec = (long)(seconds * 1e9)}; /* below a second */
    (void)nanosleep(&t, NULL);
}
