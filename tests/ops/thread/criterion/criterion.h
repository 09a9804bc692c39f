/* criterion (stand-in): the part of Criterion that tests/ops uses, in one process.
 *
 * What:    Criterion runs each test in a process of its own, in memory that ThreadSanitizer keeps
 *          for itself. With SAN=thread the tests of this folder are built against this header: it
 *          runs them one after the other and prints Criterion's closing line.
 * Owns:    nothing.
 * Threads: tests run on the main thread.
 * Errors:  the first failed assertion ends the program.
 */
#ifndef FFWD_TESTS_OPS_THREAD_CRITERION_H
#define FFWD_TESTS_OPS_THREAD_CRITERION_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lite_test {
    const char *suite, *name;
    void (*run)(void);
    struct lite_test *next;
};

/* Weak: every file of a program that includes this has them, one is kept. */
extern struct lite_test *lite_tests;
__attribute__((weak)) struct lite_test *lite_tests;

void lite_check(int ok, const char *file, int line, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
__attribute__((weak)) void lite_check(int ok, const char *file, int line, const char *what,
                                      const char *fmt, ...) {
    if (ok)
        return;
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "%s:%d: %s ", file, line, what);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    va_end(args);
    abort();
}

int main(void);
__attribute__((weak)) int main(void) {
    int n = 0;
    for (struct lite_test *t = lite_tests; t; t = t->next, n++) {
        printf("[RUN ] %s::%s\n", t->suite, t->name);
        t->run();
    }
    printf("[====] Synthesis: Tested: %d | Passing: %d | Failing: 0 | Crashing: 0\n", n, n);
    return 0;
}

#define Test(suite_name, test_name)                                                                \
    static void suite_name##_##test_name(void);                                                    \
    __attribute__((constructor)) static void add_##suite_name##_##test_name(void) {                \
        static struct lite_test test = {#suite_name, #test_name, suite_name##_##test_name, NULL};  \
        test.next = lite_tests;                                                                    \
        lite_tests = &test;                                                                        \
    }                                                                                              \
    static void suite_name##_##test_name(void)

#define cr_assert(ok, ...) lite_check(!!(ok), __FILE__, __LINE__, #ok, " " __VA_ARGS__)
#define cr_assert_not(ok, ...) cr_assert(!(ok), __VA_ARGS__)
#define cr_assert_eq(a, b, ...) cr_assert((a) == (b), __VA_ARGS__)
#define cr_assert_lt(a, b, ...) cr_assert((a) < (b), __VA_ARGS__)
#define cr_assert_gt(a, b, ...) cr_assert((a) > (b), __VA_ARGS__)
#define cr_assert_neq(a, b, ...) cr_assert((a) != (b), __VA_ARGS__)
#define cr_assert_not_null(a, ...) cr_assert((a) != NULL, __VA_ARGS__)
#define cr_assert_null(a, ...) cr_assert(!(a), __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) cr_assert(strcmp(a, b) == 0, __VA_ARGS__)
#define cr_assert_float_eq(a, b, e, ...) cr_assert(fabs((a) - (b)) <= (e), __VA_ARGS__)

#endif
