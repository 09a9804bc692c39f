/* family: what distinguishes one kind of model from another, as data.
 *
 * What:    a transformer block here is norm → q|k|v → rope → attention → o, norm → up → act →
 *          down, both with a residual. Its four products are sites; a family names the modules of
 *          each site, the other tensors, and reads its own keys of config.json.
 * Owns:    constants.
 * Threads: pure functions.
 * Errors:  as config.h.
 */
#ifndef FFWD_ENGINE_MODEL_FAMILY_H
#define FFWD_ENGINE_MODEL_FAMILY_H

#include "engine/model/config.h"
#include "engine/model/config_json.h"

/* The products of a block, in the order of the forward pass. */
enum site { SITE_QKV, SITE_O, SITE_UP, SITE_DOWN, SITES };

struct family {
    const char *model_type;          /* in config.json */
    const char *embed, *norm, *head; /* tensors outside the blocks; head only where not tied */
    const char *layer;               /* prefix of a block's modules; %d is its number */
    const char *norm1, *norm2;       /* modules before attention and MLP */
    const char *module[SITES][LINEAR_PARTS]; /* modules that share an input, in column order */
    const char *const *ignored; /* endings of tensors that are not weights; NULL-terminated */

    /* LayerNorm has a bias; RMSNorm has none */
    enum norm_kind norm_kind;
    bool gated; /* act(gate) · up; else act(up) */

    /* names of keys that differ, and defaults of keys that a config.json may leave out */
    const char *eps_key, *theta_key, *partial_key;
    double default_eps, default_partial;
    const char *default_act;
    int32_t default_kv_heads; /* 0: as many as heads */
    int32_t default_positions;
    /* Fills what only this family has; everything common is already in *out. */
    enum err (*read)(const struct config_json *c, struct model_config *out, struct err_msg *em);

    /* Row of the stored matrix that is row `row` of q|k|v; NULL: stored in that order. */
    int64_t (*stored_row)(const struct model_config *c, int64_t row);
};

/* NULL if model_type is not known. */
const struct family *family_find(const char *model_type);
/* "llama, mistral, qwen2" for messages. */
const char *family_list(void);

/* Shape of a site: input width, number of parts, rows of a part, and whether it has a bias. */
int64_t site_in(const struct model_config *c, enum site site);
int site_parts(const struct model_config *c, enum site site);
int64_t site_part_out(const struct model_config *c, enum site site, int part);
int64_t site_out(const struct model_config *c, enum site site); /* all parts */
bool site_bias(const struct model_config *c, enum site site);

/* Longest module path written by site_module, with its NUL. */
#define MODULE_PATH_MAX 256
/* "model.layers.3.self_attn.q_proj" */
void site_module(const struct model_config *c, int layer, enum site site, int part,
                 char out[MODULE_PATH_MAX]);
/* A tensor of a block or outside: prefix of `layer` (-1: none) + module + suffix. */
void family_tensor(const struct model_config *c, int layer, const char *module, const char *suffix,
                   char out[MODULE_PATH_MAX]);

/* Columns of a head that are rotated. */
int32_t rope_columns(const struct model_config *c);
/* The stored row of a row of a site's matrix, bias or LoRA B. */
int64_t site_stored_row(const struct model_config *c, enum site site, int64_t row);
bool site_is_reordered(const struct model_config *c, enum site site);

/* Keys seen in attention by this layer; 0: all. */
int32_t layer_window(const struct model_config *c, int layer);

#endif
