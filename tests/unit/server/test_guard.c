/* guard: framings of RFC 9112 §6.3 that must not pass, and plain ones that must. */
#include <criterion/criterion.h>
#include <string.h>

#include "server/guard.h"

#define H(n, v)                                                                                    \
    { .name = n, .name_len = sizeof n - 1, .value = v, .value_len = sizeof v - 1 }
#define CHECK(...)                                                                                 \
    check((struct guard_header[]){__VA_ARGS__},                                                    \
          sizeof((struct guard_header[]){__VA_ARGS__}) / sizeof(struct guard_header))

static struct guard_result check(const struct guard_header *headers, size_t n) {
    return guard_check("/v1/models?limit=1", headers, n, false, 1000);
}

Test(guard, plain_requests_pass) {
    struct guard_result r = CHECK(H("Host", "x"), H("Content-Length", "1000"), H("X-Y", "a\tb"));
    cr_assert_eq(r.status, 0);
    cr_assert_eq(r.content_len, 1000);
    r = CHECK(H("hOST", "x"), H("transfer-encoding", "Chunked"));
    cr_assert_eq(r.status, 0);
    cr_assert(r.chunked);
    cr_assert_eq(r.content_len, -1);
}

Test(guard, ambiguous_framing_is_400) {
    cr_expect_eq(CHECK(H("Host", "x"), H("Host", "x")).status, 400);
    cr_expect_eq(CHECK(H("X", "x")).status, 400);
    cr_expect_eq(CHECK(H("Host", "x"), H("Content-Length", "1"), H("Content-Length", "1")).status,
                 400);
    cr_expect_eq(
        CHECK(H("Host", "x"), H("Content-Length", "1"), H("Transfer-Encoding", "chunked")).status,
        400);
    cr_expect_eq(CHECK(H("Host", "x"), H("Transfer-Encoding", "gzip, chunked")).status, 400);
    cr_expect_eq(CHECK(H("Host", "x"), H("Transfer-Encoding", "chunked ")).status, 400);
    cr_expect_eq(CHECK(H("Host", "x"), H("Content-Length ", "1")).status, 400);
    cr_expect_eq(CHECK(H("Host", "x"), H("", "1")).status, 400);
    cr_expect_eq(CHECK(H("Host", "x"), H("A", "\x7f")).status, 400);
    cr_expect_eq(CHECK(H("Host", "x"), H("Content-Length", "1,1")).status, 400);
    cr_expect_eq(CHECK(H("Host", "x"), H("Content-Length", "")).status, 400);
}

Test(guard, sizes_are_413) {
    cr_expect_eq(CHECK(H("Host", "x"), H("Content-Length", "1001")).status, 413);
    cr_expect_eq(CHECK(H("Host", "x"), H("Content-Length", "18446744073709551617")).status, 413);
}

Test(guard, http_1_0_needs_no_host_and_has_no_chunks) {
    struct guard_header chunked = H("Transfer-Encoding", "chunked");
    cr_expect_eq(guard_check("/", NULL, 0, true, 1).status, 0);
    cr_expect_eq(guard_check("/", &chunked, 1, true, 1).status, 400);
}

Test(guard, targets) {
    struct guard_header host = H("Host", "x");
    static const char *const bad[] = {"", "x", "*", "http://x/", "/%00", "/%0", "/%g0", "/a b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_eq(guard_check(bad[i], &host, 1, false, 1).status, 400, "%s", bad[i]);
    cr_expect_eq(guard_check(NULL, &host, 1, false, 1).status, 400);
    cr_expect_eq(guard_check("/%2e%2E/%20?a=%25", &host, 1, false, 1).status, 0);
    char longest[5000];
    memset(longest, 'a', sizeof longest);
    longest[0] = '/';
    longest[4097] = '\0';
    cr_expect_eq(guard_check(longest, &host, 1, false, 1).status, 414);
}

/* As libmicrohttpd parses: each line's end and the colon become NULs, in place. */
static bool whole(const char *head, size_t n) {
    char text[256] = "";
    struct guard_header headers[8];
    size_t count = 0;
    memcpy(text, head, n);
    const char *version = strstr(text, "HTTP/");
    for (char *line = text; *line != '\0';) {
        char *end = memchr(line, '\n', n - (size_t)(line - text));
        char *next = end + 1;
        if (end[-1] == '\r')
            end--;
        memset(end, 0, (size_t)(next - end));
        if (line != text) {
            char *colon = strchr(line, ':');
            *colon++ = '\0';
            colon += strspn(colon, " ");
            headers[count++] = (struct guard_header){line, colon, strlen(line), strlen(colon)};
        }
        line = next;
        if (strncmp(line, "\r\n", 2) == 0)
            memset(line, 0, 2);
        else if (*line == '\n')
            *line = '\0';
    }
    return guard_lines_are_whole(version, headers, count);
}
#define WHOLE(text) whole(text, sizeof text - 1)

Test(guard, lines_that_do_not_end_with_cr_lf_are_seen) {
    cr_expect(WHOLE("GET / HTTP/1.1\r\nHost: x\r\nA:\r\nB: y \r\n\r\nbody"));
    cr_expect(WHOLE("GET / HTTP/1.0\r\n\r\nbody"));
    cr_expect_not(WHOLE("GET / HTTP/1.1\nHost: x\r\n\r\nbody"));
    cr_expect_not(WHOLE("GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\nbody"));
    cr_expect_not(WHOLE("GET / HTTP/1.1\r\nHost: x\n\r\nbody"));
    cr_expect_not(WHOLE("GET / HTTP/1.1\r\nHost: x\r\n\nbody"));
    cr_expect_not(WHOLE("GET / HTTP/1.1\r\nHost: x\0y\r\nA: b\r\n\r\nbody"));
}
