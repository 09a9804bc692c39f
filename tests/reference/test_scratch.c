/* Scratch memory is planned as it is used: after a step, no slot is larger than what was counted
 * for it. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/mem.h"
#include "engine/model/adapter.h"
#include "engine/model/config.h"
#include "engine/model/internal.h"
#include "engine/ops/cpu/cpu.h"

struct run {
    int32_t tokens, examples, rank;
    float dropout;
    bool dora;
};

static struct model_config shape(void) {
    struct model_config c;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(model_config_shape("smollm2-135m", &c, &em), ERR_OK, "%s", em.text);
    c.layers = 1;
    c.hidden = 320;
    c.intermediate = 900;
    c.heads = 4;
    c.kv_heads = 2;
    c.head_dim = 80;
    c.vocab = 3000;
    return c;
}

/* One step over examples of one length; what its pass was planned for. */
static struct op_shapes step(struct device *dev, const struct model_config *c, enum dtype dtype,
                             const struct lora_options *lora, const struct pass_limits *limits) {
    struct err_msg em = ERR_MSG_INIT;
    struct model *model;
    struct adapter *adapter;
    struct pass *pass;
    int32_t n = limits->tokens, length = n / limits->seqs;
    int32_t *ids = xcalloc((size_t)n, sizeof *ids), *pos = xcalloc((size_t)n, sizeof *pos);
    int32_t *rows = xcalloc((size_t)n, sizeof *rows), *start = xcalloc((size_t)n, sizeof *start);
    uint64_t *keys = xcalloc((size_t)n, sizeof *keys);
    float *nll = xcalloc((size_t)n, sizeof *nll);
    for (int32_t i = 0; i < n; i++) {
        ids[i] = i % c->vocab;
        pos[i] = i % length;
        rows[i] = i;
        keys[i] = (uint64_t)i;
    }
    for (int32_t i = 0; i <= limits->seqs; i++)
        start[i] = i * length;
    const struct host_batch batch = {n, limits->seqs, n, ids, pos, start, rows, ids, keys};
    const struct dropout drop = {.p = lora->dropout, .seed = 7, .step = 1};
    cr_assert_eq(model_open_random(dev, c, dtype, &model, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(adapter_new(model, lora, 1, &adapter, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(pass_new(model, adapter, limits, &pass, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(pass_train(pass, &batch, 1e-3f, &drop, nll, NULL, &em), ERR_OK, "%s", em.text);
    const struct op_shapes most = pass_shapes(pass);
    pass_free(pass);
    adapter_free(adapter);
    model_close(model);
    free(ids);
    free(pos);
    free(rows);
    free(start);
    free(keys);
    free(nll);
    return most;
}

/* Slots are up to a quarter larger than what was asked for; what is small is not counted. */
static void check_slots(const struct cpu_scratch *used, const struct cpu_need *planned,
                        const char *what) {
    enum { SMALL = 32 << 10 };
    for (int slot = 0; slot < SLOT_COUNT; slot++)
        cr_expect_leq(used->size[slot] / 5 * 4, (size_t)planned->bytes[slot] + SMALL,
                      "%s, slot %d: %zu bytes, planned are %lld", what, slot, used->size[slot],
                      (long long)planned->bytes[slot]);
}

static void check(const struct run *r, enum dtype dtype, int threads) {
    struct err_msg em = ERR_MSG_INIT;
    struct device *dev;
    char what[160];
    const struct model_config config = shape();
    const struct lora_options lora = {
        .rank = r->rank, .alpha = 16, .dropout = r->dropout, .use_dora = r->dora};
    const struct pass_limits limits = {r->tokens, r->examples, r->tokens, true, 0};
    cr_assert_eq(device_open("cpu", threads, &dev, &em), ERR_OK, "%s", em.text);
    const struct op_shapes most = step(dev, &config, dtype, &lora, &limits);
    const struct cpu *c = cpu_of(dev);
    const struct cpu_need worker = cpu_worker_need(c, &most), shared = cpu_shared_need(c, &most);
    (void)snprintf(what, sizeof what, "%s, %d threads, %d tokens, rank %d", dtype_name(dtype),
                   threads, r->tokens, r->rank);
    for (int i = 0; i < threads; i++)
        check_slots(&c->scratch[i], &worker, what);
    check_slots(&c->scratch[threads], &shared, what);
    device_close(dev);
}

Test(scratch, is_planned_without_an_adapter) {
    struct err_msg em = ERR_MSG_INIT;
    struct device *dev;
    const struct model_config c = shape();
    const struct op_shapes base = {.tokens = 100,
                                   .targets = 100,
                                   .seqs = 1,
                                   .longest = 100,
                                   .hidden = c.hidden,
                                   .inputs = c.intermediate,
                                   .outputs = 2 * c.intermediate,
                                   .heads = c.heads,
                                   .head_dim = c.head_dim,
                                   .keys = c.kv_heads * c.head_dim,
                                   .vocab = c.vocab};
    cr_assert_eq(device_open("cpu", 2, &dev, &em), ERR_OK, "%s", em.text);
    for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        struct op_shapes most = base;
        most.dtype = (enum dtype)dtype;
        cr_expect_gt(dev->ops->scratch_bytes(dev, &most), 0);
    }
    device_close(dev);
}

Test(scratch, is_planned_as_it_is_used, .timeout = 300) {
    static const struct run runs[] = {{64, 2, 8, 0, false},       {300, 3, 16, 0, false},
                                      {300, 3, 100, 0.1f, false}, {700, 1, 16, 0.1f, true},
                                      {1500, 1, 16, 0, false},    {1500, 50, 200, 0.1f, false}};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++)
        for (int threads = 1; threads <= 3; threads += 2) {
            check(&runs[i], DTYPE_F32, threads);
            check(&runs[i], DTYPE_BF16, threads);
        }
}
