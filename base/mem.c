/* mem: allocation that does not fail, and checked size arithmetic. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static void *or_die(void *p) {
    if (p == NULL) {
        (void)fputs("ffwd: out of host memory\n", stderr);
        _Exit(err_exit_code(ERR_NO_MEMORY));
    }
    return p;
}

void *xmalloc(size_t bytes) {
    return or_die(malloc(bytes == 0 ? 1 : bytes));
}

void *xcalloc(size_t count, size_t bytes) {
    return or_die(calloc(count == 0 ? 1 : count, bytes == 0 ? 1 : bytes));
}

void *xreallocarray(void *old, size_t count, size_t bytes) {
    size_t total;
    if (!mem_mul(count, bytes, &total))
        return or_die(NULL);
    return or_die(realloc(old, total == 0 ? 1 : total));
}

char *xstrdup(const char *s) {
    return or_die(strdup(s));
}

char *xstrndup(const char *s, size_t n) {
    return or_die(strndup(s, n));
}

char *xasprintf(const char *fmt, ...) {
    char *out = NULL;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&out, fmt, args);
    va_end(args);
    return or_die(n < 0 ? NULL : out);
}

bool mem_mul(size_t a, size_t b, size_t *out) {
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

bool mem_add(size_t a, size_t b, size_t *out) {
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}
