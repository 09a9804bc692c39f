/* pass: batches through the blocks, the loss at the top, and the way back. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/model/internal.h"

/* ---- forward -------------------------------------------------------------------------------- */

enum part { PART_FORWARD, PART_BACKWARD, PART_LOSS, PART_LOSS_BACKWARD };

/* Passes that differ in what the key does not say lie elsewhere. */
static void repeat(struct pass *p, enum part part, int64_t a, int64_t b, int64_t c,
                   void (*work)(void *pass)) {
    const struct pass_limits *l = &p->limits;
    const struct work_key key = {
        {(int64_t)(uintptr_t)(p->owner != NULL ? p->owner->memory : p->memory), l->tokens, l->seqs,
         l->targets, l->training, part, p->batch.n_tokens, a, b, c}};
    p->m->dev->ops->repeat(p->m->dev, &key, work, p);
}

/* The blocks and what is above them are repeated apart: blocks do not depend on the number of
 * targets, which comes again less often than that of tokens. */
static void repeat_blocks(struct pass *p, enum part part, void (*work)(void *pass)) {
    uint32_t drop;
    memcpy(&drop, &p->drop.p, sizeof drop);
    repeat(p, part, p->batch.n_seqs, p->batch.max_len, drop, work);
}

static void repeat_top(struct pass *p, enum part part, void (*work)(void *pass)) {
    repeat(p, part, p->batch.n_targets, 0, 0, work);
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
static void loss_of_top(struct pass *p, bool training) {
    const struct ops *ops = p->m->dev->ops;
    struct device *dev = p->m->dev;
    int64_t n = p->batch.n_targets, hidden = p->m->cfg.hidden;
    struct tensor top = pass_view(p, p->top, n, hidden);
    struct tensor top_norm = pass_view(p, p->top_norm, n, hidden);
    ops->rows_gather(dev, pass_view(p, p->x_out, p->batch.n_tokens, hidden), p->batch.target_rows,
                     top);
    ops->norm_forward(dev, &p->m->norm, top, top_norm, p->top_stats);
    float *nll = p->losses;
    ops->head_loss(dev, p->m->head, top_norm, p->batch.target_ids,
                   training ? p->on_device.grad_scale : NULL, nll, (uint8_t *)(nll + n),
                   training ? &top_norm : NULL);
}

static void forward_top(void *pass) {
    loss_of_top(pass, false);
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
    p->started[at].n_targets = p->n_targets;
    p->started[at].padded = p->batch.n_targets;
    ops->fetch_begin(p->m->dev, p->started[at].losses, 0, p->losses,
                     (size_t)p->batch.n_targets * LOSS_BYTES);
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
        memcpy(correct, (const float *)host + p->started[at].padded, n);
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
        e = pass_load(p, b, 0.0f, &off, em);
    if (e != ERR_OK)
        return e;
    pass_loaded(p);
    if (b->n_targets > 0) {
        repeat_blocks(p, PART_FORWARD, forward_blocks);
        repeat_top(p, PART_LOSS, forward_top);
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

/* The loss as well. */
static void backward_top(void *pass) {
    struct pass *p = pass;
    const struct ops *ops = p->m->dev->ops;
    struct device *dev = p->m->dev;
    int64_t n = p->batch.n_targets, hidden = p->m->cfg.hidden;
    struct tensor top = pass_view(p, p->top, n, hidden);
    struct tensor top_norm = pass_view(p, p->top_norm, n, hidden);
    /* norm_backward adds to dx_norm, which is free here: the rows' gradient */
    struct tensor d_top = pass_view(p, p->dx_norm, n, hidden);
    struct tensor dx = pass_view(p, p->dx, p->batch.n_tokens, hidden);
    loss_of_top(p, true);
    ops->mem_zero(dev, p->dx_norm, (size_t)(n * hidden) * dtype_size(p->m->dtype));
    ops->norm_backward(dev, &p->m->norm, top_norm, top, p->top_stats, d_top);
    ops->rows_scatter(dev, d_top, p->batch.target_rows, dx);
}

static void backward_blocks(void *pass) {
    struct pass *p = pass;
    for (int l = p->m->cfg.layers - 1; l >= p->ad->first_layer; l--)
        block_backward(p, l);
}

enum err pass_train_load(struct pass *p, const struct host_batch *b, float grad_scale,
                         const struct dropout *drop, struct err_msg *em) {
    if (p->ad == NULL || !p->limits.training)
        return err_set(em, ERR_BUG, "pass_train on a pass planned for evaluation");
    if (b->keys == NULL && drop->p > 0)
        return err_set(em, ERR_BUG, "dropout needs the batch's keys");
    return pass_load(p, b, grad_scale, drop, em);
}

enum err pass_train_loaded(struct pass *p, struct err_msg *em) {
    enum err e = check_started(p, em);
    if (e != ERR_OK)
        return e;
    pass_loaded(p);
    if (p->n_targets > 0) {
        repeat_blocks(p, PART_FORWARD, forward_blocks);
        repeat_top(p, PART_LOSS_BACKWARD, backward_top);
        repeat_blocks(p, PART_BACKWARD, backward_blocks);
    }
    end_start(p);
    return ERR_OK;
}

enum err pass_train_start(struct pass *p, const struct host_batch *b, float grad_scale,
                          const struct dropout *drop, struct err_msg *em) {
    enum err e = check_started(p, em);
    if (e == ERR_OK)
        e = pass_train_load(p, b, grad_scale, drop, em);
    return e == ERR_OK ? pass_train_loaded(p, em) : e;
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
    enum err e = pass_load(p, b, 0.0f, &off, em);
    if (e != ERR_OK)
        return e;
    pass_loaded(p);
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
