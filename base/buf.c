/* buf: a growing byte buffer with a maximum size. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define BUF_FIRST 256

void buf_init(struct buf *b, size_t max) {
    *b = (struct buf){.max = max};
}

void buf_clear(struct buf *b) {
    free(b->data);
    buf_init(b, b->max);
}

void buf_reset(struct buf *b) {
    b->len = 0;
    if (b->data != NULL)
        b->data[0] = '\0';
}

enum err buf_reserve(struct buf *b, size_t n) {
    if (n < b->cap - b->len)
        return ERR_OK; /* a cap of 0 comes with a length of 0 */
    if (n > b->max || b->len > b->max - n)
        return ERR_LIMIT;
    size_t need = b->len + n + 1;
    size_t cap = b->cap == 0 ? BUF_FIRST : b->cap;
    while (cap < need)
        cap *= 2;
    if (cap > b->max + 1)
        cap = b->max + 1;
    b->data = xreallocarray(b->data, cap, 1);
    b->cap = cap;
    return ERR_OK;
}

enum err buf_add(struct buf *b, const void *bytes, size_t n) {
    enum err e = buf_reserve(b, n);
    if (e != ERR_OK)
        return e;
    if (n > 0)
        memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = '\0';
    return ERR_OK;
}

enum err buf_addf(struct buf *b, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0)
        return ERR_NO_MEMORY;
    enum err e = buf_add(b, text, (size_t)n);
    free(text);
    return e;
}

void buf_consume(struct buf *b, size_t n) {
    if (n == 0)
        return;
    b->len -= n;
    memmove(b->data, b->data + n, b->len + 1);
}

char *buf_take(struct buf *b) {
    char *out = b->data != NULL ? b->data : xstrdup("");
    size_t max = b->max;
    buf_init(b, max);
    return out;
}
