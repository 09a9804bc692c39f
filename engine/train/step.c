/* step: one optimizer step, and the evaluation after it. */
#include <math.h>

#include "engine/train/report.h"
#include "engine/train/run.h"

/* Updates left out in a row before the job is given up. */
#define MAX_SKIPPED 3

bool run_epoch_ends(const struct run *r) {
    int64_t n = r->train_rows.n, b = r->plan.batch_size, s = r->state.step;
    return s * b / n > (s - 1) * b / n || s * b >= r->plan.n_epochs * n;
}

/* ---- the optimizer step --------------------------------------------------------------------- */

/* Rows of a step (from 0): a piece of the endless sequence; the last step takes what is left of the
 * last epoch. */
static int step_rows(struct run *r, int64_t step) {
    int64_t first = step * r->plan.batch_size;
    int64_t left = r->plan.n_epochs * r->train_rows.n - first;
    int n = (int)(left < r->plan.batch_size ? left : r->plan.batch_size);
    for (int i = 0; i < n; i++)
        r->step_rows[i] = order_row(&r->order, first + i);
    return n;
}

struct gradient {
    struct tally tally; /* of the batches that are done */
    double flops;
    int64_t targets, tokens; /* of the whole step */
};

/* A batch of the step that the batcher is at: its gradient counts by the step's targets. */
static enum err load(struct run *r, int64_t step, const struct host_batch *batch,
                     struct err_msg *em) {
    int64_t targets = batcher_targets(&r->batcher);
    if (batch->n_targets == 0)
        return ERR_OK;
    const struct dropout drop = {
        .p = adapter_options(r->adapter)->dropout,
        .seed = r->seed,
        .step = (uint32_t)step,
    };
    return pass_train_load(r->pass, batch, (float)(1.0 / (double)targets), &drop, em);
}

/* Reads, tokenizes and packs the rows of a step up to its first batch, which sets out for the
 * device; what goes wrong there is said when the step begins. */
static void look_ahead(struct run *r, int64_t step) {
    if (step >= r->plan.total_steps)
        return;
    batcher_begin(&r->batcher, r->train, r->step_rows, step_rows(r, step));
    r->ahead.em = (struct err_msg)ERR_MSG_INIT;
    r->ahead.e = batcher_next(&r->batcher, &r->ahead.batch, &r->ahead.more, &r->ahead.em);
    if (r->ahead.e == ERR_OK && r->ahead.more)
        r->ahead.e = load(r, step, &r->ahead.batch, &r->ahead.em);
    r->ahead.step = step + 1;
}

/* The first batch of a step, made now or before. */
static enum err first_batch(struct run *r, int64_t step, struct host_batch *batch, bool *more,
                            struct err_msg *em) {
    if (r->ahead.step != step + 1)
        look_ahead(r, step);
    r->ahead.step = 0;
    *batch = r->ahead.batch;
    *more = r->ahead.more;
    if (r->ahead.e != ERR_OK && em != NULL)
        *em = r->ahead.em;
    return r->ahead.e;
}

static enum err collect(struct run *r, int left, struct tally *t, struct err_msg *em) {
    return tally_collect(t, r->pass, left, r->nll, r->correct, em);
}

/* Forward and backward of a batch that is loaded. */
static enum err start(struct run *r, const struct host_batch *batch, struct gradient *out,
                      struct err_msg *em) {
    if (batch->n_targets == 0)
        return ERR_OK;
    enum err e = run_poll(r, em);
    if (e == ERR_OK)
        e = pass_train_loaded(r->pass, em);
    out->flops += 2.0 * model_forward_flops(r->job->model, r->batcher.bin_lengths, batch->n_seqs);
    return e;
}

/* Forward and backward of all rows of the step; the adapter's g is the gradient of the mean loss
 * over all its trained tokens. The last batches may still be under way. */
static enum err accumulate(struct run *r, int64_t step, struct gradient *out, struct err_msg *em) {
    struct batcher *b = &r->batcher;
    struct host_batch batch;
    bool more;
    enum err e = first_batch(r, step, &batch, &more, em);
    *out = (struct gradient){.tokens = batcher_tokens(b), .targets = batcher_targets(b)};
    r->dev->ops->mem_zero(r->dev, r->mem->g, r->mem->n * sizeof(float));
    pass_abandon(r->pass);
    while (e == ERR_OK && more) {
        e = start(r, &batch, out, em);
        if (e == ERR_OK)
            e = batcher_next(b, &batch, &more, em);
        if (e == ERR_OK && more)
            e = load(r, step, &batch, em);
        if (e == ERR_OK)
            e = collect(r, PASS_STARTED - 1, &out->tally, em);
    }
    return e;
}

/* With the direction of a stage, if one follows. *norm not finite: nothing was changed. */
static enum err update(struct run *r, bool stage, double *norm, struct err_msg *em) {
    if (stage)
        fast_forward_before_update(&r->ff);
    enum err e = optimizer_step(&r->optimizer, r->mem, r->state.result.learning_rate, norm, em);
    if (stage)
        fast_forward_after_update(&r->ff);
    r->state.updates = r->optimizer.updates;
    return e;
}

static enum err skip(struct run *r, struct err_msg *em) {
    struct run_state *s = &r->state;
    s->result.skipped = 1;
    s->skipped_in_a_row++;
    report_message(r->hooks, EVENT_WARN, json_pack("{sI}", "step", (json_int_t)s->step),
                   "Step %lld: the loss or the gradient is not finite; the update is left out",
                   (long long)s->step);
    if (s->skipped_in_a_row < MAX_SKIPPED)
        return ERR_OK;
    return err_set(em, ERR_DIVERGED,
                   "training diverged: the loss or the gradient was not finite for %d steps in a "
                   "row, up to step %lld; a lower learning rate (now %.3g) may help",
                   MAX_SKIPPED, (long long)s->step, s->result.learning_rate);
}

/* A loss that is not finite makes the gradient so (head_loss of ops.h). */
enum err run_step(struct run *r, struct err_msg *em) {
    struct run_state *s = &r->state;
    struct gradient g;
    double norm = 0.0;
    enum err e = accumulate(r, s->step, &g, em);
    if (e != ERR_OK)
        return e; /* nothing has changed: the step is done again */
    look_ahead(r, s->step + 1);
    step_result_init(&s->result);
    s->result.learning_rate = run_rate(r, s->step);
    s->step++;
    s->tokens += g.tokens;
    s->trained_tokens += g.targets;
    s->flops_training += g.flops;
    s->phase = PHASE_AVERAGE;
    bool trained = g.targets > 0, stage = trained && run_stage_due(r);
    if (trained)
        e = update(r, stage, &norm, em);
    if (e == ERR_OK)
        e = collect(r, 0, &g.tally, em);
    if (e != ERR_OK)
        return e;
    s->result.grad_norm = norm;
    if (!trained)
        return ERR_OK;
    s->result.train_loss = g.tally.nll / (double)g.targets;
    s->result.train_accuracy = (double)g.tally.correct / (double)g.targets;
    if (!isfinite(norm))
        return skip(r, em);
    s->skipped_in_a_row = 0;
    run_watch_loss(r);
    if (stage)
        s->phase = PHASE_STAGE;
    return ERR_OK;
}

/* ---- evaluation ----------------------------------------------------------------------------- */

static bool evaluation_due(const struct run *r) {
    int64_t every = r->job->request->training.eval_interval, step = r->state.step;
    if (r->full_rows.n == 0)
        return false;
    if (step == r->plan.total_steps)
        return true;
    return every > 0 ? step % every == 0 : run_epoch_ends(r);
}

/* Whether the new full_valid_loss ends the run. One that is not finite is no gain. */
static bool ends_run(struct run *r) {
    const struct training_config *t = &r->job->request->training;
    struct run_state *s = &r->state;
    double loss = s->result.full_valid_loss;
    s->last_full_loss = loss;
    if (isnan(s->first_full_loss))
        s->first_full_loss = loss;
    bool first = isnan(s->best_full_loss);
    bool gain = isfinite(loss) && (first || loss < s->best_full_loss - t->min_delta);
    s->evaluations_without_gain = gain ? 0 : s->evaluations_without_gain + 1;
    if (isfinite(loss) && (first || loss < s->best_full_loss))
        s->best_full_loss = loss;
    if (t->target_loss > 0 && loss <= t->target_loss)
        return true;
    return t->patience > 0 && s->evaluations_without_gain >= t->patience;
}

enum err run_evaluate(struct run *r, struct err_msg *em) {
    struct run_state *s = &r->state;
    if (evaluation_due(r)) {
        struct measurement m;
        average_show(&r->average);
        enum err e = evaluate_rows(&r->evaluator, r->valid, &r->full_rows, &m, em);
        average_hide(&r->average);
        if (e != ERR_OK)
            return e;
        s->result.full_valid_loss = m.loss;
        s->result.full_valid_accuracy = m.accuracy;
        s->finished = ends_run(r);
    }
    s->phase = PHASE_STEP;
    return ERR_OK;
}
