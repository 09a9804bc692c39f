/* Fifty AdamW steps against torch's, and the adapter's files against PEFT's. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/model/config_json.h"
#include "tests/reference/support/case.h"

#define CASE_PARAMETERS(suite, name)                                                               \
    ParameterizedTestParameters(suite, name) {                                                     \
        static int numbers[32];                                                                    \
        for (int i = 0; i < ref_n_cases; i++)                                                      \
            numbers[i] = i;                                                                        \
        return cr_make_param_array(int, numbers, (size_t)ref_n_cases);                             \
    }

/* ---- the trajectory ------------------------------------------------------------------------- */

struct run {
    struct ref_case c;
    struct pass *p;
    float *m, *v, *nll;
    double lr, decay, max_norm;
    int batch;
};

static double setting(const struct run *r, const char *key) {
    return json_number_value(json_object_get(json_object_get(r->c.expected, "train"), key));
}

static void run_open(struct run *r, const char *name, enum dtype dtype, int threads) {
    struct err_msg em = ERR_MSG_INIT;
    ref_case_open(&r->c, name, dtype, threads);
    ref_case_adapter(&r->c);
    r->p = ref_pass(&r->c, true);
    size_t bytes = adapter_size(r->c.adapter) * sizeof(float);
    const struct ops *ops = r->c.dev->ops;
    void *m, *v;
    cr_assert_eq(ops->mem_alloc(r->c.dev, bytes, &m, &em), ERR_OK);
    cr_assert_eq(ops->mem_alloc(r->c.dev, bytes, &v, &em), ERR_OK);
    ops->mem_zero(r->c.dev, m, bytes);
    ops->mem_zero(r->c.dev, v, bytes);
    r->m = m, r->v = v;
    r->nll = xcalloc(4096, sizeof *r->nll);
    r->lr = setting(r, "learning_rate");
    r->decay = setting(r, "weight_decay");
    r->max_norm = setting(r, "max_grad_norm");
    r->batch = (int)setting(r, "batch");
}

static void run_close(struct run *r) {
    r->c.dev->ops->mem_free(r->c.dev, r->m);
    r->c.dev->ops->mem_free(r->c.dev, r->v);
    free(r->nll);
    pass_free(r->p);
    ref_case_close(&r->c);
}

static double add_gradient(struct run *r, const struct ref_batch *b, int32_t targets) {
    struct err_msg em = ERR_MSG_INIT;
    const struct dropout off = {0};
    double sum = 0;
    cr_assert_eq(pass_train(r->p, &b->host, 1.0f / (float)targets, &off, r->nll, NULL, &em), ERR_OK,
                 "%s", em.text);
    for (int32_t i = 0; i < b->host.n_targets; i++)
        sum += r->nll[i];
    return sum / targets;
}

/* One optimizer step; the batch goes through the model in `pieces` micro-batches. */
static double step(struct run *r, int number, int pieces, double *norm) {
    struct err_msg em = ERR_MSG_INIT;
    struct adapter_mem *mem = adapter_mem(r->c.adapter);
    const struct ops *ops = r->c.dev->ops;
    struct ref_batch b[4];
    int which[4];
    int32_t targets = 0;
    double loss = 0, sumsq;
    int each = r->batch / pieces;
    for (int i = 0; i < r->batch; i++)
        which[i] = ((number - 1) * r->batch + i) % r->c.n_rows;
    for (int i = 0; i < pieces; i++) {
        ref_batch_make(&b[i], &r->c, which + i * each, each);
        targets += b[i].host.n_targets;
    }
    ops->mem_zero(r->c.dev, mem->g, mem->n * sizeof *mem->g);
    for (int i = 0; i < pieces; i++) {
        loss += add_gradient(r, &b[i], targets);
        ref_batch_clear(&b[i]);
    }
    const struct adamw o = {(float)r->lr,      0.9f, 0.999f, 1e-8f, (float)r->decay, number,
                            (float)r->max_norm};
    cr_assert_eq(ops->adamw(r->c.dev, &o, mem, r->m, r->v, &sumsq, &em), ERR_OK);
    *norm = sqrt(sumsq);
    return loss;
}

static void check_trajectory(const char *name, int threads, int pieces) {
    struct run r;
    size_t i;
    json_t *want;
    run_open(&r, name, DTYPE_F32, threads);
    const json_t *norms = json_object_get(json_object_get(r.c.expected, "train"), "grad_norms");
    json_array_foreach(json_object_get(json_object_get(r.c.expected, "train"), "losses"), i, want) {
        if (i == ref_steps_most)
            break;
        double norm, loss = step(&r, (int)i + 1, pieces, &norm);
        double want_norm = json_number_value(json_array_get(norms, i));
        cr_expect_float_eq(loss, json_number_value(want), 1e-4, "step %zu: loss %.7g, not %.7g",
                           i + 1, loss, json_number_value(want));
        cr_expect_float_eq(norm, want_norm, 1e-3 * want_norm, "step %zu: norm %.7g, not %.7g",
                           i + 1, norm, want_norm);
    }
    run_close(&r);
}

CASE_PARAMETERS(training, fifty_losses_agree_with_torch)
ParameterizedTest(const int *number, training, fifty_losses_agree_with_torch) {
    check_trajectory(ref_cases[*number], 2, 1);
}

CASE_PARAMETERS(training, fifty_losses_in_bf16_agree_within_a_hundredth)
ParameterizedTest(const int *number, training, fifty_losses_in_bf16_agree_within_a_hundredth) {
    struct run r;
    size_t i;
    json_t *want;
    run_open(&r, ref_cases[*number], DTYPE_BF16, 2);
    json_array_foreach(json_object_get(json_object_get(r.c.expected, "train"), "losses"), i, want) {
        if (i == ref_steps_most)
            break;
        double norm, loss = step(&r, (int)i + 1, 1, &norm), torch = json_number_value(want);
        cr_expect_float_eq(loss, torch, 1e-2 * torch, "step %zu: loss %.5g, not %.5g", i + 1, loss,
                           torch);
    }
    run_close(&r);
}

Test(training, micro_batches_give_the_same_losses) {
    check_trajectory("llama-gqa", 1, 2);
    check_trajectory("qwen2", 2, 4);
}

Test(training, weights_do_not_depend_on_the_number_of_threads) {
    float *kept = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        struct run r;
        struct err_msg em = ERR_MSG_INIT;
        double norm;
        run_open(&r, "llama-gqa", DTYPE_F32, threads);
        for (int i = 1; i <= 5; i++)
            (void)step(&r, i, 1, &norm);
        struct adapter_mem *mem = adapter_mem(r.c.adapter);
        float *w = xcalloc(mem->n, sizeof *w);
        cr_assert_eq(r.c.dev->ops->download(r.c.dev, w, mem->w, mem->n * sizeof *w, &em), ERR_OK);
        if (kept == NULL)
            kept = w;
        else
            cr_assert_eq(memcmp(kept, w, mem->n * sizeof *w), 0, "%d threads", threads);
        if (kept != w)
            free(w);
        run_close(&r);
    }
    free(kept);
}

/* ---- the adapter's files -------------------------------------------------------------------- */

static void read_all(const char *dir, const char *name, char **out, size_t *len) {
    struct err_msg em = ERR_MSG_INIT;
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    cr_assert_eq(file_read(path, 1 << 20, out, len, &em), ERR_OK, "%s", em.text);
}

CASE_PARAMETERS(adapter_file, saved_tensors_are_pefts_bytes)
ParameterizedTest(const int *number, adapter_file, saved_tensors_are_pefts_bytes) {
    struct ref_case c;
    struct err_msg em = ERR_MSG_INIT;
    char dir[] = "/tmp/ffwd-test-XXXXXX", peft[512];
    char *got, *want;
    size_t got_len, want_len;
    cr_assert_not_null(mkdtemp(dir));
    ref_case_open(&c, ref_cases[*number], DTYPE_F32, 1);
    ref_case_adapter(&c);
    cr_assert_eq(adapter_save(c.adapter, dir, ref_cases[*number], &em), ERR_OK, "%s", em.text);
    (void)snprintf(peft, sizeof peft, "%s/adapter", c.dir);
    read_all(dir, "adapter_model.safetensors", &got, &got_len);
    read_all(peft, "adapter_model.safetensors", &want, &want_len);
    cr_assert_eq(got_len, want_len);
    cr_expect_eq(memcmp(got, want, want_len), 0);
    free(got);
    free(want);
    ref_case_close(&c);
    (void)snprintf(peft, sizeof peft, "rm -rf %s", dir);
    cr_assert_eq(system(peft), 0);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* PEFT writes the list in the order of a set. */
static void sort_strings(json_t *list) {
    const char *text[64];
    size_t n = json_array_size(list);
    json_t *copy = json_deep_copy(list);
    cr_assert_leq(n, 64);
    for (size_t i = 0; i < n; i++)
        text[i] = json_string_value(json_array_get(copy, i));
    qsort(text, n, sizeof *text, by_text);
    json_array_clear(list);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_string(text[i]));
    json_decref(copy);
}

CASE_PARAMETERS(adapter_file, saved_configuration_says_what_pefts_says)
ParameterizedTest(const int *number, adapter_file, saved_configuration_says_what_pefts_says) {
    struct ref_case c;
    struct err_msg em = ERR_MSG_INIT;
    struct config_json got, want;
    const char *key;
    json_t *value;
    char dir[] = "/tmp/ffwd-test-XXXXXX", path[512], peft[512];
    cr_assert_not_null(mkdtemp(dir));
    ref_case_open(&c, ref_cases[*number], DTYPE_F32, 1);
    ref_case_adapter(&c);
    cr_assert_eq(adapter_save(c.adapter, dir, ref_cases[*number], &em), ERR_OK, "%s", em.text);
    (void)snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    (void)snprintf(peft, sizeof peft, "%s/adapter/adapter_config.json", c.dir);
    cr_assert_eq(config_json_open(path, &got, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(config_json_open(peft, &want, &em), ERR_OK, "%s", em.text);
    sort_strings(json_object_get(want.object, "target_modules"));
    json_object_foreach(got.object, key, value) {
        char *mine = json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS);
        char *theirs =
            json_dumps(json_object_get(want.object, key), JSON_ENCODE_ANY | JSON_SORT_KEYS);
        cr_expect_str_eq(mine, theirs, "%s: %s, not %s", key, mine, theirs);
        free(mine);
        free(theirs);
    }
    config_json_close(&got);
    config_json_close(&want);
    ref_case_close(&c);
    (void)snprintf(path, sizeof path, "rm -rf %s", dir);
    cr_assert_eq(system(path), 0);
}
