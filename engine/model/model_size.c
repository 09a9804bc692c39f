/* model_size: the plans of adapter and pass, run to count. */
#include "engine/model/model_size.h"

#include "engine/model/internal.h"

static size_t linear_bytes(struct device *dev, const struct linear_spec *spec, enum dtype dtype) {
    size_t out = 0;
    if (dev != NULL)
        return dev->ops->linear_bytes(dev, spec, dtype);
    for (int i = 0; i < spec->n_parts; i++)
        out += (size_t)spec->part[i].out;
    return out * (size_t)spec->in * dtype_size(dtype);
}

static size_t site_bytes(struct device *dev, const struct model_config *c, enum site site,
                         enum dtype dtype) {
    struct linear_spec spec = {.in = site_in(c, site), .n_parts = site_parts(c, site)};
    static const float bias; /* of which nothing but its presence counts */
    for (int i = 0; i < spec.n_parts; i++) {
        spec.part[i].out = site_part_out(c, site, i);
        spec.part[i].bias = site_bias(c, site) ? &bias : NULL;
    }
    return linear_bytes(dev, &spec, dtype);
}

bool model_in_host_memory(struct device *dev) {
    static const char any;
    return dev != NULL && dev->ops->mem_share(dev, &any, sizeof any) != NULL;
}

/* A tied head is a second matrix unless its product can use the table as it lies. */
size_t model_matrix_bytes(struct device *dev, const struct model_config *c, enum dtype dtype) {
    const struct linear_spec head = {.in = c->hidden,
                                     .n_parts = 1,
                                     .part = {{.out = c->vocab, .weight_dtype = dtype}},
                                     .stays = c->tied_head && model_in_host_memory(dev)};
    size_t bytes = linear_bytes(dev, &head, dtype);
    for (enum site s = 0; s < SITES; s++)
        bytes += (size_t)c->layers * site_bytes(dev, c, s, dtype);
    return bytes;
}

size_t model_weight_bytes(struct device *dev, const struct model_config *c, enum dtype dtype) {
    size_t norms = ((size_t)c->layers * 2 + 1) * (size_t)c->hidden;
    return (size_t)c->vocab * (size_t)c->hidden * dtype_size(dtype) +
           norms * (c->norm == NORM_LAYER ? 2 : 1) * sizeof(float) +
           model_matrix_bytes(dev, c, dtype);
}

enum err model_size(struct device *dev, const struct model_config *cfg, enum dtype dtype,
                    const struct lora_options *o, const struct pass_limits *limits,
                    const struct pass_limits *eval, struct model_size *out, struct err_msg *em) {
    struct model m = {.dev = dev, .cfg = *cfg, .dtype = dtype};
    struct adapter *ad = NULL;
    struct pass_size pass = {0};
    *out = (struct model_size){.weight_bytes = model_weight_bytes(dev, cfg, dtype)};
    enum err e = adapter_layout(&m, o, &ad, &out->adapter_values, em);
    if (e == ERR_OK)
        e = pass_count(&m, ad, limits, eval, &pass, em);
    if (ad != NULL)
        adapter_free(ad);
    out->pass_bytes = pass.bytes;
    out->scratch_bytes = pass.scratch;
    out->eval_tokens = pass.eval_tokens;
    return e;
}

size_t model_mapped_bytes(const struct model *m) {
    return m->mapped_bytes;
}
