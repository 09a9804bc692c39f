/* A job on a device that is short of memory: first layers are computed twice, to the same bytes,
 * then its steps are cut into smaller batches, and then it is refused with what would fit. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

#define CASE "tests/reference/cases/llama-gqa"
#define LEFT_FOR_CUDA ((size_t)256 << 20) /* engine/ops/cuda/memory.c */

static char dir[] = "/tmp/ffwd-test-XXXXXX", *log_text;

static void setup(void) {
    char program[512];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 64);
    cr_assert_gt(n, 0);
    program[n] = '\0';
    *strrchr(program, '/') = '\0';
    strcat(program, "/../../emulation/ffwd");
    cr_assert_not_null(mkdtemp(dir));
    setenv("D", dir, 1);
    setenv("FFWD", program, 1);
    cr_assert_eq(system("echo '{\"hyperparameters\":{\"n_epochs\":1,\"batch_size\":6},"
                        "\"fast_forward\":{\"enabled\":false},\"lora\":{\"rank\":4},"
                        "\"training\":{\"max_seq_len\":32}}' >$D/c.json"),
                 0);
}

static void teardown(void) {
    free(log_text);
    cr_assert_eq(system("rm -rf $D"), 0);
}

TestSuite(memory, .init = setup, .fini = teardown);

/* Runs the job on a device with so many bytes for it; its exit status. */
static int train(const char *name, size_t bytes) {
    char line[512], path[64];
    (void)snprintf(line, sizeof line,
                   "rm -rf $D/%s; FFWD_EMULATED_MEMORY=%zu $FFWD train --model " CASE
                   " --train " CASE
                   "/rows.jsonl --device cuda --dtype f32 --config $D/c.json --out $D/%s >$D/log "
                   "2>&1",
                   name, LEFT_FOR_CUDA + bytes, name);
    int status = system(line);
    (void)snprintf(path, sizeof path, "%s/log", dir);
    free(log_text);
    log_text = NULL;
    cr_assert_eq(file_read(path, 1 << 20, &log_text, NULL, NULL), ERR_OK);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The first number of that name in the log. */
static size_t said(const char *key) {
    const char *at = strstr(log_text, key);
    cr_assert_not_null(at, "no %s in %s", key, log_text);
    return strtoull(at + strlen(key), NULL, 10);
}

static bool same_bytes(const char *a, const char *b) {
    char line[256];
    (void)snprintf(line, sizeof line,
                   "cmp -s $D/%s/adapter/adapter_model.safetensors "
                   "$D/%s/adapter/adapter_model.safetensors",
                   a, b);
    return system(line) == 0;
}

Test(memory, is_saved_step_by_step_and_then_refused) {
    cr_assert_eq(train("ample", (size_t)1 << 30), 0, "%s", log_text);
    cr_assert_eq(said("\"recomputed_layers\":"), 0);
    size_t total = said("\"total\":"), tokens = said("\"micro_batch_tokens\":");
    cr_assert_eq(train("exact", total), 0, "%s", log_text);
    cr_assert_eq(said("\"recomputed_layers\":"), 0);

    cr_assert_eq(train("twice", total - 1), 0, "%s", log_text);
    cr_assert_gt(said("\"recomputed_layers\":"), 0);
    cr_assert_eq(said("\"micro_batch_tokens\":"), tokens);
    cr_assert(strstr(log_text, "Memory is short"), "%s", log_text);
    cr_assert_lt(said("\"total\":"), total);
    cr_assert(same_bytes("ample", "twice"));

    while (said("\"micro_batch_tokens\":") == tokens)
        cr_assert_eq(train("smaller", said("\"total\":") - 1), 0, "%s", log_text);
    cr_assert_lt(said("\"micro_batch_tokens\":"), tokens);

    size_t enough = said("\"total\":");
    int status;
    while ((status = train("least", enough - 1)) == 0)
        enough = said("\"total\":");
    cr_assert_eq(status, 22, "%s", log_text);
    size_t rows = said("with training.max_seq_len ");
    cr_assert(rows > 0 && rows < 32, "%s", log_text);
    char line[128];
    (void)snprintf(line, sizeof line, "sed -i 's/len\":32/len\":%zu/' $D/c.json", rows);
    cr_assert_eq(system(line), 0);
    cr_assert_eq(train("shorter", enough - 1), 0, "%s", log_text);
}
