/* percent: one byte written as %XX (RFC 3986, 2.1).
 *
 * What:    for the path of a request and for parameters of headers.
 * Owns:    nothing.
 * Threads: plain arithmetic.
 * Errors:  -1.
 */
#ifndef FFWD_BASE_PERCENT_H
#define FFWD_BASE_PERCENT_H

static inline int percent_hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte, 0…255, that the three characters at text write; -1 where they are no escape. Reads no
 * further than the NUL. */
static inline int percent_byte(const char *text) {
    int high = text[0] == '%' ? percent_hex_digit(text[1]) : -1;
    int low = high >= 0 ? percent_hex_digit(text[2]) : -1;
    return low >= 0 ? high * 16 + low : -1;
}

#endif
