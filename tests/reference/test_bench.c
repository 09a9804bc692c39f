/* `ffwd bench` as a program: one JSON line whose numbers fit together. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CASE "tests/reference/cases/qwen2"

/* build/…/tests/reference/test_bench → build/…/ffwd */
static int run(const char *arguments, json_t **out) {
    char self[400], command[2048];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    cr_assert_gt(n, 0);
    self[n] = '\0';
    char *tests = strstr(self, "/tests/reference/");
    cr_assert_not_null(tests);
    *tests = '\0';
    (void)snprintf(command, sizeof command, "%s/ffwd bench %s", self, arguments);
    FILE *f = popen(command, "r");
    cr_assert_not_null(f);
    *out = json_loadf(f, 0, NULL);
    int status = pclose(f);
    return WEXITSTATUS(status);
}

static double get(const json_t *j, const char *key) {
    const json_t *v = json_object_get(j, key);
    cr_assert(json_is_number(v), "%s", key);
    return json_number_value(v);
}

Test(bench, prints_numbers_that_fit_together) {
    json_t *j;
    cr_assert_eq(run("--model " CASE " --device cpu --dtype f32 --seq 32 --batch 3 --rank 2 "
                     "--threads 1 --steps 3",
                     &j),
                 0);
    cr_assert_not_null(j);
    cr_expect_str_eq(json_string_value(json_object_get(j, "shape")), CASE);
    cr_expect_str_eq(json_string_value(json_object_get(j, "device")), "cpu");
    cr_expect_str_eq(json_string_value(json_object_get(j, "dtype")), "f32");
    cr_expect(get(j, "seq") == 32 && get(j, "batch") == 3 && get(j, "rank") == 2);
    cr_expect_eq(get(j, "threads"), 1);
    double seconds = get(j, "step_ms") / 1e3;
    cr_expect_float_eq(get(j, "tokens_per_s"), 96 / seconds, 1e-3 * 96 / seconds);
    /* hidden 32, 4 + 2 + 2 heads of 8, MLP 48, 2 layers, vocabulary 61; twice a forward pass */
    double n = 2 * (32 * 64 + 32 * 32 + 3 * 32 * 48) + 61 * 32;
    double flops = 2 * (2 * n * 96 + 2 * 4.0 * 32 * 3 * 32 * 33 / 2);
    cr_expect_float_eq(get(j, "model_tflops"), flops / seconds / 1e12,
                       1e-3 * flops / seconds / 1e12);
    cr_expect_gt(get(j, "gemm_peak_tflops"), 0);
    cr_expect_float_eq(get(j, "mfu"), get(j, "model_tflops") / get(j, "gemm_peak_tflops"), 1e-3);
    cr_expect_gt(get(j, "peak_bytes"), 1 << 20);
    json_decref(j);
}

/* Each operation is called as often as the model's form says, and the times add up to the step. */
Test(bench, profile_covers_the_step) {
    static const struct {
        const char *operation;
        double calls;
    } expected[] = {
        {"product forward 32->64", 2},
        {"product backward 64->32", 2},
        {"attention forward", 2},
        {"attention backward", 2},
        {"norm forward", 5},
        {"norm again", 4},
        {"norm backward", 4},
        {"rotation", 4},
        {"loss head 32->61", 1},
        {"activation backward", 2},
        {"optimizer", 1},
        {"gather and scatter", 2},
    };
    json_t *j, *row;
    size_t i;
    double share = 0;
    cr_assert_eq(run("--model " CASE " --device cpu --dtype f32 --seq 32 --batch 3 --rank 2 "
                     "--threads 1 --steps 2 --profile 2>/dev/null",
                     &j),
                 0);
    const json_t *rows = json_object_get(j, "profile");
    cr_assert_gt(json_array_size(rows), sizeof expected / sizeof expected[0]);
    json_array_foreach(rows, i, row) {
        share += get(row, "share");
        cr_expect(get(row, "ms") > 0 && get(row, "bound_ms") >= 0);
    }
    cr_expect_float_eq(share, 1, 1e-4);
    for (size_t k = 0; k < sizeof expected / sizeof expected[0]; k++) {
        const json_t *found = NULL;
        json_array_foreach(rows, i,
                           row) if (strcmp(json_string_value(json_object_get(row, "operation")),
                                           expected[k].operation) == 0) found = row;
        cr_assert_not_null(found, "%s", expected[k].operation);
        cr_expect_eq(get(found, "calls"), expected[k].calls, "%s", expected[k].operation);
    }
    /* 2 layers · 96 tokens · 2 · (32 · 64 + LoRA 2 · (3 · 32 + 64)) */
    json_array_foreach(rows, i, row) {
        if (strcmp(json_string_value(json_object_get(row, "operation")), expected[0].operation))
            continue;
        double flops = get(row, "gflops") * get(row, "ms") * 1e6;
        double want = 2 * 96 * 2.0 * (32 * 64 + 2 * (3 * 32 + 64));
        cr_expect_float_eq(flops, want, 1e-3 * want);
    }
    json_decref(j);
}

Test(bench, wrong_use_is_exit_code_2) {
    static const char *const wrong[] = {
        "",
        "--shape none",
        "--shape smollm2-135m --model " CASE,
        "--model " CASE " --seq 1",
        "--model " CASE " --batch 0",
        "--model " CASE " --rank 1000",
        "--model " CASE " --steps x",
        "--model " CASE " --seq 300", /* the model has 256 positions */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char arguments[256];
        json_t *j;
        (void)snprintf(arguments, sizeof arguments, "--device cpu %s 2>/dev/null", wrong[i]);
        cr_expect_eq(run(arguments, &j), 2, "%s", wrong[i]);
        cr_expect_null(j);
    }
}

/* 30 GB of weights in f32, packed twice or not: more than the machine has, said at once. */
Test(bench, a_model_that_does_not_fit_is_refused_before_it_is_made) {
    json_t *j;
    if ((double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) > 28e9) {
        puts("SKIP: this machine may hold llama-3-8b in f32");
        return;
    }
    cr_expect_eq(run("--device cpu --dtype f32 --shape llama-3-8b 2>/dev/null", &j), 22);
    cr_expect_null(j);
}

Test(bench, evaluations_are_timed_beside_a_step) {
    json_t *j;
    cr_assert_eq(run("--model " CASE " --device cpu --dtype f32 --seq 32 --batch 3 --rank 2 "
                     "--threads 1 --steps 3 --evaluation",
                     &j),
                 0);
    cr_expect(get(j, "evaluation_ms") > 0 && get(j, "evaluation_ms") < get(j, "step_ms"));
    cr_expect(get(j, "forward_ms") > 0 && get(j, "forward_ms") < get(j, "step_ms"));
    json_decref(j);
}
