/* stories260K, a real model of 260 thousand weights: logits and losses of llama2.c's own program.
 * Runs where the shared data folder is present (FFWD_SHARED, or ../shared). */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "tests/reference/support/case.h"

static bool find_data(char *dir, size_t cap) {
    const char *shared = getenv("FFWD_SHARED");
    char config[512];
    (void)snprintf(dir, cap, "%s/data/stories260K", shared != NULL ? shared : "../shared");
    (void)snprintf(config, sizeof config, "%s/hf/config.json", dir);
    if (file_size(config) >= 0)
        return true;
    puts("SKIP: stories260K is not in the shared data folder");
    return false;
}

/* The golden file's first n ids as one row, every token trained. */
static void make_row(struct ref_case *c, const json_t *ids) {
    struct ref_row *r = &c->rows[c->n_rows++];
    r->n = (int32_t)json_array_size(ids);
    r->ids = xcalloc((size_t)r->n, sizeof *r->ids);
    r->labels = xcalloc((size_t)r->n, sizeof *r->labels);
    for (int32_t i = 0; i < r->n; i++)
        r->ids[i] = r->labels[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
}

static void check(struct ref_case *c, int32_t positions) {
    struct err_msg em = ERR_MSG_INIT;
    struct pass *p = ref_pass(c, false);
    struct ref_batch b;
    int row = 0;
    ref_batch_make(&b, c, &row, 1);
    const json_t *logits = json_object_get(c->expected, "logits_first_16_positions");
    const json_t *nll = json_object_get(c->expected, "nll_next");
    int32_t vocab = model_config(c->model)->vocab;
    float *got = xcalloc((size_t)(positions * vocab), sizeof *got);
    float *losses = xcalloc((size_t)b.host.n_targets, sizeof *losses);
    cr_assert_eq(pass_logits(p, &b.host, positions, got, &em), ERR_OK, "%s", em.text);
    for (int32_t i = 0; i < positions * vocab; i++) {
        double want = json_number_value(
            json_array_get(json_array_get(logits, (size_t)(i / vocab)), (size_t)(i % vocab)));
        cr_expect_float_eq(got[i], want, 1e-4, "position %d id %d: %g, not %g", i / vocab,
                           i % vocab, got[i], want);
    }
    cr_assert_eq(pass_eval(p, &b.host, losses, NULL, &em), ERR_OK, "%s", em.text);
    for (int32_t i = 0; i < b.host.n_targets; i++) {
        double want = json_number_value(json_array_get(nll, (size_t)i));
        cr_expect_float_eq(losses[i], want, 1e-5, "token %d: %g, not %g", i, losses[i], want);
    }
    free(got);
    free(losses);
    ref_batch_clear(&b);
    pass_free(p);
}

Test(stories260k, gives_the_logits_and_losses_of_llama2_c) {
    struct ref_case c = {0};
    struct err_msg em = ERR_MSG_INIT;
    char dir[300], path[512];
    if (!find_data(dir, sizeof dir))
        return;
    (void)snprintf(path, sizeof path, "%s/golden_run_c.json", dir);
    c.expected = json_load_file(path, 0, NULL);
    cr_assert_not_null(c.expected, "%s", path);
    cr_assert_eq(device_open("cpu", 2, &c.dev, &em), ERR_OK, "%s", em.text);
    (void)snprintf(path, sizeof path, "%s/hf", dir);
    cr_assert_eq(model_open(c.dev, path, DTYPE_F32, &c.model, &em), ERR_OK, "%s", em.text);
    make_row(&c, json_object_get(c.expected, "ids"));
    check(&c, 16);
    ref_case_close(&c);
}
