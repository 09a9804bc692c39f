/* schedule: closed forms, so that a resumed run needs only the step number. */
#include "engine/train/schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

int64_t schedule_warmup_steps(double ratio, int64_t total_steps) {
    return (int64_t)ceil(ratio * (double)total_steps);
}

static int64_t at_least_one(int64_t n) {
    return n > 1 ? n : 1;
}

double schedule_factor(enum lr_schedule kind, int64_t step, int64_t warmup_steps,
                       int64_t total_steps) {
    if (step < warmup_steps)
        return (double)step / (double)at_least_one(warmup_steps);
    double span = (double)at_least_one(total_steps - warmup_steps);
    switch (kind) {
    case LR_CONSTANT:
        return 1.0;
    case LR_LINEAR:
        return fmax(0.0, (double)(total_steps - step) / span);
    case LR_COSINE:
        return fmax(0.0, 0.5 * (1.0 + cos(pi * (double)(step - warmup_steps) / span)));
    }
    return 1.0;
}
