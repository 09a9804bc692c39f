/* Host code of the CUDA device: why it cannot be used, what becomes of CUDA's errors, and when it
 * takes memory. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cuda/cuda.h"
#include "engine/ops/cuda/product.h"
#include "tests/cuda/emulation/emulation.h"
#include "tests/reference/support/case.h"

static struct device *open_device(void) {
    struct err_msg em = ERR_MSG_INIT;
    struct device *dev;
    cr_assert_eq(ffwd_cuda_open(0, &dev, &em), ERR_OK, "%s", em.text);
    return dev;
}

/* ---- opening -------------------------------------------------------------------------------- */

Test(open, says_why_no_device_can_be_used) {
    static const struct {
        int driver, devices, index, major;
        const char *text;
    } cases[] = {{0, 1, 0, 9, "no NVIDIA driver"},
                 {12040, 1, 0, 9, "serves CUDA 12.4, this build needs 13.0"},
                 {13000, 0, 0, 9, "no CUDA device that this process may use"},
                 {13000, 2, 5, 9, "no device cuda:5; this machine has 2"},
                 {13000, 1, 0, 7, "compute capability 7.0; at least 8.0"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err_msg em = ERR_MSG_INIT;
        struct device *dev;
        emulated_machine.driver = cases[i].driver;
        emulated_machine.devices = cases[i].devices;
        emulated_machine.major = cases[i].major;
        cr_assert_eq(ffwd_cuda_open(cases[i].index, &dev, &em), ERR_DEVICE);
        cr_assert(strstr(em.text, cases[i].text), "%s", em.text);
        cr_assert_null(dev);
    }
}

/* Whatever call fails while a device is opened, the rest is given back and the call named. */
Test(open, gives_everything_back_when_a_call_fails) {
    static const char *const calls[] = {"cudaSetDevice",  "cudaGetDeviceProperties",
                                        "cudaMallocHost", "cudaStreamCreateWithFlags",
                                        "cublasLtCreate", "cudaEventCreateWithFlags"};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct err_msg em = ERR_MSG_INIT;
        struct device *dev;
        emulation_fail(calls[i], cudaErrorLaunchFailure, 0, false);
        cr_assert_eq(ffwd_cuda_open(0, &dev, &em), ERR_DEVICE, "%s", calls[i]);
        cr_assert(strstr(em.text, calls[i]), "%s: %s", calls[i], em.text);
    }
}

Test(open, tells_what_it_opened) {
    struct device *dev = open_device();
    struct device_info info;
    dev->ops->info(dev, &info);
    cr_assert_str_eq(info.kind, "cuda:0");
    cr_assert_str_eq(info.name, "emulated device");
    cr_assert(info.native_bf16);
    cr_assert_eq(info.memory_total, emulated_machine.memory);
    device_close(dev);
}

/* ---- memory --------------------------------------------------------------------------------- */

Test(memory, running_out_is_no_fault) {
    struct device *dev = open_device();
    struct err_msg em = ERR_MSG_INIT;
    void *p;
    static const size_t sizes[] = {SIZE_MAX - 10, (size_t)9 << 30};
    for (size_t i = 0; i < 2; i++) {
        char number[32];
        err_clear(&em);
        (void)snprintf(number, sizeof number, "%zu bytes", sizes[i]);
        cr_assert_eq(dev->ops->mem_alloc(dev, sizes[i], &p, &em), ERR_NO_MEMORY);
        cr_assert_null(p);
        cr_assert(strstr(em.text, number), "%s", em.text);
    }
    err_clear(&em);
    cr_assert_eq(dev->ops->mem_alloc(dev, 1000, &p, &em), ERR_OK, "%s", em.text);
    cr_assert_eq((uintptr_t)p % 64, 0);
    dev->ops->mem_free(dev, p);
    cr_assert_eq(dev->ops->sync(dev, &em), ERR_OK);
    device_close(dev);
}

/* Uploads of any size, the staging memory's multiples among them, come back as they were. */
Test(memory, uploads_and_downloads_are_exact) {
    static const size_t sizes[] = {1, 1000, CUDA_STAGING_BYTES, 3 * CUDA_STAGING_BYTES + 1000};
    struct device *dev = open_device();
    struct err_msg em = ERR_MSG_INIT;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *a = xmalloc(sizes[i]), *b = xmalloc(sizes[i]);
        void *p;
        for (size_t k = 0; k < sizes[i]; k++)
            a[k] = (unsigned char)(k * 7 + (k >> 8));
        cr_assert_eq(dev->ops->mem_alloc(dev, sizes[i], &p, &em), ERR_OK);
        dev->ops->upload(dev, p, a, sizes[i]);
        cr_assert_eq(dev->ops->download(dev, b, p, sizes[i], &em), ERR_OK);
        cr_assert_eq(memcmp(a, b, sizes[i]), 0);
        dev->ops->mem_free(dev, p);
        free(a);
        free(b);
    }
    cr_assert_geq(dev->ops->mem_peak(dev), 3 * CUDA_STAGING_BYTES + 1000);
    cr_assert_eq(emulated_copies_most, 2);
    device_close(dev);
}

/* The host fills one half of the pinned memory while the other is on its way, and never the one
 * that is; a model is loaded through it whatever its size. */
Test(memory, a_model_is_loaded_through_two_halves) {
    struct ref_case c;
    emulated_copies_most = 0;
    ref_case_open(&c, "llama-gqa", DTYPE_BF16, 1);
    cr_assert_eq(emulated_copies_most, 2);
    cr_assert_eq(emulated_pinned, 2 * CUDA_STAGING_BYTES);
    ref_case_close(&c);
}

/* Norms, the table, all matrices with their biases: a piece of memory each, and one to convert in;
 * all of it given back with the model, which leaves room for another one. */
Test(memory, of_a_model_is_taken_at_once) {
    static const char *const names[] = {"llama-gqa", "qwen2", "neox"};
    for (int i = 0; i < 6; i++) {
        struct ref_case c;
        long before = emulated_allocations;
        ref_case_open(&c, names[i / 2], i % 2 ? DTYPE_BF16 : DTYPE_F32, 1);
        cr_assert_leq(emulated_allocations - before, 4, "%s", names[i / 2]);
        const struct cuda_room *room = &cuda_of(c.dev)->matrices;
        cr_assert(room->used > 0 && room->used == room->size, "%s: %zu of %zu", names[i / 2],
                  room->used, room->size);
        size_t all = cuda_of(c.dev)->held;
        model_close(c.model);
        cr_assert_leq(cuda_of(c.dev)->held, PRODUCT_WORKSPACE);
        struct err_msg em = ERR_MSG_INIT;
        cr_assert_eq(model_open(c.dev, c.dir, i % 2 ? DTYPE_BF16 : DTYPE_F32, &c.model, &em),
                     ERR_OK, "%s", em.text);
        cr_assert_eq(cuda_of(c.dev)->held, all);
        ref_case_close(&c);
    }
}

/* Two models at the same time: the second one's matrices have their own memory each. */
Test(memory, of_two_models_is_apart) {
    struct ref_case c;
    struct model *second;
    struct err_msg em = ERR_MSG_INIT;
    ref_case_open(&c, "llama-gqa", DTYPE_F32, 1);
    cr_assert_eq(model_open(c.dev, c.dir, DTYPE_F32, &second, &em), ERR_OK, "%s", em.text);
    model_close(c.model);
    cr_assert_null(cuda_of(c.dev)->matrices.p);
    c.model = second;
    ref_case_close(&c);
}

static enum err reserve_for(struct device *dev, int64_t tokens, struct err_msg *em) {
    const struct op_shapes most = {.dtype = DTYPE_BF16,
                                   .backward = true,
                                   .tokens = tokens,
                                   .targets = tokens,
                                   .seqs = 8,
                                   .width = 64,
                                   .rank = 48,
                                   .heads = 4,
                                   .head_dim = 16,
                                   .keys = 64,
                                   .vocab = 100,
                                   .adapter = 1000};
    return dev->ops->reserve(dev, &most, em);
}

Test(memory, what_does_not_fit_is_said_when_it_is_reserved) {
    struct device *dev = open_device();
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(reserve_for(dev, (int64_t)1 << 40, &em), ERR_NO_MEMORY);
    err_clear(&em);
    cr_assert_eq(reserve_for(dev, INT64_MAX, &em), ERR_NO_MEMORY); /* sizes that overflow */
    err_clear(&em);
    cr_assert_eq(reserve_for(dev, 100, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(dev->ops->sync(dev, &em), ERR_OK);
    device_close(dev);
}

/* ---- a step allocates nothing --------------------------------------------------------------- */

Test(step, takes_no_memory) {
    static const int all[] = {0, 1, 2, 3, 4, 5};
    const struct dropout drop = {.p = 0.2f, .seed = 3, .step = 1};
    for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        struct ref_case c;
        struct ref_batch b;
        struct err_msg em = ERR_MSG_INIT;
        double sum;
        const struct lora_options lora = {.rank = 4, .alpha = 8, .dropout = 0.2f};
        ref_case_open(&c, "llama-gqa", (enum dtype)dtype, 1);
        cr_assert_eq(adapter_new(c.model, &lora, 7, &c.adapter, &em), ERR_OK, "%s", em.text);
        struct pass *p = ref_pass(&c, true);
        ref_batch_make(&b, &c, all, c.n_rows);
        float *nll = xcalloc((size_t)b.host.n_targets, sizeof *nll);
        long before = emulated_allocations;
        cr_assert_eq(pass_train(p, &b.host, 1.0f, &drop, nll, NULL, &em), ERR_OK, "%s", em.text);
        struct adapter_mem *mem = adapter_mem(c.adapter);
        cr_assert_eq(c.dev->ops->vec_sumsq(c.dev, mem->g, mem->n, &sum, &em), ERR_OK);
        cr_assert(sum > 0 && isfinite(sum));
        cr_assert_eq(emulated_allocations, before, "%ld allocations in a step",
                     emulated_allocations - before);
        free(nll);
        ref_batch_clear(&b);
        pass_free(p);
        ref_case_close(&c);
    }
}
