/* Algorithms of products: which are timed, where the choices lie, and that a job keeps its own. */
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

#define IDENTITY "device=emulated device driver=13000 cublaslt=130000"
#define FILE_NAME "device=emulated_device_driver=13000_cublaslt=130000"

static char dir[64], path[96];

static void setup(void) {
    (void)snprintf(dir, sizeof dir, "/tmp/ffwd-test-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/algorithms", dir);
    cr_assert_eq(setenv("D", dir, 1), 0);
    (void)unsetenv("FFWD_CUDA_ALGORITHMS");
    (void)unsetenv("HOME");
    (void)unsetenv("XDG_CACHE_HOME");
}

static void teardown(void) {
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(file_remove_tree(dir, &em), ERR_OK, "%s", em.text);
}

TestSuite(algorithms, .init = setup, .fini = teardown);

static void use_file(const char *name) {
    cr_assert_eq(setenv("FFWD_CUDA_ALGORITHMS", name, 1), 0);
}

static char *contents(const char *name) {
    struct err_msg em = ERR_MSG_INIT;
    char *text;
    cr_assert_eq(file_read(name, 1 << 20, &text, NULL, &em), ERR_OK, "%s", em.text);
    return text;
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

/* Of the shapes in the text of a file those that add to a result: with a bias (1) or without (0),
 * all and those of them that have the second proposal. */
static void count_sums(const char *text, int biased, int *all, int *second) {
    *all = *second = 0;
    for (const char *line = strchr(text, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        long long number[CHOICE_NUMBERS] = {0};
        char *at = (char *)(uintptr_t)line + 1;
        for (int i = 0; i < CHOICE_NUMBERS; i++)
            number[i] = strtoll(at, &at, 10);
        if (number[11] == 0 || number[12] != biased)
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
Test(algorithms, the_fastest_is_kept_and_used_again) {
    uint64_t plain, first, second;
    use_file("off");
    long untimed = train_once(&plain);
    use_file(path);
    long asked = train_once(&first);
    cr_assert_eq(asked, untimed);
    cr_assert_eq(first, plain, "timing changed the result");
    char *text = contents(path);
    cr_assert_eq(strncmp(text, "ffwd-algorithms 1 " IDENTITY "\n", 70), 0, "%s", text);
    cr_assert(strstr(text, " 2000000 1 0 0\n"), "%s", text);
    /* the frozen product of q, k and v adds to what LoRA's have written, and LoRA's gradients are
     * added up: both are timed, and neither has lost what it adds to */
    for (int biased = 0; biased < 2; biased++) {
        int sums, timed;
        count_sums(text, biased, &sums, &timed);
        cr_assert(sums > 0 && timed == sums, "%d of %d", timed, sums);
    }
    free(text);
    cr_assert_eq(train_once(&second), 0, "the library was asked again");
    cr_assert_eq(second, plain);
}

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

static char *choices_of_new(int64_t rows) {
    struct device *dev = open_device();
    char *text = choices_of(dev, rows);
    device_close(dev);
    return text;
}

static bool has_second(const char *text) {
    return strstr(text, " 2000000 1 0 0\n") != NULL;
}

/* ---- timing --------------------------------------------------------------------------------- */

static bool second_is_chosen(int64_t rows) {
    char *text = choices_of_new(rows);
    bool second = has_second(text);
    cr_assert(second || strstr(text, " 2000000 2 0 0\n"), "%s", text);
    free(text);
    return second;
}

/* A proposal that is faster by less than noise is not worth other bytes. */
Test(algorithms, near_ties_go_to_the_first_proposal) {
    static const float ms[] = {1.0f, 1.9f, 1.93f, 1.95f, 1.99f, 2.0f, 2.5f};
    for (size_t i = 0; i < sizeof ms / sizeof ms[0]; i++) {
        emulated_second_ms = ms[i];
        cr_assert_eq(second_is_chosen(5), ms[i] * 1.03f < 2, "%g ms", ms[i]);
    }
}

/* Whichever runs are disturbed, as long as some are not. */
Test(algorithms, a_run_that_is_disturbed_decides_nothing) {
    for (emulated_hiccups = 2; emulated_hiccups <= 9; emulated_hiccups++)
        cr_assert(second_is_chosen(5), "every %dth run", emulated_hiccups);
    emulated_noise = true;
    for (emulated_hiccups = 2; emulated_hiccups <= 9; emulated_hiccups++)
        cr_assert_not(second_is_chosen(5), "every %dth run", emulated_hiccups);
}

/* However long a product takes, its proposals are not timed for long. */
Test(algorithms, timing_is_bounded) {
    emulated_second_ms = 1000;
    float before = emulated_clock;
    cr_assert_not(second_is_chosen(5));
    cr_assert_leq(emulated_clock - before, 2 * 1000 + 100);
    emulated_second_ms = 0.001f;
    before = emulated_clock;
    cr_assert(second_is_chosen(5));
    cr_assert_leq(emulated_clock - before, 100);
}

/* A proposal that does not run is not taken, and no fault. */
Test(algorithms, what_does_not_run_is_not_taken) {
    emulation_fail("cublasLtMatmul", cudaErrorInvalidValue, 2, false); /* the second's first run */
    cr_assert_not(second_is_chosen(5));
}

/* ---- where choices lie ---------------------------------------------------------------------- */

/* A process that finds them asks the library for nothing. */
static bool is_remembered(void) {
    free(choices_of_new(5));
    long before = emulated_proposals;
    free(choices_of_new(5));
    return emulated_proposals == before;
}

Test(algorithms, lie_in_the_users_cache_folder) {
    char name[256];
    cr_assert_eq(setenv("HOME", dir, 1), 0);
    cr_assert(is_remembered());
    (void)snprintf(name, sizeof name, "%s/.cache/ffwd/" FILE_NAME, dir);
    cr_assert_gt(file_size(name), 0);
    cr_assert_eq(setenv("XDG_CACHE_HOME", "relative", 1), 0); /* is to be ignored */
    cr_assert(is_remembered());
    cr_assert_eq(setenv("XDG_CACHE_HOME", path, 1), 0);
    cr_assert(is_remembered());
    (void)snprintf(name, sizeof name, "%s/ffwd/" FILE_NAME, path);
    cr_assert_gt(file_size(name), 0);
}

/* No home, or one where nothing can be made: timed all the same. */
Test(algorithms, need_no_home) {
    cr_assert_not(is_remembered());
    cr_assert(second_is_chosen(5));
    cr_assert_eq(setenv("HOME", "/proc/nobody", 1), 0);
    cr_assert_not(is_remembered());
    cr_assert(second_is_chosen(5));
}

Test(algorithms, are_not_timed_where_that_is_off) {
    cr_assert_eq(setenv("HOME", dir, 1), 0);
    use_file("off");
    char *text = choices_of_new(5);
    cr_assert_str_eq(text, "first proposals, " IDENTITY " attention=own\n");
    cr_assert_eq(emulated_clock, 2);
    free(text);
    cr_assert_eq(shell("test ! -e $D/.cache"), 0);
}

/* A table beside the program comes before the user's file, which learns nothing of it. */
Test(algorithms, that_came_with_the_program_come_first) {
    emulated_machine.name = "device of a test"; /* no other test's process looks for it */
    cr_assert_eq(setenv("S", "device=device_of_a_test_driver=13000_cublaslt=130000", 1), 0);
    emulated_noise = true;
    use_file(path);
    cr_assert_not(second_is_chosen(5));
    cr_assert_eq(shell("T=$(dirname $FFWD)/../tests/cuda/ffwd-algorithms && mkdir -p $T && "
                       "sed 's/ 2 0 0$/ 1 0 0/' $D/algorithms >$T/$S"),
                 0);
    cr_assert(second_is_chosen(5));
    (void)unlink(path);
    cr_assert(second_is_chosen(5));
    cr_assert_not(second_is_chosen(6)); /* not there: timed, and written to the user's file */
    char *text = contents(path);
    cr_assert(strchr(strchr(text, '\n') + 1, '\n')[1] == '\0', "%s", text);
    free(text);
    cr_assert_eq(shell("rm -r $(dirname $FFWD)/../tests/cuda/ffwd-algorithms"), 0);
}

/* What a file names and the library does not take is chosen anew, and the file is left alone. */
Test(algorithms, that_the_library_refuses_are_chosen_anew) {
    use_file(path);
    cr_assert(second_is_chosen(5));
    cr_assert_eq(shell("sed -i 's/ 1 0 0$/ 77 0 0/' $D/algorithms"), 0);
    char *before = contents(path);
    cr_assert(second_is_chosen(5));
    char *after = contents(path);
    cr_assert_str_eq(after, before);
    free(before);
    free(after);
}

/* ---- a job's choices ------------------------------------------------------------------------ */

/* Timed in one process, used in the next where the timing would have said otherwise; what a later
 * job of that process chooses is its own again. */
Test(algorithms, of_a_run_are_used_again_by_it_alone) {
    use_file(path);
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

/* What a run chose after its last resume point it finds in the file when it is resumed. */
Test(algorithms, of_a_run_after_its_resume_point_are_in_the_file) {
    use_file(path);
    struct device *dev = open_device();
    char *point = choices_of(dev, 5), *end = choices_of(dev, 6);
    device_close(dev);
    emulated_noise = true;
    dev = open_device();
    cr_assert(dev->ops->choices_use(dev, point));
    char *after = choices_of(dev, 6);
    cr_assert_str_eq(after, end);
    device_close(dev);
    free(point);
    free(end);
    free(after);
}

/* A job has what it uses in its text, not all that the file knows. */
Test(algorithms, of_a_run_are_its_own_alone) {
    use_file(path);
    char *other = choices_of_new(5), *own = choices_of_new(6);
    cr_assert_eq(strlen(own), strlen(other));
    cr_assert_str_neq(own, other);
    free(other);
    free(own);
}

/* A run that was not timed is not timed after it is resumed either. */
Test(algorithms, of_a_run_without_timing_stay_without) {
    use_file("off");
    struct device *dev = open_device();
    char *before = choices_of(dev, 5);
    device_close(dev);
    use_file(path);
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

Test(algorithms, of_another_device_or_no_choices_are_not_taken) {
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

static void write_config(void) {
    cr_assert_eq(shell("echo '{\"hyperparameters\":{\"n_epochs\":2,\"batch_size\":1},"
                       "\"fast_forward\":{\"enabled\":false},\"lora\":{\"rank\":4},"
                       "\"training\":{\"checkpoint_interval\":6,\"shuffle\":false,"
                       "\"max_seq_len\":32}}' >$D/c.json"),
                 0);
}

/* Every shape has been seen when the job is stopped, by a fault after its resume point. Afterwards
 * the timing would say otherwise, and other algorithms give other bytes, as a run that begins there
 * shows; a run on another device says what it is. */
Test(algorithms, of_a_job_outlast_its_process) {
    write_config();
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
}

/* Two jobs at the same time on one machine: what timing tells them differs, their bytes do not. */
Test(algorithms, of_jobs_at_the_same_time_are_the_same) {
    write_config();
    cr_assert_eq(setenv("XDG_CACHE_HOME", dir, 1), 0);
    cr_assert_eq(shell("FFWD_EMULATED_ALGORITHMS=noise " TRAIN "whole >$D/log1 2>&1 & "
                       "FFWD_EMULATED_ALGORITHMS=rounding " TRAIN
                       "second >$D/log2 2>&1 && wait $!"),
                 0);
    cr_assert_eq(shell(SAME "second" ADAPTER), 0);
    cr_assert_eq(shell("test -s $D/ffwd/" FILE_NAME), 0);
    cr_assert_eq(shell("FFWD_EMULATED_ALGORITHMS=noise FFWD_CUDA_ALGORITHMS=$D/n " TRAIN
                       "noisy >$D/log 2>&1; FFWD_EMULATED_ALGORITHMS=rounding "
                       "FFWD_CUDA_ALGORITHMS=$D/r " TRAIN "other >$D/log 2>&1; "
                       "cmp -s $D/noisy" ADAPTER " $D/other" ADAPTER),
                 1);
}
