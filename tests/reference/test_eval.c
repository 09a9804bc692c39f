/* `ffwd eval` as a program: the numbers of transformers + PEFT, whatever rows stand together. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CASE "tests/reference/cases/llama-gqa"

/* build/…/tests/reference/test_eval → build/…/ffwd */
static void program(char *out, size_t cap) {
    char self[400];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    cr_assert_gt(n, 0);
    self[n] = '\0';
    char *tests = strstr(self, "/tests/reference/");
    cr_assert_not_null(tests);
    *tests = '\0';
    (void)snprintf(out, cap, "%s/ffwd", self);
}

/* Lines of `ffwd eval ARGUMENTS`; the exit code is checked. */
static json_t *run(const char *arguments, int exit_code) {
    char bin[512], command[2048];
    json_t *lines = json_array(), *line;
    program(bin, sizeof bin);
    (void)snprintf(command, sizeof command, "%s eval --device cpu --dtype f32 %s", bin, arguments);
    FILE *f = popen(command, "r");
    cr_assert_not_null(f);
    while ((line = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL)) != NULL)
        json_array_append_new(lines, line);
    int status = pclose(f);
    cr_assert_eq(WEXITSTATUS(status), exit_code, "%s: %d", command, WEXITSTATUS(status));
    return lines;
}

static double get(const json_t *lines, size_t i, const char *key) {
    return json_number_value(json_object_get(json_array_get(lines, i), key));
}

static double sum(const json_t *list) {
    double s = 0;
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) s += json_number_value(v);
    return s;
}

Test(eval, prints_a_line_per_row_and_the_total) {
    json_t *expected = json_load_file(CASE "/expected.json", 0, NULL);
    json_t *want = json_object_get(expected, "adapter_nll");
    json_t *got = run("--model " CASE " --adapter " CASE "/adapter --data " CASE "/rows.jsonl", 0);
    size_t rows = json_array_size(want), tokens = 0;
    double nll = 0;
    cr_assert_eq(json_array_size(got), rows + 1);
    for (size_t i = 0; i < rows; i++) {
        const json_t *row = json_array_get(want, i);
        size_t n = json_array_size(row);
        cr_expect_eq(get(got, i, "tokens"), (double)n);
        cr_expect_float_eq(get(got, i, "nll"), sum(row), 1e-5 * (double)n);
        tokens += n;
        nll += sum(row);
    }
    const json_t *total = json_object_get(json_array_get(got, rows), "total");
    cr_expect_eq(json_integer_value(json_object_get(total, "examples")), (json_int_t)rows);
    cr_expect_eq(json_integer_value(json_object_get(total, "tokens")), (json_int_t)tokens);
    cr_expect_float_eq(json_number_value(json_object_get(total, "loss")), nll / (double)tokens,
                       1e-5);
    json_decref(expected);
    json_decref(got);
}

Test(eval, prints_logits_of_the_first_positions) {
    json_t *expected = json_load_file(CASE "/expected.json", 0, NULL);
    json_t *want = json_array_get(json_object_get(expected, "base_logits"), 0);
    json_t *got = run("--model " CASE " --data " CASE "/rows.jsonl --logits 3", 0);
    const json_t *logits = json_object_get(json_array_get(got, 0), "logits");
    cr_assert_eq(json_array_size(logits), 3u);
    for (size_t p = 0; p < 3; p++)
        for (size_t i = 0; i < json_array_size(json_array_get(want, p)); i++)
            cr_expect_float_eq(json_number_value(json_array_get(json_array_get(logits, p), i)),
                               json_number_value(json_array_get(json_array_get(want, p), i)), 1e-4);
    /* row 5 has two tokens */
    cr_expect_eq(json_array_size(json_object_get(json_array_get(got, 4), "logits")), 2u);
    json_decref(expected);
    json_decref(got);
}

/* As FFWD_CPU_ISA or the processor has it. */
static bool below_avx512(void) {
    const char *set = getenv("FFWD_CPU_ISA");
    bool forced = set != NULL && (strcmp(set, "base") == 0 || strcmp(set, "avx2") == 0);
    return forced || !__builtin_cpu_supports("avx512bw");
}

/* The same rows in another order, and so in other places of a batch, and on another number of
 * threads: the same digits. oneDNN's sgemm, which takes the place of packed products below AVX-512,
 * sums a row in an order that depends on its place: the last digits of f32 may differ there. */
Test(eval, numbers_do_not_depend_on_neighbours_or_threads) {
    char path[] = "/tmp/ffwd-test-XXXXXX", command[512];
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    (void)snprintf(command, sizeof command, "tac " CASE "/rows.jsonl > %s", path);
    cr_assert_eq(system(command), 0);
    (void)snprintf(command, sizeof command, "--threads 2 --model " CASE " --data %s", path);
    json_t *a = run("--threads 1 --model " CASE " --data " CASE "/rows.jsonl", 0);
    json_t *b = run(command, 0);
    size_t n = json_array_size(a) - 1;
    double slack = below_avx512() ? 1e-6 : 0;
    for (size_t i = 0; i < n; i++)
        cr_expect(fabs(get(a, i, "nll") - get(b, n - 1 - i, "nll")) <= slack * get(a, i, "tokens"),
                  "row %zu", i);
    unlink(path);
    json_decref(a);
    json_decref(b);
}

/* The file's rows over and over, more than a batch holds: each as the first time. */
Test(eval, rows_of_every_batch_come_out_in_their_order) {
    enum { TIMES = 250 };
    char path[] = "/tmp/ffwd-test-XXXXXX", command[512];
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    (void)snprintf(command, sizeof command,
                   "for i in $(seq %d); do cat " CASE "/rows.jsonl; done > %s", TIMES, path);
    cr_assert_eq(system(command), 0);
    (void)snprintf(command, sizeof command, "--model " CASE " --data %s", path);
    json_t *once = run("--model " CASE " --data " CASE "/rows.jsonl", 0);
    json_t *often = run(command, 0);
    size_t n = json_array_size(once) - 1;
    cr_assert_gt(n * TIMES, 1024u, "more rows than a batch has");
    cr_assert_eq(json_array_size(often), n * TIMES + 1);
    for (size_t i = 0; i < n * TIMES; i++) {
        cr_expect_eq(get(often, i, "tokens"), get(once, i % n, "tokens"), "row %zu", i);
        cr_expect_float_eq(get(often, i, "nll"), get(once, i % n, "nll"),
                           1e-6 * get(once, i % n, "tokens"), "row %zu", i);
    }
    unlink(path);
    json_decref(once);
    json_decref(often);
}

Test(eval, wrong_use_and_bad_input_have_their_exit_codes) {
    static const struct {
        const char *arguments;
        int exit_code;
    } runs[] = {
        {"2>/dev/null", 2},
        {"--model " CASE " 2>/dev/null", 2},
        {"--model " CASE " --data x --threads 0 2>/dev/null", 2},
        {"--model " CASE " --data x --threads 1e3 2>/dev/null", 2},
        {"--model " CASE " --data x --logits -1 2>/dev/null", 2},
        {"--model " CASE " --data x --color 2>/dev/null", 2},
        {"--model " CASE " --data " CASE "/rows.jsonl --dtype f16 2>/dev/null", 2},
        {"--model " CASE " --data /tmp/ffwd-no-such-file 2>/dev/null", 20},
        {"--model /tmp/ffwd-no-such-folder --data x 2>/dev/null", 20},
        {"--model " CASE " --data " CASE "/config.json 2>/dev/null", 20},
    };
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++)
        json_decref(run(runs[i].arguments, runs[i].exit_code));
}
