/* block: one transformer block forward and backward, over the device's operations.
 *
 *   x ─ norm1 ─ q|k|v ─ rope ─ attention ─ o ─ + ─ norm2 ─ gate|up ─ act ─ down ─ + ─ x_out
 *   └──────────────────────────────────────────┘ └────────────────────────────────┘
 *
 * A parallel block (GPT-NeoX) reads x instead of x_mid in norm2.
 *
 * Kept for the backward pass: x, q|k|v after rope, attention's output and log-sum-exp, x_mid,
 * gate|up, the norms' statistics and LoRA's s = drop(input) Aᵀ; of layers that are computed again
 * (pass_recomputes) x and the last s alone. The normalised inputs and the
 * activation's output are computed again: they cost little and are as wide as what is kept. */
#include "engine/model/internal.h"

struct tensor pass_view(const struct pass *p, void *data, int64_t rows, int64_t cols) {
    return (struct tensor){data, p->m->dtype, rows, cols, cols};
}

/* [T, cols] */
static struct tensor view(const struct pass *p, void *data, int64_t cols) {
    return pass_view(p, data, p->batch.n_tokens, cols);
}

static const struct lora *site_lora(const struct pass *p, int l, enum site site) {
    return p->ad != NULL && p->ad->layers[l].has[site] ? &p->ad->layers[l].site[site] : NULL;
}

static struct dropout site_dropout(const struct pass *p, int l, enum site site) {
    struct dropout d = p->drop;
    d.site = (uint32_t)(l * SITES + (int)site);
    return d;
}

/* A product of a block with its adapter, as the operations take it. */
struct call {
    const struct linear *lin;
    const struct lora *lora; /* NULL: none */
    const struct adapter_mem *mem;
    struct dropout drop;
    struct tensor s;
    float *norms;
    bool dora;
};

static struct call call_of(const struct pass *p, int l, enum site site) {
    const struct lora *lora = site_lora(p, l, site);
    return (struct call){.lin = p->m->layers[l].lin[site],
                         .lora = lora,
                         .mem = lora != NULL ? &p->ad->mem : NULL,
                         .drop = site_dropout(p, l, site),
                         .s = view(p, p->saved[l].s[site], adapter_site_rank(p->ad, l, site)),
                         .norms = p->saved[l].norms[site],
                         .dora = lora != NULL && lora->dora};
}

static void linear(struct pass *p, int l, enum site site, struct tensor x,
                   const struct tensor *residual, struct tensor y) {
    const struct ops *ops = p->m->dev->ops;
    struct device *dev = p->m->dev;
    struct call k = call_of(p, l, site);
    ops->linear_forward(dev, k.lin, k.lora, k.mem, &k.drop, &p->batch, x, k.dora ? NULL : residual,
                        y, k.s);
    if (!k.dora)
        return;
    ops->dora_norms(dev, k.lin, k.lora, k.mem, k.norms);
    ops->dora_forward(dev, k.lin, k.lora, k.mem, k.norms, y, residual, y);
}

/* DoRA's magnitudes need the product's output once more; it turns into its gradient. */
static void linear_back(struct pass *p, int l, enum site site, struct tensor dy, struct tensor x,
                        const struct tensor *dx) {
    const struct ops *ops = p->m->dev->ops;
    struct device *dev = p->m->dev;
    struct call k = call_of(p, l, site);
    if (k.dora) {
        struct tensor z = view(p, p->z, site_out(&p->m->cfg, site));
        ops->linear_forward(dev, k.lin, k.lora, k.mem, &k.drop, &p->batch, x, NULL, z, k.s);
        ops->dora_backward(dev, k.lin, k.lora, k.mem, k.norms, dy, z);
        dy = z;
    }
    ops->linear_backward(dev, k.lin, k.lora, k.mem, &k.drop, &p->batch, dy, x, k.s, dx);
}

static struct attention attention_of(const struct pass *p, int l) {
    const struct model_config *c = &p->m->cfg;
    return (struct attention){c->heads, c->kv_heads, c->head_dim, c->attention_scale,
                              layer_window(c, l)};
}

/* q, k, v as columns of one tensor; qk: the first two of them. */
struct qkv {
    struct tensor q, k, v, qk;
};

static struct qkv split(const struct model_config *c, struct tensor t) {
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    return (struct qkv){tensor_columns(t, 0, q), tensor_columns(t, q, kv),
                        tensor_columns(t, q + kv, kv), tensor_columns(t, 0, q + kv)};
}

static void rotate(struct pass *p, struct qkv t, bool inverse) {
    const struct model_config *c = &p->m->cfg;
    p->m->dev->ops->rope(p->m->dev, &p->rope, &p->batch, c->heads + c->kv_heads, c->head_dim,
                         inverse, t.qk);
}

/* From x to gate|up: all that the backward pass reads. */
static void forward_to_gate_up(struct pass *p, int l) {
    const struct model_config *c = &p->m->cfg;
    const struct ops *ops = p->m->dev->ops;
    struct device *dev = p->m->dev;
    const struct layer *ly = &p->m->layers[l];
    struct saved *sv = &p->saved[l];
    struct tensor x = view(p, sv->x, c->hidden), x_mid = view(p, sv->x_mid, c->hidden);
    struct tensor x_norm = view(p, p->x_norm, c->hidden);
    struct tensor qkv = view(p, sv->qkv, site_out(c, SITE_QKV));
    struct tensor att = view(p, sv->att, site_in(c, SITE_O));
    struct tensor gate_up = view(p, sv->gate_up, site_out(c, SITE_UP));
    struct attention a = attention_of(p, l);
    struct qkv t = split(c, qkv);

    ops->norm_forward(dev, &ly->norm1, x, x_norm, sv->stats1);
    linear(p, l, SITE_QKV, x_norm, NULL, qkv);
    rotate(p, t, false);
    ops->attention_forward(dev, &a, &p->batch, t.q, t.k, t.v, att, sv->lse);
    linear(p, l, SITE_O, att, &x, x_mid);
    ops->norm_forward(dev, &ly->norm2, c->parallel ? x : x_mid, x_norm, sv->stats2);
    linear(p, l, SITE_UP, x_norm, NULL, gate_up);
}

void block_forward(struct pass *p, int l, struct tensor x_out) {
    const struct model_config *c = &p->m->cfg;
    const struct saved *sv = &p->saved[l];
    struct tensor x_mid = view(p, sv->x_mid, c->hidden), h = view(p, p->h, c->intermediate);
    forward_to_gate_up(p, l);
    p->m->dev->ops->act_forward(p->m->dev, &c->act, view(p, sv->gate_up, site_out(c, SITE_UP)), h);
    linear(p, l, SITE_DOWN, h, &x_mid, x_out);
}

/* True if nothing below this site of this layer carries LoRA: no gradient is needed there. */
static bool is_lowest(const struct pass *p, int l, enum site site) {
    if (l > p->ad->first_layer)
        return false;
    for (int s = 0; s < (int)site; s++)
        if (p->ad->layers[l].has[s])
            return false;
    return true;
}

/* Input of norm2. */
static struct tensor mlp_input(const struct pass *p, int l) {
    const struct model_config *c = &p->m->cfg;
    return view(p, c->parallel ? p->saved[l].x : p->saved[l].x_mid, c->hidden);
}

/* Adds what came through the MLP to the gradient of its input. */
static void norm2_back(struct pass *p, int l, struct tensor dx) {
    p->m->dev->ops->norm_backward(p->m->dev, &p->m->layers[l].norm2,
                                  view(p, p->dx_norm, p->m->cfg.hidden), mlp_input(p, l),
                                  p->saved[l].stats2, dx);
}

/* dx: gradient of x_out, then of x_mid. In a parallel block these are the same, and dx_norm is
 * added once attention has read dx. Returns false if the backward pass ends here. */
static bool backward_mlp(struct pass *p, int l, struct tensor dx) {
    const struct model_config *c = &p->m->cfg;
    const struct ops *ops = p->m->dev->ops;
    struct device *dev = p->m->dev;
    const struct layer *ly = &p->m->layers[l];
    struct saved *sv = &p->saved[l];
    struct tensor dh = view(p, p->dh, c->intermediate);
    struct tensor x_norm = view(p, p->x_norm, c->hidden), h = view(p, p->h, c->intermediate);
    struct tensor dx_norm = view(p, p->dx_norm, c->hidden);
    struct tensor gate_up = view(p, sv->gate_up, site_out(c, SITE_UP));

    bool last = is_lowest(p, l, SITE_DOWN);
    if (site_lora(p, l, SITE_DOWN) != NULL)
        ops->act_forward(dev, &c->act, gate_up, h);
    linear_back(p, l, SITE_DOWN, dx, h, last ? NULL : &dh);
    if (last)
        return false;
    ops->act_backward(dev, &c->act, dh, gate_up);
    last = is_lowest(p, l, SITE_UP);
    if (site_lora(p, l, SITE_UP) != NULL)
        ops->norm_apply(dev, &ly->norm2, mlp_input(p, l), sv->stats2, x_norm);
    linear_back(p, l, SITE_UP, gate_up, x_norm, last ? NULL : &dx_norm);
    if (!last && !c->parallel)
        norm2_back(p, l, dx);
    return !last;
}

/* dx: gradient of x_mid, then of x. */
static void backward_attention(struct pass *p, int l, struct tensor dx) {
    const struct model_config *c = &p->m->cfg;
    const struct ops *ops = p->m->dev->ops;
    struct device *dev = p->m->dev;
    const struct layer *ly = &p->m->layers[l];
    struct saved *sv = &p->saved[l];
    struct tensor x = view(p, sv->x, c->hidden), x_norm = view(p, p->x_norm, c->hidden);
    struct tensor dx_norm = view(p, p->dx_norm, c->hidden);
    struct tensor att = view(p, sv->att, site_in(c, SITE_O));
    struct tensor d_att = view(p, p->d_att, site_in(c, SITE_O));
    struct tensor d_qkv = view(p, p->d_qkv, site_out(c, SITE_QKV));
    struct qkv t = split(c, view(p, sv->qkv, site_out(c, SITE_QKV))), d = split(c, d_qkv);
    struct attention a = attention_of(p, l);

    bool last = is_lowest(p, l, SITE_O);
    linear_back(p, l, SITE_O, dx, att, last ? NULL : &d_att);
    if (last)
        return;
    if (c->parallel)
        norm2_back(p, l, dx);
    ops->attention_backward(dev, &a, &p->batch, t.q, t.k, t.v, att, sv->lse, d_att, d.q, d.k, d.v);
    rotate(p, d, true);
    last = is_lowest(p, l, SITE_QKV);
    if (site_lora(p, l, SITE_QKV) != NULL)
        ops->norm_apply(dev, &ly->norm1, x, sv->stats1, x_norm);
    linear_back(p, l, SITE_QKV, d_qkv, x_norm, last ? NULL : &dx_norm);
    if (!last)
        ops->norm_backward(dev, &ly->norm1, dx_norm, x, sv->stats1, dx);
}

void block_backward(struct pass *p, int l) {
    struct tensor dx = view(p, p->dx, p->m->cfg.hidden);
    if (pass_recomputes(p, l))
        forward_to_gate_up(p, l);
    if (backward_mlp(p, l, dx))
        backward_attention(p, l, dx);
}
