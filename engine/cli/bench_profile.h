/* bench_profile: a profile of the training step, for people and as JSON.
 *
 * What:    relates the operations' times to the step, and their work to what the device could do.
 * Owns:    the JSON belongs to the caller.
 * Threads: main thread.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_CLI_BENCH_PROFILE_H
#define FFWD_ENGINE_CLI_BENCH_PROFILE_H

#include <jansson.h>

#include "engine/ops/profile.h"

/* What the device did when nothing stood in the way, in FLOP/s and bytes/s. */
struct bench_bounds {
    double flops, bytes;
};

/* steps, seconds: of the profiled steps together. Prints a table on standard error and returns the
 * same rows: operation, calls and ms of a step, share of it, gflops, gbytes_per_s, bound_ms (the
 * longer of the times that its arithmetic and its memory traffic would take at `bounds`). */
json_t *bench_profile_report(struct profile *p, int64_t steps, double seconds,
                             const struct bench_bounds *bounds);

#endif
