/* Batches that set out for the device while others are computed. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tests/reference/support/case.h"

enum { ROWS = 3, MOST = 128 };

struct scene {
    struct ref_case c;
    struct pass *p, *eval;
    struct ref_batch b[ROWS]; /* a row each */
};

static void open_scene(struct scene *s) {
    struct err_msg em = ERR_MSG_INIT;
    int32_t tokens = MOST;
    ref_case_open(&s->c, "llama-gqa", DTYPE_F32, 2);
    ref_case_adapter(&s->c);
    s->p = ref_pass(&s->c, true);
    cr_assert_eq(pass_new_inside(s->p, ROWS, &tokens, &s->eval, &em), ERR_OK, "%s", em.text);
    for (int r = 0; r < ROWS; r++)
        ref_batch_make(&s->b[r], &s->c, &r, 1);
}

static void close_scene(struct scene *s) {
    for (int r = 0; r < ROWS; r++)
        ref_batch_clear(&s->b[r]);
    pass_free(s->eval);
    pass_free(s->p);
    ref_case_close(&s->c);
}

/* What a batch's loss is scaled by, and its dropout, by its number. */
static float scale_of(int number) {
    return 1.0f / (float)(number + 1);
}
static struct dropout drop_of(int number) {
    return (struct dropout){.p = 0.2f, .seed = 5, .step = (uint32_t)number};
}

static void load(struct scene *s, int number) {
    struct err_msg em = ERR_MSG_INIT;
    const struct dropout drop = drop_of(number);
    cr_assert_eq(pass_train_load(s->p, &s->b[number % ROWS].host, scale_of(number), &drop, &em),
                 ERR_OK, "%s", em.text);
}

static void collect(struct scene *s, float *nll) {
    struct err_msg em = ERR_MSG_INIT;
    int32_t n;
    cr_assert_eq(pass_losses(s->p, nll, NULL, &n, &em), ERR_OK, "%s", em.text);
}

static void evaluate(struct scene *s, int row) {
    struct err_msg em = ERR_MSG_INIT;
    float nll[MOST];
    cr_assert_eq(pass_eval(s->eval, &s->b[row].host, nll, NULL, &em), ERR_OK, "%s", em.text);
}

/* Losses and gradient of BATCHES batches; ahead: each is loaded while the one before is under way,
 * after another one that is then left out, and an evaluation comes in between. */
enum { BATCHES = 6 };
static float *run(struct scene *s, bool ahead, size_t *n) {
    struct adapter_mem *mem = adapter_mem(s->c.adapter);
    const struct ops *ops = s->c.dev->ops;
    struct err_msg em = ERR_MSG_INIT;
    float *out = xcalloc(BATCHES * MOST + mem->n, sizeof *out);
    ops->mem_zero(s->c.dev, mem->g, mem->n * sizeof *mem->g);
    for (int i = 0; i < BATCHES; i++) {
        const struct dropout drop = drop_of(i);
        if (!ahead)
            cr_assert_eq(pass_train(s->p, &s->b[i % ROWS].host, scale_of(i), &drop, out + i * MOST,
                                    NULL, &em),
                         ERR_OK, "%s", em.text);
        if (!ahead)
            continue;
        if (i == 0)
            load(s, 0);
        cr_assert_eq(pass_train_loaded(s->p, &em), ERR_OK, "%s", em.text);
        load(s, i + 2);
        load(s, i + 1);
        collect(s, out + i * MOST);
        evaluate(s, (i + 2) % ROWS);
    }
    cr_assert_eq(
        ops->download(s->c.dev, out + BATCHES * MOST, mem->g, mem->n * sizeof *mem->g, &em), ERR_OK,
        "%s", em.text);
    *n = BATCHES * MOST + mem->n;
    return out;
}

Test(ahead, gives_the_same_bytes) {
    struct scene s;
    size_t n;
    open_scene(&s);
    float *want = run(&s, false, &n), *got = run(&s, true, &n);
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(memcmp(&got[i], &want[i], sizeof *got), 0, "value %zu: %g, not %g", i,
                     (double)got[i], (double)want[i]);
    free(want);
    free(got);
    close_scene(&s);
}

Test(ahead, refuses_a_bad_batch_at_once) {
    struct scene s;
    struct err_msg em = ERR_MSG_INIT;
    const struct dropout drop = drop_of(0);
    open_scene(&s);
    s.b[0].ids[0] = -1;
    cr_assert_eq(pass_train_load(s.p, &s.b[0].host, 1.0f, &drop, &em), ERR_INPUT);
    err_clear(&em);
    cr_assert_eq(pass_train_load(s.eval, &s.b[1].host, 1.0f, &drop, &em), ERR_BUG);
    close_scene(&s);
}
