/* pass: a batch on its way to the device: checked, laid out as it will lie there, and padded where
 * that lets shapes come again. */
#include <string.h>

#include "engine/model/internal.h"

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

/* The batch as it will lie on the device. */
static void lay_out(struct pass *p, const struct host_batch *b, float grad_scale,
                    const struct dropout *drop) {
    const struct batch_arrays *to = &p->on_host;
    size_t tokens = (size_t)b->n_tokens, targets = (size_t)b->n_targets;
    if (b->keys != NULL)
        memcpy(to->keys, b->keys, tokens * sizeof *b->keys);
    *to->draw = (struct dropout_draw){drop->seed, drop->step};
    *to->grad_scale = grad_scale;
    memcpy(to->ids, b->ids, tokens * sizeof *b->ids);
    memcpy(to->pos, b->pos, tokens * sizeof *b->pos);
    memcpy(to->seq_start, b->seq_start, ((size_t)b->n_seqs + 1) * sizeof *b->seq_start);
    if (targets > 0) {
        memcpy(to->target_rows, b->target_rows, targets * sizeof *b->target_rows);
        memcpy(to->target_ids, b->target_ids, targets * sizeof *b->target_ids);
    }
}

/* n or a little more: a multiple of `least`, or of a `share`-th of the power of two below n. */
static int32_t round_up(int32_t n, int32_t least, int32_t share) {
    int32_t step = 1;
    while (step <= n / 2 / share)
        step *= 2;
    step = step > least ? step : least;
    return (n + step - 1) / step * step;
}

static int32_t smaller(int32_t a, int32_t b) {
    return a < b ? a : b;
}

/* More targets that are none, on rows that predict nothing. */
static void pad_targets(struct pass *p) {
    const struct batch_arrays *to = &p->on_host;
    int32_t n = p->n_targets, most = smaller(p->limits.targets, p->batch.n_tokens);
    int32_t padded = n > 0 ? smaller(round_up(n, 16, 32), most) : 0;
    for (int32_t row = 0, next = 0, i = n; i < padded; row++) {
        if (next < n && to->target_rows[next] == row) {
            next++;
            continue;
        }
        to->target_rows[i] = row;
        to->target_ids[i++] = -1;
    }
    p->batch.n_targets = padded;
}

/* Rounds up what shapes follow from, so that they come again: rows of an example of their own,
 * which nothing predicts from and whose gradient is zero, then empty examples. Tokens and targets
 * grow by a 32nd at most, or to a multiple of 16. It does not ask whether shapes are in fact
 * repeated: sums over the tokens have another order when there are more of them. */
static void pad(struct pass *p) {
    const struct batch_arrays *to = &p->on_host;
    struct batch *b = &p->batch;
    int32_t tokens = smaller(round_up(b->n_tokens, 16, 32), p->limits.tokens);
    int32_t seqs = smaller(round_up(b->n_seqs + 1, 8, 4), p->limits.seqs + 1);
    int32_t added = tokens - b->n_tokens;
    for (int32_t i = b->n_tokens; i < tokens; i++) {
        to->ids[i] = to->pos[i] = 0;
        to->keys[i] = 0;
    }
    for (int32_t i = b->n_seqs + 1; i <= seqs; i++)
        to->seq_start[i] = tokens;
    b->n_tokens = tokens;
    b->n_seqs = seqs;
    b->max_len = round_up(b->max_len > added ? b->max_len : added, 64, 4);
    pad_targets(p);
}

enum err pass_load(struct pass *p, const struct host_batch *b, float grad_scale,
                   const struct dropout *drop, struct err_msg *em) {
    const struct batch_arrays *at = &p->on_device;
    const struct ops *ops = p->m->dev->ops;
    enum err e = check_counts(p, b, em);
    if (e == ERR_OK)
        e = check_values(p, b, em);
    if (e != ERR_OK)
        return e;
    (void)ops->send_open(p->m->dev, p->send);
    lay_out(p, b, grad_scale, drop);
    p->drop = *drop;
    p->n_targets = b->n_targets;
    p->batch = (struct batch){.n_tokens = b->n_tokens,
                              .n_seqs = b->n_seqs,
                              .n_targets = b->n_targets,
                              .ids = at->ids,
                              .pos = at->pos,
                              .seq_start = at->seq_start,
                              .keys = at->keys,
                              .target_rows = at->target_rows,
                              .target_ids = at->target_ids,
                              .draw = at->draw};
    for (int32_t i = 0; i < b->n_seqs; i++) {
        int32_t len = b->seq_start[i + 1] - b->seq_start[i];
        p->batch.max_len = len > p->batch.max_len ? len : p->batch.max_len;
    }
    if (ops->repeats)
        pad(p);
    ops->send_begin(p->m->dev, p->send);
    return ERR_OK;
}

void pass_loaded(struct pass *p) {
    p->m->dev->ops->send_end(p->m->dev, p->send, p->on_device.keys);
}
