/* profile: time, arithmetic and memory traffic of a device's operations, by operation and shape.
 *
 * What:    while a profile is on, the device's table of operations is a copy whose entries measure;
 *          each is followed by a sync, so that pending work is counted where it was asked for.
 * Owns:    the copy of the table and the counts, until profile_off or profile_free.
 * Threads: the device's control thread.
 * Errors:  none; a fault of the device is reported by its next sync as ever.
 */
#ifndef FFWD_ENGINE_OPS_PROFILE_H
#define FFWD_ENGINE_OPS_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/ops/ops.h"

#define PROFILE_LABEL 48

/* One operation on one shape. flops counts what the operation has to compute, LoRA's part and both
 * directions of the head included; bytes what it has to read and write at least once. */
struct profile_entry {
    char label[PROFILE_LABEL];
    int64_t calls;
    double seconds, flops, bytes;
};

struct profile;

/* Starts to measure. vocab: rows of the head, which its operation does not name. */
struct profile *profile_on(struct device *dev, int64_t vocab);
/* Gives the device its own table back; the counts stay. */
void profile_off(struct profile *p);
void profile_free(struct profile *p); /* after profile_off; NULL is allowed */
/* The entries so far, by falling time. Valid until the next operation. */
const struct profile_entry *profile_entries(struct profile *p, size_t *n);

/* Bytes per second that the device reads and writes in a long a + b, best of a few. */
enum err profile_bandwidth(struct device *dev, double *bytes_per_s, struct err_msg *em) NODISCARD;

#endif
