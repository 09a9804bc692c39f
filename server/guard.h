/* guard: what a request must look like before anything reads it.
 *
 * What:    refuses the ambiguous framings that libmicrohttpd 0.9.75 lets through (two
 *          Content-Length, Content-Length beside Transfer-Encoding, a space before the colon, lines
 *          that end with a bare LF, …), after which two parsers of one connection would disagree on
 *          where a request ends.
 * Owns:    nothing.
 * Threads: pure functions.
 * Errors:  an HTTP status and a sentence. After a refusal the connection must be closed.
 */
#ifndef FFWD_SERVER_GUARD_H
#define FFWD_SERVER_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guard_header {
    const char *name, *value;
    size_t name_len, value_len;
};

struct guard_result {
    int status;          /* 0: fine; else 400, 413, 414, 431 */
    const char *reason;  /* static; NULL if fine */
    int64_t content_len; /* -1: no Content-Length */
    bool chunked;
};

/* uri: as sent, with the query. http_1_0: Host may be missing. max_body: bytes of a body that any
 * route accepts. */
struct guard_result guard_check(const char *uri, const struct guard_header *headers, size_t n,
                                bool http_1_0, int64_t max_body);

/* Whether every line of the head ended with CR LF and held no NUL. libmicrohttpd 0.9.75 does not
 * say so, but it parses in place: it replaces the bytes of each line's end by NULs, so between the
 * end of one string and the start of the next there are exactly two of them. A folded line is moved
 * elsewhere and fails too. version and the headers, in the order received, are the library's own
 * strings; only with versions 0.9.7x. */
bool guard_lines_are_whole(const char *version, const struct guard_header *headers, size_t n);

#endif
