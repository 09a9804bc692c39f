/* Layers that compute their activations twice: less memory, and the same bytes. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tests/reference/support/case.h"

/* Loss and gradient of a step on all rows, one after the other; the caller frees. */
static float *step(struct ref_case *c, const struct ref_batch *b, int32_t recomputed, size_t *n,
                   size_t *bytes) {
    const struct pass_limits limits = {.tokens = b->host.n_tokens,
                                       .seqs = b->host.n_seqs,
                                       .targets = b->host.n_targets,
                                       .training = true,
                                       .recomputed = recomputed};
    const struct dropout drop = {.p = adapter_options(c->adapter)->dropout, .seed = 3, .step = 1};
    struct adapter_mem *mem = adapter_mem(c->adapter);
    struct err_msg em = ERR_MSG_INIT;
    struct pass *p;
    size_t targets = (size_t)b->host.n_targets;
    float *out = xcalloc(targets + mem->n, sizeof *out);
    cr_assert_eq(pass_new(c->model, c->adapter, &limits, &p, &em), ERR_OK, "%s", em.text);
    c->dev->ops->mem_zero(c->dev, mem->g, mem->n * sizeof *mem->g);
    cr_assert_eq(pass_train(p, &b->host, 0.5f, &drop, out, NULL, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(c->dev->ops->download(c->dev, out + targets, mem->g, mem->n * sizeof *mem->g, &em),
                 ERR_OK, "%s", em.text);
    *n = targets + mem->n;
    *bytes = pass_bytes(p);
    pass_free(p);
    return out;
}

/* Weights that are not 0 in B, so that A has a gradient. */
static void stir(struct ref_case *c) {
    struct adapter_mem *mem = adapter_mem(c->adapter);
    struct err_msg em = ERR_MSG_INIT;
    float *w = xcalloc(mem->n, sizeof *w);
    cr_assert_eq(c->dev->ops->download(c->dev, w, mem->w, mem->n * sizeof *w, &em), ERR_OK);
    for (size_t i = 0; i < mem->n; i++)
        w[i] += 0.02f * (float)((int)(i * 31 % 17) - 8);
    c->dev->ops->upload(c->dev, mem->w, w, mem->n * sizeof *w);
    c->dev->ops->adapter_refresh(c->dev, mem);
    free(w);
}

static void compare(const char *name, enum dtype dtype, const struct lora_options *o) {
    static const int which[] = {0, 1, 2};
    struct ref_case c;
    struct ref_batch b;
    struct err_msg em = ERR_MSG_INIT;
    size_t n, all_bytes, bytes;
    ref_case_open(&c, name, dtype, 2);
    cr_assert_eq(adapter_new(c.model, o, 7, &c.adapter, &em), ERR_OK, "%s", em.text);
    stir(&c);
    ref_batch_make(&b, &c, which, 3);
    int32_t layers = model_config(c.model)->layers;
    float *want = step(&c, &b, 0, &n, &all_bytes);
    for (int32_t recomputed = 1; recomputed <= layers; recomputed++) {
        float *got = step(&c, &b, recomputed, &n, &bytes);
        cr_assert_eq(memcmp(got, want, n * sizeof *got), 0, "%s in %s: %d of %d layers", name,
                     dtype_name(dtype), recomputed, layers);
        if (recomputed > 1) /* the first needs a place for what it computes again */
            cr_assert_lt(bytes, all_bytes, "%s: %d of %d layers", name, recomputed, layers);
        all_bytes = bytes < all_bytes ? bytes : all_bytes;
        free(got);
    }
    free(want);
    ref_batch_clear(&b);
    ref_case_close(&c);
}

Test(recompute, gives_the_same_bytes_in_less_memory) {
    static const char *const mlp[] = {"down_proj"};
    const struct lora_options options[] = {{.rank = 4, .alpha = 8, .dropout = 0.2f},
                                           {.rank = 4, .alpha = 8, .use_dora = true},
                                           {.rank = 2, .alpha = 4, .targets = mlp, .n_targets = 1}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++)
            compare("llama-gqa", (enum dtype)dtype, &options[i]);
    compare("neox", DTYPE_F32, &options[0]); /* parallel blocks, biases */
}
