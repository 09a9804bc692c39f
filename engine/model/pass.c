/* pass: batches through the blocks, the loss at the top, and the way back. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/model/internal.h"

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

/* ---- losses, later -------------------------------------------------------------------------- */

static enum err check_started(const struct pass *p, struct err_msg *em) {
    return p->n_started < PASS_STARTED
               ? ERR_OK
               : err_set(em, ERR_BUG, "%d batches of a pass are under way", p->n_started);
}

/* The batch is under way: its losses set out for the host. */
static void end_start(struct pass *p) {
    const struct ops *ops = p->m->dev->ops;
    int at = (p->first_started + p->n_started++) % PASS_STARTED;
    size_t n = (size_t)p->batch.n_targets;
    p->started[at].n_targets = p->batch.n_targets;
    if (n == 0)
        return;
    ops->fetch_begin(p->m->dev, p->started[at].losses, 0, p->nll, n * sizeof *p->nll);
    ops->fetch_begin(p->m->dev, p->started[at].losses, n * sizeof *p->nll, p->correct, n);
}

enum err pass_losses(struct pass *p, float *nll, uint8_t *correct, int32_t *targets,
                     struct err_msg *em) {
    const void *host;
    *targets = 0;
    if (p->n_started == 0)
        return err_set(em, ERR_BUG, "no batch of a pass is under way");
    int at = p->first_started;
    size_t n = (size_t)p->started[at].n_targets;
    p->first_started = (at + 1) % PASS_STARTED;
    p->n_started--;
    enum err e = p->m->dev->ops->fetch_end(p->m->dev, p->started[at].losses, &host, em);
    if (e != ERR_OK || n == 0)
        return e;
    *targets = (int32_t)n;
    memcpy(nll, host, n * sizeof *nll);
    if (correct != NULL)
        memcpy(correct, (const char *)host + n * sizeof *nll, n);
    return ERR_OK;
}

int pass_started(const struct pass *p) {
    return p->n_started;
}

void pass_abandon(struct pass *p) {
    p->n_started = 0;
}

enum err pass_eval_start(struct pass *p, const struct host_batch *b, struct err_msg *em) {
    const struct dropout off = {0};
    enum err e = check_started(p, em);
    if (e == ERR_OK)
        e = pass_load(p, b, &off, em);
    if (e != ERR_OK)
        return e;
    if (b->n_targets > 0) {
        repeat(p, PART_FORWARD, forward_blocks);
        forward_top(p, 0, false);
    }
    end_start(p);
    return ERR_OK;
}

enum err pass_eval(struct pass *p, const struct host_batch *b, float *nll, uint8_t *correct,
                   struct err_msg *em) {
    int32_t n;
    enum err e = pass_eval_start(p, b, em);
    return e == ERR_OK ? pass_losses(p, nll, correct, &n, em) : e;
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

enum err pass_train_start(struct pass *p, const struct host_batch *b, float grad_scale,
                          const struct dropout *drop, struct err_msg *em) {
    if (p->ad == NULL || !p->limits.training)
        return err_set(em, ERR_BUG, "pass_train on a pass planned for evaluation");
    if (b->keys == NULL && drop->p > 0)
        return err_set(em, ERR_BUG, "dropout needs the batch's keys");
    enum err e = check_started(p, em);
    if (e == ERR_OK)
        e = pass_load(p, b, drop, em);
    if (e != ERR_OK)
        return e;
    if (b->n_targets > 0) {
        repeat(p, PART_FORWARD, forward_blocks);
        forward_top(p, grad_scale, true);
        backward_top(p);
        repeat(p, PART_BACKWARD, backward_blocks);
    }
    end_start(p);
    return ERR_OK;
}

enum err pass_train(struct pass *p, const struct host_batch *b, float grad_scale,
                    const struct dropout *drop, float *nll, uint8_t *correct, struct err_msg *em) {
    int32_t n;
    enum err e = pass_train_start(p, b, grad_scale, drop, em);
    return e == ERR_OK ? pass_losses(p, nll, correct, &n, em) : e;
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
    enum err e = pass_load(p, b, &off, em);
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
