/* AdamW's moments over updates, and an update after the first one was dropped. */
#include "engine/train/optimizer.h"

#include <criterion/criterion.h>
#include <math.h>

enum { N = 37 };
#define RATE 0.01

static struct err_msg em;
static struct device *dev;
static struct adapter_mem mem;
static struct optimizer optimizer;

static void open_all(void) {
    cr_assert_eq(device_open("cpu", 1, &dev, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(dev->ops->adapter_alloc(dev, N, DTYPE_F32, &mem, &em), ERR_OK);
    cr_assert_eq(optimizer_init(&optimizer, dev, N, 0.0, 1e9, &em), ERR_OK);
}

static void close_all(void) {
    optimizer_free(&optimizer);
    dev->ops->adapter_free(dev, &mem);
    device_close(dev);
}

TestSuite(optimizer, .init = open_all, .fini = close_all);

static float gradient(int step, int i) {
    return sinf((float)(step * N + i + 1)) / 3.0f;
}

static void step(int number) {
    float g[N];
    double norm;
    for (int i = 0; i < N; i++)
        g[i] = gradient(number, i);
    dev->ops->upload(dev, mem.g, g, sizeof g);
    cr_assert_eq(optimizer_step(&optimizer, &mem, RATE, &norm, &em), ERR_OK, "%s", em.text);
}

static void get(const float *from, float out[N]) {
    cr_assert_eq(dev->ops->download(dev, out, from, N * sizeof *out, &em), ERR_OK);
}

Test(optimizer, forgets_the_first_moment_alone) {
    float m[N], v[N], v_before[N];
    for (int n = 1; n <= 3; n++)
        step(n);
    get(optimizer.v, v_before);
    optimizer_forget(&optimizer);
    get(optimizer.m, m);
    get(optimizer.v, v);
    for (int i = 0; i < N; i++) {
        cr_assert_eq(m[i], 0.0f, "%d: %g", i, (double)m[i]);
        cr_assert(v[i] > 0.0f && v[i] == v_before[i], "%d: %g", i, (double)v[i]);
    }
    cr_assert_eq(optimizer.updates, 3);
}

/* Of one gradient, as long as the corrections of all four updates make it. */
Test(optimizer, the_next_step_is_a_short_one_along_the_gradient) {
    float before[N], after[N], v[N];
    for (int n = 1; n <= 3; n++)
        step(n);
    optimizer_forget(&optimizer);
    get(mem.w, before);
    step(4);
    get(mem.w, after);
    get(optimizer.v, v);
    for (int i = 0; i < N; i++) {
        double first = 0.1 * (double)gradient(4, i) / (1.0 - pow(0.9, 4));
        double second = (double)v[i] / (1.0 - pow(0.999, 4));
        double want = -RATE * first / (sqrt(second) + 1e-8);
        double got = (double)after[i] - (double)before[i];
        cr_assert_float_eq(got, want, 1e-7, "%d: %g, not %g", i, got, want);
    }
}
