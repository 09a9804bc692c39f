/* average: the mean of the last adapters of a run.
 *
 * What:    while the learning rate is held, the adapter scatters around a path that the loss falls
 *          along; the mean of the last steps is nearer to it, as if the rate had fallen. So a run
 *          of search "auto" measures, saves and publishes the mean, and trains on from the adapter
 *          itself. Step t counts (γ + 1) / (t + γ) of the mean (Shamir & Zhang, ICML 2013), which
 *          spans a fixed part of the run so far. Where the rate falls the mean spans less, and
 *          nothing but the adapter itself at a rate of 0.
 * Owns:    a buffer of the adapter's size on the device.
 * Threads: one control thread.
 * Errors:  ERR_NO_MEMORY.
 */
#ifndef FFWD_ENGINE_TRAIN_AVERAGE_H
#define FFWD_ENGINE_TRAIN_AVERAGE_H

#include <stdint.h>

#include "engine/ops/ops.h"

struct average {
    struct device *dev;
    const struct adapter_mem *adapter; /* borrowed */
    float *mean;                       /* [n]; NULL: off */
    float *spare;                      /* [n] borrowed: of use to others between the calls below */
};

/* The mean begins as the adapter is. */
enum err average_init(struct average *a, struct device *dev, const struct adapter_mem *adapter,
                      float *spare, struct err_msg *em) NODISCARD;
void average_free(struct average *a);

/* What the adapter counts after `step` steps of a run, `since` of them since the mean began anew
 * (both from 1), the last one at this part (0…1) of the peak of the learning rate. */
double average_weight(int64_t step, int64_t since, double part);
/* mean += weight · (adapter - mean); the adapter itself, bit for bit, where weight is 1. */
void average_add(struct average *a, double weight);

/* Puts the mean in the adapter's place, and the adapter back, bit for bit. Between the two no other
 * call, and spare is not touched. Nothing where the average is off. */
void average_show(struct average *a);
void average_hide(struct average *a);

#endif
