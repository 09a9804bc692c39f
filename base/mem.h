/* mem: allocation that does not fail, and size arithmetic that does not wrap.
 *
 * What:    xmalloc and friends for small, bounded host memory; checked products and sums.
 * Owns:    nothing; the caller frees with free().
 * Threads: safe from any thread.
 * Errors:  out of host memory ends the process (code 22). Sizes chosen by a user must be checked
 *          with mem_mul/mem_add and bounded first; big buffers use a device's own allocator.
 */
#ifndef FFWD_BASE_MEM_H
#define FFWD_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

void *xmalloc(size_t bytes) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t bytes) __attribute__((malloc, returns_nonnull));
/* count * bytes is checked; the old block is freed or moved. */
void *xreallocarray(void *old, size_t count, size_t bytes) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
/* printf into a new string; the caller frees. */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

/* *out = a * b or a + b; false (and *out untouched) if that does not fit in size_t. */
bool mem_mul(size_t a, size_t b, size_t *out) __attribute__((warn_unused_result));
bool mem_add(size_t a, size_t b, size_t *out) __attribute__((warn_unused_result));

#endif
