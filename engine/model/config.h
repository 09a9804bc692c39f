/* config: the description of a model, read from config.json.
 *
 * What:    struct model_config is the one description that loading, the pass, LoRA and reports
 *          use; a family (engine/model/family.h) fills it and names the tensors.
 * Owns:    plain values.
 * Threads: pure functions.
 * Errors:  ERR_INPUT naming file and field; absurd sizes are refused before any arithmetic;
 *          ERR_UNSUPPORTED for a model type or a feature that ffwd does not have.
 */
#ifndef FFWD_ENGINE_MODEL_CONFIG_H
#define FFWD_ENGINE_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "engine/ops/ops.h"

enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3 };

struct rope_config {
    enum rope_kind kind;
    double theta, factor;
    double low_freq_factor, high_freq_factor, original_positions; /* llama3 */
    double partial; /* share of head_dim that is rotated, 1 for Llama */
};

struct family; /* engine/model/family.h */

struct model_config {
    const struct family *family;
    int32_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocab, max_positions;
    enum norm_kind norm;
    float norm_eps;
    struct act act;
    struct rope_config rope;
    bool qkv_bias, o_bias, mlp_bias, tied_head;
    bool parallel;  /* attention and MLP both read the block's input (GPT-NeoX) */
    int32_t window; /* keys seen by a windowed layer, 0: no window */
    uint64_t windowed_layers[LIMIT_LAYERS / 64]; /* bit l: layer l has the window */
    float embed_scale, attention_scale;          /* of embeddings; of q·k */
    int32_t bos_id, eos_id;                      /* -1: none; the first of a list */
};

/* Reads DIR/config.json, in the transformers 4 and the transformers 5 form. */
enum err model_config_read(const char *dir, struct model_config *out, struct err_msg *em) NODISCARD;

/* A named shape of DESIGN's list (smollm2-135m, qwen2.5-0.5b, llama-3.2-1b, llama-3-8b,
 * pythia-1.4b). */
enum err model_config_shape(const char *shape, struct model_config *out,
                            struct err_msg *em) NODISCARD;

#endif
