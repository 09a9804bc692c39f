/* model_size: the plans of adapter and pass, run to count. */
#include "engine/model/model_size.h"

#include "engine/model/internal.h"

/* The table and the head are two even where they are tied: the product has its own form. */
static size_t weight_bytes(const struct model_config *c, enum dtype dtype) {
    size_t table = (size_t)c->vocab * (size_t)c->hidden;
    size_t norms = ((size_t)c->layers * 2 + 1) * (size_t)c->hidden;
    return ((size_t)model_config_matmul_weights(c) + table) * dtype_size(dtype) +
           norms * (c->norm == NORM_LAYER ? 2 : 1) * sizeof(float);
}

enum err model_size(const struct model_config *cfg, enum dtype dtype, const struct lora_options *o,
                    const struct pass_limits *limits, struct model_size *out, struct err_msg *em) {
    struct model m = {.cfg = *cfg, .dtype = dtype};
    struct adapter *ad = NULL;
    *out = (struct model_size){.weight_bytes = weight_bytes(cfg, dtype)};
    enum err e = adapter_layout(&m, o, &ad, &out->adapter_values, em);
    if (e == ERR_OK)
        e = pass_count(&m, ad, limits, &out->pass_bytes, em);
    if (ad != NULL)
        adapter_free(ad);
    return e;
}
