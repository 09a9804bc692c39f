/* decimal: an integer as decimal digits.
 *
 * What:    for what is written thousands of times a second, where snprintf shows.
 * Owns:    nothing.
 * Threads: plain arithmetic.
 * Errors:  none.
 */
#ifndef FFWD_BASE_DECIMAL_H
#define FFWD_BASE_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

#define DECIMAL_MAX 20 /* "-9223372036854775808" */

/* Returns how many digits (and sign) were put; no NUL follows them. */
static inline size_t decimal_put(char out[DECIMAL_MAX], int64_t value) {
    char text[DECIMAL_MAX];
    size_t at = DECIMAL_MAX, n = 0;
    uint64_t left = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do
        text[--at] = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    if (value < 0)
        out[n++] = '-';
    while (at < DECIMAL_MAX)
        out[n++] = text[at++];
    return n;
}

#endif
