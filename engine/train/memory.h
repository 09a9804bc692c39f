/* memory: the resident peak of a run, planned before it starts.
 *
 * What:    adds up what a run takes, by the plans that allocate it.
 * Owns:    plain values.
 * Threads: one control thread.
 * Errors:  as model_size.
 */
#ifndef FFWD_ENGINE_TRAIN_MEMORY_H
#define FFWD_ENGINE_TRAIN_MEMORY_H

#include <jansson.h>

#include "engine/model/model_size.h"

struct memory_ask {
    struct device *dev; /* NULL: not open here, an accelerator */
    const struct model_config *config;
    enum dtype dtype;
    const struct lora_options *lora;
    struct pass_limits training, eval; /* eval: at most; see pass_new_inside */
    bool fast_forward;
    bool average;   /* with it, search "auto" */
    size_t process; /* memory_process, 0 on an accelerator: memory there is the device's */
};

struct memory_plan {
    size_t process, weights, adapter, activations, scratch, total;
    int64_t trainable; /* values of the adapter */
};

enum err memory_plan_make(const struct memory_ask *ask, struct memory_plan *out,
                          struct err_msg *em) NODISCARD;
/* New object of these numbers; the caller decrefs. */
json_t *memory_plan_json(const struct memory_plan *p);

/* What this process has resident now, program, tokenizer and data, beside a model of so many bytes
 * that is open (m NULL: none is); and what the first steps will bring in. */
size_t memory_process(const struct model *m, size_t weights);

#endif
