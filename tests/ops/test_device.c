/* Opening devices, their memory, and the team of threads. */
#include <criterion/criterion.h>
#include <float.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/ops/cpu/team.h"
#include "engine/ops/ops.h"

Test(device, cpu_opens_with_the_threads_asked_for) {
    struct device *dev;
    struct device_info info;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(device_open("cpu", 3, &dev, &em), ERR_OK);
    dev->ops->info(dev, &info);
    cr_assert_str_eq(info.kind, "cpu");
    cr_assert_eq(info.threads, 3);
    cr_assert_gt(info.memory_total, (size_t)1 << 28);
    cr_assert_gt(strlen(info.name), (size_t)0);
    cr_assert_gt(dev->ops->mem_peak(dev), (size_t)1 << 20);
    cr_assert_null(dev->ops->choices_text(dev)); /* one way to compute anything */
    cr_assert(dev->ops->choices_use(dev, NULL));
    cr_assert_not(dev->ops->choices_use(dev, "of another device"));
    device_close(dev);
    device_close(NULL);
}

Test(device, refuses_what_it_does_not_know) {
    static const char *const bad[] = {"", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:1234", "cudax"};
    struct device *dev;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err_msg em = ERR_MSG_INIT;
        cr_assert_eq(device_open(bad[i], 0, &dev, &em), ERR_USAGE, "%s", bad[i]);
        cr_assert(strstr(em.text, "unknown device"), "%s", em.text);
    }
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(device_open("cpu", -1, &dev, &em), ERR_USAGE);
    err_clear(&em);
    cr_assert_eq(device_open("cpu", 100000, &dev, &em), ERR_USAGE);
}

/* The library is looked for beside the program, and a test program has none. */
Test(device, cuda_is_refused_by_name_where_it_is_absent) {
    struct device *dev;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(device_open("cuda:1", 0, &dev, &em), ERR_DEVICE);
    cr_assert(strstr(em.text, "libffwd-cuda.so was not found"), "%s", em.text);
    err_clear(&em);
    cr_assert_eq(device_open("auto", 1, &dev, &em), ERR_OK);
    device_close(dev);
}

Test(device, memory_is_aligned_and_bounded) {
    struct device *dev;
    struct err_msg em = ERR_MSG_INIT;
    void *p;
    unsigned char bytes[100], back[100];
    for (int i = 0; i < 100; i++)
        bytes[i] = (unsigned char)(3 * i);
    cr_assert_eq(device_open("cpu", 1, &dev, &em), ERR_OK);
    static const size_t sizes[] = {0, 1, 100, 1 << 20, (9 << 20) + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        cr_assert_eq(dev->ops->mem_alloc(dev, sizes[i], &p, &em), ERR_OK);
        cr_assert_eq((uintptr_t)p % 64, 0);
        if (sizes[i] >= 100) {
            char *end = (char *)p + sizes[i] - 100;
            dev->ops->upload(dev, end, bytes, 100);
            cr_assert_eq(dev->ops->download(dev, back, end, 100, &em), ERR_OK);
            cr_assert_eq(memcmp(bytes, back, 100), 0);
            dev->ops->mem_zero(dev, end, 50);
            dev->ops->mem_copy(dev, end + 50, end, 50);
            cr_assert_eq(end[99], 0);
        }
        dev->ops->mem_free(dev, p);
    }
    cr_assert_eq(dev->ops->mem_alloc(dev, SIZE_MAX - 10, &p, &em), ERR_NO_MEMORY);
    cr_assert_null(p);
    cr_assert(strstr(em.text, "18446744073709551605"), "%s", em.text);
    cr_assert_eq(dev->ops->sync(dev, NULL), ERR_OK);
    device_close(dev);
}

struct marks {
    int64_t n;
    atomic_int *seen; /* [n] */
    atomic_int busy[8];
    atomic_bool clash;
};

static void mark(void *arg, int64_t item, int worker) {
    struct marks *m = arg;
    if (atomic_fetch_add(&m->busy[worker], 1) != 0)
        atomic_store(&m->clash, true);
    atomic_fetch_add(&m->seen[item], 1);
    atomic_fetch_sub(&m->busy[worker], 1);
}

Test(team, runs_every_item_once) {
    for (int threads = 1; threads <= 5; threads++) {
        struct team *team = team_new(threads);
        cr_assert_eq(team_size(team), threads);
        for (int64_t run = 0; run < 600; run++) {
            struct marks m = {.n = run % 13 * (run % 7)};
            m.seen = xcalloc((size_t)m.n + 1, sizeof *m.seen);
            team_run(team, m.n, mark, &m);
            for (int64_t i = 0; i < m.n; i++)
                cr_assert_eq(atomic_load(&m.seen[i]), 1);
            cr_assert_not(atomic_load(&m.clash));
            free(m.seen);
            if (run % 100 == 99)
                usleep(2000); /* long enough for the threads to fall asleep */
        }
        team_free(team);
    }
    team_free(NULL);
}

struct halves {
    int64_t n;
    double values[64];
    bool seen[8]; /* by worker */
};

static void halve_smallest(void *arg, int64_t item, int worker) {
    struct halves *h = arg;
    volatile float smallest = FLT_MIN;
    h->values[item] = (double)(smallest / 2);
    h->seen[worker] = true;
    usleep(500); /* so that the others get some */
}

Test(team, subnormal_numbers_are_zero_inside_items_only) {
    struct team *team = team_new(3);
    struct halves h = {.n = 64};
    for (int64_t i = 0; i < h.n; i++)
        h.values[i] = 1;
    team_run(team, h.n, halve_smallest, &h);
    for (int64_t i = 0; i < h.n; i++)
        cr_assert_eq(h.values[i], 0);
    cr_assert(h.seen[0] && (h.seen[1] || h.seen[2]));
    halve_smallest(&h, 0, 0);
    cr_assert_gt(h.values[0], 0);
    team_free(team);
}
