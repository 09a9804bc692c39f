/* Evaluation in the memory of a training pass: more tokens, the same numbers, no trace in the next
 * step. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/adapter.h"
#include "engine/model/model.h"

#define MODEL "tests/reference/cases/llama-gqa"
enum { LEN = 9, ROWS = 64, TRAINED_ROWS = 2, TOKENS = LEN * ROWS, TARGETS = (LEN - 1) * ROWS };

static struct err_msg em;
static struct device *dev;
static struct model *model;
static struct adapter *adapter;
static struct pass *training;

struct rows {
    int32_t ids[TOKENS], pos[TOKENS], start[ROWS + 1], rows[TARGETS], targets[TARGETS];
    uint64_t keys[TOKENS];
};

/* n rows from row `first` on, in buffers of their own. */
static struct host_batch batch_of(struct rows *r, int first, int n) {
    int32_t targets = 0;
    for (int i = 0; i < n * LEN; i++) {
        r->ids[i] = (first * LEN + i) * 7 % 59 + 1;
        r->pos[i] = i % LEN;
        r->keys[i] = (uint64_t)(first + i / LEN) << 32 | (uint64_t)r->pos[i];
        if (r->pos[i] == 0)
            continue;
        r->rows[targets] = i - 1;
        r->targets[targets++] = r->ids[i];
    }
    for (int i = 0; i <= n; i++)
        r->start[i] = i * LEN;
    return (struct host_batch){n * LEN,  n,       targets,    r->ids, r->pos,
                               r->start, r->rows, r->targets, r->keys};
}

static void open_all(enum dtype dtype, const struct lora_options *o) {
    const struct pass_limits limits = {TRAINED_ROWS * LEN, TRAINED_ROWS, TRAINED_ROWS * LEN, true,
                                       0};
    cr_assert_eq(device_open("cpu", 2, &dev, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(model_open(dev, MODEL, dtype, &model, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(adapter_new(model, o, 1, &adapter, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(pass_new(model, adapter, &limits, &training, &em), ERR_OK, "%s", em.text);
    struct adapter_mem *mem = adapter_mem(adapter);
    float *w = calloc(mem->n, sizeof *w);
    cr_assert_eq(dev->ops->download(dev, w, mem->w, mem->n * sizeof *w, &em), ERR_OK);
    for (size_t i = 0; i < mem->n; i++)
        w[i] += 0.02f * (float)((int)(i * 31 % 17) - 8); /* B is 0 in a new adapter */
    dev->ops->upload(dev, mem->w, w, mem->n * sizeof *w);
    dev->ops->adapter_refresh(dev, mem);
    free(w);
}

static void close_all(void) {
    pass_free(training);
    adapter_free(adapter);
    model_close(model);
    device_close(dev);
}

/* The gradient of a step on two rows. */
static float *gradient(size_t *n) {
    static struct rows r;
    static float nll[TARGETS];
    const struct host_batch b = batch_of(&r, 3, TRAINED_ROWS);
    const struct dropout drop = {.p = 0.1f, .seed = 5, .step = 1};
    struct adapter_mem *mem = adapter_mem(adapter);
    float *g = calloc(mem->n, sizeof *g);
    dev->ops->mem_zero(dev, mem->g, mem->n * sizeof *g);
    cr_assert_eq(pass_train(training, &b, 0.1f, &drop, nll, NULL, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(dev->ops->download(dev, g, mem->g, mem->n * sizeof *g, &em), ERR_OK);
    *n = mem->n;
    return g;
}

/* All rows at once in the training pass's memory, and one by one in the training pass itself. */
static void compare(double tolerance) {
    static struct rows r;
    static float together[TARGETS], alone[LEN];
    struct pass *inside;
    int32_t tokens = TOKENS;
    size_t n;
    cr_assert_eq(pass_new_inside(training, ROWS, &tokens, &inside, &em), ERR_OK, "%s", em.text);
    cr_expect_gt(tokens, TRAINED_ROWS * LEN, "%d", tokens);
    cr_assert_lt(tokens, TOKENS, "the memory of two rows does not hold %d", ROWS);
    float *before = gradient(&n);
    int rows = tokens / LEN;
    const struct host_batch b = batch_of(&r, 0, rows);
    cr_assert_eq(pass_eval(inside, &b, together, NULL, &em), ERR_OK, "%s", em.text);
    float *after = gradient(&n);
    cr_expect_eq(memcmp(before, after, n * sizeof *before), 0, "the evaluation left a trace");
    for (int row = 0; row < rows; row++) {
        const struct host_batch one = batch_of(&r, row, 1);
        cr_assert_eq(pass_eval(training, &one, alone, NULL, &em), ERR_OK, "%s", em.text);
        for (int i = 0; i < LEN - 1; i++)
            cr_expect_float_eq(together[row * (LEN - 1) + i], alone[i], tolerance,
                               "row %d, target %d: %.9g and %.9g", row, i,
                               (double)together[row * (LEN - 1) + i], (double)alone[i]);
    }
    const struct host_batch more = batch_of(&r, 0, rows + 1);
    cr_expect_neq(pass_eval(inside, &more, together, NULL, &em), ERR_OK, "one row too many");
    err_clear(&em);
    pass_free(inside);
    free(before);
    free(after);
}

Test(pass_inside, gives_the_same_losses_and_leaves_no_trace) {
    static const char *const some[] = {"q_proj", "down_proj"};
    static const struct lora_options options[] = {
        {.rank = 4, .alpha = 8, .dropout = 0.1f},
        {.rank = 8, .alpha = 8, .dropout = 0.1f, .targets = some, .n_targets = 2},
        {.rank = 4, .alpha = 8, .dropout = 0.1f, .use_dora = true}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        for (enum dtype dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
            open_all(dtype, &options[i]);
            compare(dtype == DTYPE_F32 ? 1e-5 : 5e-3);
            close_all();
        }
    }
}

/* A resumed run must pack its evaluations as the first one did. */
Test(pass_inside, its_size_follows_from_the_training_pass_alone) {
    const struct lora_options o = {.rank = 4, .alpha = 8};
    int32_t first = 0;
    for (int i = 0; i < 2; i++) {
        struct pass *inside;
        int32_t tokens = 1 << 20;
        open_all(DTYPE_F32, &o);
        cr_assert_eq(pass_new_inside(training, ROWS, &tokens, &inside, &em), ERR_OK, "%s", em.text);
        cr_expect(i == 0 || tokens == first);
        first = tokens;
        pass_free(inside);
        close_all();
    }
}
