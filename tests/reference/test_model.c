/* Forward and backward against what transformers + PEFT computed (make_reference.py). */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/model/safetensors.h"
#include "tests/reference/support/case.h"

#define CASE_PARAMETERS(suite, name)                                                               \
    ParameterizedTestParameters(suite, name) {                                                     \
        static int numbers[32];                                                                    \
        for (int i = 0; i < ref_n_cases; i++)                                                      \
            numbers[i] = i;                                                                        \
        return cr_make_param_array(int, numbers, (size_t)ref_n_cases);                             \
    }

static const int one_by_one[] = {0, 1, 2, 3, 4, 5};

static double number_at(const json_t *a, size_t i) {
    return json_number_value(json_array_get(a, i));
}

CASE_PARAMETERS(model, logits_agree_with_transformers)
ParameterizedTest(const int *number, model, logits_agree_with_transformers) {
    struct ref_case c;
    struct err_msg em = ERR_MSG_INIT;
    ref_case_open(&c, ref_cases[*number], DTYPE_F32, 1);
    struct pass *p = ref_pass(&c, false);
    const json_t *all = json_object_get(c.expected, "base_logits");
    int32_t vocab = model_config(c.model)->vocab;
    for (int r = 0; r < (int)json_array_size(all); r++) {
        const json_t *rows = json_array_get(all, (size_t)r);
        int32_t n = (int32_t)json_array_size(rows);
        float *logits = xcalloc((size_t)(n * vocab), sizeof *logits);
        struct ref_batch b;
        ref_batch_make(&b, &c, &r, 1);
        cr_assert_eq(pass_logits(p, &b.host, n, logits, &em), ERR_OK, "%s", em.text);
        for (int32_t i = 0; i < n * vocab; i++) {
            double want = number_at(json_array_get(rows, (size_t)(i / vocab)), (size_t)(i % vocab));
            cr_expect_float_eq(logits[i], want, 1e-4, "row %d position %d id %d: %.7g, not %.7g", r,
                               i / vocab, i % vocab, logits[i], want);
        }
        ref_batch_clear(&b);
        free(logits);
    }
    pass_free(p);
    ref_case_close(&c);
}

/* NLL of all rows in one batch, and again row by row. */
static void check_nll(struct ref_case *c, const char *key, double tolerance) {
    struct err_msg em = ERR_MSG_INIT;
    struct pass *p = ref_pass(c, false);
    const json_t *all = json_object_get(c->expected, key);
    struct ref_batch packed;
    ref_batch_make(&packed, c, one_by_one, c->n_rows);
    int32_t n = packed.host.n_targets, at = 0;
    float *nll = xcalloc((size_t)n, sizeof *nll), *alone = xcalloc((size_t)n, sizeof *alone);
    cr_assert_eq(pass_eval(p, &packed.host, nll, NULL, &em), ERR_OK, "%s", em.text);
    for (int r = 0; r < c->n_rows; r++) {
        const json_t *row = json_array_get(all, (size_t)r);
        struct ref_batch b;
        ref_batch_make(&b, c, &r, 1);
        cr_assert_eq((size_t)b.host.n_targets, json_array_size(row));
        cr_assert_eq(pass_eval(p, &b.host, alone, NULL, &em), ERR_OK, "%s", em.text);
        for (int32_t i = 0; i < b.host.n_targets; i++, at++) {
            double want = number_at(row, (size_t)i);
            cr_expect_float_eq(nll[at], want, tolerance, "packed: row %d target %d: %.8g, not %.8g",
                               r, i, nll[at], want);
            cr_expect_float_eq(alone[i], want, tolerance, "alone: row %d target %d: %.8g, not %.8g",
                               r, i, alone[i], want);
        }
        ref_batch_clear(&b);
    }
    cr_assert_eq(at, n);
    ref_batch_clear(&packed);
    free(nll);
    free(alone);
    pass_free(p);
}

CASE_PARAMETERS(model, nll_agrees_with_transformers)
ParameterizedTest(const int *number, model, nll_agrees_with_transformers) {
    struct ref_case c;
    ref_case_open(&c, ref_cases[*number], DTYPE_F32, 2);
    check_nll(&c, "base_nll", 1e-5);
    ref_case_close(&c);
}

CASE_PARAMETERS(model, nll_with_an_adapter_agrees_with_peft)
ParameterizedTest(const int *number, model, nll_with_an_adapter_agrees_with_peft) {
    struct ref_case c;
    ref_case_open(&c, ref_cases[*number], DTYPE_F32, 2);
    ref_case_adapter(&c);
    check_nll(&c, "adapter_nll", 1e-5);
    ref_case_close(&c);
}

/* Losses asked for later, while the next batch is under way and after its memory was used again,
 * are those of a batch that was waited for. */
Test(model, losses_come_later) {
    enum { ROWS = 3, MOST = 64 };
    struct ref_case c;
    struct err_msg em = ERR_MSG_INIT;
    struct ref_batch b[ROWS];
    float want[ROWS][MOST], nll[MOST];
    uint8_t right[ROWS][MOST], correct[MOST];
    int32_t n;
    ref_case_open(&c, "llama-gqa", DTYPE_F32, 1);
    struct pass *p = ref_pass(&c, false);
    for (int r = 0; r < ROWS; r++) {
        ref_batch_make(&b[r], &c, &r, 1);
        cr_assert_eq(pass_eval(p, &b[r].host, want[r], right[r], &em), ERR_OK, "%s", em.text);
    }
    for (int turn = 0; turn < 4; turn++) {
        for (int r = 0; r <= ROWS; r++) {
            if (r < ROWS)
                cr_assert_eq(pass_eval_start(p, &b[r].host, &em), ERR_OK, "%s", em.text);
            if (r == 0)
                continue;
            cr_assert_eq(pass_losses(p, nll, correct, &n, &em), ERR_OK, "%s", em.text);
            cr_assert_eq(n, b[r - 1].host.n_targets);
            cr_assert_eq(memcmp(nll, want[r - 1], (size_t)n * sizeof *nll), 0, "row %d", r - 1);
            cr_assert_eq(memcmp(correct, right[r - 1], (size_t)n), 0, "row %d", r - 1);
        }
        cr_assert_eq(pass_losses(p, nll, correct, &n, &em), ERR_BUG);
        for (int i = 0; i < turn && i < PASS_STARTED; i++)
            cr_assert_eq(pass_eval_start(p, &b[2].host, NULL), ERR_OK);
        if (pass_started(p) == PASS_STARTED)
            cr_assert_eq(pass_eval_start(p, &b[2].host, NULL), ERR_BUG);
        pass_abandon(p);
        err_clear(&em);
    }
    for (int r = 0; r < ROWS; r++)
        ref_batch_clear(&b[r]);
    pass_free(p);
    ref_case_close(&c);
}

CASE_PARAMETERS(model, loss_in_bf16_agrees_within_a_hundredth)
ParameterizedTest(const int *number, model, loss_in_bf16_agrees_within_a_hundredth) {
    struct ref_case c;
    struct err_msg em = ERR_MSG_INIT;
    ref_case_open(&c, ref_cases[*number], DTYPE_BF16, 1);
    ref_case_adapter(&c);
    struct pass *p = ref_pass(&c, false);
    struct ref_batch b;
    ref_batch_make(&b, &c, one_by_one, c.n_rows);
    float *nll = xcalloc((size_t)b.host.n_targets, sizeof *nll);
    cr_assert_eq(pass_eval(p, &b.host, nll, NULL, &em), ERR_OK, "%s", em.text);
    double sum = 0, want = 0;
    for (int32_t i = 0; i < b.host.n_targets; i++)
        sum += nll[i];
    size_t r, i;
    json_t *row, *value;
    json_array_foreach(json_object_get(c.expected, "adapter_nll"), r, row)
        json_array_foreach(row, i, value) want += json_number_value(value);
    cr_expect_lt(fabs(sum - want), 1e-2 * want, "%g, not %g", sum, want);
    free(nll);
    ref_batch_clear(&b);
    pass_free(p);
    ref_case_close(&c);
}

/* ---- gradients ------------------------------------------------------------------------------ */

/* ‖got - want‖ / ‖want‖ of one matrix. */
static double relative(const float *got, const float *want, size_t n) {
    double d = 0, w = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        w += (double)want[i] * want[i];
    }
    return sqrt(d / w);
}

static const struct safetensor *find_gradient(const struct safetensors *st, const char *name) {
    const struct safetensor *t = safetensors_find(st, name);
    cr_assert_not_null(t, "%s", name);
    return t;
}

/* The gradient is read back under PEFT's names: saved as if it were the adapter's weights. */
static void save_gradient(struct ref_case *c, const char *dir) {
    struct err_msg em = ERR_MSG_INIT;
    struct adapter_mem *mem = adapter_mem(c->adapter);
    c->dev->ops->mem_copy(c->dev, mem->w, mem->g, mem->n * sizeof *mem->g);
    cr_assert_eq(adapter_save(c->adapter, dir, "gradient", &em), ERR_OK, "%s", em.text);
}

CASE_PARAMETERS(model, gradients_agree_with_peft)
ParameterizedTest(const int *number, model, gradients_agree_with_peft) {
    struct ref_case c;
    struct err_msg em = ERR_MSG_INIT;
    struct safetensors *want, *got;
    char dir[] = "/tmp/ffwd-test-XXXXXX", path[512];
    cr_assert_not_null(mkdtemp(dir));
    ref_case_open(&c, ref_cases[*number], DTYPE_F32, 2);
    ref_case_adapter(&c);
    struct pass *p = ref_pass(&c, true);
    struct ref_batch b;
    ref_batch_make(&b, &c, one_by_one, c.n_rows);
    float *nll = xcalloc((size_t)b.host.n_targets, sizeof *nll);
    const struct dropout off = {0};
    cr_assert_eq(pass_train(p, &b.host, 1.0f / (float)b.host.n_targets, &off, nll, NULL, &em),
                 ERR_OK, "%s", em.text);
    save_gradient(&c, dir);
    (void)snprintf(path, sizeof path, "%s/gradients.safetensors", c.dir);
    cr_assert_eq(safetensors_open(path, &want, &em), ERR_OK, "%s", em.text);
    (void)snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    cr_assert_eq(safetensors_open(path, &got, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(safetensors_count(got), safetensors_count(want));
    for (size_t i = 0; i < safetensors_count(want); i++) {
        const struct safetensor *w = safetensors_at(want, i), *g = find_gradient(got, w->name);
        cr_assert_eq(g->bytes, w->bytes);
        double error = relative(g->data, w->data, w->bytes / sizeof(float));
        cr_expect_lt(error, 1e-4, "%s: relative error %.3g", w->name, error);
    }
    safetensors_close(want);
    safetensors_close(got);
    free(nll);
    ref_batch_clear(&b);
    pass_free(p);
    ref_case_close(&c);
    (void)snprintf(path, sizeof path, "rm -rf %s", dir);
    cr_assert_eq(system(path), 0);
}
