/* buf: a growing byte buffer with a maximum size fixed at birth.
 *
 * What:    append bytes or formatted text; the content is always followed by a NUL.
 * Owns:    its memory; buf_clear frees it, buf_take hands it to the caller.
 * Threads: one owner at a time.
 * Errors:  growing past the maximum is ERR_LIMIT and leaves the content as it was.
 */
#ifndef FFWD_BASE_BUF_H
#define FFWD_BASE_BUF_H

#include <stddef.h>

#include "base/err.h"

struct buf {
    char *data; /* NULL while empty and never grown */
    size_t len;
    size_t cap;
    size_t max;
};

void buf_init(struct buf *b, size_t max);
void buf_clear(struct buf *b);
/* Drops the content, keeps the memory. */
void buf_reset(struct buf *b);
/* Room for n bytes more at least, so that adding them does not move the content. */
enum err buf_reserve(struct buf *b, size_t n) NODISCARD;
enum err buf_add(struct buf *b, const void *bytes, size_t n) NODISCARD;
enum err buf_addf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3), warn_unused_result));
/* Removes the first n bytes (n <= len). */
void buf_consume(struct buf *b, size_t n);
/* The content as a NUL-terminated string; the caller frees; the buffer is empty afterwards. */
char *buf_take(struct buf *b);

#endif
