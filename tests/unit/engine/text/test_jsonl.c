/* Lines: endings, BOM, UTF-8, NUL, limits, and the reasons given for bad ones. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"
#include "engine/text/jsonl.h"

static char path[64];

static struct jsonl *open_bytes(const void *bytes, size_t n) {
    (void)snprintf(path, sizeof path, "%s", "/tmp/ffwd-test-jsonl-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_assert_eq(write(fd, bytes, n), (ssize_t)n);
    close(fd);
    struct jsonl *r = NULL;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(jsonl_open(path, NULL, &r, &em), ERR_OK, "%s", em.text);
    return r;
}

static void done(struct jsonl *r) {
    jsonl_close(r);
    unlink(path);
}

static bool next(struct jsonl *r, struct jsonl_line *line) {
    struct err_msg em = ERR_MSG_INIT;
    bool more = false;
    cr_assert_eq(jsonl_next(r, line, &more, &em), ERR_OK, "%s", em.text);
    return more;
}

#define OPEN(text) open_bytes(text, sizeof(text) - 1)

Test(jsonl, lines_end_in_lf_crlf_or_the_end_of_the_file) {
    struct jsonl *r = OPEN("one\r\ntwo\n\n \t\r\nlast");
    const char *expected[] = {"one", "two", "", " \t", "last"};
    const int64_t offsets[] = {0, 5, 9, 10, 14};
    struct jsonl_line line;
    for (int i = 0; i < 5; i++) {
        cr_assert(next(r, &line));
        cr_assert_str_eq(line.data, expected[i]);
        cr_assert_eq(line.number, i + 1);
        cr_assert_eq(line.offset, offsets[i]);
        cr_assert_eq(jsonl_blank(&line), i == 2 || i == 3);
    }
    cr_assert_not(next(r, &line));
    cr_assert_not(next(r, &line));
    cr_assert_eq(jsonl_bytes(r), 18);
    done(r);
}

Test(jsonl, a_bom_is_skipped_at_the_start_only) {
    struct jsonl *r = OPEN("\xef\xbb\xbf{\"a\":1}\n\xef\xbb\xbf{}\n");
    struct jsonl_line line;
    struct line_fault fault;
    cr_assert(next(r, &line));
    cr_assert_str_eq(line.data, "{\"a\":1}");
    cr_assert_eq(line.offset, 3);
    json_t *row = jsonl_parse(&line, &fault);
    cr_assert_not_null(row);
    json_decref(row);
    cr_assert(next(r, &line));
    cr_assert_null(jsonl_parse(&line, &fault));
    cr_assert_not_null(strstr(fault.reason, "byte-order mark"));
    cr_assert_eq(fault.offset, 11);
    done(r);
}

Test(jsonl, lines_longer_than_the_buffer_are_whole) {
    size_t n = 1u << 20;
    char *text = xmalloc(n + 3);
    memset(text, 'x', n);
    memcpy(text + n, "\ny\n", 3);
    struct jsonl *r = open_bytes(text, n + 3);
    struct jsonl_line line;
    cr_assert(next(r, &line));
    cr_assert(line.len == n && !line.too_long);
    cr_assert(next(r, &line));
    cr_assert_str_eq(line.data, "y");
    cr_assert_eq(line.offset, (int64_t)n + 1);
    cr_assert_not(next(r, &line));
    done(r);
    free(text);
}

Test(jsonl, a_line_over_the_limit_is_refused_and_the_next_one_is_read) {
    size_t limit = LIMIT_ROW_BYTES;
    char *text = xmalloc(2 * limit + 16);
    memset(text, ' ', 2 * limit + 16);
    text[0] = '{', text[limit - 1] = '}';
    memcpy(text + limit, "\r\n", 2); /* exactly the limit */
    memset(text + limit + 2, 'x', limit + 1);
    memcpy(text + 2 * limit + 3, "\n{}", 3); /* one byte more than the limit before it */
    struct jsonl *r = open_bytes(text, 2 * limit + 6);
    struct jsonl_line line;
    struct line_fault fault;
    cr_assert(next(r, &line));
    json_t *row = jsonl_parse(&line, &fault);
    cr_assert_not_null(row, "%s", fault.reason);
    json_decref(row);
    cr_assert(next(r, &line));
    cr_assert(line.too_long);
    cr_assert_null(jsonl_parse(&line, &fault));
    cr_assert_not_null(strstr(fault.reason, "4194304"));
    cr_assert(next(r, &line));
    cr_assert_str_eq(line.data, "{}");
    cr_assert_eq(line.number, 3);
    done(r);
    free(text);
}

Test(jsonl, bad_lines_have_a_reason_and_an_offset) {
    static const struct {
        const char *text;
        size_t len; /* 0: strlen */
        int64_t offset;
        const char *reason;
    } cases[] = {
        {"{\"a\":\"\xc0\x80\"}", 0, 6, "byte 0xc0 is not valid UTF-8"},
        {"{\"a\":\"\xed\xa0\x80\"}", 0, 6, "byte 0xed"}, /* a surrogate */
        {"{\"a\":\"x\xf4\x90\x80\x80\"}", 0, 7, "byte 0xf4"},
        {"{\"a\":\"\xe2\x82\"}", 0, 6, "byte 0xe2"},
        {"{\"a\":\"\xe2", 0, 6, "byte 0xe2"},
        {"{\"a\":\"\x80\"}", 0, 6, "byte 0x80"},
        {"{\"a\":\0}", 7, 5, "NUL"},
        {"{\"a\":\"\\u0000\"}", 0, -1, "\\u0000"},
        {"{\"a\":\"\\ud800\"}", 0, -1, "not JSON"},
        {"{\"a\":1", 0, 6, "ends before"},
        {"{\"a\":\"b", 0, -1, "ends before"},
        {"{\"a\":1} {}", 0, -1, "more text after"},
        {"{\"a\":1,\"a\":2}", 0, -1, "stands twice"},
        {"{\"b\":{\"a\":1,\"a\":2}}", 0, -1, "stands twice"},
        {"{'a': 1}", 0, 0, "single quotes: this is Python's notation, not JSON"},
        {"[{\"a\":1}]", 0, 0, "JSON array"},
        {"[", 0, 0, "JSON array"},
        {"{", 0, 0, "one line"},
        {"3", 0, 0, "must be a JSON object"},
        {"hello", 0, 0, "must be a JSON object"},
        {"{\"a\":NaN}", 0, -1, "not JSON"},
        {"{\"a\":1e999}", 0, -1, "not JSON"},
        {"\x1f\x8b\x08", 0, 0, "compressed"},
        {"\xff\xfe{\0", 4, 0, "UTF-16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t len = cases[i].len != 0 ? cases[i].len : strlen(cases[i].text);
        struct jsonl_line line = {.data = cases[i].text, .len = len, .number = 1, .offset = 1000};
        struct line_fault fault;
        cr_assert_null(jsonl_parse(&line, &fault), "case %zu", i);
        cr_expect_not_null(strstr(fault.reason, cases[i].reason), "case %zu: %s", i, fault.reason);
        if (cases[i].offset >= 0)
            cr_expect_eq(fault.offset, 1000 + cases[i].offset, "case %zu: %ld", i,
                         (long)fault.offset);
        cr_expect(fault.offset >= 1000 && fault.offset <= 1000 + (int64_t)len, "case %zu", i);
    }
}

Test(jsonl, deep_nesting_is_refused_not_a_crash) {
    size_t n = 1000000;
    char *text = xmalloc(n + 6);
    memcpy(text, "{\"a\":", 5);
    memset(text + 5, '[', n);
    text[n + 5] = '\0';
    struct jsonl_line line = {.data = text, .len = n + 5, .number = 2};
    struct line_fault fault;
    cr_assert_null(jsonl_parse(&line, &fault));
    cr_assert_not_null(strstr(fault.reason, "nested too deeply"), "%s", fault.reason);
    free(text);
}

Test(jsonl, what_is_not_a_file_is_refused) {
    struct jsonl *r = NULL;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(jsonl_open("/nonexistent/x.jsonl", NULL, &r, &em), ERR_NOT_FOUND);
    err_clear(&em);
    cr_assert_eq(jsonl_open("/tmp", NULL, &r, &em), ERR_INPUT);
}
