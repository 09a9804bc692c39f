/* The same bytes of dx whatever the number of threads, which cut it into other tiles. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "engine/ops/ops.h"

struct form {
    int64_t tokens, in, out;
    int32_t rank;
    float dropout;
};

struct values {
    uint64_t state;
};

static float next(struct values *v) {
    v->state = v->state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(v->state >> 32) * 0x1p-31f;
}

static void *fill(struct device *dev, struct values *v, enum dtype dtype, int64_t n) {
    void *p;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(dev->ops->mem_alloc(dev, (size_t)n * dtype_size(dtype), &p, &em), ERR_OK);
    for (int64_t i = 0; i < n; i++) {
        float value = next(v);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (dtype == DTYPE_F32)
            ((float *)p)[i] = value;
        else
            ((uint16_t *)p)[i] = (uint16_t)(bits >> 16);
    }
    return p;
}

static struct tensor matrix(struct device *dev, struct values *v, enum dtype dtype, int64_t rows,
                            int64_t cols) {
    return (struct tensor){fill(dev, v, dtype, rows * cols), dtype, rows, cols, cols};
}

/* dx of a matrix with LoRA, to be freed; everything that it is made of is the same in each call. */
static void *dx_of(const struct form *f, enum dtype dtype, int threads, size_t *bytes) {
    struct device *dev;
    struct linear *lin;
    struct adapter_mem ad;
    struct err_msg em = ERR_MSG_INIT;
    struct values v = {42};
    cr_assert_eq(device_open("cpu", threads, &dev, &em), ERR_OK, "%s", em.text);
    const struct ops *ops = dev->ops;
    void *weights = fill(dev, &v, dtype, f->in * f->out);
    const struct linear_spec spec = {
        .in = f->in, .n_parts = 1, .part[0] = {weights, dtype, NULL, f->out}};
    cr_assert_eq(ops->linear_new(dev, &spec, dtype, &lin, &em), ERR_OK, "%s", em.text);
    size_t n = (size_t)(f->rank * (f->in + f->out));
    cr_assert_eq(ops->adapter_alloc(dev, n, dtype, &ad, &em), ERR_OK);
    for (size_t i = 0; i < n; i++)
        ad.w[i] = next(&v);
    ops->adapter_refresh(dev, &ad);
    const struct lora lora = {
        .rank = {f->rank}, .a = {0}, .b = {(size_t)(f->rank * f->in)}, .scale = 2};
    const struct dropout drop = {.p = f->dropout, .seed = 1, .step = 1, .site = 1};
    uint64_t *keys = calloc((size_t)f->tokens, sizeof *keys);
    for (int64_t i = 0; i < f->tokens; i++)
        keys[i] = (uint64_t)i;
    const struct batch batch = {.n_tokens = (int32_t)f->tokens, .n_seqs = 1, .keys = keys};
    struct tensor x = matrix(dev, &v, dtype, f->tokens, f->in);
    struct tensor dy = matrix(dev, &v, dtype, f->tokens, f->out);
    struct tensor s = matrix(dev, &v, dtype, f->tokens, f->rank);
    struct tensor dx = matrix(dev, &v, dtype, f->tokens, f->in);
    ops->linear_backward(dev, lin, &lora, &ad, &drop, &batch, dy, x, s, &dx);
    *bytes = (size_t)(f->tokens * f->in) * dtype_size(dtype);
    void *copy = malloc(*bytes);
    memcpy(copy, dx.data, *bytes);
    void *owned[] = {x.data, dy.data, s.data, dx.data, weights};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        ops->mem_free(dev, owned[i]);
    ops->adapter_free(dev, &ad);
    ops->linear_free(dev, lin);
    device_close(dev);
    free(keys);
    return copy;
}

/* Sums over so many ranks that they are cut into chunks. */
Test(linear_threads, dx_is_the_same_to_the_byte) {
    static const struct form forms[] = {
        {48, 576, 576, 16, 0.1f}, {48, 576, 576, 512, 0.1f}, {130, 576, 96, 512, 0.1f}};
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16};
    for (size_t i = 0; i < 6; i++) {
        const struct form *f = &forms[i / 2];
        size_t bytes;
        void *one = dx_of(f, dtypes[i % 2], 1, &bytes);
        for (int threads = 2; threads <= 3; threads++) {
            void *more = dx_of(f, dtypes[i % 2], threads, &bytes);
            cr_assert_eq(memcmp(one, more, bytes), 0, "%s, %ld tokens, rank %d, %d threads",
                         i % 2 ? "bf16" : "f32", (long)f->tokens, (int)f->rank, threads);
            free(more);
        }
        free(one);
    }
}
