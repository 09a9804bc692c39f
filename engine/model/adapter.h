/* adapter: the LoRA weights of one job, on the device and as PEFT files.
 *
 * What:    which projections carry LoRA, where their A and B lie in one flat f32 buffer, their
 *          initialisation, and reading/writing `adapter_model.safetensors` + `adapter_config.json`.
 * Owns:    the device buffers (weights and gradient).
 * Threads: one control thread.
 * Errors:  a target that names no projection, a file that does not fit the model: ERR_INPUT.
 */
#ifndef FFWD_ENGINE_MODEL_ADAPTER_H
#define FFWD_ENGINE_MODEL_ADAPTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/model/model.h"

struct lora_options {
    int32_t rank;
    float alpha, dropout;
    bool use_rslora;            /* scale alpha / sqrt(rank) instead of alpha / rank */
    bool use_dora;              /* magnitudes beside A and B; dropout acts on A's input only */
    bool wide;                  /* a new A is twice as wide as PEFT's; see adapter_new */
    const char *const *targets; /* names as in PEFT ("q_proj", …); NULL: all-linear, every
                                   projection inside the blocks, not the head */
    int n_targets;
};

/* A: uniform(±1/sqrt(in)) as PEFT's kaiming_uniform(a=√5), from (seed, tensor index), or
 * ±2/sqrt(in) where it is wide; B: zero; DoRA's magnitudes: the norms of the frozen rows, so that
 * the adapter changes nothing yet. How long AdamW's steps are does not depend on the gradient's
 * length, so with A twice as large the product B A moves as if B's learning rate were twice and
 * A's half of what they are: LoRA+ (Hayou et al., ICML 2024) with a ratio of 4. */
enum err adapter_new(struct model *m, const struct lora_options *o, uint64_t seed,
                     struct adapter **out, struct err_msg *em) NODISCARD;
/* From a PEFT folder; rank, alpha and targets come from its adapter_config.json. */
enum err adapter_open(struct model *m, const char *dir, struct adapter **out,
                      struct err_msg *em) NODISCARD;
void adapter_free(struct adapter *ad);

const struct lora_options *adapter_options(const struct adapter *ad);
struct adapter_mem *adapter_mem(struct adapter *ad);
size_t adapter_size(const struct adapter *ad); /* f32 values in the flat buffer */

/* Writes both files into dir (which exists): tensors f32 under PEFT's names. base_name goes into
 * base_model_name_or_path. Each file is written atomically. */
enum err adapter_save(struct adapter *ad, const char *dir, const char *base_name,
                      struct err_msg *em) NODISCARD;

#endif
