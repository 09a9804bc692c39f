/* Work that comes again is captured and launched as a whole: the same bytes as without, whatever
 * changes from step to step, and no graph longer than what it writes to. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cuda/cuda.h"
#include "tests/cuda/emulation/emulation.h"
#include "tests/reference/support/case.h"

enum { STEPS = 6, TARGETS = 256 };

struct scene {
    struct ref_case c;
    struct pass *p, *eval;
    float *m, *v;
    float nll[TARGETS], p_drop;
    uint64_t digest; /* of all that was computed */
};

/* How a run is made. */
struct how {
    const char *name;
    enum dtype dtype;
    bool dora;
    int32_t recomputed;
    float p_drop;
};

static void add(struct scene *s, const void *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        s->digest = (s->digest ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3ull;
}

static void add_device(struct scene *s, const float *x, size_t n) {
    struct err_msg em = ERR_MSG_INIT;
    float *host = xmalloc(n * sizeof *host);
    cr_assert_eq(s->c.dev->ops->download(s->c.dev, host, x, n * sizeof *host, &em), ERR_OK);
    add(s, host, n * sizeof *host);
    free(host);
}

static float *zeros(struct scene *s, size_t n) {
    struct err_msg em = ERR_MSG_INIT;
    void *p;
    cr_assert_eq(s->c.dev->ops->mem_alloc(s->c.dev, n * sizeof(float), &p, &em), ERR_OK);
    s->c.dev->ops->mem_zero(s->c.dev, p, n * sizeof(float));
    return p;
}

static void open_scene(struct scene *s, const struct how *how) {
    const struct lora_options lora = {
        .rank = 4, .alpha = 8, .dropout = how->p_drop, .use_dora = how->dora};
    const struct pass_limits limits = {.tokens = TARGETS,
                                       .seqs = REF_ROWS_MAX,
                                       .targets = TARGETS,
                                       .training = true,
                                       .recomputed = how->recomputed};
    struct err_msg em = ERR_MSG_INIT;
    int32_t tokens = TARGETS;
    *s = (struct scene){.digest = 0xcbf29ce484222325ull, .p_drop = how->p_drop};
    ref_case_open(&s->c, how->name, how->dtype, 1);
    cr_assert_eq(adapter_new(s->c.model, &lora, 7, &s->c.adapter, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(pass_new(s->c.model, s->c.adapter, &limits, &s->p, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(pass_new_inside(s->p, REF_ROWS_MAX, &tokens, &s->eval, &em), ERR_OK);
    s->m = zeros(s, adapter_size(s->c.adapter));
    s->v = zeros(s, adapter_size(s->c.adapter));
}

static void close_scene(struct scene *s) {
    s->c.dev->ops->mem_free(s->c.dev, s->m);
    s->c.dev->ops->mem_free(s->c.dev, s->v);
    pass_free(s->eval);
    pass_free(s->p);
    ref_case_close(&s->c);
}

/* The rows of a batch by its number: two shapes. Its tokens are others in each step. */
static void make_batch(struct ref_batch *b, const struct scene *s, int number, int step) {
    static const int which[2][2] = {{0, 1}, {2, 0}};
    ref_batch_make(b, &s->c, which[number], number == 0 ? 2 : 1);
    int32_t vocab = model_config(s->c.model)->vocab;
    for (int32_t i = 0; i < b->host.n_tokens; i++)
        b->ids[i] = (b->ids[i] + step) % vocab;
}

static enum err train(struct scene *s, int number, int step, struct err_msg *em) {
    const struct dropout drop = {
        .p = s->p_drop, .seed = 11 + (uint64_t)step, .step = (uint32_t)step};
    struct ref_batch b;
    make_batch(&b, s, number, step);
    enum err e = pass_train(s->p, &b.host, 1.0f / (float)(step + 1), &drop, s->nll, NULL, em);
    add(s, s->nll, (size_t)b.host.n_targets * sizeof *s->nll);
    ref_batch_clear(&b);
    return e;
}

static void evaluate(struct scene *s, int number, int step) {
    struct err_msg em = ERR_MSG_INIT;
    struct ref_batch b;
    make_batch(&b, s, number, step);
    cr_assert_eq(pass_eval(s->eval, &b.host, s->nll, NULL, &em), ERR_OK, "%s", em.text);
    add(s, s->nll, (size_t)b.host.n_targets * sizeof *s->nll);
    ref_batch_clear(&b);
}

static void update(struct scene *s, int step) {
    struct adapter_mem *mem = adapter_mem(s->c.adapter);
    const struct adamw o = {.lr = 0.01f / (float)(step + 1),
                            .beta1 = 0.9f,
                            .beta2 = 0.999f,
                            .eps = 1e-8f,
                            .step = step + 1,
                            .max_norm = 1};
    const struct ops *ops = s->c.dev->ops;
    struct err_msg em = ERR_MSG_INIT;
    double sum;
    cr_assert_eq(ops->adamw(s->c.dev, &o, mem, s->m, s->v, &sum, &em), ERR_OK, "%s", em.text);
    add_device(s, mem->g, mem->n);
    add_device(s, mem->w, mem->n);
    ops->mem_zero(s->c.dev, mem->g, mem->n * sizeof(float));
}

/* Steps of two batches each, and an evaluation after each; the digest of everything. */
static uint64_t run(const struct how *how, const char *graphs) {
    struct scene s;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(setenv("FFWD_CUDA_GRAPHS", graphs, 1), 0);
    open_scene(&s, how);
    for (int step = 0; step < STEPS; step++) {
        cr_assert_eq(train(&s, 0, step, &em), ERR_OK, "%s", em.text);
        cr_assert_eq(train(&s, 1, step, &em), ERR_OK, "%s", em.text);
        update(&s, step);
        evaluate(&s, step % 2, step);
    }
    close_scene(&s);
    cr_assert_eq(emulated_graphs, 0);
    return s.digest;
}

static void compare(const struct how *how) {
    long before = emulated_replays;
    uint64_t without = run(how, "0");
    cr_assert_eq(emulated_replays, before);
    uint64_t with = run(how, "1");
    cr_assert_eq(with, without, "%s, %s: other bytes with graphs", how->name,
                 dtype_name(how->dtype));
    /* all but the first time: forward, loss and backward of two shapes; forward and loss of each
     * shape in three evaluations */
    cr_assert_eq(emulated_replays - before, 6 * (STEPS - 1) + 4 * (STEPS / 2 - 1));
}

Test(graphs, give_the_same_bytes) {
    for (int i = 0; i < ref_n_cases; i++) {
        const struct how how = {.name = ref_cases[i], .dtype = DTYPE_BF16, .p_drop = 0.2f};
        compare(&how);
    }
}

Test(graphs, give_the_same_bytes_in_other_forms) {
    static const struct how forms[] = {{"llama-gqa", DTYPE_F32, false, 0, 0.2f},
                                       {"llama-gqa", DTYPE_BF16, true, 0, 0.2f},
                                       {"qwen2", DTYPE_BF16, false, 2, 0.2f},
                                       {"qwen2", DTYPE_F32, true, 1, 0.2f}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        compare(&forms[i]);
}

/* Batches whose lengths differ a little are padded to one shape, and nobody sees the padding: of an
 * example's beginning the losses are those of the whole. */
Test(graphs, serve_batches_of_nearly_the_same_length) {
    const struct how how = {.name = "llama-gqa", .dtype = DTYPE_F32};
    struct scene s;
    struct err_msg em = ERR_MSG_INIT;
    struct ref_batch b;
    float whole[TARGETS];
    open_scene(&s, &how);
    make_batch(&b, &s, 1, 0);
    int tops[3] = {0}; /* times that up to 16 and up to 32 targets were seen */
    cr_assert_eq(pass_eval(s.eval, &b.host, whole, NULL, &em), ERR_OK, "%s", em.text);
    long before = emulated_replays, replays = 0;
    for (int32_t n = 32; n > 16; n--) {
        b.host.n_tokens = b.seq_start[1] = n;
        while (b.host.n_targets > 0 && b.target_rows[b.host.n_targets - 1] >= n)
            b.host.n_targets--;
        cr_assert_gt(b.host.n_targets, 0);
        replays += (n < 32) + (tops[(b.host.n_targets + 15) / 16]++ > 0);
        cr_assert_eq(pass_eval(s.eval, &b.host, s.nll, NULL, &em), ERR_OK, "%s", em.text);
        for (int32_t i = 0; i < b.host.n_targets; i++)
            cr_assert_float_eq(s.nll[i], whole[i], 1e-5, "%d tokens, target %d", n, i);
    }
    cr_assert_eq(emulated_replays - before, replays);
    cr_assert_eq(emulated_graphs, 1 + (tops[1] > 1) + (tops[2] > 1));
    ref_batch_clear(&b);
    close_scene(&s);
}

/* What a step, an evaluation and Fast Forward's move ask of the stream: the numbers of
 * tests/bench/GPU.md. */
Test(graphs, leave_a_few_launches) {
    enum { LAYER = 56, LOWEST = 3, TOP = 9 };
    const struct how how = {.name = "llama-gqa", .dtype = DTYPE_BF16};
    struct scene s;
    struct err_msg em = ERR_MSG_INIT;
    open_scene(&s, &how);
    const struct adapter_mem *mem = adapter_mem(s.c.adapter);
    for (int step = 0; step < 3; step++) {
        /* the first time kernel by kernel: the lowest layer has no gradient to hand on; the batch
         * goes up in two copies, the losses come down, tokens are embedded */
        long each = step > 0 ? 3 : model_config(s.c.model)->layers * LAYER - LOWEST + TOP + 1;
        long before = emulated_enqueued;
        cr_assert_eq(train(&s, 0, step, &em), ERR_OK, "%s", em.text);
        cr_expect_eq(emulated_enqueued - before, each + 3, "step %d: %ld launches", step,
                     emulated_enqueued - before);
        before = emulated_enqueued;
        double sum;
        const struct adamw o = {.step = 1, .max_norm = 1};
        cr_assert_eq(s.c.dev->ops->adamw(s.c.dev, &o, mem, s.m, s.v, &sum, &em), ERR_OK);
        cr_expect_eq(emulated_enqueued - before, 4);
        evaluate(&s, 0, step);
    }
    long before = emulated_enqueued;
    s.c.dev->ops->adapter_move(s.c.dev, mem, s.m, 2.0f, s.v);
    cr_expect_eq(emulated_enqueued - before, 1);
    evaluate(&s, 0, 0);
    cr_expect_eq(emulated_enqueued - before, 1 + 5);
    close_scene(&s);
}

/* ---- what is kept --------------------------------------------------------------------------- */

struct work {
    struct device *dev;
    float *x;
    int n, calls; /* of work */
};

static void double_it(void *arg) {
    struct work *w = arg;
    w->calls++;
    for (int i = 0; i < w->n; i++)
        w->dev->ops->vec_axpy(w->dev, w->x, w->x, 1.0f, w->x, 4);
}

static void open_work(struct work *w, int n) {
    struct err_msg em = ERR_MSG_INIT;
    const float one[4] = {1, 1, 1, 1};
    void *p;
    *w = (struct work){.n = n};
    cr_assert_eq(ffwd_cuda_open(0, &w->dev, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(w->dev->ops->mem_alloc(w->dev, sizeof one, &p, &em), ERR_OK);
    w->dev->ops->upload(w->dev, p, one, sizeof one);
    w->x = p;
}

static void repeat(struct work *w, int64_t key) {
    const struct work_key k = {{key}};
    w->dev->ops->repeat(w->dev, &k, double_it, w);
}

static float value(struct work *w) {
    struct err_msg em = ERR_MSG_INIT;
    float x[4];
    cr_assert_eq(w->dev->ops->download(w->dev, x, w->x, sizeof x, &em), ERR_OK, "%s", em.text);
    return x[0];
}

static void close_work(struct work *w) {
    w->dev->ops->mem_free(w->dev, w->x);
    device_close(w->dev);
    cr_assert_eq(emulated_graphs, 0);
}

/* Done, captured, and from then on not asked for; a part of it is done each time. */
Test(graphs, are_made_the_second_time) {
    struct work w;
    open_work(&w, 1);
    for (int i = 1; i <= 5; i++) {
        repeat(&w, 1);
        cr_assert_eq(value(&w), (float)(1 << i));
        cr_assert_eq(w.calls, i < 2 ? 1 : 2);
    }
    cr_assert_eq(emulated_replays, 4);
    close_work(&w);
}

static void clear_often(void *arg) {
    struct work *w = arg;
    w->calls++;
    for (int i = 0; i < 10000; i++)
        w->dev->ops->mem_zero(w->dev, w->x, sizeof *w->x);
}

/* Of many shapes the last are kept: as many pieces, and as many kernels, as there are places. */
Test(graphs, are_bounded) {
    struct work w;
    open_work(&w, 1);
    for (int64_t key = 0; key < 200; key++) {
        repeat(&w, key);
        repeat(&w, key);
        cr_assert_leq(emulated_graphs, 128);
    }
    cr_assert_eq(emulated_graphs, 128);
    int calls = w.calls;
    repeat(&w, 199);
    cr_assert_eq(w.calls, calls);
    repeat(&w, 0);
    cr_assert_eq(w.calls, calls + 1);
    for (int64_t key = 200; key < 210; key++) {
        const struct work_key k = {{key}};
        w.dev->ops->repeat(w.dev, &k, clear_often, &w);
        w.dev->ops->repeat(w.dev, &k, clear_often, &w);
    }
    cr_assert_eq(emulated_graphs, 3);
    calls = w.calls;
    repeat(&w, 209);
    repeat(&w, 208);
    repeat(&w, 207);
    cr_assert_eq(w.calls, calls);
    close_work(&w);
}

/* What is freed may be somebody else's memory when the key comes again. */
Test(graphs, end_with_the_memory_they_write_to) {
    struct work w;
    struct err_msg em = ERR_MSG_INIT;
    void *p;
    open_work(&w, 1);
    repeat(&w, 1);
    repeat(&w, 1);
    cr_assert_eq(emulated_graphs, 1);
    cr_assert_eq(w.dev->ops->mem_alloc(w.dev, 64, &p, &em), ERR_OK);
    w.dev->ops->mem_free(w.dev, p);
    cr_assert_eq(emulated_graphs, 0);
    repeat(&w, 1);
    cr_assert_eq(w.calls, 3);
    repeat(&w, 1);
    cr_assert(w.dev->ops->choices_use(w.dev, NULL)); /* other algorithms, other graphs */
    cr_assert_eq(emulated_graphs, 0);
    close_work(&w);
}

/* ---- what cannot be captured ---------------------------------------------------------------- */

/* A call that fails while work is captured or made ready is no fault of the work: it is done as it
 * comes, and later work as well. */
Test(graphs, are_left_out_where_they_fail) {
    static const char *const calls[] = {"cudaStreamBeginCapture", "cudaStreamEndCapture",
                                        "cudaGraphGetNodes", "cudaGraphInstantiate"};
    static const cudaError_t errors[] = {cudaErrorStreamCaptureInvalidated,
                                         cudaErrorMemoryAllocation};
    for (size_t i = 0; i < 2 * sizeof calls / sizeof calls[0]; i++) {
        struct work w;
        open_work(&w, 1);
        repeat(&w, 1);
        emulation_fail(calls[i / 2], errors[i % 2], 0, false);
        for (int step = 2; step <= 4; step++) {
            repeat(&w, 1);
            cr_assert_eq(value(&w), (float)(1 << step), "%s", calls[i / 2]);
        }
        cr_assert_eq(emulated_replays, 0);
        close_work(&w);
    }
}

/* Nothing was begun for a lack of memory; any other failure is the device's. */
Test(graphs, that_do_not_start) {
    struct work w;
    struct err_msg em = ERR_MSG_INIT;
    open_work(&w, 1);
    repeat(&w, 1);
    repeat(&w, 1);
    emulation_fail("cudaGraphLaunch", cudaErrorMemoryAllocation, 0, false);
    repeat(&w, 1);
    cr_assert_eq(value(&w), 8);
    cr_assert_eq(emulated_graphs, 0);
    close_work(&w);
    open_work(&w, 1);
    repeat(&w, 1);
    emulation_fail("cudaGraphLaunch", cudaErrorLaunchFailure, 0, true);
    repeat(&w, 1);
    cr_assert_eq(w.dev->ops->sync(w.dev, &em), ERR_DEVICE);
    cr_assert(strstr(em.text, "cudaGraphLaunch failed"), "%s", em.text);
    int calls = w.calls;
    repeat(&w, 1);
    repeat(&w, 2);
    cr_assert_eq(w.calls, calls);
    close_work(&w);
}

static void take_scratch(void *arg) {
    struct work *w = arg;
    w->calls++;
    if (cuda_scratch(cuda_of(w->dev), SLOT_DELTA, (size_t)w->n))
        double_it(w);
}

/* Work that keeps no promise: the second time it needs memory that it did not need before. */
Test(graphs, are_left_out_where_work_takes_memory) {
    struct work w;
    const struct work_key key = {{1}};
    open_work(&w, 1);
    w.dev->ops->repeat(w.dev, &key, take_scratch, &w);
    w.n = 2;
    w.dev->ops->repeat(w.dev, &key, take_scratch, &w);
    cr_assert_eq(value(&w), 8); /* once and twice */
    cr_assert_eq(emulated_graphs, 0);
    close_work(&w);
}
