/* The mean of the last adapters: what each counts, and its turns in the adapter's place. */
#include "engine/train/average.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { N = 37 };

static struct err_msg em;
static struct device *dev;
static struct adapter_mem mem;
static struct average average;
static float *spare;

static void open_all(void) {
    void *p;
    cr_assert_eq(device_open("cpu", 1, &dev, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(dev->ops->adapter_alloc(dev, N, DTYPE_F32, &mem, &em), ERR_OK);
    cr_assert_eq(dev->ops->mem_alloc(dev, N * sizeof(float), &p, &em), ERR_OK);
    spare = p;
    cr_assert_eq(average_init(&average, dev, &mem, spare, &em), ERR_OK);
}

static void close_all(void) {
    average_free(&average);
    dev->ops->mem_free(dev, spare);
    dev->ops->adapter_free(dev, &mem);
    device_close(dev);
}

TestSuite(average, .init = open_all, .fini = close_all);

static float value(int step, int i) {
    return sinf((float)(step * N + i)) / 3.0f;
}

/* The adapter as it would be after a step. */
static void put(int step) {
    float w[N];
    for (int i = 0; i < N; i++)
        w[i] = value(step, i);
    dev->ops->upload(dev, mem.w, w, sizeof w);
    dev->ops->adapter_refresh(dev, &mem);
}

static void get(const float *from, float out[N]) {
    cr_assert_eq(dev->ops->download(dev, out, from, N * sizeof *out, &em), ERR_OK);
}

Test(average, a_step_counts_less_the_longer_the_run) {
    static const struct {
        int64_t step, since;
        double part, weight;
    } cases[] = {
        {1, 1, 1, 1},     {2, 2, 1, 16.0 / 17}, {17, 17, 1, 0.5},      {225, 225, 1, 16.0 / 240},
        {225, 1, 1, 1},   {225, 2, 1, 0.5},     {225, 10, 1, 0.1},     {225, 16, 1, 16.0 / 240},
        {225, 225, 0, 1}, {225, 2, 0.5, 0.75},  {17, 17, 0.25, 0.875},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double weight = average_weight(cases[i].step, cases[i].since, cases[i].part);
        cr_expect_float_eq(weight, cases[i].weight, 1e-15, "case %zu: %.17g", i, weight);
    }
}

/* Begun anew late in a run, it is the plain mean of the steps since. */
Test(average, begun_anew_it_is_the_mean_of_what_follows) {
    float got[N];
    for (int step = 96; step <= 100; step++) {
        put(step);
        average_add(&average, average_weight(step, step <= 97 ? step : step - 97, 1.0));
    }
    get(average.mean, got);
    for (int i = 0; i < N; i++) {
        float mean = (value(98, i) + value(99, i) + value(100, i)) / 3.0f;
        cr_expect_float_eq(got[i], mean, 1e-6, "%d: %g, not %g", i, (double)got[i], (double)mean);
    }
}

/* Every step counts its weight times what those after it leave. */
Test(average, is_the_weighted_mean_of_all_steps) {
    float got[N];
    double want[N] = {0};
    for (int step = 1; step <= 40; step++) {
        double rest = 1.0;
        for (int later = step + 1; later <= 40; later++)
            rest *= 1.0 - 16.0 / (later + 15.0);
        for (int i = 0; i < N; i++)
            want[i] += rest * 16.0 / (step + 15.0) * (double)value(step, i);
        put(step);
        average_add(&average, average_weight(step, step, 1.0));
    }
    get(average.mean, got);
    for (int i = 0; i < N; i++)
        cr_expect_float_eq(got[i], want[i], 1e-6, "%d: %g, not %g", i, (double)got[i], want[i]);
}

Test(average, a_rate_of_nothing_leaves_the_adapter_itself) {
    float got[N], want[N];
    put(3);
    average_add(&average, 0.3);
    put(4);
    average_add(&average, average_weight(4, 4, 0.0));
    get(average.mean, got);
    get(mem.w, want);
    cr_assert_eq(memcmp(got, want, sizeof got), 0);
}

Test(average, takes_the_adapters_place_and_gives_it_back) {
    float mean[N], before[N], got[N];
    put(1);
    average_add(&average, 1.0);
    put(2);
    average_add(&average, 0.25);
    get(average.mean, mean);
    get(mem.w, before);
    average_show(&average);
    get(mem.w, got);
    cr_assert_eq(memcmp(got, mean, sizeof got), 0);
    cr_assert_neq(memcmp(got, before, sizeof got), 0);
    average_hide(&average);
    get(mem.w, got);
    cr_assert_eq(memcmp(got, before, sizeof got), 0);
    struct average off = {0};
    average_show(&off);
    average_hide(&off);
}
