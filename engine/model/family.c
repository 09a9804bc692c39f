/* family: the table of families, and shapes that follow from a description. */
#include "engine/model/family.h"

#include <stdio.h>
#include <string.h>

#include "engine/model/family_llama.h"
#include "engine/model/family_neox.h"

static const struct family *const families[] = {&family_llama, &family_mistral, &family_qwen2,
                                                &family_neox};

const struct family *family_find(const char *model_type) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(families[i]->model_type, model_type) == 0)
            return families[i];
    return NULL;
}

const char *family_list(void) {
    return "gpt_neox, llama, mistral, qwen2";
}

int64_t site_in(const struct model_config *c, enum site site) {
    switch (site) {
    case SITE_O:
        return (int64_t)c->heads * c->head_dim;
    case SITE_DOWN:
        return c->intermediate;
    default:
        return c->hidden;
    }
}

int site_parts(const struct model_config *c, enum site site) {
    int n = 0;
    while (n < LINEAR_PARTS && c->family->module[site][n] != NULL)
        n++;
    return n;
}

int64_t site_part_out(const struct model_config *c, enum site site, int part) {
    switch (site) {
    case SITE_QKV:
        if (c->family->module[SITE_QKV][1] == NULL) /* q, k and v are one module */
            return ((int64_t)c->heads + 2 * c->kv_heads) * c->head_dim;
        return (int64_t)(part == 0 ? c->heads : c->kv_heads) * c->head_dim;
    case SITE_UP:
        return c->intermediate;
    default:
        return c->hidden;
    }
}

int64_t site_out(const struct model_config *c, enum site site) {
    int64_t out = 0;
    for (int part = 0; part < site_parts(c, site); part++)
        out += site_part_out(c, site, part);
    return out;
}

bool site_bias(const struct model_config *c, enum site site) {
    switch (site) {
    case SITE_QKV:
        return c->qkv_bias;
    case SITE_O:
        return c->o_bias;
    default:
        return c->mlp_bias;
    }
}

void family_tensor(const struct model_config *c, int layer, const char *module, const char *suffix,
                   char out[MODULE_PATH_MAX]) {
    char number[16];
    const char *prefix = layer >= 0 ? c->family->layer : "";
    const char *hole = strstr(prefix, "%d");
    (void)snprintf(number, sizeof number, "%d", layer);
    if (hole == NULL)
        (void)snprintf(out, MODULE_PATH_MAX, "%s%s%s", prefix, module, suffix);
    else
        (void)snprintf(out, MODULE_PATH_MAX, "%.*s%s%s%s%s", (int)(hole - prefix), prefix, number,
                       hole + 2, module, suffix);
}

void site_module(const struct model_config *c, int layer, enum site site, int part,
                 char out[MODULE_PATH_MAX]) {
    family_tensor(c, layer, c->family->module[site][part], "", out);
}

int32_t rope_columns(const struct model_config *c) {
    return (int32_t)(c->head_dim * c->rope.partial);
}

bool site_is_reordered(const struct model_config *c, enum site site) {
    return site == SITE_QKV && c->family->stored_row != NULL;
}

int64_t site_stored_row(const struct model_config *c, enum site site, int64_t row) {
    return site_is_reordered(c, site) ? c->family->stored_row(c, row) : row;
}

int32_t layer_window(const struct model_config *c, int layer) {
    return c->windowed_layers[layer / 64] >> (layer % 64) & 1 ? c->window : 0;
}
