/* Gradients where PEFT cannot be the judge: the backward pass ends at the lowest LoRA site, and
 * dropout draws the same mask in both directions. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/model/internal.h"
#include "tests/reference/support/case.h"

static const int all_rows[] = {0, 1, 2, 3, 4, 5};

static struct adapter *make(struct model *m, const char *target, float dropout) {
    struct err_msg em = ERR_MSG_INIT;
    struct adapter *ad;
    const struct lora_options o = {.rank = 4,
                                   .alpha = 8,
                                   .dropout = dropout,
                                   .targets = target != NULL ? &target : NULL,
                                   .n_targets = target != NULL};
    cr_assert_eq(adapter_new(m, &o, 7, &ad, &em), ERR_OK, "%s", em.text);
    return ad;
}

/* Mean loss of all rows; the gradient is left in the adapter. */
static double loss_and_gradient(struct ref_case *c, const struct dropout *drop) {
    struct err_msg em = ERR_MSG_INIT;
    struct adapter_mem *mem = adapter_mem(c->adapter);
    struct pass *p = ref_pass(c, true);
    struct ref_batch b;
    double sum = 0;
    ref_batch_make(&b, c, all_rows, c->n_rows);
    float *nll = xcalloc((size_t)b.host.n_targets, sizeof *nll);
    c->dev->ops->mem_zero(c->dev, mem->g, mem->n * sizeof *mem->g);
    cr_assert_eq(pass_train(p, &b.host, 1.0f / (float)b.host.n_targets, drop, nll, NULL, &em),
                 ERR_OK, "%s", em.text);
    for (int32_t i = 0; i < b.host.n_targets; i++)
        sum += nll[i];
    sum /= b.host.n_targets;
    free(nll);
    ref_batch_clear(&b);
    pass_free(p);
    return sum;
}

static float *copy(struct ref_case *c, const float *src) {
    struct err_msg em = ERR_MSG_INIT;
    size_t bytes = adapter_size(c->adapter) * sizeof(float);
    float *out = xmalloc(bytes);
    cr_assert_eq(c->dev->ops->download(c->dev, out, src, bytes, &em), ERR_OK);
    return out;
}

/* With B = 0 all adapters compute the same function, so a B's gradient does not depend on which
 * other projections carry LoRA. */
static void check_partial(struct ref_case *c, const char *target, const struct adapter *full,
                          const float *want) {
    const struct dropout off = {0};
    size_t n_full, n;
    c->adapter = make(c->model, target, 0);
    (void)loss_and_gradient(c, &off);
    float *got = copy(c, adapter_mem(c->adapter)->g);
    struct adapter_entry *full_list = adapter_entries(full, &n_full);
    struct adapter_entry *list = adapter_entries(c->adapter, &n);
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < n_full && strcmp(full_list[k].name, list[i].name) != 0)
            k++;
        cr_assert_lt(k, n_full);
        for (int64_t v = 0; v < list[i].rows * list[i].cols; v++) {
            float a = got[list[i].offset + (size_t)v], b = want[full_list[k].offset + (size_t)v];
            cr_assert_float_eq(a, b, 1e-6 + 1e-4 * fabsf(b), "%s[%d]: %g, not %g", list[i].name,
                               (int)v, (double)a, (double)b);
        }
    }
    free(full_list);
    free(list);
    free(got);
    adapter_free(c->adapter);
}

static void check_partials(const char *name, const char *const *targets, size_t n) {
    const struct dropout off = {0};
    struct ref_case c;
    ref_case_open(&c, name, DTYPE_F32, 1);
    struct adapter *full = c.adapter = make(c.model, NULL, 0);
    (void)loss_and_gradient(&c, &off);
    float *want = copy(&c, adapter_mem(full)->g);
    for (size_t i = 0; i < n; i++)
        check_partial(&c, targets[i], full, want);
    free(want);
    c.adapter = full;
    ref_case_close(&c);
}

Test(gradients, a_partial_adapter_gets_the_gradient_of_the_full_one) {
    static const char *const llama[] = {"down_proj",
                                        "o_proj",
                                        "up_proj",
                                        "gate_proj",
                                        "v_proj",
                                        "layers.1.mlp.down_proj",
                                        "layers.1.self_attn.k_proj"};
    static const char *const neox[] = {"dense_4h_to_h", "dense", "dense_h_to_4h", "query_key_value",
                                       "layers.1.attention.dense"};
    check_partials("llama-gqa", llama, sizeof llama / sizeof llama[0]);
    check_partials("neox", neox, sizeof neox / sizeof neox[0]);
    check_partials("neox-sequential", neox, sizeof neox / sizeof neox[0]);
}

/* w + step · direction, for a direction of ±1. */
static void move(struct ref_case *c, const float *w, const float *direction, float step) {
    struct adapter_mem *mem = adapter_mem(c->adapter);
    float *moved = xmalloc(mem->n * sizeof *moved);
    for (size_t i = 0; i < mem->n; i++)
        moved[i] = w[i] + step * direction[i];
    c->dev->ops->upload(c->dev, mem->w, moved, mem->n * sizeof *moved);
    c->dev->ops->adapter_refresh(c->dev, mem);
    free(moved);
}

/* Along a random direction the loss changes as the gradient says (central differences). */
static void check_differences(const char *name) {
    const struct dropout drop = {.p = 0.3f, .seed = 11, .step = 3};
    const float h = 2e-3f;
    struct ref_case c;
    ref_case_open(&c, name, DTYPE_F32, 1);
    ref_case_adapter(&c); /* its B is not zero */
    size_t n = adapter_size(c.adapter);
    float *w = copy(&c, adapter_mem(c.adapter)->w), *direction = xcalloc(n, sizeof *direction);
    double plain = loss_and_gradient(&c, &(struct dropout){0});
    double dropped = loss_and_gradient(&c, &drop);
    cr_assert(fabs(plain - dropped) > 1e-3, "dropout changed nothing");
    float *g = copy(&c, adapter_mem(c.adapter)->g);
    uint64_t x = 42;
    for (int trial = 0; trial < 4; trial++) {
        double want = 0;
        for (size_t i = 0; i < n; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u; /* Knuth's LCG */
            direction[i] = x >> 63 ? 1.0f : -1.0f;
            want += (double)g[i] * direction[i];
        }
        move(&c, w, direction, h);
        double up = loss_and_gradient(&c, &drop);
        move(&c, w, direction, -h);
        double down = loss_and_gradient(&c, &drop), got = (up - down) / (2 * (double)h);
        cr_expect_float_eq(got, want, 1e-2 * fabs(want) + 2e-3, "%g, not %g", got, want);
    }
    free(w);
    free(g);
    free(direction);
    ref_case_close(&c);
}

Test(gradients, finite_differences_agree_under_dropout) {
    check_differences("llama-tied-bias");
    check_differences("neox");
}
