/* optimizer: AdamW with gradient clipping on the adapter's flat buffers.
 *
 * What:    the moments, the norm of the gradient, clipping as torch.nn.utils.clip_grad_norm_, and
 *          the update.
 * Owns:    the moments (device memory); free with optimizer_free.
 * Threads: one control thread.
 * Errors:  ERR_NO_MEMORY; device faults. A gradient that is not finite is no error: the update is
 *          left out and said so.
 */
#ifndef FFWD_ENGINE_TRAIN_OPTIMIZER_H
#define FFWD_ENGINE_TRAIN_OPTIMIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ops/ops.h"

struct optimizer {
    struct device *dev;
    size_t n;
    float *m, *v;    /* [n] device: first and second moment */
    int64_t updates; /* done so far, for the bias correction */
    float weight_decay, max_grad_norm;
};

enum err optimizer_init(struct optimizer *o, struct device *dev, size_t n, double weight_decay,
                        double max_grad_norm, struct err_msg *em) NODISCARD;
void optimizer_free(struct optimizer *o);

/* Clips the gradient and updates w, m and v; refreshes the adapter. *norm: L2 norm of the gradient
 * before clipping, for which alone it waits; where that is not finite, the update is left out and
 * not counted. */
enum err optimizer_step(struct optimizer *o, const struct adapter_mem *ad, double learning_rate,
                        double *norm, struct err_msg *em) NODISCARD;

/* Sets the first moment to zero: what it is the mean of was measured elsewhere. The second moment
 * and the count of updates stay, so the next steps are short: 0.1, 0.19, 0.27 of a full one where
 * gradients agree. */
void optimizer_forget(struct optimizer *o);

#endif
