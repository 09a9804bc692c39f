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
