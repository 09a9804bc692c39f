/* family_neox: LayerNorm, a parallel block, rotation of a part of each head, one matrix for q, k
 * and v. Keys and defaults: transformers' configuration_gpt_neox.py. */
#include "engine/model/family_neox.h"

/* Buffers of old checkpoints. */
static const char *const neox_ignored[] = {".attention.bias", ".attention.masked_bias",
                                           ".rotary_emb.inv_freq", NULL};

static enum err read_neox(const struct config_json *c, struct model_config *out,
                          struct err_msg *em) {
    out->mlp_bias = true;
    enum err e = config_bool(c, "attention_bias", true, &out->qkv_bias, em);
    out->o_bias = out->qkv_bias;
    return e != ERR_OK ? e : config_bool(c, "use_parallel_residual", true, &out->parallel, em);
}

/* query_key_value stores q, k and v of a head together: [heads, 3, head_dim]. */
static int64_t neox_stored_row(const struct model_config *c, int64_t row) {
    int64_t d = c->head_dim, which = row / (c->heads * d), head = row / d % c->heads;
    return (head * 3 + which) * d + row % d;
}

const struct family family_neox = {
    .model_type = "gpt_neox",
    .embed = "gpt_neox.embed_in.weight",
    .norm = "gpt_neox.final_layer_norm",
    .head = "embed_out.weight",
    .layer = "gpt_neox.layers.%d.",
    .norm1 = "input_layernorm",
    .norm2 = "post_attention_layernorm",
    .module =
        {
            [SITE_QKV] = {"attention.query_key_value"},
            [SITE_O] = {"attention.dense"},
            [SITE_UP] = {"mlp.dense_h_to_4h"},
            [SITE_DOWN] = {"mlp.dense_4h_to_h"},
        },
    .ignored = neox_ignored,
    .norm_kind = NORM_LAYER,
    .gated = false,
    .eps_key = "layer_norm_eps",
    .theta_key = "rotary_emb_base",
    .partial_key = "rotary_pct",
    .default_eps = 1e-5,
    .default_partial = 0.25,
    .default_act = "gelu",
    .default_positions = 2048,
    .read = read_neox,
    .stored_row = neox_stored_row,
};
