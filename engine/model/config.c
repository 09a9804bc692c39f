/* config: the keys that all families share.
 * Both forms of transformers: rope_theta + rope_scaling (4) and rope_parameters (5). The stored
 * dtype (torch_dtype, dtype) is not needed: every tensor says its own. */
#include "engine/model/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/model/family.h"

/* ---- rotary embedding ----------------------------------------------------------------------- */

static enum err read_llama3(const struct config_json *c, struct model_config *out,
                            struct err_msg *em) {
    struct rope_config *r = &out->rope;
    enum err e = config_number(c, "low_freq_factor", 1e-3, 1e6, NAN, &r->low_freq_factor, em);
    if (e == ERR_OK)
        e = config_number(c, "high_freq_factor", 1e-3, 1e6, NAN, &r->high_freq_factor, em);
    if (e == ERR_OK)
        e = config_number(c, "original_max_position_embeddings", 1, LIMIT_POSITIONS,
                          out->max_positions, &r->original_positions, em);
    if (e == ERR_OK && !(r->high_freq_factor > r->low_freq_factor))
        e = err_set(em, ERR_INPUT, "%s: \"%shigh_freq_factor\" must be above low_freq_factor",
                    c->path, c->prefix);
    return e;
}

/* The scaling dictionary: rope_parameters, or rope_scaling, or neither. */
static enum err read_rope(const struct config_json *c, struct model_config *out,
                          struct err_msg *em) {
    struct rope_config *r = &out->rope;
    struct config_json sub = *c;
    double theta;
    const char *type;
    *r = (struct rope_config){.factor = 1, .partial = 1};
    enum err e = config_number(c, out->family->theta_key, 1, 1e15, 10000, &theta, em);
    if (e == ERR_OK)
        e = config_number(c, out->family->partial_key, 0, 1, out->family->default_partial,
                          &r->partial, em);
    if (e != ERR_OK)
        return e;
    const char *key = config_get(c, "rope_scaling") != NULL ? "rope_scaling" : "rope_parameters";
    sub.object = config_get(c, key);
    sub.prefix = key[5] == 's' ? "rope_scaling." : "rope_parameters.";
    if (sub.object != NULL && !json_is_object(sub.object))
        return err_set(em, ERR_INPUT, "%s: \"%s\" must be an object", c->path, key);
    if (json_object_get(sub.object, "full_attention") != NULL)
        return err_set(em, ERR_UNSUPPORTED,
                       "%s: \"%s\" holds a set for each layer type; one set "
                       "for all layers is supported",
                       c->path, key);
    e = config_number(&sub, "rope_theta", 1, 1e15, theta, &r->theta, em);
    if (e == ERR_OK)
        e = config_number(&sub, "partial_rotary_factor", 0, 1, r->partial, &r->partial, em);
    if (e == ERR_OK)
        e = config_string(&sub, "type", "default", &type, em);
    if (e == ERR_OK)
        e = config_string(&sub, "rope_type", type, &type, em);
    if (e != ERR_OK || strcmp(type, "default") == 0)
        return e;
    if (strcmp(type, "linear") == 0)
        r->kind = ROPE_LINEAR;
    else if (strcmp(type, "llama3") == 0)
        r->kind = ROPE_LLAMA3;
    else
        return err_set(em, ERR_UNSUPPORTED,
                       "%s: \"%srope_type\": \"%.64s\" is not supported; "
                       "default, linear and llama3 are",
                       c->path, sub.prefix, type);
    e = config_number(&sub, "factor", 1e-3, 1e6, NAN, &r->factor, em);
    return e != ERR_OK || r->kind == ROPE_LINEAR ? e : read_llama3(&sub, out, em);
}

/* ---- sizes ---------------------------------------------------------------------------------- */

static enum err read_heads(const struct config_json *c, struct model_config *out,
                           struct err_msg *em) {
    bool kv_absent = json_object_get(c->object, "num_key_value_heads") == NULL;
    int32_t kv = kv_absent ? out->family->default_kv_heads : 0;
    enum err e =
        config_int(c, "num_attention_heads", 1, LIMIT_HEADS, CONFIG_REQUIRED, &out->heads, em);
    if (e == ERR_OK)
        e = config_int(c, "num_key_value_heads", 1, LIMIT_HEADS, kv != 0 ? kv : out->heads,
                       &out->kv_heads, em);
    if (e == ERR_OK)
        e = config_int(c, "head_dim", 2, LIMIT_HIDDEN, 0, &out->head_dim, em);
    if (e != ERR_OK)
        return e;
    if (out->heads % out->kv_heads != 0)
        return err_set(em, ERR_INPUT,
                       "%s: \"num_attention_heads\" (%d) is not a multiple of "
                       "\"num_key_value_heads\" (%d)",
                       c->path, out->heads, out->kv_heads);
    if (out->head_dim == 0 && out->hidden % out->heads != 0)
        return err_set(em, ERR_INPUT,
                       "%s: \"hidden_size\" (%d) is not a multiple of "
                       "\"num_attention_heads\" (%d), and there is no \"head_dim\"",
                       c->path, out->hidden, out->heads);
    if (out->head_dim == 0)
        out->head_dim = out->hidden / out->heads;
    if ((int64_t)out->heads * out->head_dim > LIMIT_HIDDEN)
        return err_set(em, ERR_INPUT, "%s: %d heads of %d columns are wider than %d", c->path,
                       out->heads, out->head_dim, LIMIT_HIDDEN);
    return ERR_OK;
}

static enum err read_sizes(const struct config_json *c, struct model_config *out,
                           struct err_msg *em) {
    enum err e = config_int(c, "hidden_size", 1, LIMIT_HIDDEN, CONFIG_REQUIRED, &out->hidden, em);
    if (e == ERR_OK)
        e = config_int(c, "intermediate_size", 1, LIMIT_HIDDEN, CONFIG_REQUIRED, &out->intermediate,
                       em);
    if (e == ERR_OK)
        e = config_int(c, "num_hidden_layers", 1, LIMIT_LAYERS, CONFIG_REQUIRED, &out->layers, em);
    if (e == ERR_OK)
        e = config_int(c, "vocab_size", 1, LIMIT_VOCAB, CONFIG_REQUIRED, &out->vocab, em);
    if (e == ERR_OK)
        e = config_int(c, "max_position_embeddings", 1, LIMIT_POSITIONS,
                       out->family->default_positions, &out->max_positions, em);
    return e != ERR_OK ? e : read_heads(c, out, em);
}

/* ---- the rest ------------------------------------------------------------------------------- */

static enum err read_act(const struct config_json *c, struct model_config *out,
                         struct err_msg *em) {
    static const struct {
        const char *name;
        enum act_kind kind;
    } acts[] = {{"silu", ACT_SILU},
                {"swish", ACT_SILU},
                {"gelu", ACT_GELU},
                {"gelu_new", ACT_GELU_TANH},
                {"gelu_pytorch_tanh", ACT_GELU_TANH}};
    const char *name;
    enum err e = config_string(c, "hidden_act", out->family->default_act, &name, em);
    if (e != ERR_OK)
        return e;
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++)
        if (strcmp(acts[i].name, name) == 0) {
            out->act = (struct act){acts[i].kind, out->family->gated};
            return ERR_OK;
        }
    return err_set(em, ERR_UNSUPPORTED,
                   "%s: \"hidden_act\": \"%.64s\" is not supported; silu, "
                   "gelu, gelu_new and gelu_pytorch_tanh are",
                   c->path, name);
}

/* A token id, or the first of a list of them; -1 where there is none the model could produce. */
static enum err read_token(const struct config_json *c, const char *key, int32_t vocab,
                           int32_t *out, struct err_msg *em) {
    json_t *v = config_get(c, key);
    if (json_is_array(v))
        v = json_array_get(v, 0);
    *out = -1;
    if (v == NULL)
        return ERR_OK;
    if (!json_is_integer(v))
        return err_set(em, ERR_INPUT, "%s: \"%s\" must be a token id or a list of them", c->path,
                       key);
    if (json_integer_value(v) >= 0 && json_integer_value(v) < vocab)
        *out = (int32_t)json_integer_value(v);
    return ERR_OK;
}

static enum err read_common(const struct config_json *c, struct model_config *out,
                            struct err_msg *em) {
    double eps;
    enum err e = config_refuse(c, "quantization_config",
                               "quantized weights are not supported; use the model as it was "
                               "before quantization",
                               em);
    if (e == ERR_OK)
        e = read_sizes(c, out, em);
    if (e == ERR_OK)
        e = config_number(c, out->family->eps_key, 0, 1, out->family->default_eps, &eps, em);
    if (e == ERR_OK)
        e = read_act(c, out, em);
    if (e == ERR_OK)
        e = read_rope(c, out, em);
    if (e == ERR_OK)
        e = config_bool(c, "tie_word_embeddings", false, &out->tied_head, em);
    if (e == ERR_OK)
        e = read_token(c, "bos_token_id", out->vocab, &out->bos_id, em);
    if (e == ERR_OK)
        e = read_token(c, "eos_token_id", out->vocab, &out->eos_id, em);
    if (e != ERR_OK)
        return e;
    out->norm = out->family->norm_kind;
    out->norm_eps = (float)eps;
    out->embed_scale = 1;
    out->attention_scale = (float)(1 / sqrt(out->head_dim));
    return ERR_OK;
}

/* Llama's own code ignores the key where its rotary embedding is the default one and obeys it
 * elsewhere; no checkpoint uses it. */
static enum err check_rotation(const struct config_json *c, const struct model_config *out,
                               struct err_msg *em) {
    if (out->rope.partial < 1 && out->family->default_partial >= 1)
        return err_set(em, ERR_UNSUPPORTED,
                       "%s: \"%s\": only whole heads are rotated for model type %s", c->path,
                       out->family->partial_key, out->family->model_type);
    if (rope_columns(out) < 2 || rope_columns(out) % 2 != 0)
        return err_set(em, ERR_INPUT,
                       "%s: %d of a head's %d columns are rotated; the number must "
                       "be even",
                       c->path, rope_columns(out), out->head_dim);
    return ERR_OK;
}

static enum err read_object(const struct config_json *c, struct model_config *out,
                            struct err_msg *em) {
    const char *type;
    enum err e = config_string(c, "model_type", NULL, &type, em);
    if (e != ERR_OK)
        return e;
    out->family = family_find(type);
    if (out->family == NULL)
        return err_set(em, ERR_UNSUPPORTED,
                       "%s: model type \"%.64s\" is not supported; known "
                       "types: %s",
                       c->path, type, family_list());
    e = read_common(c, out, em);
    if (e == ERR_OK)
        e = out->family->read(c, out, em);
    return e != ERR_OK ? e : check_rotation(c, out, em);
}

enum err model_config_read(const char *dir, struct model_config *out, struct err_msg *em) {
    char *path = xasprintf("%s/config.json", dir);
    struct config_json c;
    *out = (struct model_config){0};
    enum err e = config_json_open(path, &c, em);
    if (e == ERR_OK) {
        e = read_object(&c, out, em);
        config_json_close(&c);
    }
    free(path);
    return e;
}
