/* The same weights to the byte whatever the number of threads, on a model whose products are cut
 * into other tiles for each number: several rows and columns of tiles, and sums long enough for
 * several chunks, which the width of a tile must not change. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/model/adapter.h"
#include "engine/model/config.h"
#include "engine/model/model.h"

enum { TOKENS = 300, EXAMPLES = 3, STEPS = 2, THREADS = 5 };
static const int32_t first_token[EXAMPLES + 1] = {0, 41, 240, TOKENS};

static struct model_config config(void) {
    struct model_config c;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(model_config_shape("smollm2-135m", &c, &em), ERR_OK, "%s", em.text);
    c.hidden = 640;
    c.intermediate = 2000;
    c.layers = 1;
    c.heads = 10;
    c.kv_heads = 2;
    c.vocab = 3000;
    return c;
}

/* Random tokens, each a target of the one before it. */
struct tokens {
    int32_t ids[TOKENS], pos[TOKENS], rows[TOKENS], targets[TOKENS];
    uint64_t keys[TOKENS];
    struct host_batch batch;
};

static void tokens_make(struct tokens *t, int32_t vocab) {
    uint64_t state = 42;
    int32_t n = 0;
    for (int32_t e = 0; e < EXAMPLES; e++)
        for (int32_t i = first_token[e]; i < first_token[e + 1]; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            t->ids[i] = (int32_t)((state >> 33) % (uint64_t)vocab);
            t->pos[i] = i - first_token[e];
            t->keys[i] = (uint64_t)i;
            if (t->pos[i] > 0) {
                t->rows[n] = i - 1;
                t->targets[n++] = t->ids[i];
            }
        }
    t->batch = (struct host_batch){TOKENS,      EXAMPLES, n,          t->ids, t->pos,
                                   first_token, t->rows,  t->targets, t->keys};
}

/* The adapter after a few steps, to be freed. */
static float *trained(enum dtype dtype, int threads, size_t *n) {
    struct err_msg em = ERR_MSG_INIT;
    struct device *dev;
    struct model *model;
    struct adapter *adapter;
    struct pass *pass;
    struct tokens *t = xcalloc(1, sizeof *t);
    float nll[TOKENS];
    double sumsq;
    const struct model_config c = config();
    const struct lora_options lora = {.rank = 24, .alpha = 48, .dropout = 0.1f};
    const struct pass_limits limits = {TOKENS, EXAMPLES, TOKENS, true, 0};
    cr_assert_eq(device_open("cpu", threads, &dev, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(model_open_random(dev, &c, dtype, &model, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(adapter_new(model, &lora, 1, &adapter, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(pass_new(model, adapter, &limits, &pass, &em), ERR_OK, "%s", em.text);
    tokens_make(t, c.vocab);
    struct adapter_mem *mem = adapter_mem(adapter);
    size_t bytes = mem->n * sizeof(float);
    float *m = xcalloc(mem->n, sizeof *m), *v = xcalloc(mem->n, sizeof *v);
    for (int step = 1; step <= STEPS; step++) {
        const struct dropout drop = {.p = lora.dropout, .seed = 7, .step = (uint32_t)step};
        const struct adamw o = {1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, step, 1.0f};
        memset(mem->g, 0, bytes);
        cr_assert_eq(pass_train(pass, &t->batch, 1.0f / TOKENS, &drop, nll, NULL, &em), ERR_OK,
                     "%s", em.text);
        cr_assert_eq(dev->ops->adamw(dev, &o, mem, m, v, &sumsq, &em), ERR_OK);
    }
    float *w = xmalloc(bytes);
    memcpy(w, mem->w, bytes);
    *n = mem->n;
    free(m);
    free(v);
    free(t);
    pass_free(pass);
    adapter_free(adapter);
    model_close(model);
    device_close(dev);
    return w;
}

static void check_threads(enum dtype dtype) {
    size_t n;
    float *one = trained(dtype, 1, &n);
    for (int threads = 2; threads <= THREADS; threads++) {
        float *more = trained(dtype, threads, &n);
        size_t i = 0;
        while (i < n && memcmp(&one[i], &more[i], sizeof *one) == 0)
            i++;
        cr_assert_eq(i, n, "%s, %d threads: weight %zu of %zu is %a, not %a", dtype_name(dtype),
                     threads, i, n, (double)more[i], (double)one[i]);
        free(more);
    }
    free(one);
}

Test(threads, weights_do_not_depend_on_their_number, .timeout = 300) {
    check_threads(DTYPE_F32);
}

Test(threads, weights_in_bf16_do_not_depend_on_their_number, .timeout = 300) {
    check_threads(DTYPE_BF16);
}
