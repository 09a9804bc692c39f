/* evaluate: forward passes over rows that are not trained on. */
#include "engine/train/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void evaluator_init(struct evaluator *ev, struct model *model, struct pass *pass,
                    struct batcher *batcher, enum err (*poll)(void *arg, struct err_msg *em),
                    void *poll_arg) {
    *ev = (struct evaluator){
        .model = model,
        .pass = pass,
        .batcher = batcher,
        .nll = xcalloc((size_t)batcher->capacity, sizeof *ev->nll),
        .correct = xcalloc((size_t)batcher->capacity, sizeof *ev->correct),
        .poll = poll,
        .poll_arg = poll_arg,
    };
}

void evaluator_clear(struct evaluator *ev) {
    free(ev->nll);
    free(ev->correct);
    *ev = (struct evaluator){0};
}

enum err tally_collect(struct tally *t, struct pass *pass, int left, float *nll, uint8_t *correct,
                       struct err_msg *em) {
    while (pass_started(pass) > left) {
        int32_t n;
        double sum = 0.0;
        enum err e = pass_losses(pass, nll, correct, &n, em);
        if (e != ERR_OK)
            return e;
        for (int32_t i = 0; i < n; i++) {
            sum += (double)nll[i];
            t->correct += correct[i] != 0;
        }
        t->nll += sum;
        t->targets += n;
    }
    return ERR_OK;
}

static enum err collect(struct evaluator *ev, int left, struct tally *t, struct err_msg *em) {
    return tally_collect(t, ev->pass, left, ev->nll, ev->correct, em);
}

/* Starts a batch; the one before it is added while this one is computed. */
static enum err add_batch(struct evaluator *ev, const struct host_batch *b, struct tally *t,
                          struct err_msg *em) {
    if (b->n_targets == 0)
        return ERR_OK;
    enum err e = ev->poll(ev->poll_arg, em);
    if (e == ERR_OK)
        e = pass_eval_start(ev->pass, b, em);
    return e == ERR_OK ? collect(ev, PASS_STARTED - 1, t, em) : e;
}

/* Adds what is under way; the mean of all. */
static enum err mean_of(struct evaluator *ev, struct tally *t, struct measurement *out,
                        struct err_msg *em) {
    enum err e = collect(ev, 0, t, em);
    if (e != ERR_OK)
        return e;
    double n = (double)t->targets;
    *out = t->targets == 0 ? MEASUREMENT_NONE
                           : (struct measurement){t->nll / n, (double)t->correct / n, t->targets};
    return ERR_OK;
}

typedef enum err batch_fn(void *arg, struct evaluator *ev, const struct host_batch *b,
                          struct err_msg *em);

static enum err each_batch(struct evaluator *ev, struct dataset *ds, const struct row_list *list,
                           batch_fn *take, void *arg, struct err_msg *em) {
    struct batcher *b = ev->batcher;
    for (int64_t at = 0; at < list->n; at += b->max_rows) {
        int64_t left = list->n - at;
        batcher_begin(b, ds, list->rows + at, (int)(left < b->max_rows ? left : b->max_rows));
        for (;;) {
            struct host_batch batch;
            bool more;
            enum err e = batcher_next(b, &batch, &more, em);
            if (e == ERR_OK && more)
                e = take(arg, ev, &batch, em);
            if (e != ERR_OK)
                return e;
            if (!more)
                break;
        }
    }
    return ERR_OK;
}

static enum err measure_batch(void *arg, struct evaluator *ev, const struct host_batch *b,
                              struct err_msg *em) {
    return add_batch(ev, b, arg, em);
}

enum err evaluate_rows(struct evaluator *ev, struct dataset *ds, const struct row_list *list,
                       struct measurement *out, struct err_msg *em) {
    struct tally t = {0};
    pass_abandon(ev->pass);
    enum err e = each_batch(ev, ds, list, measure_batch, &t, em);
    return e == ERR_OK ? mean_of(ev, &t, out, em) : e;
}

/* Copies n elements to *at and moves *at behind them. */
static const void *keep(char **at, const void *from, size_t n, size_t size) {
    void *to = memcpy(*at, from, n * size);
    *at += n * size;
    return to;
}

static struct held_batch held_copy(const struct host_batch *b) {
    size_t tokens = (size_t)b->n_tokens, targets = (size_t)b->n_targets,
           starts = (size_t)b->n_seqs + 1, i32 = sizeof(int32_t);
    char *at = xmalloc(tokens * (sizeof(uint64_t) + 2 * i32) + (2 * targets + starts) * i32);
    struct held_batch h = {.batch = *b, .memory = at};
    h.batch.keys = keep(&at, b->keys, tokens, sizeof(uint64_t));
    h.batch.ids = keep(&at, b->ids, tokens, i32);
    h.batch.pos = keep(&at, b->pos, tokens, i32);
    h.batch.target_rows = keep(&at, b->target_rows, targets, i32);
    h.batch.target_ids = keep(&at, b->target_ids, targets, i32);
    h.batch.seq_start = keep(&at, b->seq_start, starts, i32);
    return h;
}

static enum err keep_batch(void *arg, struct evaluator *ev, const struct host_batch *b,
                           struct err_msg *em) {
    struct held_set *set = arg;
    (void)em;
    set->batches = xreallocarray(set->batches, (size_t)set->n_batches + 1, sizeof *set->batches);
    set->batches[set->n_batches++] = held_copy(b);
    set->targets += b->n_targets;
    set->flops += model_forward_flops(ev->model, ev->batcher->bin_lengths, b->n_seqs);
    return ERR_OK;
}

enum err held_set_init(struct held_set *set, struct evaluator *ev, struct dataset *ds,
                       const struct row_list *list, struct err_msg *em) {
    *set = (struct held_set){.rows = list->n};
    return each_batch(ev, ds, list, keep_batch, set, em);
}

void held_set_clear(struct held_set *set) {
    for (int i = 0; i < set->n_batches; i++)
        free(set->batches[i].memory);
    free(set->batches);
    *set = (struct held_set){0};
}

enum err held_set_measure(struct evaluator *ev, const struct held_set *set, struct measurement *out,
                          struct err_msg *em) {
    struct tally t = {0};
    pass_abandon(ev->pass);
    for (int i = 0; i < set->n_batches; i++) {
        enum err e = add_batch(ev, &set->batches[i].batch, &t, em);
        if (e != ERR_OK)
            return e;
    }
    return mean_of(ev, &t, out, em);
}
