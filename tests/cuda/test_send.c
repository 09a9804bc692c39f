/* What is sent beside the work: it arrives whole, where and when it should, and what it overtakes
 * is not disturbed. That a wait is missing between the two streams the emulation says by itself. */
#include <criterion/criterion.h>
#include <string.h>

#include "engine/ops/cuda/cuda.h"
#include "tests/cuda/emulation/emulation.h"

enum { BYTES = 256 };

struct scene {
    struct device *dev;
    struct send *s;
    unsigned char *dst, *kept; /* on the device */
};

static void open_scene(struct scene *t) {
    struct err_msg em = ERR_MSG_INIT;
    void *p;
    cr_assert_eq(ffwd_cuda_open(0, &t->dev, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(t->dev->ops->send_new(t->dev, BYTES, &t->s, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(t->dev->ops->mem_alloc(t->dev, 64 * BYTES, &p, &em), ERR_OK, "%s", em.text);
    t->dst = p;
    t->kept = t->dst + BYTES;
}

static void close_scene(struct scene *t) {
    t->dev->ops->mem_free(t->dev, t->dst);
    t->dev->ops->send_free(t->dev, t->s);
    device_close(t->dev);
}

static void begin(struct scene *t, int value) {
    memset(t->dev->ops->send_open(t->dev, t->s), value, BYTES);
    t->dev->ops->send_begin(t->dev, t->s);
}

static void end(struct scene *t, unsigned char *dst) {
    t->dev->ops->send_end(t->dev, t->s, dst);
}

static void check(struct scene *t, const unsigned char *p, int value) {
    unsigned char host[BYTES], want[BYTES];
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(t->dev->ops->download(t->dev, host, p, BYTES, &em), ERR_OK, "%s", em.text);
    memset(want, value, BYTES);
    cr_assert_eq(memcmp(host, want, BYTES), 0, "%d, not %d", host[0], value);
}

/* The next one is under way before the work on this one is asked for; and the host never waits for
 * that work, only for copies. */
Test(send, arrives_while_the_one_before_is_in_use) {
    struct scene t;
    open_scene(&t);
    begin(&t, 1);
    for (int i = 1; i <= 40; i++) {
        end(&t, t.dst);
        begin(&t, i + 1);
        t.dev->ops->mem_copy(t.dev, t.kept + i * BYTES, t.dst, BYTES); /* the work */
    }
    for (int i = 1; i <= 40; i++)
        check(&t, t.kept + i * BYTES, i);
    check(&t, t.dst, 40);
    close_scene(&t);
}

Test(send, may_be_begun_again_or_never_ended) {
    struct scene t;
    open_scene(&t);
    begin(&t, 1);
    begin(&t, 2);
    end(&t, t.dst);
    check(&t, t.dst, 2);
    begin(&t, 3);
    close_scene(&t);
}

/* Two at the same time, as of a pass for training and one for evaluation. */
Test(send, of_one_does_not_disturb_the_other) {
    struct scene t;
    struct send *other, *first;
    struct err_msg em = ERR_MSG_INIT;
    open_scene(&t);
    cr_assert_eq(t.dev->ops->send_new(t.dev, BYTES, &other, &em), ERR_OK, "%s", em.text);
    first = t.s;
    begin(&t, 1);
    t.s = other;
    begin(&t, 2);
    end(&t, t.kept);
    begin(&t, 3);
    end(&t, t.kept);
    t.s = first;
    end(&t, t.dst);
    check(&t, t.dst, 1);
    check(&t, t.kept, 3);
    t.dev->ops->send_free(t.dev, other);
    close_scene(&t);
}

/* Device memory is counted like any other, and what there is none of is said. */
Test(send, takes_the_memory_that_it_says) {
    struct scene t;
    struct send *big;
    struct err_msg em = ERR_MSG_INIT;
    open_scene(&t);
    size_t before = cuda_of(t.dev)->held;
    struct send *s;
    cr_assert_eq(t.dev->ops->send_new(t.dev, 1000, &s, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(cuda_of(t.dev)->held - before, t.dev->ops->send_bytes(t.dev, 1000));
    t.dev->ops->send_free(t.dev, s);
    cr_assert_eq(cuda_of(t.dev)->held, before);
    cr_assert_eq(t.dev->ops->send_new(t.dev, (size_t)9 << 30, &big, &em), ERR_NO_MEMORY);
    cr_assert_null(big);
    static const char *const calls[] = {"cudaMallocHost", "cudaEventCreateWithFlags"};
    for (int i = 0; i < 2; i++) {
        err_clear(&em);
        emulation_fail(calls[i], cudaErrorMemoryAllocation, 0, false);
        cr_assert_eq(t.dev->ops->send_new(t.dev, 1000, &s, &em), ERR_NO_MEMORY, "%s", calls[i]);
        cr_assert_eq(cuda_of(t.dev)->held, before);
    }
    close_scene(&t);
}
