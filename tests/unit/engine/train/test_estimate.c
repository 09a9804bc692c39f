/* Estimates: counted memory is what is taken; a sample's numbers are near those of the whole file.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/model/model_size.h"
#include "engine/text/dataset_model.h"
#include "engine/train/estimate.h"
#include "engine/train/plan.h"

#define MODEL "tests/reference/cases/llama-gqa"
#define CHAT_MODEL "examples/models/ffwd-tiny"

static struct err_msg em;

Test(estimate, counted_sizes_are_those_that_are_taken) {
    struct device *dev;
    struct model *m;
    struct adapter *ad;
    struct pass *pass;
    struct model_size size;
    static const char *const some[] = {"q_proj", "down_proj"};
    static const struct lora_options options[] = {
        {.rank = 4, .alpha = 8},
        {.rank = 3, .alpha = 8, .targets = some, .n_targets = 2},
        {.rank = 4, .alpha = 8, .use_dora = true}};
    cr_assert_eq(device_open("cpu", 1, &dev, &em), ERR_OK);
    cr_assert_eq(model_open(dev, MODEL, DTYPE_F32, &m, &em), ERR_OK, "%s", em.text);
    for (int32_t tokens = 7; tokens < 300; tokens += 97) {
        for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
            const struct pass_limits limits = {tokens, 3, tokens, true, 0};
            cr_assert_eq(adapter_new(m, &options[i], 1, &ad, &em), ERR_OK, "%s", em.text);
            cr_assert_eq(pass_new(m, ad, &limits, &pass, &em), ERR_OK, "%s", em.text);
            const struct pass_limits eval = {.tokens = 4 * tokens, .seqs = 9};
            int32_t inside_tokens = eval.tokens;
            struct pass *inside;
            cr_assert_eq(pass_new_inside(pass, eval.seqs, &inside_tokens, &inside, &em), ERR_OK);
            cr_assert_eq(model_size(dev, model_config(m), DTYPE_F32, &options[i], &limits, &eval,
                                    &size, &em),
                         ERR_OK);
            cr_expect_eq(size.eval_tokens, inside_tokens);
            pass_free(inside);
            cr_expect_eq(size.pass_bytes, pass_bytes(pass));
            cr_expect_eq(size.adapter_values, adapter_size(ad));
            pass_free(pass);
            adapter_free(ad);
        }
    }
    model_close(m);
    device_close(dev);
}

Test(estimate, rows_are_shared_out_as_documented) {
    static const struct {
        int64_t train, valid, examples, held, full, trained;
    } cases[] = {{600, -1, 32, 32, 0, 568}, {100, -1, 32, 10, 0, 90},    {5, -1, 32, 1, 0, 4},
                 {1, -1, 32, 0, 0, 1},      {600, 100, 32, 32, 68, 600}, {600, 20, 32, 20, 0, 600}};
    struct fast_forward_config ff = {.enabled = true};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ff.validation_examples = cases[i].examples;
        struct row_shares s = plan_shares(&ff, cases[i].train, cases[i].valid);
        cr_expect_eq(s.held, cases[i].held, "case %zu: %ld", i, (long)s.held);
        cr_expect_eq(s.full, cases[i].full);
        cr_expect_eq(s.trained, cases[i].trained);
    }
    ff.enabled = false;
    cr_expect_eq(plan_shares(&ff, 600, -1).trained, 600);
}

Test(estimate, rows_measured_follow_what_a_step_costs) {
    static const struct {
        int64_t batch, steps, held, rows;
    } cases[] = {{64, 100, 32, 32}, {512, 16, 32, 32}, {9, 200, 32, 9}, {4, 200, 32, 4},
                 {1, 1000, 32, 4},  {16, 100, 32, 8},  {16, 25, 32, 4}, {16, 50, 3, 3}};
    struct fast_forward_config ff = {.enabled = true, .search = FF_AUTO};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct plan p = {.batch_size = cases[i].batch, .total_steps = cases[i].steps};
        cr_expect_eq(plan_rows_measured(&ff, &p, cases[i].held), cases[i].rows, "case %zu", i);
    }
    ff.search = FF_LINEAR;
    const struct plan p = {.batch_size = 1, .total_steps = 10};
    cr_expect_eq(plan_rows_measured(&ff, &p, 32), 32);
}

/* ---- samples -------------------------------------------------------------------------------- */

static char path[] = "/tmp/ffwd-test-estimate-XXXXXX";
static struct dataset_model text;

static enum err report_on(int64_t sample_bytes, struct dataset_report *out) {
    struct dataset_options o;
    struct dataset *ds = NULL;
    dataset_model_options(&text, 64, &o);
    o.sample_bytes = sample_bytes;
    err_clear(&em);
    enum err e = dataset_open(path, &o, &ds, out, &em);
    dataset_close(ds);
    return e;
}

/* Rows of 1 to 60 words; bad: a line that is JSON but no conversation. */
static void write_rows(int n, int bad) {
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    FILE *f = fdopen(fd, "w");
    uint32_t x = 7;
    for (int i = 0; i < n; i++) {
        if (i == bad) {
            fputs("{\"messages\":[{\"role\":\"nobody\",\"content\":\"x\"}]}\n", f);
            continue;
        }
        fputs("{\"messages\":[{\"role\":\"user\",\"content\":\"say\"},{\"role\":\"assistant\","
              "\"content\":\"",
              f);
        x = x * 1664525u + 1013904223u;
        for (uint32_t k = 0; k <= (x >> 16) % 60; k++)
            fprintf(f, "word%u ", (x >> 8 & 7) + k);
        fputs("\"}]}\n", f);
    }
    cr_assert_eq(fclose(f), 0);
}

static void open_text_model(void) {
    cr_assert_eq(dataset_model_open(CHAT_MODEL, &text, &em), ERR_OK, "%s", em.text);
}
static void close_text_model(void) {
    dataset_model_close(&text);
    unlink(path);
}
TestSuite(sample, .init = open_text_model, .fini = close_text_model);

static bool near(double a, double b, double share) {
    return fabs(a - b) <= share * b;
}

Test(sample, is_near_the_whole_and_repeatable) {
    struct dataset_report all = {0}, some = {0}, again = {0};
    write_rows(6000, -1);
    cr_assert_eq(report_on(0, &all), ERR_OK, "%s", em.text);
    cr_assert_eq(report_on((all.bytes + 19) / 20, &some), ERR_OK, "%s", em.text);
    cr_assert_eq(report_on((all.bytes + 19) / 20, &again), ERR_OK);
    cr_expect_eq(all.sampled, 0);
    cr_expect_eq(some.sampled, 300);
    cr_expect_eq(some.rows, all.rows);
    cr_expect_str_eq(some.sha256, all.sha256);
    cr_expect_eq(some.duplicates, all.duplicates);
    cr_expect(near((double)some.tokens, (double)all.tokens, 0.05), "%ld, whole %ld",
              (long)some.tokens, (long)all.tokens);
    cr_expect(near((double)some.trained_tokens, (double)all.trained_tokens, 0.05));
    cr_expect(near(some.token_pairs, all.token_pairs, 0.1));
    cr_expect(near((double)some.truncated, (double)all.truncated, 0.15), "%ld, whole %ld",
              (long)some.truncated, (long)all.truncated);
    cr_expect(near((double)some.median_tokens, (double)all.median_tokens, 0.15));
    cr_expect_eq(some.tokens, again.tokens);
    cr_expect_eq(some.truncated, again.truncated);
    dataset_report_clear(&all);
    dataset_report_clear(&some);
    dataset_report_clear(&again);
}

/* A row that is not in the sample is checked all the same, with the same words. */
Test(sample, finds_what_the_whole_pass_finds) {
    struct dataset_report all = {0}, some = {0};
    write_rows(500, 333);
    cr_assert_eq(report_on(0, &all), ERR_INPUT);
    cr_assert_eq(report_on(all.bytes / 50, &some), ERR_INPUT);
    cr_assert_eq(all.bad, 1);
    cr_assert_eq(some.bad, 1);
    cr_expect_eq(some.bad_lines[0].line, 334);
    cr_expect_str_eq(some.bad_lines[0].reason, all.bad_lines[0].reason);
    dataset_report_clear(&all);
    dataset_report_clear(&some);
}
