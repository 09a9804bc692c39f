/* setup_memory: all memory of a run, taken once. */
#include "base/mem.h"
#include "engine/train/run.h"

#include <stdio.h>
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

static bool is_cpu(const struct run *r) {
    return strcmp(r->device.kind, "cpu") == 0;
}

static struct pass_limits training_limits(const struct run *r, int32_t tokens, int32_t recomputed) {
    return (struct pass_limits){.tokens = tokens,
                                .seqs = (int32_t)r->plan.batch_size,
                                .targets = tokens,
                                .training = true,
                                .recomputed = recomputed};
}

/* The pass for evaluations lies in the training pass, where it fits: nearly always, since that
 * keeps every layer's activations. */
static enum err open_evaluator(struct run *r, struct err_msg *em) {
    int32_t longest = r->longest;
    int32_t tokens = plan_eval_capacity(is_cpu(r), longest), rows = plan_eval_rows();
    enum err e = pass_new_inside(r->pass, rows, &tokens, &r->eval_pass, em);
    if (e == ERR_OK && tokens < longest) {
        const struct pass_limits limits = {.tokens = longest, .seqs = rows, .targets = longest};
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

static enum err setup_fast_forward(struct run *r, struct err_msg *em) {
    if (r->held_rows.n == 0)
        return ERR_OK;
    struct row_list rows = r->held_rows;
    rows.n = plan_rows_measured(&r->job->request->fast_forward, &r->plan, rows.n);
    enum err e = held_set_init(&r->held, &r->evaluator, r->held_from, &rows, em);
    if (e != ERR_OK)
        return e;
    const struct fast_forward_config *config = &r->job->request->fast_forward;
    e = fast_forward_init(&r->ff, config, r->dev, r->mem, &r->evaluator, &r->held, em);
    if (e != ERR_OK || config->search != FF_AUTO)
        return e;
    return average_init(&r->average, r->dev, r->mem, r->ff.base, em);
}

static enum err plan_for(const struct run *r, int32_t capacity, int32_t longest, int32_t recomputed,
                         struct memory_plan *out, struct err_msg *em) {
    bool cpu = is_cpu(r);
    const struct model *m = r->job->model;
    struct memory_ask ask = {
        .dev = r->dev,
        .config = model_config(m),
        .dtype = model_dtype(m),
        .lora = adapter_options(r->adapter),
        .training = training_limits(r, capacity, recomputed),
        .eval = {.tokens = plan_eval_capacity(cpu, longest), .seqs = plan_eval_rows()},
        .fast_forward = r->job->request->fast_forward.enabled && r->held_rows.n > 0,
        .average = r->job->request->fast_forward.search == FF_AUTO,
    };
    enum err e = memory_plan_make(&ask, out, em);
    if (e != ERR_OK || !cpu)
        return e;
    size_t adapter = (size_t)out->trainable * 2 * sizeof(float); /* in memory already */
    size_t process = memory_process(m, out->weights);
    out->process = process > adapter ? process - adapter : 0;
    out->total += out->process;
    return ERR_OK;
}

static bool fits(const struct run *r, const struct memory_plan *p) {
    size_t mapped = is_cpu(r) ? model_mapped_bytes(r->job->model) : 0;
    return p->total - mapped <= r->device.memory_usable;
}

/* ---- what fits ------------------------------------------------------------------------------ */

/* The most tokens of a row that fit, each in a batch of its own; 0: not even one. */
static int32_t longest_that_fits(const struct run *r, int32_t layers) {
    int32_t fit = 0, most = r->longest - 1;
    while (fit < most) {
        int32_t middle = most - (most - fit) / 2;
        struct memory_plan p;
        if (plan_for(r, middle, middle, layers, &p, NULL) == ERR_OK && fits(r, &p))
            fit = middle;
        else
            most = middle - 1;
    }
    return fit;
}

static enum err does_not_fit(const struct run *r, struct err_msg *em) {
    const struct memory_plan *p = &r->memory;
    int32_t rows = r->capacity_fixed ? 0 : longest_that_fits(r, r->recomputed);
    char advice[96];
    if (rows > 0)
        (void)snprintf(advice, sizeof advice, "with training.max_seq_len %d it would fit", rows);
    else
        (void)snprintf(advice, sizeof advice,
                       "a smaller training.max_seq_len or lora.rank takes less");
    return err_set(
        em, ERR_NO_MEMORY,
        "this job takes %zu bytes of memory (weights %zu, activations of %d tokens %zu), "
        "this device has %zu; %s",
        p->total, p->weights, r->capacity, p->activations, r->device.memory_usable, advice);
}

/* Of the least layers, from r->recomputed to most, that have to be computed twice with r->capacity
 * tokens. *found false: these are too few; the plan is of `most`. */
static enum err least_recomputed(struct run *r, int32_t most, bool *found, struct err_msg *em) {
    for (;; r->recomputed++) {
        enum err e = plan_for(r, r->capacity, r->longest, r->recomputed, &r->memory, em);
        *found = e == ERR_OK && fits(r, &r->memory);
        if (e != ERR_OK || *found || r->recomputed == most)
            return e;
    }
}

/* On an accelerator layers are computed twice before a step is cut into more batches: that changes
 * no gradient. On a CPU, where smaller batches cost no speed, after. */
static enum err choose(struct run *r, struct err_msg *em) {
    int32_t layers = model_config(r->job->model)->layers;
    for (;;) {
        bool last = r->capacity_fixed || r->capacity <= r->longest, found;
        int32_t most = r->capacity_fixed ? r->recomputed : is_cpu(r) && !last ? 0 : layers;
        enum err e = least_recomputed(r, most, &found, em);
        if (e != ERR_OK || found)
            return e;
        if (last)
            return does_not_fit(r, em);
        r->capacity = larger(r->longest, r->capacity / 2);
        r->recomputed = 0;
    }
}

enum err run_plan_memory(struct run *r, bool resumed, struct err_msg *em) {
    r->longest = larger(longest_row(r->train), longest_row(r->valid));
    r->capacity =
        plan_capacity(is_cpu(r), model_config(r->job->model), r->longest, r->plan.batch_size);
    r->capacity_fixed = resumed;
    if (resumed) {
        r->capacity = larger(r->longest, (int32_t)r->state.capacity);
        r->recomputed = (int32_t)r->state.recomputed;
    }
    r->dev->ops->info(r->dev, &r->device); /* as much is free as now */
    return choose(r, em);
}

enum err run_setup_memory(struct run *r, struct err_msg *em) {
    const struct training_config *t = &r->job->request->training;
    const struct pass_limits limits = training_limits(r, r->capacity, r->recomputed);
    enum err e = pass_new(r->job->model, r->adapter, &limits, &r->pass, em);
    if (e == ERR_OK)
        e = optimizer_init(&r->optimizer, r->dev, r->mem->n, t->weight_decay, t->max_grad_norm, em);
    if (e != ERR_OK)
        return e;
    r->state.capacity = r->capacity;
    r->state.recomputed = r->recomputed;
    batcher_init(&r->batcher, r->capacity, (int32_t)r->plan.batch_size, t->packing);
    e = open_evaluator(r, em);
    if (e != ERR_OK)
        return e;
    order_init(&r->order, &r->train_rows, t->shuffle, r->seed);
    r->nll = xcalloc((size_t)r->capacity, sizeof *r->nll);
    r->correct = xcalloc((size_t)r->capacity, sizeof *r->correct);
    r->step_rows = xcalloc((size_t)r->plan.batch_size, sizeof *r->step_rows);
    return setup_fast_forward(r, em);
}
