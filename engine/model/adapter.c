/* adapter: where every A and B lies, and their initial values.
 *
 * The flat buffer goes block by block and site by site. Within a site the A's of all parts stand
 * one after the other, [Σrank, in], so that they are one matrix for the parts' common input; the
 * B's follow, then DoRA's magnitudes. Every site starts at a multiple of 16 values. */
#include "engine/model/adapter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/model/internal.h"
#include "engine/ops/philox.h"

/* ---- which projections ---------------------------------------------------------------------- */

/* PEFT's rule for a list: the module's path is the target, or ends in "." + target. */
static bool target_matches(const char *module, const char *target) {
    size_t len = strlen(module), n = strlen(target);
    if (len < n || strcmp(module + len - n, target) != 0)
        return false;
    return len == n || module[len - n - 1] == '.';
}

static bool is_target(const struct adapter *ad, const char *module, bool *used) {
    bool hit = false;
    for (int i = 0; i < ad->options.n_targets; i++)
        if (target_matches(module, ad->targets[i]))
            hit = used[i] = true;
    return hit;
}

static const char *leaf(const char *module) {
    const char *dot = strrchr(module, '.');
    return dot != NULL ? dot + 1 : module;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Copies and sorts the targets; all-linear becomes the names of all projections of a block. */
static void copy_targets(struct adapter *ad, const struct lora_options *o) {
    const struct model_config *c = &ad->model->cfg;
    int n = 0;
    ad->targets = xcalloc((size_t)(o->targets != NULL ? o->n_targets : 0) + SITES * LINEAR_PARTS,
                          sizeof *ad->targets);
    for (int i = 0; o->targets != NULL && i < o->n_targets; i++)
        ad->targets[n++] = xstrdup(o->targets[i]);
    for (enum site s = 0; o->targets == NULL && s < SITES; s++)
        for (int part = 0; part < site_parts(c, s); part++)
            ad->targets[n++] = xstrdup(leaf(c->family->module[s][part]));
    qsort(ad->targets, (size_t)n, sizeof *ad->targets, by_text);
    ad->options.targets = (const char *const *)ad->targets;
    ad->options.n_targets = n;
}

/* "q_proj, k_proj, …" of the family, for messages. */
static void list_projections(const struct model_config *c, char *out, size_t cap) {
    size_t len = 0;
    for (enum site s = 0; s < SITES; s++)
        for (int part = 0; part < site_parts(c, s) && len < cap; part++)
            len += (size_t)snprintf(out + len, cap - len, "%s%s", len > 0 ? ", " : "",
                                    leaf(c->family->module[s][part]));
}

/* ---- the flat buffer ------------------------------------------------------------------------ */

static size_t plan_site(struct adapter *ad, int l, enum site s, bool *used, size_t at) {
    const struct model_config *c = &ad->model->cfg;
    struct lora_layer *ly = &ad->layers[l];
    struct lora *lora = &ly->site[s];
    size_t in = (size_t)site_in(c, s);
    char module[MODULE_PATH_MAX];
    lora->scale = adapter_scale(&ad->options);
    for (int part = 0; part < site_parts(c, s); part++) {
        site_module(c, l, s, part, module);
        if (is_target(ad, module, used))
            lora->rank[part] = ad->options.rank;
    }
    for (int part = 0; part < site_parts(c, s); part++) {
        lora->a[part] = at;
        at += (size_t)lora->rank[part] * in;
        ly->has[s] = ly->has[s] || lora->rank[part] > 0;
    }
    for (int part = 0; part < site_parts(c, s); part++) {
        lora->b[part] = at;
        at += (size_t)lora->rank[part] * (size_t)site_part_out(c, s, part);
    }
    lora->dora = ad->options.use_dora;
    for (int part = 0; part < site_parts(c, s); part++) {
        lora->m[part] = at;
        at += lora->dora && lora->rank[part] > 0 ? (size_t)site_part_out(c, s, part) : 0;
    }
    if (ly->has[s] && ad->first_layer > l)
        ad->first_layer = l;
    return (at + 15) / 16 * 16;
}

static enum err check_options(const struct lora_options *o, struct err_msg *em) {
    if (o->rank < 1 || o->rank > LIMIT_RANK)
        return err_set_param(em, ERR_INPUT, "lora.rank", "the LoRA rank must be from 1 to %d",
                             LIMIT_RANK);
    if (!(o->alpha > 0) || !isfinite(o->alpha))
        return err_set_param(em, ERR_INPUT, "lora.alpha", "LoRA's alpha must be above 0");
    if (!(o->dropout >= 0 && o->dropout < 1))
        return err_set_param(em, ERR_INPUT, "lora.dropout",
                             "LoRA's dropout must be from 0 to below 1");
    if (o->targets != NULL && o->n_targets < 1)
        return err_set_param(em, ERR_INPUT, "lora.target_modules",
                             "target_modules must name a projection");
    return ERR_OK;
}

static enum err plan_all(struct adapter *ad, size_t *n, struct err_msg *em) {
    const struct model_config *c = &ad->model->cfg;
    bool *used = xcalloc((size_t)ad->options.n_targets, sizeof *used);
    enum err e = ERR_OK;
    *n = 0;
    for (int l = 0; l < c->layers; l++)
        for (enum site s = 0; s < SITES; s++)
            *n = plan_site(ad, l, s, used, *n);
    for (int i = 0; i < ad->options.n_targets && e == ERR_OK; i++) {
        char known[256];
        list_projections(c, known, sizeof known);
        if (!used[i])
            e = err_set_param(em, ERR_INPUT, "lora.target_modules",
                              "target_modules: \"%.100s\" names no projection of this model; its "
                              "projections are %s",
                              ad->targets[i], known);
    }
    free(used);
    return e;
}

enum err adapter_layout(struct model *m, const struct lora_options *o, struct adapter **out,
                        size_t *n, struct err_msg *em) {
    *out = NULL;
    enum err e = check_options(o, em);
    if (e != ERR_OK)
        return e;
    struct adapter *ad = xcalloc(1, sizeof *ad);
    ad->model = m;
    ad->options = *o;
    ad->layers = xcalloc((size_t)m->cfg.layers, sizeof *ad->layers);
    ad->first_layer = m->cfg.layers;
    copy_targets(ad, o);
    e = plan_all(ad, n, em);
    if (e == ERR_OK)
        *out = ad;
    else
        adapter_free(ad);
    return e;
}

enum err adapter_plan(struct model *m, const struct lora_options *o, struct adapter **out,
                      struct err_msg *em) {
    size_t n;
    enum err e = adapter_layout(m, o, out, &n, em);
    if (e != ERR_OK)
        return e;
    e = m->dev->ops->adapter_alloc(m->dev, n, m->dtype, &(*out)->mem, em);
    if (e != ERR_OK) {
        adapter_free(*out);
        *out = NULL;
    }
    return e;
}

void adapter_free(struct adapter *ad) {
    if (ad == NULL)
        return;
    if (ad->mem.w != NULL)
        ad->model->dev->ops->adapter_free(ad->model->dev, &ad->mem);
    for (int i = 0; i < ad->options.n_targets; i++)
        free(ad->targets[i]);
    free(ad->targets);
    free(ad->layers);
    free(ad);
}

static void describe_entry(const struct adapter *ad, int l, enum site s, int part, int kind,
                           struct adapter_entry *e) {
    static const char *const suffix[ENTRY_KINDS] = {"lora_A.weight", "lora_B.weight",
                                                    "lora_magnitude_vector"};
    const struct model_config *c = &ad->model->cfg;
    const struct lora *lora = &ad->layers[l].site[s];
    const size_t offset[ENTRY_KINDS] = {lora->a[part], lora->b[part], lora->m[part]};
    const int64_t cols[ENTRY_KINDS] = {site_in(c, s), lora->rank[part], 1};
    char module[MODULE_PATH_MAX];
    site_module(c, l, s, part, module);
    (void)snprintf(e->name, sizeof e->name, "base_model.model.%s.%s", module, suffix[kind]);
    e->rows = kind == ENTRY_A ? lora->rank[part] : site_part_out(c, s, part);
    e->cols = cols[kind];
    e->offset = offset[kind];
    e->index = (uint32_t)((l * SITES + (int)s) * LINEAR_PARTS + part);
    e->site = s;
    e->kind = kind;
}

struct adapter_entry *adapter_entries(const struct adapter *ad, size_t *n) {
    const struct model_config *c = &ad->model->cfg;
    int kinds = ad->options.use_dora ? ENTRY_KINDS : ENTRY_MAGNITUDE;
    size_t max = (size_t)c->layers * SITES * LINEAR_PARTS * ENTRY_KINDS;
    struct adapter_entry *list = xcalloc(max, sizeof *list);
    *n = 0;
    for (int l = 0; l < c->layers; l++)
        for (enum site s = 0; s < SITES; s++)
            for (int kind = 0; kind < kinds; kind++)
                for (int part = 0; part < site_parts(c, s); part++)
                    if (ad->layers[l].site[s].rank[part] > 0)
                        describe_entry(ad, l, s, part, kind, &list[(*n)++]);
    return list;
}

/* ---- making a new one ----------------------------------------------------------------------- */

#define WIDE 2.0f

/* kaiming_uniform(a = √5) over fan_in columns is uniform in ±1/√fan_in (PEFT's reset of A). The
 * step of the generator is one that training never reaches. */
static void init_matrix(const struct adapter_entry *e, bool wide, uint64_t seed, float *w) {
    float bound = (wide ? WIDE : 1.0f) / sqrtf((float)e->cols);
    for (int64_t r = 0; r < e->rows; r++)
        for (int64_t col = 0; col < e->cols; col++) {
            struct philox u =
                philox_site(seed, UINT32_MAX, e->index, (uint64_t)r, (uint32_t)(col / 4));
            w[r * e->cols + col] = (2 * philox_uniform(u.x[col % 4]) - 1) * bound;
        }
}

/* B is zero, so the norms are those of the frozen rows. */
static enum err init_magnitudes(struct adapter *ad, struct err_msg *em) {
    const struct model_config *c = &ad->model->cfg;
    struct device *dev = ad->model->dev;
    int64_t widest = 0;
    void *p;
    for (enum site s = 0; s < SITES; s++)
        widest = site_out(c, s) > widest ? site_out(c, s) : widest;
    enum err e = dev->ops->mem_alloc(dev, (size_t)widest * sizeof(float), &p, em);
    if (e != ERR_OK)
        return e;
    float *norms = p;
    for (int l = 0; l < c->layers; l++)
        for (enum site s = 0; s < SITES; s++) {
            const struct lora *lora = &ad->layers[l].site[s];
            if (!ad->layers[l].has[s])
                continue;
            dev->ops->dora_norms(dev, ad->model->layers[l].lin[s], lora, &ad->mem, norms);
            int64_t at = 0;
            for (int part = 0; part < site_parts(c, s); at += site_part_out(c, s, part++))
                if (lora->rank[part] > 0)
                    dev->ops->mem_copy(dev, ad->mem.w + lora->m[part], norms + at,
                                       (size_t)site_part_out(c, s, part) * sizeof *norms);
        }
    dev->ops->mem_free(dev, norms);
    dev->ops->adapter_refresh(dev, &ad->mem);
    return ERR_OK;
}

enum err adapter_new(struct model *m, const struct lora_options *o, uint64_t seed,
                     struct adapter **out, struct err_msg *em) {
    enum err e = adapter_plan(m, o, out, em);
    if (e != ERR_OK)
        return e;
    struct adapter *ad = *out;
    size_t n;
    struct adapter_entry *list = adapter_entries(ad, &n);
    float *host = xcalloc(ad->mem.n, sizeof *host);
    for (size_t i = 0; i < n; i++)
        if (list[i].kind == ENTRY_A)
            init_matrix(&list[i], o->wide, seed, host + list[i].offset);
    m->dev->ops->upload(m->dev, ad->mem.w, host, ad->mem.n * sizeof *host);
    m->dev->ops->adapter_refresh(m->dev, &ad->mem);
    free(host);
    free(list);
    if (o->use_dora)
        e = init_magnitudes(ad, em);
    if (e != ERR_OK) {
        adapter_free(ad);
        *out = NULL;
    }
    return e;
}

/* ---- reading it ----------------------------------------------------------------------------- */

float adapter_scale(const struct lora_options *o) {
    return o->alpha / (o->use_rslora ? sqrtf((float)o->rank) : (float)o->rank);
}

int64_t adapter_site_rank(const struct adapter *ad, int layer, enum site site) {
    int64_t sum = 0;
    for (int part = 0; ad != NULL && part < LINEAR_PARTS; part++)
        sum += ad->layers[layer].site[site].rank[part];
    return sum;
}

const struct lora_options *adapter_options(const struct adapter *ad) {
    return &ad->options;
}

struct adapter_mem *adapter_mem(struct adapter *ad) {
    return &ad->mem;
}

size_t adapter_size(const struct adapter *ad) {
    return ad->mem.n;
}
