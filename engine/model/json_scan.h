/* json_scan: a cursor over JSON bytes that knows where it is.
 *
 * What:    the pieces a header parser is made of: punctuation, strings, unsigned integers. Used
 *          where a refusal must name the byte, and where a tree of a big header would cost too
 *          much.
 * Owns:    nothing; the bytes belong to the caller.
 * Threads: one cursor, one thread.
 * Errors:  ERR_INPUT "PATH: byte N: reason".
 */
#ifndef FFWD_ENGINE_MODEL_JSON_SCAN_H
#define FFWD_ENGINE_MODEL_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Returns from the calling function on an error. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum err try_err = (call);                                                                 \
        if (try_err != ERR_OK)                                                                     \
            return try_err;                                                                        \
    } while (0)

struct json_scan {
    const unsigned char *start; /* byte 0 of the messages */
    const unsigned char *p, *end;
    const char *path;
    struct err_msg *em;
};

enum err json_scan_fail(const struct json_scan *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The rest must be valid UTF-8. Does not move the cursor. */
enum err json_scan_utf8(const struct json_scan *s) NODISCARD;
/* Skips white space; then the byte c must come. */
enum err json_scan_byte(struct json_scan *s, char c) NODISCARD;
/* The same, but its absence is no error. */
bool json_scan_accept(struct json_scan *s, char c);
bool json_scan_null(struct json_scan *s);
/* A string, unescaped into out[cap] with a NUL; it may not hold a NUL itself. out NULL: skipped.
 * *at (may be NULL): the byte where it starts. */
enum err json_scan_string(struct json_scan *s, char *out, size_t cap, size_t *at) NODISCARD;
/* A whole number in [0, 2^64). */
enum err json_scan_u64(struct json_scan *s, uint64_t *out) NODISCARD;
/* Nothing but white space may follow. */
enum err json_scan_end(struct json_scan *s) NODISCARD;

#endif
