/* pass: the memory of a pass, planned once and allocated once.
 *
 * The same walk over the fields runs twice: first with base NULL to add up the bytes, then to hand
 * out the pointers. Activations that live at different times share their place. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/model/internal.h"

enum { ALIGN = 64 };

struct plan {
    char *base; /* NULL while counting */
    size_t used;
    bool overflow;
};

static void *take(struct plan *pl, int64_t count, size_t element) {
    size_t bytes, next;
    void *at = pl->base != NULL ? pl->base + pl->used : NULL;
    if (!mem_mul((size_t)count, element, &bytes) || !mem_add(bytes, ALIGN - 1, &bytes) ||
        !mem_add(pl->used, bytes / ALIGN * ALIGN, &next))
        pl->overflow = true;
    else
        pl->used = next;
    return at;
}

/* Starts a place that two groups of tensors share: the second group is taken from `from` again. */
static size_t overlay(struct plan *pl, size_t from) {
    size_t end = pl->used;
    pl->used = from;
    return end;
}

static void overlay_end(struct plan *pl, size_t other_end) {
    pl->used = pl->used > other_end ? pl->used : other_end;
}

/* Columns of s: of this block, or of the widest where several blocks share the place. */
static int64_t s_columns(const struct pass *p, int l, enum site site, bool shared) {
    int64_t widest = adapter_site_rank(p->ad, l, site);
    for (int i = 0; shared && i < p->m->cfg.layers; i++) {
        int64_t n = adapter_site_rank(p->ad, i, site);
        widest = n > widest ? n : widest;
    }
    return widest;
}

static bool has_dora(const struct pass *p) {
    return p->ad != NULL && p->ad->options.use_dora;
}

static void plan_layer(struct pass *p, struct plan *pl, int l, bool shared) {
    const struct model_config *c = &p->m->cfg;
    int64_t t = p->limits.tokens;
    size_t e = dtype_size(p->m->dtype);
    struct saved *sv = &p->saved[l];
    sv->x_mid = take(pl, t * c->hidden, e);
    sv->qkv = take(pl, t * site_out(c, SITE_QKV), e);
    sv->att = take(pl, t * site_in(c, SITE_O), e);
    sv->gate_up = take(pl, t * site_out(c, SITE_UP), e);
    sv->stats1 = take(pl, t * 2, sizeof(float));
    sv->stats2 = take(pl, t * 2, sizeof(float));
    sv->lse = take(pl, t * c->heads, sizeof(float));
    for (enum site s = 0; s < SITES; s++) {
        sv->s[s] = take(pl, t * s_columns(p, l, s, shared), e);
        if (has_dora(p))
            sv->norms[s] = take(pl, site_out(c, s), sizeof(float));
    }
}

/* The backward pass ends at the first layer that carries LoRA: those below keep nothing. */
static bool is_trained(const struct pass *p, int l) {
    return p->limits.training && l >= p->ad->first_layer;
}

bool pass_recomputes(const struct pass *p, int l) {
    return is_trained(p, l) && l - p->ad->first_layer < p->limits.recomputed;
}

static bool keeps(const struct pass *p, int l) {
    return is_trained(p, l) && !pass_recomputes(p, l);
}

/* What comes of the last product of a block that is computed again: small, and kept, so that the
 * product is not needed twice. */
static void plan_down(struct pass *p, struct plan *pl, int l) {
    struct saved *sv = &p->saved[l];
    sv->s[SITE_DOWN] = take(pl, p->limits.tokens * adapter_site_rank(p->ad, l, SITE_DOWN),
                            dtype_size(p->m->dtype));
    if (has_dora(p))
        sv->norms[SITE_DOWN] = take(pl, site_out(&p->m->cfg, SITE_DOWN), sizeof(float));
}

static void plan_saved(struct pass *p, struct plan *pl) {
    int64_t t = p->limits.tokens, hidden = p->m->cfg.hidden;
    size_t e = dtype_size(p->m->dtype);
    int layers = p->m->cfg.layers, shared = -1;
    void *x = NULL;
    for (int l = 0; l < layers; l++) {
        /* a layer that keeps nothing may write its output over its input: between them lies x_mid
         */
        if (x == NULL || is_trained(p, l))
            x = take(pl, t * hidden, e);
        if (shared < 0 || keeps(p, l))
            plan_layer(p, pl, l, !keeps(p, l));
        else
            p->saved[l] = p->saved[shared];
        if (pass_recomputes(p, l))
            plan_down(p, pl, l);
        p->saved[l].x = x;
        if (!keeps(p, l) && shared < 0)
            shared = l;
    }
    p->x_out = layers > 0 && is_trained(p, layers - 1) ? take(pl, t * hidden, e) : x;
}

static void plan_arrays(struct batch_arrays *a, struct plan *pl, const struct pass_limits *l) {
    a->keys = take(pl, l->tokens, sizeof *a->keys);
    a->draw = take(pl, 1, sizeof *a->draw);
    a->grad_scale = take(pl, 1, sizeof *a->grad_scale);
    a->ids = take(pl, l->tokens, sizeof *a->ids);
    a->pos = take(pl, l->tokens, sizeof *a->pos);
    a->seq_start = take(pl, (int64_t)l->seqs + 2, sizeof *a->seq_start); /* pass_load.c pads */
    a->target_rows = take(pl, l->targets, sizeof *a->target_rows);
    a->target_ids = take(pl, l->targets, sizeof *a->target_ids);
}

static void plan_batch(struct pass *p, struct plan *pl) {
    int64_t targets = p->limits.targets;
    size_t from = pl->used;
    plan_arrays(&p->on_device, pl, &p->limits);
    p->batch_bytes = pl->used - from;
    p->losses = take(pl, targets, LOSS_BYTES);
    p->top_stats = take(pl, targets * 2, sizeof *p->top_stats);
    p->top = take(pl, targets * p->m->cfg.hidden, dtype_size(p->m->dtype));
    p->top_norm = take(pl, targets * p->m->cfg.hidden, dtype_size(p->m->dtype));
}

static void plan_scratch(struct pass *p, struct plan *pl) {
    const struct model_config *c = &p->m->cfg;
    int64_t t = p->limits.tokens;
    size_t e = dtype_size(p->m->dtype);
    p->x_norm = take(pl, t * c->hidden, e);
    size_t from = pl->used;
    p->h = take(pl, t * c->intermediate, e);
    if (!p->limits.training)
        return;
    p->dh = take(pl, t * c->intermediate, e);
    size_t end = overlay(pl, from); /* the MLP's gradients are gone when attention's are made */
    p->d_att = take(pl, t * site_in(c, SITE_O), e);
    p->d_qkv = take(pl, t * site_out(c, SITE_QKV), e);
    overlay_end(pl, end);
    p->dx = take(pl, t * c->hidden, e);
    p->dx_norm = take(pl, t * c->hidden, e);
    int64_t widest = 0;
    for (enum site s = 0; s < SITES && has_dora(p); s++)
        widest = site_out(c, s) > widest ? site_out(c, s) : widest;
    p->z = take(pl, t * widest, e);
}

/* An evaluation in a training pass's memory finds that pass's tables in the same place. */
static void plan_rope(struct pass *p, struct plan *pl) {
    const struct model_config *c = &p->m->cfg;
    int32_t tokens = p->owner != NULL ? p->owner->limits.tokens : p->limits.tokens;
    int32_t n = tokens < c->max_positions ? tokens : c->max_positions;
    int64_t values = (int64_t)n * (rope_columns(c) / 2);
    p->rope.positions = n;
    p->rope.dim = rope_columns(c);
    p->rope.cos = take(pl, values, sizeof(float));
    p->rope.sin = take(pl, values, sizeof(float));
}

static void plan_all(struct pass *p, struct plan *pl) {
    plan_rope(p, pl);
    plan_batch(p, pl);
    plan_saved(p, pl);
    plan_scratch(p, pl);
}

static void upload_rope(struct pass *p) {
    size_t n = (size_t)p->rope.positions * (size_t)(p->rope.dim / 2);
    float *host = xcalloc(2 * n, sizeof *host);
    rope_tables(&p->m->cfg, p->rope.positions, host, host + n);
    p->m->dev->ops->upload(p->m->dev, (void *)(uintptr_t)p->rope.cos, host, n * sizeof *host);
    p->m->dev->ops->upload(p->m->dev, (void *)(uintptr_t)p->rope.sin, host + n, n * sizeof *host);
    free(host);
}

struct op_shapes pass_shapes(const struct pass *p) {
    const struct model_config *c = &p->m->cfg;
    struct op_shapes o = {.dtype = p->m->dtype,
                          .backward = p->limits.training,
                          .tokens = p->limits.tokens,
                          .targets = p->limits.targets,
                          .seqs = (int64_t)p->limits.seqs + 1, /* pass_load.c pads */
                          .longest = p->limits.tokens < c->max_positions ? p->limits.tokens
                                                                         : c->max_positions,
                          .hidden = c->hidden,
                          .heads = c->heads,
                          .head_dim = c->head_dim,
                          .keys = (int64_t)c->kv_heads * c->head_dim,
                          .vocab = c->vocab};
    for (enum site s = 0; s < SITES; s++) {
        o.inputs = site_in(c, s) > o.inputs ? site_in(c, s) : o.inputs;
        o.outputs = site_out(c, s) > o.outputs ? site_out(c, s) : o.outputs;
    }
    for (enum site s = 0; p->ad != NULL && s < SITES; s++) {
        int64_t rank = (int64_t)site_parts(c, s) * p->ad->options.rank, in = site_in(c, s);
        o.rank = rank > o.rank ? rank : o.rank;
        if (p->ad->options.dropout > 0)
            o.width = in > o.width ? in : o.width;
        if (has_dora(p))
            o.dora = site_out(c, s) > o.dora ? site_out(c, s) : o.dora;
    }
    o.adapter = p->ad != NULL ? p->ad->mem.n : 0;
    return o;
}

/* What a pass needs on the host: a batch as it will lie on the device, and room for the losses of
 * those under way. */
static enum err prepare_host(struct pass *p, struct err_msg *em) {
    const struct ops *ops = p->m->dev->ops;
    size_t bytes = (size_t)p->limits.targets * LOSS_BYTES;
    enum err e = ops->send_new(p->m->dev, p->batch_bytes, &p->send, em);
    if (e != ERR_OK)
        return e;
    struct plan pl = {.base = ops->send_open(p->m->dev, p->send)};
    plan_arrays(&p->on_host, &pl, &p->limits);
    for (int i = 0; i < PASS_STARTED && e == ERR_OK; i++)
        e = ops->fetch_new(p->m->dev, bytes, &p->started[i].losses, em);
    return e;
}

/* Counts the bytes of a pass; owner: whose memory it will lie in, or NULL. */
static enum err count(struct model *m, struct adapter *ad, const struct pass_limits *limits,
                      const struct pass *owner, struct pass **out, size_t *bytes,
                      struct err_msg *em) {
    *out = NULL;
    if (limits->tokens < 1 || limits->seqs < 1 || limits->targets < 0 ||
        limits->targets > limits->tokens || (limits->training && ad == NULL))
        return err_set(em, ERR_BUG, "a pass for %d tokens, %d examples, %d targets", limits->tokens,
                       limits->seqs, limits->targets);
    struct pass *p = xcalloc(1, sizeof *p);
    struct plan pl = {0};
    p->m = m;
    p->ad = ad;
    p->owner = owner;
    p->limits = *limits;
    p->saved = xcalloc((size_t)m->cfg.layers, sizeof *p->saved);
    plan_all(p, &pl);
    *bytes = pl.used;
    *out = p;
    return pl.overflow
               ? err_set(em, ERR_NO_MEMORY, "a pass of %d tokens overflows memory", limits->tokens)
               : ERR_OK;
}

/* Bytes of an evaluation of `tokens` tokens in owner's memory; SIZE_MAX: too many to count. */
static size_t inside_bytes(const struct pass *owner, struct pass_limits limits, int32_t tokens) {
    struct pass *p = NULL;
    size_t bytes = 0;
    limits.tokens = limits.targets = tokens;
    enum err e = count(owner->m, owner->ad, &limits, owner, &p, &bytes, NULL);
    pass_free(p);
    return e == ERR_OK ? bytes : SIZE_MAX;
}

/* As many tokens, up to `most`, as an evaluation in owner's memory can have. */
static int32_t inside_tokens(const struct pass *owner, int32_t seqs, int32_t most) {
    const struct pass_limits limits = {.seqs = seqs};
    int32_t fits = 0;
    while (fits < most) {
        int32_t middle = most - (most - fits) / 2;
        if (inside_bytes(owner, limits, middle) <= owner->bytes)
            fits = middle;
        else
            most = middle - 1;
    }
    return fits;
}

static size_t scratch_bytes(const struct pass *p) {
    const struct op_shapes most = pass_shapes(p);
    return p->m->dev != NULL ? p->m->dev->ops->scratch_bytes(p->m->dev, &most) : 0;
}

/* Device memory that batches arrive in. */
static size_t send_bytes(const struct model *m, const struct pass_limits *limits) {
    struct batch_arrays arrays;
    struct plan pl = {0};
    plan_arrays(&arrays, &pl, limits);
    return m->dev != NULL ? m->dev->ops->send_bytes(m->dev, pl.used) : 0;
}

enum err pass_count(struct model *m, struct adapter *ad, const struct pass_limits *limits,
                    const struct pass_limits *eval, struct pass_size *out, struct err_msg *em) {
    struct pass *p = NULL;
    *out = (struct pass_size){0};
    enum err e = count(m, ad, limits, NULL, &p, &out->bytes, em);
    if (e == ERR_OK) {
        p->bytes = out->bytes;
        out->scratch = scratch_bytes(p);
        size_t sends = send_bytes(m, limits);
        if (eval->tokens > 0) {
            int32_t tokens = inside_tokens(p, eval->seqs, eval->tokens);
            p->limits =
                (struct pass_limits){.tokens = tokens, .seqs = eval->seqs, .targets = tokens};
            size_t scratch = scratch_bytes(p);
            out->eval_tokens = tokens;
            out->scratch = scratch > out->scratch ? scratch : out->scratch;
            sends += send_bytes(m, &p->limits);
        }
        out->scratch += sends;
    }
    pass_free(p);
    return e;
}

enum err pass_new(struct model *m, struct adapter *ad, const struct pass_limits *limits,
                  struct pass **out, struct err_msg *em) {
    struct pass *p = NULL;
    *out = NULL;
    size_t bytes = 0;
    enum err e = count(m, ad, limits, NULL, &p, &bytes, em);
    if (e == ERR_OK)
        e = m->dev->ops->mem_alloc(m->dev, bytes, &p->memory, em);
    if (e == ERR_OK) {
        const struct op_shapes most = pass_shapes(p);
        e = m->dev->ops->reserve(m->dev, &most, em);
    }
    if (e == ERR_OK)
        e = prepare_host(p, em);
    if (e != ERR_OK) {
        pass_free(p);
        return e;
    }
    p->bytes = bytes;
    struct plan pl = {.base = p->memory};
    plan_all(p, &pl);
    upload_rope(p);
    *out = p;
    return ERR_OK;
}

enum err pass_new_inside(struct pass *owner, int32_t seqs, int32_t *tokens, struct pass **out,
                         struct err_msg *em) {
    struct pass *p = NULL;
    size_t bytes = 0;
    *out = NULL;
    *tokens = inside_tokens(owner, seqs, *tokens);
    const struct pass_limits limits = {.tokens = *tokens, .seqs = seqs, .targets = *tokens};
    enum err e = count(owner->m, owner->ad, &limits, owner, &p, &bytes, em);
    if (e == ERR_OK) {
        const struct op_shapes shapes = pass_shapes(p);
        e = p->m->dev->ops->reserve(p->m->dev, &shapes, em);
    }
    if (e == ERR_OK)
        e = prepare_host(p, em);
    if (e != ERR_OK) {
        pass_free(p);
        return e;
    }
    struct plan pl = {.base = owner->memory};
    plan_all(p, &pl);
    *out = p;
    return ERR_OK;
}

void pass_free(struct pass *p) {
    if (p == NULL)
        return;
    if (p->memory != NULL)
        p->m->dev->ops->mem_free(p->m->dev, p->memory);
    for (int i = 0; i < PASS_STARTED; i++)
        if (p->started[i].losses != NULL)
            p->m->dev->ops->fetch_free(p->m->dev, p->started[i].losses);
    if (p->send != NULL)
        p->m->dev->ops->send_free(p->m->dev, p->send);
    free(p->saved);
    free(p);
}

size_t pass_bytes(const struct pass *p) {
    return p->bytes;
}
