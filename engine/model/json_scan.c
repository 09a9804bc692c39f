/* json_scan: strings, numbers and punctuation of JSON (RFC 8259). */
#include "engine/model/json_scan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum err json_scan_fail(const struct json_scan *s, const char *fmt, ...) {
    char text[ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_set(s->em, ERR_INPUT, "%s: byte %zu: %s", s->path, (size_t)(s->p - s->start), text);
}

/* Bytes of the UTF-8 sequence at p, 0 if it is not one: RFC 3629, table 3-7 of the Unicode
 * Standard (no overlong forms, no surrogates, nothing above U+10FFFF). */
static int utf8_length(const unsigned char *p, const unsigned char *end) {
    unsigned lead = *p;
    int n = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (n <= 1)
        return n;
    if (lead > 0xF4 || end - p < n)
        return 0;
    unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (int i = 1; i < n; i++, low = 0x80, high = 0xBF)
        if (p[i] < low || p[i] > high)
            return 0;
    return n;
}

/* Writes a code point that is no surrogate; returns its bytes. */
static size_t utf8_encode(uint32_t code, unsigned char out[4]) {
    if (code < 0x80) {
        out[0] = (unsigned char)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n - 1; i > 0; i--, code >>= 6)
        out[i] = (unsigned char)(0x80 | (code & 0x3F));
    out[0] = (unsigned char)(lead[n] | code);
    return n;
}

enum err json_scan_utf8(const struct json_scan *s) {
    struct json_scan at = *s;
    while (at.p < at.end) {
        int n = utf8_length(at.p, at.end);
        if (n == 0)
            return json_scan_fail(&at, "the header is not UTF-8");
        at.p += n;
    }
    return ERR_OK;
}

static void skip_space(struct json_scan *s) {
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t' || *s->p == '\r'))
        s->p++;
}

bool json_scan_accept(struct json_scan *s, char c) {
    skip_space(s);
    if (s->p == s->end || *s->p != (unsigned char)c)
        return false;
    s->p++;
    return true;
}

enum err json_scan_byte(struct json_scan *s, char c) {
    if (json_scan_accept(s, c))
        return ERR_OK;
    return json_scan_fail(s, "the header is not valid JSON here: '%c' expected", c);
}

bool json_scan_null(struct json_scan *s) {
    skip_space(s);
    if (s->end - s->p < 4 || memcmp(s->p, "null", 4) != 0)
        return false;
    s->p += 4;
    return true;
}

static enum err scan_hex4(struct json_scan *s, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 4; i++, s->p++) {
        int c = s->p < s->end ? *s->p : 0;
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            digit = (uint32_t)((c | 32) - 'a') + 10;
        else
            return json_scan_fail(s, "\\u needs four hexadecimal digits");
        *out = *out << 4 | digit;
    }
    return ERR_OK;
}

/* After "\u": the code point, from one unit or from a surrogate pair. */
static enum err scan_unicode(struct json_scan *s, uint32_t *code) {
    enum err e = scan_hex4(s, code);
    if (e != ERR_OK || *code < 0xD800 || *code > 0xDFFF)
        return e;
    uint32_t low = 0;
    if (*code < 0xDC00 && s->end - s->p >= 2 && s->p[0] == '\\' && s->p[1] == 'u') {
        s->p += 2;
        e = scan_hex4(s, &low);
        if (e != ERR_OK)
            return e;
    }
    if (low < 0xDC00 || low > 0xDFFF)
        return json_scan_fail(s, "half of a surrogate pair");
    *code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
    return ERR_OK;
}

/* After the backslash: writes the bytes it stands for. */
static enum err scan_escape(struct json_scan *s, unsigned char bytes[4], size_t *n) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int c = s->p < s->end ? *s->p : 0;
    const char *hit = c != 0 ? strchr(from, c) : NULL;
    *n = 1;
    if (hit != NULL) {
        bytes[0] = (unsigned char)to[hit - from];
        s->p++;
        return ERR_OK;
    }
    if (c != 'u')
        return json_scan_fail(s, "not an escape of JSON");
    s->p++;
    uint32_t code;
    enum err e = scan_unicode(s, &code);
    if (e == ERR_OK)
        *n = utf8_encode(code, bytes);
    return e;
}

enum err json_scan_string(struct json_scan *s, char *out, size_t cap, size_t *at) {
    size_t len = 0;
    skip_space(s);
    if (at != NULL)
        *at = (size_t)(s->p - s->start);
    if (s->p == s->end || *s->p != '"')
        return json_scan_fail(s, "the header is not valid JSON here: a string expected");
    s->p++;
    for (;;) {
        unsigned char bytes[4];
        size_t n = 1;
        if (s->p == s->end)
            return json_scan_fail(s, "the header ends within a string");
        bytes[0] = *s->p;
        if (bytes[0] < 0x20)
            return json_scan_fail(s, "a control character within a string");
        s->p++;
        if (bytes[0] == '"')
            break;
        if (bytes[0] == '\\') {
            enum err e = scan_escape(s, bytes, &n);
            if (e != ERR_OK)
                return e;
        }
        if (out == NULL)
            continue;
        if (bytes[0] == '\0')
            return json_scan_fail(s, "a name holds a NUL character");
        if (len + n >= cap)
            return json_scan_fail(s, "a name is longer than %zu bytes", cap - 1);
        memcpy(out + len, bytes, n);
        len += n;
    }
    if (out != NULL)
        out[len] = '\0';
    return ERR_OK;
}

enum err json_scan_u64(struct json_scan *s, uint64_t *out) {
    skip_space(s);
    const unsigned char *first = s->p;
    uint64_t v = 0;
    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
        if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*s->p - '0'), &v))
            return json_scan_fail(s, "a number does not fit in 64 bits");
    bool more = s->p < s->end && (*s->p == '.' || *s->p == 'e' || *s->p == 'E');
    if (s->p == first || more || (*first == '0' && s->p - first > 1))
        return json_scan_fail(s, "a whole number from 0 on expected");
    *out = v;
    return ERR_OK;
}

enum err json_scan_end(struct json_scan *s) {
    skip_space(s);
    return s->p == s->end ? ERR_OK : json_scan_fail(s, "something follows the header's last '}'");
}
