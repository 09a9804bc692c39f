/* model_size: what a job's model, adapter and activations take, without taking it.
 *
 * What:    the same plans that allocate, run to count.
 * Owns:    nothing.
 * Threads: one control thread.
 * Errors:  as adapter_new for targets that name no projection.
 */
#ifndef FFWD_ENGINE_MODEL_MODEL_SIZE_H
#define FFWD_ENGINE_MODEL_MODEL_SIZE_H

#include "engine/model/adapter.h"

struct model_size {
    size_t weight_bytes; /* frozen weights on the device, those that stay in their file included */
    size_t adapter_values; /* f32 values of the adapter */
    size_t pass_bytes;     /* activations */
    size_t scratch_bytes;  /* of the device's operations */
    int32_t eval_tokens;   /* of an evaluation in the training pass's memory */
};

/* dev NULL: a device that is not open; what only it knows is left out. eval: see pass_count. */
enum err model_size(struct device *dev, const struct model_config *cfg, enum dtype dtype,
                    const struct lora_options *o, const struct pass_limits *limits,
                    const struct pass_limits *eval, struct model_size *out,
                    struct err_msg *em) NODISCARD;

/* Of a model that is open: bytes of its weights that lie in its files' mapping. */
size_t model_mapped_bytes(const struct model *m);

#endif
