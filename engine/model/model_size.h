/* model_size: what a job's model, adapter and activations take, without taking it.
 *
 * What:    the same plans that allocate, run to count.
 * Owns:    nothing.
 * Threads: pure function.
 * Errors:  as adapter_new for targets that name no projection.
 */
#ifndef FFWD_ENGINE_MODEL_MODEL_SIZE_H
#define FFWD_ENGINE_MODEL_MODEL_SIZE_H

#include "engine/model/adapter.h"

struct model_size {
    size_t weight_bytes;   /* frozen weights on the device */
    size_t adapter_values; /* f32 values of the adapter */
    size_t pass_bytes;     /* activations and scratch */
};

enum err model_size(const struct model_config *cfg, enum dtype dtype, const struct lora_options *o,
                    const struct pass_limits *limits, struct model_size *out,
                    struct err_msg *em) NODISCARD;

#endif
