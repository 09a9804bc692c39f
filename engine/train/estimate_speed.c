/* estimate_speed: a step's time by its depth, measured on few blocks and few tokens.
 *
 * A model of a few hundred million weights would take too long to load and run while a job trains.
 * Its blocks are alike: time(layers) = a + b · layers, where a is the table, the head and the loss.
 * Two depths give a and b. */
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/model/adapter.h"
#include "engine/train/estimate.h"

#define WORK 6e10 /* FLOPs of a measured step at most */
#define LEAST_TOKENS 64
#define MOST_TOKENS 1024
#define SECONDS 1.0 /* for each depth, at most this or two steps */

struct sample {
    struct model *model;
    struct adapter *adapter;
    struct pass *pass;
    struct host_batch batch;
    int32_t *ints;
    uint64_t *keys;
    float *nll;
};

/* One packed batch of rows of n tokens, every token trained. */
static void make_batch(struct sample *s, int32_t tokens, int32_t row, int32_t vocab) {
    int32_t seqs = (tokens + row - 1) / row;
    s->ints = xcalloc((size_t)tokens * 4 + (size_t)seqs + 1, sizeof *s->ints);
    s->keys = xcalloc((size_t)tokens, sizeof *s->keys);
    s->nll = xcalloc((size_t)tokens, sizeof *s->nll);
    int32_t *ids = s->ints, *pos = ids + tokens, *rows = pos + tokens, *targets = rows + tokens,
            *start = targets + tokens;
    for (int32_t i = 0; i < tokens; i++) {
        ids[i] = (int32_t)((uint32_t)i * 2654435761u % (uint32_t)vocab);
        pos[i] = i % row;
        rows[i] = i;
        targets[i] = ids[i];
        s->keys[i] = (uint64_t)i;
    }
    for (int32_t q = 0; q <= seqs; q++)
        start[q] = q * row < tokens ? q * row : tokens;
    s->batch = (struct host_batch){.n_tokens = tokens,
                                   .n_seqs = seqs,
                                   .n_targets = tokens,
                                   .ids = ids,
                                   .pos = pos,
                                   .seq_start = start,
                                   .target_rows = rows,
                                   .target_ids = targets,
                                   .keys = s->keys};
}

static void sample_close(struct sample *s) {
    pass_free(s->pass);
    adapter_free(s->adapter);
    model_close(s->model);
    free(s->ints);
    free(s->keys);
    free(s->nll);
}

static enum err time_steps(struct sample *s, double *best, struct err_msg *em) {
    const struct dropout off = {0};
    double begin = clock_mono();
    *best = INFINITY;
    for (int i = 0; i < 2 || (i < 20 && clock_mono() - begin < SECONDS); i++) {
        double start = clock_mono();
        enum err e = pass_train(s->pass, &s->batch, 1e-3f, &off, s->nll, NULL, em);
        if (e != ERR_OK)
            return e;
        *best = fmin(*best, clock_mono() - start);
    }
    return ERR_OK;
}

static enum err measure(struct device *dev, const struct model_config *config, int32_t layers,
                        enum dtype dtype, const struct lora_options *lora, int32_t tokens,
                        int32_t row, double *seconds, struct err_msg *em) {
    struct sample s = {0};
    struct model_config shallow = *config;
    shallow.layers = layers;
    const struct pass_limits limits = {tokens, (tokens + row - 1) / row, tokens, true, 0};
    enum err e = model_open_random(dev, &shallow, dtype, &s.model, em);
    if (e == ERR_OK)
        e = adapter_new(s.model, lora, 1, &s.adapter, em);
    if (e == ERR_OK)
        e = pass_new(s.model, s.adapter, &limits, &s.pass, em);
    if (e == ERR_OK) {
        make_batch(&s, tokens, row, config->vocab);
        e = time_steps(&s, seconds, em);
    }
    sample_close(&s);
    return e;
}

enum err estimate_speed(struct device *dev, const struct model_config *config, enum dtype dtype,
                        const struct lora_config *lora, int64_t tokens, double *flops_per_second,
                        struct err_msg *em) {
    struct model_config two = *config;
    const struct lora_options o = {.rank = (int32_t)lora->rank, .alpha = (float)lora->alpha};
    int32_t most = config->max_positions < MOST_TOKENS ? config->max_positions : MOST_TOKENS;
    two.layers = config->layers < 2 ? config->layers : 2;
    double affordable = WORK / (4.0 * (double)model_config_matmul_weights(&two));
    int32_t n = (int32_t)fmin(fmax(affordable, LEAST_TOKENS), MOST_TOKENS);
    int32_t row = tokens < 2 ? 2 : tokens < most ? (int32_t)tokens : most;
    row = row < n ? row : n;
    double one = 0, more = 0;
    enum err e = measure(dev, config, 1, dtype, &o, n, row, &one, em);
    if (e == ERR_OK && two.layers == 2)
        e = measure(dev, config, 2, dtype, &o, n, row, &more, em);
    if (e != ERR_OK)
        return e;
    double block = fmax(more - one, 0.05 * one);
    double seconds = one + block * (config->layers - 1);
    double pairs = 0.5 * n * (row + 1.0);
    double flops = 4.0 * (double)model_config_matmul_weights(config) * n +
                   8.0 * config->layers * config->heads * config->head_dim * pairs;
    *flops_per_second = flops / seconds;
    return ERR_OK;
}
