/* Automatic values. */
#include "engine/train/plan.h"

#include <criterion/criterion.h>
#include <math.h>

static const struct model_config small = {.hidden = 64, .max_positions = 512};

#define REACH 32.0

static struct plan plan_of(const struct job_request *r, int64_t rows) {
    struct plan p;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(plan_make(r, &small, REACH, rows, rows, &p, &em), ERR_OK, "%s", em.text);
    return p;
}

/* n = 3; below 100 examples in all: min(25, 100 div rows); above 25000: max(1, 25000 div rows). */
Test(plan, epochs_follow_the_published_rule) {
    const int64_t rows[][2] = {{1, 25},   {4, 25},   {10, 10},   {33, 3},    {34, 3},
                               {8333, 3}, {8334, 2}, {12500, 2}, {12501, 1}, {1000000, 1}};
    struct job_request r;
    job_request_init(&r);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_assert_eq(plan_of(&r, rows[i][0]).n_epochs, rows[i][1], "%lld rows",
                     (long long)rows[i][0]);
    job_request_clear(&r);
}

Test(plan, batch_is_a_64th_of_the_rows_between_1_and_16) {
    const int64_t rows[][2] = {{1, 1}, {95, 1}, {96, 2}, {160, 3}, {640, 10}, {100000, 16}};
    struct job_request r;
    job_request_init(&r);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_assert_eq(plan_of(&r, rows[i][0]).batch_size, rows[i][1], "%lld rows",
                     (long long)rows[i][0]);
    job_request_clear(&r);
}

Test(plan, steps_cover_all_epochs_unless_max_steps_ends_them) {
    struct job_request r;
    job_request_init(&r);
    r.n_epochs = (struct auto_number){.value = 3};
    r.batch_size = (struct auto_number){.value = 4};
    cr_assert_eq(plan_of(&r, 10).total_steps, 8);
    r.training.max_steps = 5;
    cr_assert_eq(plan_of(&r, 10).total_steps, 5);
    r.training.max_steps = 50;
    cr_assert_eq(plan_of(&r, 10).total_steps, 8);
    job_request_clear(&r);
}

Test(plan, the_multiplier_scales_only_the_automatic_rate) {
    struct job_request r;
    job_request_init(&r);
    double automatic = plan_auto_learning_rate(&small, REACH);
    r.learning_rate_multiplier = (struct auto_number){.value = 0.5};
    cr_assert_float_eq(plan_of(&r, 10).learning_rate, automatic * 0.5, 1e-12);
    r.training.learning_rate = (struct auto_number){.value = 3e-4};
    cr_assert_float_eq(plan_of(&r, 10).learning_rate, 3e-4, 1e-12);
    job_request_clear(&r);
}

/* As with any other search, but that a rate four times too high is taken for the automatic one. */
Test(plan, search_auto_decides_where_a_run_begins) {
    double automatic = plan_auto_learning_rate(&small, REACH);
    const struct {
        double asked, begins;
    } cases[] = {{0.01, 0.01}, {1.0, 1.0}, {3.9, 3.9}, {4.0, 1.0}, {400.0, 1.0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job_request r;
        job_request_init(&r);
        r.training.learning_rate = (struct auto_number){.value = cases[i].asked * automatic};
        r.fast_forward = (struct fast_forward_config){.enabled = true, .search = FF_AUTO};
        struct plan p = plan_of(&r, 10);
        cr_assert_float_eq(p.learning_rate, cases[i].begins * automatic, 1e-12);
        cr_assert_eq(p.warmup_steps > 0, cases[i].begins == cases[i].asked);
        r.fast_forward.search = FF_LINEAR;
        cr_assert_float_eq(plan_of(&r, 10).learning_rate, cases[i].asked * automatic, 1e-12);
        job_request_clear(&r);
    }
}

/* The first stage goes along the first step that moves, and max_steps of them at most. */
Test(plan, a_low_rate_has_a_short_warm_up) {
    const struct {
        double part; /* of the typical rate */
        enum ff_search search;
        bool enabled;
        double ratio;
        int64_t steps;
    } cases[] = {{0.25, FF_AUTO, true, 0.1, 1},    {0.26, FF_AUTO, true, 0.1, 75},
                 {1e-4, FF_AUTO, true, 0.1, 1},    {1e-4, FF_AUTO, true, 0.0, 0},
                 {1e-4, FF_LINEAR, true, 0.1, 75}, {1e-4, FF_AUTO, false, 0.1, 75}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job_request r;
        struct plan p;
        job_request_init(&r);
        r.n_epochs = (struct auto_number){.value = 3};
        r.batch_size = (struct auto_number){.value = 4};
        r.training.warmup_ratio = cases[i].ratio;
        double rate = cases[i].part * plan_typical_learning_rate(&small, REACH, 4);
        r.training.learning_rate = (struct auto_number){.value = rate};
        r.fast_forward =
            (struct fast_forward_config){.enabled = cases[i].enabled, .search = cases[i].search};
        cr_assert_eq(plan_make(&r, &small, REACH, 1000, 1000, &p, NULL), ERR_OK);
        cr_expect_eq(p.warmup_steps, cases[i].steps, "%zu: %lld", i, (long long)p.warmup_steps);
        job_request_clear(&r);
    }
}

Test(plan, an_adapter_of_small_reach_takes_a_higher_rate) {
    struct job_request r;
    job_request_init(&r);
    r.fast_forward = (struct fast_forward_config){.enabled = true, .search = FF_AUTO};
    struct plan p;
    const struct {
        double reach, asked, begins;
    } cases[] = {{2.0, 7.9e-2, 7.9e-2}, {2.0, 8e-2, 5e-3},      {16.0, 3.9e-2, 3.9e-2},
                 {16.0, 4e-2, 5e-3},    {64.0, 9.9e-3, 9.9e-3}, {64.0, 1e-2, 2.5e-3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        r.training.learning_rate = (struct auto_number){.value = cases[i].asked};
        cr_assert_eq(plan_make(&r, &small, cases[i].reach, 1000, 1000, &p, NULL), ERR_OK);
        cr_assert_float_eq(p.learning_rate, cases[i].begins, 1e-12);
    }
    job_request_clear(&r);
}

Test(plan, automatic_rate_falls_with_the_width) {
    const int32_t widths[] = {64, 576, 896, 2048, 4096, 8192};
    double last = 1;
    for (int i = 0; i < 6; i++) {
        const struct model_config c = {.hidden = widths[i]};
        double rate = plan_auto_learning_rate(&c, REACH);
        cr_assert(rate <= last && rate >= 1e-4 && rate <= 5e-3);
        last = rate;
    }
    const struct model_config llama_8b = {.hidden = 4096}, llama_1b = {.hidden = 2048};
    cr_assert_float_eq(plan_auto_learning_rate(&llama_8b, REACH), 3e-4, 0.3e-4);
    cr_assert(plan_auto_learning_rate(&llama_1b, REACH) > 4e-4);
}

/* alpha 32 is the sweeps'; half as far needs no higher rate, twice as far needs half of it. */
Test(plan, automatic_rate_falls_with_the_adapters_reach) {
    cr_assert_float_eq(plan_reach(32.0, 16, false), 32.0, 1e-12);
    cr_assert_float_eq(plan_reach(128.0, 64, true), 1024.0, 1e-9);
    double rate = plan_auto_learning_rate(&small, 32.0);
    cr_assert_float_eq(plan_auto_learning_rate(&small, 16.0), rate, 1e-12);
    cr_assert_float_eq(plan_auto_learning_rate(&small, 128.0), rate / 4.0, 1e-12);
    cr_assert_float_eq(plan_auto_learning_rate(&small, 1024.0), rate / 32.0, 1e-12);
    cr_assert_float_eq(plan_typical_learning_rate(&small, 1024.0, 16), rate / 32.0, 1e-12);
    cr_assert_float_eq(plan_typical_learning_rate(&small, 16.0, 16), rate * 2.0, 1e-12);
    cr_assert_float_eq(plan_typical_learning_rate(&small, 2.0, 16), rate * 2.0, 1e-12);
    cr_assert_float_eq(plan_typical_learning_rate(&small, 2.0, 9), rate * 1.5, 1e-12);
    cr_assert_float_eq(plan_typical_learning_rate(&small, 2.0, 1), rate, 1e-12);
}

Test(plan, more_positions_than_the_model_has_are_refused) {
    struct job_request r;
    struct err_msg em = ERR_MSG_INIT;
    int32_t n;
    job_request_init(&r);
    cr_assert_eq(plan_max_seq_len(&r, &small, &n, &em), ERR_OK);
    cr_assert_eq(n, 512);
    r.training.max_seq_len = 513;
    cr_assert_eq(plan_max_seq_len(&r, &small, &n, &em), ERR_INPUT);
    cr_assert_str_eq(em.param, "training.max_seq_len");
    job_request_clear(&r);
}

Test(plan, too_many_steps_are_refused) {
    struct job_request r;
    struct plan p;
    struct err_msg em = ERR_MSG_INIT;
    job_request_init(&r);
    r.n_epochs = (struct auto_number){.value = 100};
    r.batch_size = (struct auto_number){.value = 1};
    cr_assert_eq(plan_make(&r, &small, REACH, 10000000, 10000000, &p, &em), ERR_INPUT);
    cr_assert_str_eq(em.param, "hyperparameters.n_epochs");
    job_request_clear(&r);
}

Test(plan, capacity_of_a_pass) {
    const struct model_config narrow = {.hidden = 576}, wide = {.hidden = 896};
    cr_assert_eq(plan_capacity(true, &narrow, 100, 16), 1024);
    cr_assert_eq(plan_capacity(true, &wide, 100, 16), 512);
    cr_assert_eq(plan_capacity(true, &wide, 100, 3), 300); /* all rows of a step */
    cr_assert_eq(plan_capacity(true, &wide, 700, 3), 700); /* the longest row */
    cr_assert_eq(plan_capacity(false, &wide, 100, 100), 8192);
}
