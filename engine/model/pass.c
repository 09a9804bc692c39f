/* pass: batches through the blocks, the loss at the top, and the way back. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/model/internal.h"

/* ---- batches -------------------------------------------------------------------------------- */

static enum err check_counts(const struct pass *p, const struct host_batch *b, struct err_msg *em) {
    const struct pass_limits *l = &p->limits;
    if (b->n_tokens < 1 || b->n_seqs < 1 || b->n_targets < 0 || b->n_tokens > l->tokens ||
        b->n_seqs > l->seqs || b->n_targets > l->targets)
        return err_set(em, ERR_BUG,
                       "a batch of %d tokens, %d examples, %d targets; planned for %d, %d, %d",
                       b->n_tokens, b->n_seqs, b->n_targets, l->tokens, l->seqs, l->targets);
    return ERR_OK;
}

/* Values that index tables on the device: checked here, once, so that kernels need not. */
static enum err check_values(const struct pass *p, const struct host_batch *b, struct err_msg *em) {
    int32_t vocab = p->m->cfg.vocab;
    for (int32_t i = 0; i < b->n_tokens; i++)
        if (b->ids[i] < 0 || b->ids[i] >= vocab || b->pos[i] < 0 || b->pos[i] >= p->rope.positions)
            return err_set(em, ERR_INPUT,
                           "token %d of a batch has id %d at position %d; the model has %d ids and "
                           "the pass %d positions",
                           i, b->ids[i], b->pos[i], vocab, p->rope.positions);
    for (int32_t i = 0; i < b->n_targets; i++)
        if (b->target_ids[i] < 0 || b->target_ids[i] >= vocab || b->target_rows[i] < 0 ||
            b->target_rows[i] >= b->n_tokens ||
            (i > 0 && b->target_rows[i] <= b->target_rows[i - 1]))
            return err_set(em, ERR_INPUT, "target %d of a batch is id %d after row %d", i,
                           b->target_ids[i], b->target_rows[i]);
    for (int32_t i = 0; i < b->n_seqs; i++)
        if (b->seq_start[i] >= b->seq_start[i + 1])
            return err_set(em, ERR_BUG, "example %d of a batch is empty", i);
    if (b->seq_start[0] != 0 || b->seq_start[b->n_seqs] != b->n_tokens)
        return err_set(em, ERR_BUG, "the examples of a batch do not cover its tokens");
    return ERR_OK;
}

static enum err load_batch(struct pass *p, const struct host_batch *b, const struct dropout *drop,
                           struct err_msg *em) {
    const struct ops *ops = p->m->dev->ops;
    struct device *dev = p->m->dev;
    size_t tokens = (size_t)b->n_tokens * sizeof(int32_t);
    size_t targets = (size_t)b->n_targets * sizeof(int32_t);
    enum err e = check_counts(p, b, em);
    if (e == ERR_OK)
        e = check_values(p, b, em);
    if (e != ERR_OK)
        return e;
    ops->upload(dev, p->ids, b->ids, tokens);
    ops->upload(dev, p->pos, b->pos, tokens);
    ops->upload(dev, p->seq_start, b->seq_start, ((size_t)b->n_seqs + 1) * sizeof(int32_t));
    if (b->keys != NULL)
        ops->upload(dev, p->keys, b->keys, (size_t)b->n_tokens * sizeof *b->keys);
    const struct dropout_draw draw = {drop->seed, drop->step};
    if (drop->p > 0)
        ops->upload(dev, p->draw, &draw, sizeof draw);
    p->drop = *drop;
    if (targets > 0) {
        ops->upload(dev, p->target_rows, b->target_rows, targets);
        ops->upload(dev, p->target_ids, b->target_ids, targets);
    }
    p->batch = (struct batch){.n_tokens = b->n_tokens,
                              .n_seqs = b->n_seqs,
                              .n_targets = b->n_targets,
                              .ids = p->ids,
                              .pos = p->pos,
                              .seq_start = p->seq_start,
                              .keys = p->keys,
                              .target_rows = p->target_rows,
                              .target_ids = p->target_ids,
                              .draw = p->draw};
    for (int32_t i = 0; i < b->n_seqs; i++) {
        int32_t len = b->seq_start[i + 1] - b->seq_start[i];
        p->batch.max_len = len > p->batch.max_len ? len : p->batch.max_len;
    }
    return ERR_OK;
}

/* ---- forward -------------------------------------------------------------------------------- */

enum { PART_FORWARD, PART_BACKWARD };

/* Blocks alone are repeated: what surrounds them is short, and depends on the number of targets,
 * which hardly ever comes again. Passes that differ in what the key does not say lie elsewhere. */
static void repeat(struct pass *p, int64_t part, void (*work)(void *pass)) {
    const struct pass_limits *l = &p->limits;
    uint32_t drop;
    memcpy(&drop, &p->drop.p, sizeof drop);
    const struct work_key key = {
        {(int64_t)(uintptr_t)(p->owner != NULL ? p->owner->memory : p->memory), l->tokens, l->seqs,
         l->targets, l->training, part, p->batch.n_tokens, p->batch.n_seqs, p->batch.max_len,
         drop}};
    p->m->dev->ops->repeat(p->m->dev, &key, work, p);
}

/* The output of the last block, [T, hidden], lies in x_out. */
static void forward_blocks(void *pass) {
    struct pass *p = pass;
    const struct model_config *c = &p->m->cfg;
    int64_t rows = p->batch.n_tokens;
    p->m->dev->ops->embed(p->m->dev, p->m->embed, &p->batch, c->embed_scale,
                          pass_view(p, p->saved[0].x, rows, c->hidden));
    for (int l = 0; l < c->layers; l++) {
        void *out = l + 1 < c->layers ? p->saved[l + 1].x : p->x_out;
        block_forward(p, l, pass_view(p, out, rows, c->hidden));
    }
}

/* Loss of the rows that predict a target; training: top_norm becomes d Σnll / d normalised rows. */
static void forward_top(struct pass *p, float grad_scale, bool training) {
    const struct ops *ops = p->m->dev->ops;
    struct device *dev = p->m->dev;
    int64_t n = p->batch.n_targets, hidden = p->m->cfg.hidden;
    struct tensor top = pass_view(p, p->top, n, hidden);
    struct tensor top_norm = pass_view(p, p->top_norm, n, hidden);
    ops->rows_gather(dev, pass_view(p, p->x_out, p->batch.n_tokens, hidden), p->batch.target_rows,
                     top);
    ops->norm_forward(dev, &p->m->norm, top, top_norm, p->top_stats);
    ops->head_loss(dev, p->m->head, top_norm, p->batch.target_ids, grad_scale, p->nll, p->correct,
                   training ? &top_norm : NULL);
}

static enum err fetch_losses(struct pass *p, float *nll, uint8_t *correct, struct err_msg *em) {
    const struct ops *ops = p->m->dev->ops;
    size_t n = (size_t)p->batch.n_targets;
    if (n == 0)
        return ops->sync(p->m->dev, em);
    enum err e = ops->download(p->m->dev, nll, p->nll, n * sizeof *nll, em);
    if (e == ERR_OK && correct != NULL)
        e = ops->download(p->m->dev, correct, p->correct, n, em);
    return e;
}

enum err pass_eval(struct pass *p, const struct host_batch *b, float *nll, uint8_t *correct,
                   struct err_msg *em) {
    const struct dropout off = {0};
    enum err e = load_batch(p, b, &off, em);
    if (e != ERR_OK)
        return e;
    if (b->n_targets > 0) {
        repeat(p, PART_FORWARD, forward_blocks);
        forward_top(p, 0, false);
    }
    return fetch_losses(p, nll, correct, em);
}

/* ---- backward ------------------------------------------------------------------------------- */

static void backward_top(struct pass *p) {
    const struct ops *ops = p->m->dev->ops;
    struct device *dev = p->m->dev;
    int64_t n = p->batch.n_targets, hidden = p->m->cfg.hidden;
    struct tensor top = pass_view(p, p->top, n, hidden);
    struct tensor top_norm = pass_view(p, p->top_norm, n, hidden);
    /* norm_backward adds to dx_norm, which is free here: the rows' gradient */
    struct tensor d_top = pass_view(p, p->dx_norm, n, hidden);
    struct tensor dx = pass_view(p, p->dx, p->batch.n_tokens, hidden);
    ops->mem_zero(dev, p->dx_norm, (size_t)(n * hidden) * dtype_size(p->m->dtype));
    ops->norm_backward(dev, &p->m->norm, top_norm, top, p->top_stats, d_top);
    ops->rows_scatter(dev, d_top, p->batch.target_rows, dx);
}

static void backward_blocks(void *pass) {
    struct pass *p = pass;
    for (int l = p->m->cfg.layers - 1; l >= p->ad->first_layer; l--)
        block_backward(p, l);
}

enum err pass_train(struct pass *p, const struct host_batch *b, float grad_scale,
                    const struct dropout *drop, float *nll, uint8_t *correct, struct err_msg *em) {
    if (p->ad == NULL || !p->limits.training)
        return err_set(em, ERR_BUG, "pass_train on a pass planned for evaluation");
    if (b->keys == NULL && drop->p > 0)
        return err_set(em, ERR_BUG, "dropout needs the batch's keys");
    enum err e = load_batch(p, b, drop, em);
    if (e != ERR_OK)
        return e;
    if (b->n_targets > 0) {
        repeat(p, PART_FORWARD, forward_blocks);
        forward_top(p, grad_scale, true);
        backward_top(p);
        repeat(p, PART_BACKWARD, backward_blocks);
    }
    return fetch_losses(p, nll, correct, em);
}

/* ---- logits --------------------------------------------------------------------------------- */

enum { LOGIT_ROWS = 64 };

static enum err logit_rows(struct pass *p, int32_t n_rows, float *piece, float *logits,
                           struct err_msg *em) {
    const struct ops *ops = p->m->dev->ops;
    struct device *dev = p->m->dev;
    int64_t hidden = p->m->cfg.hidden, vocab = p->m->cfg.vocab;
    struct tensor x = pass_view(p, p->x_out, p->batch.n_tokens, hidden);
    enum err e = ERR_OK;
    for (int32_t r = 0; r < n_rows && e == ERR_OK; r += LOGIT_ROWS) {
        int32_t n = n_rows - r < LOGIT_ROWS ? n_rows - r : LOGIT_ROWS;
        struct tensor rows = tensor_rows(x, r, n), normed = pass_view(p, p->x_norm, n, hidden);
        struct tensor y = {piece, DTYPE_F32, n, vocab, vocab};
        ops->norm_forward(dev, &p->m->norm, rows, normed, p->saved[0].stats1);
        ops->linear_forward(dev, p->m->head, NULL, NULL, &p->drop, NULL, normed, NULL, y,
                            (struct tensor){0});
        e = ops->download(dev, logits + (int64_t)r * vocab, piece,
                          (size_t)(n * vocab) * sizeof *logits, em);
    }
    return e;
}

enum err pass_logits(struct pass *p, const struct host_batch *b, int32_t n_rows, float *logits,
                     struct err_msg *em) {
    void *piece = NULL;
    const struct dropout off = {0};
    enum err e = load_batch(p, b, &off, em);
    if (e != ERR_OK)
        return e;
    if (n_rows < 0 || n_rows > b->n_tokens)
        return err_set(em, ERR_BUG, "logits of %d rows of a batch of %d", n_rows, b->n_tokens);
    size_t bytes = (size_t)LOGIT_ROWS * (size_t)p->m->cfg.vocab * sizeof(float);
    e = p->m->dev->ops->mem_alloc(p->m->dev, bytes, &piece, em);
    if (e != ERR_OK)
        return e;
    forward_blocks(p);
    e = logit_rows(p, n_rows, piece, logits, em);
    p->m->dev->ops->mem_free(p->m->dev, piece);
    return e;
}
