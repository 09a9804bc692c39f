/* Algorithms of products: the file of choices, and what becomes of it on the device. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/ops/cuda/choices.h"
#include "engine/ops/cuda/cuda.h"
#include "tests/cuda/emulation/emulation.h"
#include "tests/cuda/support/shell.h"
#include "tests/reference/support/case.h"

static char path[64];

static void setup(void) {
    (void)snprintf(path, sizeof path, "/tmp/ffwd-test-XXXXXX");
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    unlink(path);
}

static void teardown(void) {
    unlink(path);
}

TestSuite(choices, .init = setup, .fini = teardown);

static struct choices *open_choices(const char *identity) {
    struct err_msg em = ERR_MSG_INIT;
    struct choices *c;
    cr_assert_eq(choices_open(path, identity, &c, &em), ERR_OK, "%s", em.text);
    return c;
}

Test(choices, come_back_from_the_file) {
    const int64_t a[CHOICE_NUMBERS] = {1, 2, 3, -4}, b[CHOICE_NUMBERS] = {1, 2, INT64_MAX};
    const uint64_t x[CHOICE_WORDS] = {1, UINT64_MAX, 3}, y[CHOICE_WORDS] = {0x1234567890abcdefu};
    struct err_msg em = ERR_MSG_INIT;
    struct choices *c = open_choices("device=A driver=1");
    cr_assert_null(choices_find(c, a));
    choices_add(c, a, x);
    choices_add(c, b, y);
    cr_assert_eq(choices_save(c, &em), ERR_OK, "%s", em.text);
    choices_free(c);
    c = open_choices("device=A driver=1");
    cr_assert_eq(memcmp(choices_find(c, a), x, sizeof x), 0);
    cr_assert_eq(memcmp(choices_find(c, b), y, sizeof y), 0);
    choices_free(c);
    c = open_choices("device=A driver=2"); /* another driver: none of them counts */
    cr_assert_null(choices_find(c, a));
    choices_free(c);
}

Test(choices, a_damaged_file_is_named_with_its_line) {
    static const char *const bad[] = {"x\n1 2 3\n", "x\n\n1 2 3: 4\n",
                                      "x\n1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17: 1 2 3\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err_msg em = ERR_MSG_INIT;
        struct choices *c;
        cr_assert_eq(file_write(path, bad[i], strlen(bad[i]), &em), ERR_OK);
        cr_assert_eq(choices_open(path, "x", &c, &em), ERR_INPUT);
        cr_assert(strstr(em.text, "line 2") && strstr(em.text, path), "%s", em.text);
        cr_assert_null(c);
    }
}

/* A training step of a golden case; returns the proposals asked for, and the gradient's digest. */
static long train_once(uint64_t *digest) {
    static const int all[] = {0, 1, 2, 3, 4, 5};
    const struct dropout off = {0};
    struct ref_case c;
    struct ref_batch b;
    struct err_msg em = ERR_MSG_INIT;
    long before = emulated_proposals;
    ref_case_open(&c, "qwen2", DTYPE_BF16, 1);
    ref_case_adapter(&c);
    struct pass *p = ref_pass(&c, true);
    ref_batch_make(&b, &c, all, c.n_rows);
    float *nll = xcalloc((size_t)b.host.n_targets, sizeof *nll);
    cr_assert_eq(pass_train(p, &b.host, 1.0f, &off, nll, NULL, &em), ERR_OK, "%s", em.text);
    struct adapter_mem *mem = adapter_mem(c.adapter);
    uint32_t *g = xcalloc(mem->n, sizeof *g);
    cr_assert_eq(c.dev->ops->download(c.dev, g, mem->g, mem->n * sizeof *g, &em), ERR_OK);
    *digest = 0;
    for (size_t i = 0; i < mem->n; i++)
        *digest = (*digest ^ g[i]) * 0x100000001B3ull;
    free(g);
    free(nll);
    ref_batch_clear(&b);
    pass_free(p);
    ref_case_close(&c);
    return emulated_proposals - before;
}

/* Of the shapes in the text of a file: products with a bias that add to their result; and those of
 * them that have the second proposal. */
static void count_biased_sums(const char *text, int *all, int *second) {
    *all = *second = 0;
    for (const char *line = strchr(text, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        long long number[CHOICE_NUMBERS] = {0};
        char *at = (char *)(uintptr_t)line + 1;
        for (int i = 0; i < CHOICE_NUMBERS; i++)
            number[i] = strtoll(at, &at, 10);
        if (number[11] == 0 || number[12] == 0)
            continue;
        cr_assert_eq(*at++, ':');
        unsigned long long word = 0;
        for (int i = 0; i <= 5; i++)
            word = strtoull(at, &at, 16);
        ++*all;
        *second += word == 1;
    }
}

/* The second proposal is the faster one of the emulated library: it is chosen, written down and
 * used again without asking; what is computed stays the same. */
Test(choices, the_fastest_is_kept_and_used_again) {
    uint64_t plain, first, second;
    long untimed = train_once(&plain);
    cr_assert_eq(setenv("FFWD_CUDA_ALGORITHMS", path, 1), 0);
    long asked = train_once(&first);
    cr_assert_eq(asked, untimed);
    cr_assert_eq(first, plain, "timing changed the result");
    struct err_msg em = ERR_MSG_INIT;
    char *text;
    cr_assert_eq(file_read(path, 1 << 20, &text, NULL, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(strncmp(text, "device=emulated device driver=13000 cublaslt=130000\n", 52), 0);
    cr_assert(strstr(text, " 2000000 1 0 0\n"), "%s", text);
    /* the frozen product of q, k and v adds to what LoRA's have written: it is timed before them */
    int sums, timed;
    count_biased_sums(text, &sums, &timed);
    cr_assert(sums > 0 && timed == sums, "%d of %d", timed, sums);
    free(text);
    cr_assert_eq(train_once(&second), 0, "the library was asked again");
    cr_assert_eq(second, plain);
}

/* ---- a run's choices ------------------------------------------------------------------------ */

static struct device *open_device(void) {
    struct err_msg em = ERR_MSG_INIT;
    struct device *dev;
    cr_assert_eq(ffwd_cuda_open(0, &dev, &em), ERR_OK, "%s", em.text);
    return dev;
}

/* A product of n rows that could be computed in two ways. */
static void multiply(struct device *dev, int64_t n) {
    struct err_msg em = ERR_MSG_INIT;
    const struct linear_spec spec = {.in = 64, .n_parts = 1, .part = {{.out = 64}}};
    struct linear_spec filled = spec;
    float *w = xcalloc(64 * 64, sizeof *w);
    struct linear *lin;
    void *x;
    const struct dropout off = {0};
    filled.part[0].weight = w;
    cr_assert_eq(dev->ops->linear_new(dev, &filled, DTYPE_F32, &lin, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(dev->ops->mem_alloc(dev, 2 * 64 * 64 * sizeof(float), &x, &em), ERR_OK);
    const struct tensor from = {x, DTYPE_F32, n, 64, 64};
    const struct tensor to = {(float *)x + 64 * 64, DTYPE_F32, n, 64, 64};
    dev->ops->linear_forward(dev, lin, NULL, NULL, &off, NULL, from, NULL, to, (struct tensor){0});
    cr_assert_eq(dev->ops->sync(dev, &em), ERR_OK, "%s", em.text);
    dev->ops->mem_free(dev, x);
    dev->ops->linear_free(dev, lin);
    free(w);
}

static char *choices_of(struct device *dev, int64_t rows) {
    multiply(dev, rows);
    return dev->ops->choices_text(dev);
}

/* Timed in one process, used in the next where the timing would have said otherwise; what a later
 * job of that process chooses is its own again. */
Test(choices, of_a_run_are_used_again_by_it_alone) {
    cr_assert_eq(setenv("FFWD_CUDA_ALGORITHMS", path, 1), 0);
    struct device *dev = open_device();
    char *before = choices_of(dev, 5);
    device_close(dev);
    unlink(path);
    emulated_noise = true;
    dev = open_device();
    cr_assert(dev->ops->choices_use(dev, before));
    char *after = choices_of(dev, 5);
    cr_assert_str_eq(after, before);
    cr_assert(dev->ops->choices_use(dev, NULL));
    char *anew = choices_of(dev, 5);
    cr_assert_str_neq(anew, before);
    device_close(dev);
    free(before);
    free(after);
    free(anew);
}

/* A run that was not timed is not timed after it is resumed either. */
Test(choices, of_a_run_without_timing_stay_without) {
    struct device *dev = open_device();
    char *before = choices_of(dev, 5);
    device_close(dev);
    cr_assert_eq(setenv("FFWD_CUDA_ALGORITHMS", path, 1), 0);
    dev = open_device();
    cr_assert(dev->ops->choices_use(dev, before));
    float started = emulated_clock;
    char *after = choices_of(dev, 5);
    cr_assert_str_eq(after, before);
    cr_assert_eq(emulated_clock - started, 2, "products were timed");
    device_close(dev);
    free(before);
    free(after);
}

Test(choices, of_another_device_or_no_choices_are_not_taken) {
    struct device *dev = open_device();
    char *before = dev->ops->choices_text(dev);
    device_close(dev);
    static const char *const bad[] = {"", "\n", "cpu", "device=emulated device"};
    emulated_machine.name = "another";
    dev = open_device();
    cr_assert_not(dev->ops->choices_use(dev, before));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_not(dev->ops->choices_use(dev, bad[i]), "%s", bad[i]);
    multiply(dev, 5);
    device_close(dev);
    free(before);
}

/* ---- a job that is resumed ------------------------------------------------------------------ */

#define CASE "tests/reference/cases/llama-gqa"
#define TRAIN                                                                                      \
    "$FFWD train --model " CASE " --train " CASE "/rows.jsonl --device cuda --dtype f32 "          \
    "--config $D/c.json --resume --out $D/"
#define SAME "cmp -s $D/whole/adapter/adapter_model.safetensors $D/"
#define ADAPTER "/adapter/adapter_model.safetensors"

/* Every shape has been seen when the job is stopped, by a fault after its resume point. Afterwards
 * the timing would say otherwise, and other algorithms give other bytes, as a run that begins there
 * shows; a run on another device says what it is. */
Test(choices, of_a_job_outlast_its_process) {
    char dir[] = "/tmp/ffwd-test-XXXXXX";
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(setenv("D", dir, 1), 0);
    cr_assert_eq(shell("echo '{\"hyperparameters\":{\"n_epochs\":2,\"batch_size\":1},"
                       "\"fast_forward\":{\"enabled\":false},\"lora\":{\"rank\":4},"
                       "\"training\":{\"checkpoint_interval\":6,\"shuffle\":false,"
                       "\"max_seq_len\":32}}' >$D/c.json"),
                 0);
    cr_assert_eq(setenv("FFWD_EMULATED_ALGORITHMS", "rounding", 1), 0);
    cr_assert_eq(shell("FFWD_CUDA_ALGORITHMS=$D/a " TRAIN "whole >$D/log 2>&1"), 0);
    cr_assert_eq(
        shell("FFWD_EMULATED_FAULT='cudaGraphLaunch 719 14 1' FFWD_CUDA_ALGORITHMS=$D/b " TRAIN
              "stopped >$D/log 2>&1"),
        70);
    cr_assert_eq(shell("test -d $D/stopped/resume/step-6 && cp -r $D/stopped $D/elsewhere"), 0);
    cr_assert_eq(setenv("FFWD_EMULATED_ALGORITHMS", "noise", 1), 0);
    cr_assert_eq(shell("FFWD_CUDA_ALGORITHMS=$D/c " TRAIN "stopped >$D/log 2>&1"), 0);
    cr_assert_eq(shell("grep -q 'another device' $D/log"), 1);
    cr_assert_eq(shell(SAME "stopped" ADAPTER), 0);
    cr_assert_eq(shell("FFWD_CUDA_ALGORITHMS=$D/d " TRAIN "noisy >$D/log 2>&1"), 0);
    cr_assert_eq(shell(SAME "noisy" ADAPTER), 1);
    cr_assert_eq(shell("FFWD_EMULATED_NAME=other " TRAIN "elsewhere >$D/log 2>&1"), 0);
    cr_assert_eq(shell("grep -q 'another device.*device=emulated device.*device=other' $D/log"), 0);
    cr_assert_eq(shell("rm -rf $D"), 0);
}
