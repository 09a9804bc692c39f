/* model: opening — from a folder or a named shape to weights on a device, tensor by tensor. */
#include "engine/model/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/model/internal.h"

/* ---- checking, before anything is allocated ------------------------------------------------- */

static enum err check_site(const struct model_config *c, struct weights *w, int layer,
                           enum site site, struct err_msg *em) {
    enum err e = ERR_OK;
    for (int i = 0; i < site_parts(c, site) && e == ERR_OK; i++) {
        char name[MODULE_PATH_MAX];
        family_tensor(c, layer, c->family->module[site][i], ".weight", name);
        e = weights_check(w, name, site_part_out(c, site, i), site_in(c, site), em);
        family_tensor(c, layer, c->family->module[site][i], ".bias", name);
        if (e == ERR_OK && site_bias(c, site))
            e = weights_check(w, name, site_part_out(c, site, i), 0, em);
    }
    return e;
}

static enum err check_norm(const struct model_config *c, struct weights *w, int layer,
                           const char *module, struct err_msg *em) {
    char name[MODULE_PATH_MAX];
    family_tensor(c, layer, module, ".weight", name);
    enum err e = weights_check(w, name, c->hidden, 0, em);
    if (e != ERR_OK || c->norm != NORM_LAYER)
        return e;
    family_tensor(c, layer, module, ".bias", name);
    return weights_check(w, name, c->hidden, 0, em);
}

/* Every tensor of the model is there in its shape, and no other. */
static enum err check_tensors(const struct model_config *c, struct weights *w, struct err_msg *em) {
    const struct family *f = c->family;
    enum err e = weights_check(w, f->embed, c->vocab, c->hidden, em);
    if (e == ERR_OK && !c->tied_head)
        e = weights_check(w, f->head, c->vocab, c->hidden, em);
    if (e == ERR_OK)
        e = check_norm(c, w, -1, f->norm, em);
    for (int l = 0; l < c->layers && e == ERR_OK; l++) {
        e = check_norm(c, w, l, f->norm1, em);
        if (e == ERR_OK)
            e = check_norm(c, w, l, f->norm2, em);
        for (enum site s = 0; s < SITES && e == ERR_OK; s++)
            e = check_site(c, w, l, s, em);
    }
    return e != ERR_OK ? e : weights_finish(w, f->ignored, f->embed, f->head, em);
}

static enum err open_folder(const char *dir, struct model_config *cfg, struct weights **w,
                            struct err_msg *em) {
    enum err e = model_config_read(dir, cfg, em);
    if (e == ERR_OK)
        e = weights_open(dir, w, em);
    return e != ERR_OK ? e : check_tensors(cfg, *w, em);
}

enum err model_check(const char *dir, struct model_config *out, struct err_msg *em) {
    struct weights *w = NULL;
    enum err e = open_folder(dir, out, &w, em);
    weights_close(w);
    return e;
}

/* ---- loading -------------------------------------------------------------------------------- */

/* A norm's weight and a bias vector, f32 in host memory until the device has its copy. */
static enum err take_f32(struct weights *w, const char *name, int64_t n, float **out,
                         struct err_msg *em) {
    struct host_tensor t;
    *out = NULL;
    enum err e = weights_take(w, name, n, 0, &t, em);
    if (e != ERR_OK)
        return e;
    *out = xmalloc((size_t)n * sizeof **out);
    convert_elements(t.data, t.dtype, *out, DTYPE_F32, n);
    host_tensor_release(&t);
    return ERR_OK;
}

static enum err load_norm(struct model *m, struct weights *w, int layer, const char *module,
                          float *slab, struct norm *out, struct err_msg *em) {
    char name[MODULE_PATH_MAX];
    float *host;
    *out = (struct norm){m->cfg.norm, m->cfg.norm_eps, slab, NULL};
    family_tensor(&m->cfg, layer, module, ".weight", name);
    enum err e = take_f32(w, name, m->cfg.hidden, &host, em);
    if (e != ERR_OK)
        return e;
    m->dev->ops->upload(m->dev, slab, host, (size_t)m->cfg.hidden * sizeof *host);
    free(host);
    if (m->cfg.norm != NORM_LAYER)
        return ERR_OK;
    out->bias = slab + m->cfg.hidden;
    family_tensor(&m->cfg, layer, module, ".bias", name);
    e = take_f32(w, name, m->cfg.hidden, &host, em);
    if (e != ERR_OK)
        return e;
    m->dev->ops->upload(m->dev, slab + m->cfg.hidden, host, (size_t)m->cfg.hidden * sizeof *host);
    free(host);
    return ERR_OK;
}

/* Values of a norm in the slab: weight, and bias where it has one. */
static size_t norm_values(const struct model_config *c) {
    return (size_t)c->hidden * (c->norm == NORM_LAYER ? 2 : 1);
}

/* The rows of a matrix or bias (cols 1) in q|k|v order, as a copy. */
static void *reorder_rows(const struct model_config *c, enum site site, const void *stored,
                          int64_t rows, size_t row_bytes) {
    char *out = xmalloc((size_t)rows * row_bytes);
    for (int64_t r = 0; r < rows; r++)
        memcpy(out + (size_t)r * row_bytes,
               (const char *)stored + (size_t)site_stored_row(c, site, r) * row_bytes, row_bytes);
    return out;
}

static enum err take_part(const struct model_config *c, struct weights *w, int layer,
                          enum site site, int part, struct host_tensor *weight, float **bias,
                          struct err_msg *em) {
    char name[MODULE_PATH_MAX];
    int64_t rows = site_part_out(c, site, part);
    family_tensor(c, layer, c->family->module[site][part], ".weight", name);
    enum err e = weights_take(w, name, rows, site_in(c, site), weight, em);
    if (e == ERR_OK && site_bias(c, site)) {
        family_tensor(c, layer, c->family->module[site][part], ".bias", name);
        e = take_f32(w, name, rows, bias, em);
    }
    if (e != ERR_OK || !site_is_reordered(c, site))
        return e;
    struct host_tensor ordered = *weight;
    ordered.owned =
        reorder_rows(c, site, weight->data, rows, (size_t)weight->cols * dtype_size(weight->dtype));
    ordered.data = ordered.owned;
    host_tensor_release(weight);
    *weight = ordered;
    if (*bias != NULL) {
        float *stored = *bias;
        *bias = reorder_rows(c, site, stored, rows, sizeof *stored);
        free(stored);
    }
    return ERR_OK;
}

/* Makes the product of these host tensors; counts what stays in the file. */
static enum err make_linear(struct model *m, struct linear_spec *spec,
                            const struct host_tensor *weight, struct linear **out,
                            struct err_msg *em) {
    const struct ops *ops = m->dev->ops;
    struct linear_spec copied = *spec;
    spec->stays = true;
    for (int i = 0; i < spec->n_parts; i++)
        spec->stays = spec->stays && weight[i].owned == NULL;
    enum err e = ops->linear_new(m->dev, spec, m->dtype, out, em);
    if (e == ERR_OK)
        m->mapped_bytes += ops->linear_bytes(m->dev, &copied, m->dtype) -
                           ops->linear_bytes(m->dev, spec, m->dtype);
    return e;
}

/* The product of a tied head: with the table itself, where that is host memory. */
static enum err tie_head(struct model *m, const struct host_tensor *table, struct err_msg *em) {
    struct linear_spec spec = {.in = m->cfg.hidden, .n_parts = 1};
    spec.part[0] = (struct linear_part){table->data, table->dtype, NULL, m->cfg.vocab};
    if (model_in_host_memory(m->dev)) {
        spec.stays = true;
        spec.part[0].weight = m->embed.data;
        spec.part[0].weight_dtype = m->embed.dtype;
    }
    return m->dev->ops->linear_new(m->dev, &spec, m->dtype, &m->head, em);
}

/* The matrices and biases of a site as one product. */
static enum err load_site(struct model *m, struct weights *w, int layer, enum site site,
                          struct linear **out, struct err_msg *em) {
    const struct model_config *c = &m->cfg;
    struct host_tensor weight[LINEAR_PARTS] = {{0}};
    float *bias[LINEAR_PARTS] = {0};
    struct linear_spec spec = {.in = site_in(c, site), .n_parts = site_parts(c, site)};
    enum err e = ERR_OK;
    for (int i = 0; i < spec.n_parts && e == ERR_OK; i++) {
        e = take_part(c, w, layer, site, i, &weight[i], &bias[i], em);
        spec.part[i] = (struct linear_part){weight[i].data, weight[i].dtype, bias[i],
                                            site_part_out(c, site, i)};
    }
    if (e == ERR_OK)
        e = make_linear(m, &spec, weight, out, em);
    for (int i = 0; i < spec.n_parts; i++) {
        host_tensor_release(&weight[i]);
        free(bias[i]);
    }
    return e;
}

static size_t table_bytes(const struct model *m) {
    return (size_t)m->cfg.vocab * (size_t)m->cfg.hidden * dtype_size(m->dtype);
}

/* The table in the model's dtype, moved in pieces. */
static enum err copy_table(struct model *m, const struct host_tensor *table, struct err_msg *em) {
    enum { PIECE = 256 };
    const struct ops *ops = m->dev->ops;
    int64_t hidden = m->cfg.hidden;
    size_t row = (size_t)hidden * dtype_size(m->dtype);
    size_t stored = (size_t)hidden * dtype_size(table->dtype);
    enum err e = ops->mem_alloc(m->dev, table_bytes(m), &m->table, em);
    if (e != ERR_OK)
        return e;
    void *piece = xmalloc(PIECE * row);
    for (int64_t r = 0; r < table->rows; r += PIECE) {
        int64_t n = table->rows - r < PIECE ? table->rows - r : PIECE;
        convert_elements((const char *)table->data + (size_t)r * stored, table->dtype, piece,
                         m->dtype, n * hidden);
        ops->upload(m->dev, (char *)m->table + (size_t)r * row, piece, (size_t)n * row);
    }
    free(piece);
    return ERR_OK;
}

/* The table stays in its file where the device can read it there, and is copied elsewhere. */
static enum err place_table(struct model *m, const struct host_tensor *table, struct err_msg *em) {
    const void *in_place = NULL;
    if (table->owned == NULL && table->dtype == m->dtype)
        in_place = m->dev->ops->mem_share(m->dev, table->data, table_bytes(m));
    m->mapped_bytes = in_place != NULL ? table_bytes(m) : 0;
    enum err e = in_place != NULL ? ERR_OK : copy_table(m, table, em);
    void *data = in_place != NULL ? (void *)(uintptr_t)in_place : m->table;
    m->embed = (struct tensor){data, m->dtype, m->cfg.vocab, m->cfg.hidden, m->cfg.hidden};
    return e;
}

/* The table, and the head, which a tied model takes from the same tensor. */
static enum err load_embedding(struct model *m, struct weights *w, struct err_msg *em) {
    const struct model_config *c = &m->cfg;
    const struct family *f = c->family;
    struct host_tensor table, head;
    enum err e = weights_take(w, f->embed, c->vocab, c->hidden, &table, em);
    if (e == ERR_OK)
        e = place_table(m, &table, em);
    if (e == ERR_OK && c->tied_head)
        e = tie_head(m, &table, em);
    host_tensor_release(&table);
    if (e != ERR_OK || c->tied_head)
        return e;
    e = weights_take(w, f->head, c->vocab, c->hidden, &head, em);
    if (e == ERR_OK) {
        struct linear_spec spec = {.in = c->hidden, .n_parts = 1};
        spec.part[0] = (struct linear_part){head.data, head.dtype, NULL, c->vocab};
        e = make_linear(m, &spec, &head, &m->head, em);
    }
    host_tensor_release(&head);
    return e;
}

static enum err load_layer(struct model *m, struct weights *w, int l, float *norms,
                           struct err_msg *em) {
    const struct family *f = m->cfg.family;
    struct layer *ly = &m->layers[l];
    enum err e = load_norm(m, w, l, f->norm1, norms, &ly->norm1, em);
    if (e == ERR_OK)
        e = load_norm(m, w, l, f->norm2, norms + norm_values(&m->cfg), &ly->norm2, em);
    for (enum site s = 0; s < SITES && e == ERR_OK; s++)
        e = load_site(m, w, l, s, &ly->lin[s], em);
    return e;
}

static enum err load_all(struct model *m, struct weights *w, struct err_msg *em) {
    const struct family *f = m->cfg.family;
    size_t norm_bytes = ((size_t)m->cfg.layers * 2 + 1) * norm_values(&m->cfg) * sizeof(float);
    m->layers = xcalloc((size_t)m->cfg.layers, sizeof *m->layers);
    enum err e = m->dev->ops->mem_alloc(m->dev, norm_bytes, &m->slab, em);
    float *norms = m->slab;
    if (e == ERR_OK)
        e = m->dev->ops->linear_room(m->dev, model_matrix_bytes(m->dev, &m->cfg, m->dtype), em);
    if (e == ERR_OK)
        e = load_embedding(m, w, em);
    for (int l = 0; l < m->cfg.layers && e == ERR_OK; l++)
        e = load_layer(m, w, l, norms + (size_t)l * 2 * norm_values(&m->cfg), em);
    if (e == ERR_OK)
        e = load_norm(m, w, -1, f->norm, norms + (size_t)m->cfg.layers * 2 * norm_values(&m->cfg),
                      &m->norm, em);
    return e != ERR_OK ? e : m->dev->ops->sync(m->dev, em);
}

/* Said before the first weight is read, not by the system's killer in the middle. The table may
 * stay in its file. */
static enum err check_room(const struct model *m, struct err_msg *em) {
    struct device_info info;
    size_t bytes = model_weight_bytes(m->dev, &m->cfg, m->dtype);
    m->dev->ops->info(m->dev, &info);
    if (bytes - table_bytes(m) <= info.memory_usable)
        return ERR_OK;
    return err_set(em, ERR_NO_MEMORY,
                   "the model's weights in %s take %zu bytes of memory, this device has %zu",
                   dtype_name(m->dtype), bytes, info.memory_usable);
}

/* Takes w in any case. */
static enum err open_from(struct device *dev, const struct model_config *cfg,
                          struct weights *w_take, enum dtype dtype, struct model **out,
                          struct err_msg *em) {
    struct model *m = xcalloc(1, sizeof *m);
    m->dev = dev;
    m->cfg = *cfg;
    m->dtype = dtype;
    m->weights = w_take;
    enum err e = check_room(m, em);
    if (e == ERR_OK)
        e = load_all(m, w_take, em);
    if (e == ERR_OK && m->mapped_bytes == 0) {
        weights_close(m->weights);
        m->weights = NULL;
    }
    if (e != ERR_OK) {
        model_close(m);
        m = NULL;
    }
    *out = m;
    return e;
}

enum err model_open(struct device *dev, const char *dir, enum dtype dtype, struct model **out,
                    struct err_msg *em) {
    struct model_config cfg;
    struct weights *w = NULL;
    *out = NULL;
    enum err e = open_folder(dir, &cfg, &w, em);
    if (e == ERR_OK)
        return open_from(dev, &cfg, w, dtype, out, em);
    weights_close(w);
    return e;
}

enum err model_open_random(struct device *dev, const struct model_config *cfg, enum dtype dtype,
                           struct model **out, struct err_msg *em) {
    return open_from(dev, cfg, weights_random(dtype), dtype, out, em);
}

enum err model_open_shape(struct device *dev, const char *shape, enum dtype dtype,
                          struct model **out, struct err_msg *em) {
    struct model_config cfg;
    *out = NULL;
    enum err e = model_config_shape(shape, &cfg, em);
    return e == ERR_OK ? model_open_random(dev, &cfg, dtype, out, em) : e;
}

/* ---- the open model ------------------------------------------------------------------------- */

void model_close(struct model *m) {
    if (m == NULL)
        return;
    const struct ops *ops = m->dev->ops;
    for (int l = 0; m->layers != NULL && l < m->cfg.layers; l++)
        for (enum site s = 0; s < SITES; s++)
            if (m->layers[l].lin[s] != NULL)
                ops->linear_free(m->dev, m->layers[l].lin[s]);
    if (m->head != NULL)
        ops->linear_free(m->dev, m->head);
    if (m->slab != NULL)
        ops->mem_free(m->dev, m->slab);
    if (m->table != NULL)
        ops->mem_free(m->dev, m->table);
    weights_close(m->weights);
    free(m->layers);
    free(m);
}

const struct model_config *model_config(const struct model *m) {
    return &m->cfg;
}

struct device *model_device(const struct model *m) {
    return m->dev;
}

enum dtype model_dtype(const struct model *m) {
    return m->dtype;
}

int64_t model_config_matmul_weights(const struct model_config *c) {
    int64_t layer = 0;
    for (enum site s = 0; s < SITES; s++)
        layer += site_in(c, s) * site_out(c, s);
    return layer * c->layers + (int64_t)c->hidden * c->vocab;
}

int64_t model_matmul_weights(const struct model *m) {
    return model_config_matmul_weights(&m->cfg);
}

double model_forward_flops(const struct model *m, const int32_t *lengths, int n) {
    const struct model_config *c = &m->cfg;
    double tokens = 0, pairs = 0;
    for (int i = 0; i < n; i++) {
        tokens += lengths[i];
        pairs += 0.5 * lengths[i] * (lengths[i] + 1.0);
    }
    return 2.0 * (double)model_matmul_weights(m) * tokens +
           4.0 * c->layers * c->heads * c->head_dim * pairs;
}
