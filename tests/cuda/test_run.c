/* A whole job through `ffwd train --device cuda`: repeated, killed and resumed, compared with the
 * CPU. On the emulated device, which ffwd loads as it would load the real one, or on that. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"

#define CASE "tests/reference/cases/llama-gqa"

static const char config[] =
    "{\"hyperparameters\":{\"n_epochs\":4,\"batch_size\":2},\"lora\":{\"rank\":4,\"dropout\":0.1},"
    "\"fast_forward\":{\"interval\":2,\"validation_examples\":1},"
    "\"training\":{\"max_steps\":6,\"checkpoint_interval\":2,\"max_seq_len\":64}}";

/* Where this test works, and the program: FFWD_PROGRAM, or ../emulation/ffwd from the test's own
 * folder. */
static char dir[64], program[512];

static void find_program(void) {
    const char *given = getenv("FFWD_PROGRAM");
    if (given) {
        (void)snprintf(program, sizeof program, "%s", given);
        return;
    }
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 64);
    cr_assert_gt(n, 0);
    program[n] = '\0';
    *strrchr(program, '/') = '\0';
    strcat(program, "/../../emulation/ffwd");
}

static void setup(void) {
    find_program();
    (void)snprintf(dir, sizeof dir, "/tmp/ffwd-test-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(setenv("XDG_CACHE_HOME", dir, 1), 0); /* of the jobs of one test */
    (void)unsetenv("FFWD_CUDA_ALGORITHMS");
    char path[128];
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    fputs(config, f);
    fclose(f);
}

static void teardown(void) {
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(run, .init = setup, .fini = teardown);

/* Starts a job whose folder is dir/name; its events come out of the stream. */
static FILE *start(const char *name, const char *device, const char *dtype, bool resume,
                   pid_t *pid) {
    char out[128], cfg[128];
    int ends[2];
    (void)snprintf(out, sizeof out, "%s/%s", dir, name);
    (void)snprintf(cfg, sizeof cfg, "%s/config.json", dir);
    cr_assert_eq(pipe(ends), 0);
    *pid = fork();
    cr_assert_geq(*pid, 0);
    if (*pid == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execl(program, "ffwd", "train", "--model", CASE, "--train", CASE "/rows.jsonl", "--device",
              device, "--dtype", dtype, "--config", cfg, "--out", out, resume ? "--resume" : NULL,
              (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    FILE *events = fdopen(ends[0], "r");
    cr_assert_not_null(events);
    return events;
}

/* Reads events up to the one that contains text, or to the end (text NULL). Sums the losses. */
static double follow(FILE *events, const char *text) {
    static char line[65536];
    double sum = 0;
    while (fgets(line, sizeof line, events) && !(text && strstr(line, text))) {
        const char *loss = strstr(line, "\"train_loss\":");
        sum += loss ? strtod(loss + strlen("\"train_loss\":"), NULL) : 0;
    }
    return sum;
}

static int finish(FILE *events, pid_t pid) {
    int status;
    fclose(events);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static double train(const char *name, const char *device, const char *dtype, bool resume) {
    pid_t pid;
    FILE *events = start(name, device, dtype, resume, &pid);
    double sum = follow(events, NULL);
    int status = finish(events, pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s on %s: status %d", name, device,
              status);
    return sum;
}

static void adapter_bytes(const char *name, char **out, size_t *len) {
    struct err_msg em = ERR_MSG_INIT;
    char path[192];
    (void)snprintf(path, sizeof path, "%s/%s/adapter/adapter_model.safetensors", dir, name);
    cr_assert_eq(file_read(path, 1 << 24, out, len, &em), ERR_OK, "%s", em.text);
}

static void check_same(const char *a, const char *b) {
    char *x, *y;
    size_t n, m;
    adapter_bytes(a, &x, &n);
    adapter_bytes(b, &y, &m);
    cr_assert(n == m && memcmp(x, y, n) == 0, "%s and %s differ", a, b);
    free(x);
    free(y);
}

Test(run, agrees_with_the_cpu) {
    double cuda = train("cuda", "cuda", "f32", false), cpu = train("cpu", "cpu", "f32", false);
    cr_assert_gt(cpu, 1);
    cr_assert_float_eq(cuda, cpu, 1e-3, "losses add up to %.7g, on the CPU to %.7g", cuda, cpu);
}

Test(run, killed_and_resumed_gives_the_same_bytes) {
    pid_t pid;
    (void)train("whole", "cuda:0", "bf16", false);
    (void)train("again", "cuda:0", "bf16", false);
    check_same("whole", "again");
    FILE *events = start("killed", "cuda:0", "bf16", false, &pid);
    (void)follow(events, "Step 5/6");
    cr_assert_eq(kill(pid, SIGKILL), 0);
    (void)finish(events, pid);
    (void)train("killed", "cuda:0", "bf16", true);
    check_same("whole", "killed");
}

/* Each launch on its own, and work that comes again launched as a whole. */
Test(run, without_graphs_gives_the_same_bytes) {
    (void)train("graphs", "cuda:0", "bf16", false);
    cr_assert_eq(setenv("FFWD_CUDA_GRAPHS", "0", 1), 0);
    (void)train("launches", "cuda:0", "bf16", false);
    check_same("graphs", "launches");
}

Test(run, a_device_that_is_not_there_is_70) {
    pid_t pid;
    FILE *events = start("none", "cuda:99", "bf16", false, &pid);
    (void)follow(events, NULL);
    int status = finish(events, pid);
    cr_assert(WIFEXITED(status));
    cr_assert_eq(WEXITSTATUS(status), 70);
}
