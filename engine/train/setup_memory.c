/* setup_memory: all memory of a run, taken once. */
#include "base/mem.h"
#include "engine/train/report.h"
#include "engine/train/run.h"

#include <string.h>

static int32_t longest_row(const struct dataset *ds) {
    int32_t longest = 1;
    for (int64_t i = 0; ds != NULL && i < dataset_rows(ds); i++)
        if (dataset_row_tokens(ds, i) > longest)
            longest = dataset_row_tokens(ds, i);
    return longest;
}

static int32_t larger(int32_t a, int32_t b) {
    return a > b ? a : b;
}

/* The pass for batches of up to *capacity tokens; where that does not fit, half as many, down to
 * the longest row. */
static enum err open_pass(struct run *r, int32_t longest, int32_t *capacity, bool fixed,
                          struct err_msg *em) {
    for (;;) {
        const struct pass_limits limits = {
            .tokens = *capacity,
            .seqs = (int32_t)r->plan.batch_size,
            .targets = *capacity,
            .training = true,
        };
        enum err e = pass_new(r->job->model, r->adapter, &limits, &r->pass, em);
        if (e != ERR_NO_MEMORY || fixed || *capacity <= longest)
            return e;
        err_clear(em);
        *capacity = larger(longest, *capacity / 2);
    }
}

/* The pass for evaluations lies in the training pass, where it fits: nearly always, since that
 * keeps every layer's activations. */
static enum err open_evaluator(struct run *r, int32_t longest, struct err_msg *em) {
    bool cpu = strcmp(r->device.kind, "cpu") == 0;
    int32_t tokens = plan_eval_capacity(cpu, longest), rows = plan_eval_rows();
    enum err e = pass_new_inside(r->pass, rows, &tokens, &r->eval_pass, em);
    if (e == ERR_OK && tokens < longest) {
        const struct pass_limits limits = {longest, rows, longest, false};
        pass_free(r->eval_pass);
        tokens = longest;
        e = pass_new(r->job->model, r->adapter, &limits, &r->eval_pass, em);
    }
    if (e != ERR_OK)
        return e;
    batcher_init(&r->eval_batcher, tokens, rows, r->job->request->training.packing);
    evaluator_init(&r->evaluator, r->job->model, r->eval_pass, &r->eval_batcher, run_poll, r);
    return ERR_OK;
}

static enum err setup_fast_forward(struct run *r, bool resumed, struct err_msg *em) {
    if (r->held_rows.n == 0)
        return ERR_OK;
    struct row_list rows = r->held_rows;
    rows.n = plan_rows_measured(&r->job->request->fast_forward, &r->plan, rows.n);
    enum err e = held_set_init(&r->held, &r->evaluator, r->held_from, &rows, em);
    if (e != ERR_OK)
        return e;
    if (r->held.targets == 0) {
        if (!resumed)
            report_message(r->hooks, EVENT_WARN, NULL,
                           "Fast Forward is off: the %lld rows it would measure on have no "
                           "trained tokens",
                           (long long)rows.n);
        return ERR_OK;
    }
    return fast_forward_init(&r->ff, &r->job->request->fast_forward, r->dev, r->mem, &r->evaluator,
                             &r->held, em);
}

enum err run_setup_memory(struct run *r, int64_t capacity, struct err_msg *em) {
    const struct training_config *t = &r->job->request->training;
    int32_t longest = larger(longest_row(r->train), longest_row(r->valid));
    int32_t chosen = plan_capacity(strcmp(r->device.kind, "cpu") == 0, longest, r->plan.batch_size);
    if (capacity > 0)
        chosen = larger(longest, (int32_t)capacity);
    enum err e = open_pass(r, longest, &chosen, capacity > 0, em);
    if (e == ERR_OK)
        e = optimizer_init(&r->optimizer, r->dev, r->mem->n, t->weight_decay, t->max_grad_norm, em);
    if (e != ERR_OK)
        return e;
    r->state.capacity = chosen;
    batcher_init(&r->batcher, chosen, (int32_t)r->plan.batch_size, t->packing);
    e = open_evaluator(r, longest, em);
    if (e != ERR_OK)
        return e;
    order_init(&r->order, &r->train_rows, t->shuffle, r->seed);
    r->nll = xcalloc((size_t)chosen, sizeof *r->nll);
    r->correct = xcalloc((size_t)chosen, sizeof *r->correct);
    r->step_rows = xcalloc((size_t)r->plan.batch_size, sizeof *r->step_rows);
    return setup_fast_forward(r, capacity > 0, em);
}
