/* family_llama: Llama, Mistral (a sliding window), Qwen2 (bias on q, k and v).
 * Keys and defaults: transformers' configuration_{llama,mistral,qwen2}.py. */
#include "engine/model/family_llama.h"

#include <string.h>

/* Rotation frequencies that old checkpoints carry as buffers. */
static const char *const llama_ignored[] = {".rotary_emb.inv_freq", NULL};

#define LLAMA_NAMES                                                                                \
    .embed = "model.embed_tokens.weight", .norm = "model.norm", .head = "lm_head.weight",          \
    .layer = "model.layers.%d.", .norm1 = "input_layernorm", .norm2 = "post_attention_layernorm",  \
    .ignored = llama_ignored, .norm_kind = NORM_RMS, .gated = true, .eps_key = "rms_norm_eps",     \
    .default_eps = 1e-6, .theta_key = "rope_theta", .partial_key = "partial_rotary_factor",        \
    .default_partial = 1, .default_act = "silu",                                                   \
    .module = {                                                                                    \
        [SITE_QKV] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},                 \
        [SITE_O] = {"self_attn.o_proj"},                                                           \
        [SITE_UP] = {"mlp.gate_proj", "mlp.up_proj"},                                              \
        [SITE_DOWN] = {"mlp.down_proj"},                                                           \
    }

static enum err read_llama(const struct config_json *c, struct model_config *out,
                           struct err_msg *em) {
    enum err e = config_bool(c, "attention_bias", false, &out->qkv_bias, em);
    out->o_bias = out->qkv_bias;
    return e != ERR_OK ? e : config_bool(c, "mlp_bias", false, &out->mlp_bias, em);
}

static void window_from(struct model_config *out, int first_layer) {
    for (int l = first_layer; l < out->layers; l++)
        out->windowed_layers[l / 64] |= (uint64_t)1 << (l % 64);
}

/* Absent: the published 4096; null: none. */
static enum err read_mistral(const struct config_json *c, struct model_config *out,
                             struct err_msg *em) {
    bool absent = json_object_get(c->object, "sliding_window") == NULL;
    window_from(out, 0);
    return config_int(c, "sliding_window", 1, LIMIT_POSITIONS, absent ? 4096 : 0, &out->window, em);
}

static enum err read_layer_types(const struct config_json *c, const json_t *types,
                                 struct model_config *out, struct err_msg *em) {
    if (!json_is_array(types) || json_array_size(types) != (size_t)out->layers)
        return err_set(em, ERR_INPUT, "%s: \"layer_types\" must list all %d layers", c->path,
                       out->layers);
    for (int l = 0; l < out->layers; l++) {
        const char *type = json_string_value(json_array_get(types, (size_t)l));
        if (type != NULL && strcmp(type, "sliding_attention") == 0)
            out->windowed_layers[l / 64] |= (uint64_t)1 << (l % 64);
        else if (type == NULL || strcmp(type, "full_attention") != 0)
            return err_set(em, ERR_UNSUPPORTED,
                           "%s: \"layer_types\": layer %d is of the type "
                           "\"%.64s\"; known are full_attention and sliding_attention",
                           c->path, l, type != NULL ? type : "?");
    }
    return ERR_OK;
}

static enum err read_qwen2(const struct config_json *c, struct model_config *out,
                           struct err_msg *em) {
    bool sliding = false;
    int32_t first = 0;
    out->qkv_bias = true;
    enum err e = config_bool(c, "use_sliding_window", false, &sliding, em);
    if (e != ERR_OK || !sliding)
        return e;
    e = config_int(c, "sliding_window", 1, LIMIT_POSITIONS, 4096, &out->window, em);
    if (e == ERR_OK)
        e = config_int(c, "max_window_layers", 0, LIMIT_LAYERS, 28, &first, em);
    if (e != ERR_OK)
        return e;
    json_t *types = config_get(c, "layer_types");
    if (types != NULL)
        return read_layer_types(c, types, out, em);
    window_from(out, first);
    return ERR_OK;
}

const struct family family_llama = {
    .model_type = "llama", LLAMA_NAMES, .default_positions = 2048, .read = read_llama};

const struct family family_mistral = {.model_type = "mistral",
                                      LLAMA_NAMES,
                                      .default_kv_heads = 8,
                                      .default_positions = 4096 * 32,
                                      .read = read_mistral};

const struct family family_qwen2 = {.model_type = "qwen2",
                                    LLAMA_NAMES,
                                    .default_kv_heads = 32,
                                    .default_positions = 32768,
                                    .read = read_qwen2};
