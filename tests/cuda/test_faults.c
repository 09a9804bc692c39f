/* What becomes of a device that fails, does not answer, or has no memory left: in a step, and in
 * `ffwd worker`, which loads the emulated device as it would load the real one. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sanitizer/lsan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "engine/ops/cuda/cuda.h"
#include "tests/cuda/emulation/emulation.h"
#include "tests/reference/support/case.h"

static struct device *open_device(void) {
    struct err_msg em = ERR_MSG_INIT;
    struct device *dev;
    cr_assert_eq(ffwd_cuda_open(0, &dev, &em), ERR_OK, "%s", em.text);
    return dev;
}

/* ---- a step --------------------------------------------------------------------------------- */

struct scene {
    struct ref_case c;
    struct ref_batch b;
    struct pass *p;
};

static void open_scene(struct scene *s) {
    static const int first_row[] = {0};
    ref_case_open(&s->c, "llama-gqa", DTYPE_F32, 1);
    ref_case_adapter(&s->c);
    s->p = ref_pass(&s->c, true);
    ref_batch_make(&s->b, &s->c, first_row, 1);
    /* whatever came before: one launch of a step is that in 128 which waits for those in line */
    cuda_of(s->c.dev)->launches = 100;
}

static enum err step(struct scene *s, struct err_msg *em) {
    const struct dropout off = {0};
    float nll[64];
    *em = (struct err_msg)ERR_MSG_INIT;
    return pass_train(s->p, &s->b.host, 1.0f, &off, nll, NULL, em);
}

static void close_scene(struct scene *s) {
    ref_batch_clear(&s->b);
    pass_free(s->p);
    ref_case_close(&s->c);
}

/* Calls of a step, and which of them fails: the first, or the one after it. */
static const struct {
    const char *call, *named;
    int skip;
} calls[] = {{"cudaLaunchKernelEx", "cudaLaunchKernelEx", 1},
             {"cudaMemcpyAsync", "cudaMemcpyAsync", 1},
             {"cudaMemset2DAsync", "cudaMemset2DAsync", 0},
             {"cudaEventRecord", "cudaEventRecord", 1},
             {"cudaEventQuery", "send", 0},
             {"cudaStreamWaitEvent", "cudaStreamWaitEvent", 0},
             {"cudaStreamWaitEvent", "cudaStreamWaitEvent", 1},
             {"cudaEventQuery", "fetch", 2},
             {"cublasLtMatmul", "cublasLtMatmul", 1},
             {"cublasLtMatmulAlgoGetHeuristic", "cublasLtMatmulAlgoGetHeuristic", 1}};
#define CALLS (sizeof calls / sizeof calls[0])

Test(fault, is_kept_and_names_the_call_and_the_kernel) {
    struct device *dev = open_device();
    struct err_msg em = ERR_MSG_INIT;
    void *p;
    float back[4];
    double sum;
    cr_assert_eq(dev->ops->mem_alloc(dev, 64, &p, &em), ERR_OK);
    dev->ops->mem_zero(dev, p, 64);
    dev->ops->vec_axpy(dev, p, p, 1.0f, p, 4);
    emulation_fail("cudaEventQuery", cudaErrorIllegalAddress, 0, true);
    cr_assert_eq(dev->ops->download(dev, back, p, sizeof back, &em), ERR_DEVICE);
    cr_assert(strstr(em.text, "download") && strstr(em.text, "illegal memory") &&
                  strstr(em.text, "axpy"),
              "%s", em.text);
    /* everything after it says the same, and runs nothing */
    struct err_msg again = ERR_MSG_INIT;
    dev->ops->vec_axpy(dev, p, p, 1.0f, p, 4);
    cr_assert_eq(dev->ops->vec_sumsq(dev, p, 4, &sum, &again), ERR_DEVICE);
    cr_assert_str_eq(again.text, em.text);
    cr_assert_eq(dev->ops->sync(dev, NULL), ERR_DEVICE);
    cr_assert_eq(dev->ops->mem_alloc(dev, 64, &p, &em), ERR_DEVICE);
    device_close(dev);
}

/* Memory that lost bits, a device that fell off the bus, a kernel that broke: in any call that a
 * step makes, it ends with 70; none is lost, and what follows says the same. */
Test(fault, of_any_call_reaches_the_caller_of_a_step) {
    static const cudaError_t errors[] = {cudaErrorECCUncorrectable, cudaErrorUnknown,
                                         cudaErrorLaunchFailure};
    for (size_t i = 0; i < CALLS; i++)
        for (size_t k = 0; k < sizeof errors / sizeof errors[0]; k++) {
            struct scene s;
            struct err_msg em, again;
            open_scene(&s);
            emulation_fail(calls[i].call, errors[k], calls[i].skip, true);
            cr_assert_eq(step(&s, &em), ERR_DEVICE, "%s", calls[i].call);
            cr_assert(strstr(em.text, calls[i].named), "%s: %s", calls[i].call, em.text);
            cr_assert_eq(err_exit_code(em.code), 70);
            cr_assert_eq(step(&s, &again), ERR_DEVICE);
            cr_assert_str_eq(again.text, em.text);
            close_scene(&s);
            emulation_fail(NULL, cudaSuccess, 0, false);
        }
}

/* What there was no memory for was not run; afterwards the device is as good as before. */
Test(fault, no_memory_in_any_call_is_22_and_the_next_step_works) {
    for (size_t i = 0; i < CALLS; i++) {
        struct scene s;
        struct err_msg em;
        open_scene(&s);
        emulation_fail(calls[i].call, cudaErrorMemoryAllocation, calls[i].skip, false);
        cr_assert_eq(step(&s, &em), ERR_NO_MEMORY, "%s", calls[i].call);
        cr_assert(strstr(em.text, calls[i].named), "%s: %s", calls[i].call, em.text);
        cr_assert_eq(err_exit_code(em.code), 22);
        cr_assert_eq(step(&s, &em), ERR_OK, "after %s: %s", calls[i].call, em.text);
        close_scene(&s);
    }
}

/* An allocation that reports an older lack of memory reports it once. */
Test(fault, no_memory_is_not_kept) {
    struct device *dev = open_device();
    struct err_msg em = ERR_MSG_INIT;
    void *p, *q;
    cr_assert_eq(dev->ops->mem_alloc(dev, 64, &p, &em), ERR_OK);
    emulation_fail("cudaMemsetAsync", cudaErrorMemoryAllocation, 0, false);
    dev->ops->mem_zero(dev, p, 64);
    cr_assert_eq(dev->ops->mem_alloc(dev, 64, &q, &em), ERR_NO_MEMORY);
    cr_assert(strstr(em.text, "cudaMemsetAsync"), "%s", em.text);
    err_clear(&em);
    cr_assert_eq(dev->ops->mem_alloc(dev, 64, &q, &em), ERR_OK, "%s", em.text);
    dev->ops->mem_free(dev, p);
    dev->ops->mem_free(dev, q);
    device_close(dev);
}

/* ---- a device that does not answer ---------------------------------------------------------- */

/* What a device holds that does not answer is given back by the end of the process only. */
static void expect_leaks(void) {
    __lsan_disable();
}

TestSuite(hang, .init = expect_leaks);

/* Wherever in a step it stops answering, the step ends with 70 once the limit has passed, not
 * before, and the limit of the next waits has passed with it; nothing that would wait is called
 * then, or the emulation would stop. */
Test(hang, ends_a_step_wherever_it_begins) {
    /* the batch on its way up, a kernel that others wait in line for, the losses on their way down
     */
    enum { UPLOAD, LAUNCH, FETCH };
    bool ended = false, seen[3] = {false};
    for (long answers = 0; !ended; answers++) {
        struct scene s;
        struct err_msg em;
        open_scene(&s);
        double before = cuda_clock();
        emulation_hang(answers);
        ended = step(&s, &em) == ERR_OK;
        double waited = cuda_clock() - before;
        if (!ended) {
            cr_assert_eq(em.code, ERR_DEVICE);
            cr_assert(strstr(em.text, "has not ended after 120 s (newest kernel: "), "%s", em.text);
            seen[strstr(em.text, ": send: ")    ? UPLOAD
                 : strstr(em.text, ": fetch: ") ? FETCH
                                                : LAUNCH] = true;
            cr_assert(waited >= LIMIT_DEVICE_SECONDS && waited < 1.1 * LIMIT_DEVICE_SECONDS,
                      "waited %g s", waited);
            cr_assert_eq(step(&s, &em), ERR_DEVICE);
            cr_assert_lt(cuda_clock() - before - waited, 60); /* it is not waited for again */
        }
        close_scene(&s);
        emulation_hang(-1);
    }
    cr_assert(seen[UPLOAD] && seen[LAUNCH] && seen[FETCH]);
}

/* Launches are not lined up without end, which would block inside CUDA: after some hundred, a
 * device that does not answer is noticed without anybody asking for results. */
Test(hang, is_noticed_by_launches_alone) {
    struct device *dev = open_device();
    struct err_msg em = ERR_MSG_INIT;
    void *p;
    int n = 0;
    cr_assert_eq(dev->ops->mem_alloc(dev, 64, &p, &em), ERR_OK);
    dev->ops->mem_zero(dev, p, 64);
    emulation_hang(0);
    while (n < 1024 && cuda_of(dev)->fault.code == ERR_OK) {
        dev->ops->vec_axpy(dev, p, p, 1.0f, p, 4);
        n++;
    }
    cr_assert_lt(n, 400);
    cr_assert_eq(dev->ops->sync(dev, &em), ERR_DEVICE);
    cr_assert(strstr(em.text, "axpy"), "%s", em.text);
    dev->ops->mem_free(dev, p);
    device_close(dev);
}

/* ---- the worker ----------------------------------------------------------------------------- */

#define CASE "tests/reference/cases/llama-gqa"

struct worker {
    pid_t pid;
    int in;
    FILE *out;
    char dir[64], program[512];
};

static void find_program(struct worker *w) {
    ssize_t n = readlink("/proc/self/exe", w->program, sizeof w->program - 64);
    cr_assert_gt(n, 0);
    w->program[n] = '\0';
    *strrchr(w->program, '/') = '\0';
    strcat(w->program, "/../../emulation/ffwd");
}

static void start_worker(struct worker *w, const char *fault) {
    int in[2], out[2];
    find_program(w);
    (void)snprintf(w->dir, sizeof w->dir, "/tmp/ffwd-test-XXXXXX");
    cr_assert_not_null(mkdtemp(w->dir));
    cr_assert_eq(pipe2(in, O_CLOEXEC), 0);
    cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
    w->pid = fork();
    cr_assert_geq(w->pid, 0);
    if (w->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        setenv("FFWD_EMULATED_FAULT", fault, 1);
        execl(w->program, "ffwd", "worker", "--device", "cuda", "--dtype", "f32", (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    w->in = in[1];
    w->out = fdopen(out[0], "r");
    cr_assert_not_null(w->out);
}

/* Runs a job; its `done` message, valid until the next. */
static const char *run_job(struct worker *w, int number) {
    static char line[65536];
    dprintf(w->in,
            "{\"type\":\"run\",\"job\":\"job-%d\",\"attempt\":1,\"model\":\"" CASE
            "\",\"train\":\"" CASE
            "/rows.jsonl\",\"valid\":null,\"out\":\"%s/%d\",\"request\":{\"lora\":{\"rank\":2},"
            "\"training\":{\"max_steps\":12,\"max_seq_len\":16}}}\n",
            number, w->dir, number);
    while (fgets(line, sizeof line, w->out))
        if (strstr(line, "\"type\":\"done\""))
            return line;
    return "";
}

static int end_worker(struct worker *w) {
    char command[128];
    int status;
    cr_assert_eq(waitpid(w->pid, &status, 0), w->pid);
    close(w->in); /* not before: an end of input is another order to stop */
    fclose(w->out);
    (void)snprintf(command, sizeof command, "rm -rf %s", w->dir);
    cr_assert_eq(system(command), 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void check_exit(const char *done, int code, const char *text) {
    char want[32];
    (void)snprintf(want, sizeof want, "\"exit\":%d,", code);
    cr_assert(strstr(done, want) && strstr(done, text), "no %s in %s", text, done);
}

/* In loading, in the middle of the first step, and later. */
Test(worker, ends_with_70_when_the_device_fails) {
    static const char *const faults[] = {"cudaMemcpyAsync 214 3 1", "cudaLaunchKernelEx 999 100 1",
                                         "cudaEventQuery 719 50 1"};
    for (size_t i = 0; i < 3; i++) {
        struct worker w;
        start_worker(&w, faults[i]);
        check_exit(run_job(&w, 1), 70, "CUDA device 0 (emulated device)");
        cr_assert_eq(end_worker(&w), 70, "%s", faults[i]);
    }
}

Test(worker, ends_with_70_when_the_device_does_not_answer) {
    static const char *const faults[] = {"hang 0", "hang 40", "hang 50"};
    for (size_t i = 0; i < 3; i++) {
        struct worker w;
        start_worker(&w, faults[i]);
        check_exit(run_job(&w, 1), 70, "has not ended after 120 s");
        cr_assert_eq(end_worker(&w), 70, "%s", faults[i]);
    }
}

/* In loading, for activations, and in a step. */
Test(worker, goes_on_after_running_out_of_memory) {
    static const char *const faults[] = {"cudaMalloc 2 2 0", "cudaMalloc 2 11 0",
                                         "cublasLtMatmul 2 20 0"};
    for (size_t i = 0; i < 3; i++) {
        struct worker w;
        start_worker(&w, faults[i]);
        check_exit(run_job(&w, 1), 22, "\"out_of_memory\"");
        check_exit(run_job(&w, 2), 0, "\"succeeded\"");
        check_exit(run_job(&w, 3), 0, "\"succeeded\"");
        dprintf(w.in, "{\"type\":\"exit\"}\n");
        cr_assert_eq(end_worker(&w), 0, "%s", faults[i]);
    }
}
