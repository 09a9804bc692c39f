/* guard: what a request must look like before anything reads it. */
#include "server/guard.h"

#include <string.h>
#include <strings.h>

#include "base/limits.h"

static bool is_alnum(unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* RFC 9110 §5.6.2 */
static bool is_token(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (!is_alnum(c) && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return n > 0;
}

static bool has_control(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return true;
    }
    return false;
}

static bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static const char *check_uri(const char *uri) {
    if (uri == NULL || uri[0] != '/')
        return "the request target must be a path that starts with /";
    for (const char *p = uri; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c <= 0x20 || c == 0x7f)
            return "the request target has a space or a control character";
        if (c != '%')
            continue;
        if (!is_hex(p[1]) || !is_hex(p[2]))
            return "the request target has a % that two hexadecimal digits do not follow";
        if (p[1] == '0' && p[2] == '0')
            return "the request target has %00";
    }
    return NULL;
}

static bool is_named(const struct guard_header *h, const char *name) {
    return h->name_len == strlen(name) && strncasecmp(h->name, name, h->name_len) == 0;
}

/* -1: not a plain decimal number. What does not fit is INT64_MAX. */
static int64_t decimal(const char *s, size_t n) {
    int64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        v = v > (INT64_MAX - 9) / 10 ? INT64_MAX : v * 10 + (s[i] - '0');
    }
    return n > 0 ? v : -1;
}

struct counts {
    int host, length, encoding;
};

static const char *check_header(const struct guard_header *h, struct counts *seen,
                                struct guard_result *out) {
    if (!is_token(h->name, h->name_len))
        return "a header's name has a character that names cannot have";
    if (has_control(h->value, h->value_len))
        return "a header's value has a control character";
    if (is_named(h, "host")) {
        seen->host++;
    } else if (is_named(h, "content-length")) {
        seen->length++;
        out->content_len = decimal(h->value, h->value_len);
        if (out->content_len < 0)
            return "Content-Length is not a number";
    } else if (is_named(h, "transfer-encoding")) {
        seen->encoding++;
        if (h->value_len != 7 || strncasecmp(h->value, "chunked", 7) != 0)
            return "Transfer-Encoding can only be chunked";
        out->chunked = true;
    }
    return NULL;
}

static struct guard_result refuse(int status, const char *reason) {
    return (struct guard_result){.status = status, .reason = reason, .content_len = -1};
}

struct guard_result guard_check(const char *uri, const struct guard_header *headers, size_t n,
                                bool http_1_0, int64_t max_body) {
    struct guard_result out = {.content_len = -1};
    struct counts seen = {0};
    const char *reason = check_uri(uri);
    if (reason != NULL)
        return refuse(400, reason);
    if (strlen(uri) > LIMIT_URL_BYTES)
        return refuse(414, "the request target is longer than 4096 bytes");
    if (n > LIMIT_HEADERS)
        return refuse(431, "the request has more than 100 headers");
    for (size_t i = 0; i < n; i++) {
        reason = check_header(&headers[i], &seen, &out);
        if (reason != NULL)
            return refuse(400, reason);
    }
    if (seen.host > 1 || (seen.host == 0 && !http_1_0))
        return refuse(400, "a request needs exactly one Host header");
    if (seen.length > 1)
        return refuse(400, "a request can have one Content-Length only");
    if (seen.encoding > 1)
        return refuse(400, "a request can have one Transfer-Encoding only");
    if (seen.encoding == 1 && (seen.length == 1 || http_1_0))
        return refuse(400, "Transfer-Encoding cannot stand beside Content-Length or in HTTP/1.0");
    if (out.content_len > max_body)
        return refuse(413, "the request's body is larger than any this server accepts");
    return out;
}

static bool two_nuls_between(const char *end, const char *next) {
    return (uintptr_t)next - (uintptr_t)end == 2 && end[0] == '\0' && end[1] == '\0';
}

bool guard_lines_are_whole(const char *version, const struct guard_header *headers, size_t n) {
    const char *end = version + strlen(version);
    for (size_t i = 0; i < n; i++) {
        if (!two_nuls_between(end, headers[i].name))
            return false;
        end = headers[i].value + headers[i].value_len;
    }
    /* The last line's end and the empty line's. */
    return memcmp(end, "\0\0\0", 4) == 0;
}
