/* Reading: every rule of the format, each broken on its own; writing: the reference's bytes. */
#include "engine/model/safetensors.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/ffwd-test-XXXXXX";

static void make_path(void) {
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
}

static void drop_path(void) {
    unlink(path);
}

TestSuite(safetensors, .init = make_path, .fini = drop_path);

/* length < 0: that of the header. */
static void write_file(long long length, const char *header, size_t header_len, size_t data_len) {
    FILE *f = fopen(path, "wb");
    uint64_t n = length < 0 ? header_len : (uint64_t)length;
    cr_assert_not_null(f);
    for (int i = 0; i < 8; i++)
        fputc((int)(n >> (8 * i) & 0xFF), f);
    fwrite(header, 1, header_len, f);
    for (size_t i = 0; i < data_len; i++)
        fputc((int)(i & 0xFF), f);
    fclose(f);
}

static enum err open_header(const char *header, size_t data_len, struct safetensors **st,
                            struct err_msg *em) {
    err_clear(em);
    write_file(-1, header, strlen(header), data_len);
    return safetensors_open(path, st, em);
}

#define F32_2 "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

Test(safetensors, reads_names_shapes_and_bytes) {
    struct safetensors *st;
    struct err_msg em = ERR_MSG_INIT;
    const char *header = "{\"__metadata__\":{\"format\":\"pt\",\"a\":\"b\"}, \"b\":"
                         "{\"shape\":[2,3],\"data_offsets\":[4,16],\"dtype\":\"BF16\"},"
                         "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                         "\"empty\":{\"dtype\":\"F64\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
                         "\"\\u00e9\\ud83d\\ude00\\n\":{\"dtype\":\"U8\",\"shape\":[1],"
                         "\"data_offsets\":[16,17]}}   ";
    cr_assert_eq(open_header(header, 17, &st, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(safetensors_count(st), 4u);
    const struct safetensor *t = safetensors_find(st, "b");
    cr_assert_not_null(t);
    cr_assert_str_eq(t->dtype, "BF16");
    cr_assert_eq(t->rank, 2);
    cr_assert(t->shape[0] == 2 && t->shape[1] == 3 && t->bytes == 12);
    cr_assert_eq(((const unsigned char *)t->data)[0], 4);
    cr_assert_eq(safetensors_find(st, "a")->rank, 0);
    cr_assert_eq(safetensors_find(st, "empty")->bytes, 0u);
    cr_assert_not_null(safetensors_find(st, "\xC3\xA9\xF0\x9F\x98\x80\n"));
    cr_assert_null(safetensors_find(st, "c"));
    for (size_t i = 1; i < safetensors_count(st); i++)
        cr_assert_lt(strcmp(safetensors_at(st, i - 1)->name, safetensors_at(st, i)->name), 0);
    safetensors_close(st);
}

struct bad {
    char header[256];
    size_t data;
    char reason[64]; /* part of the message */
};

static struct bad bad_files[] = {
    {"", 0, "byte 8: the header does not start with '{'"},
    {" {}", 0, "byte 8: the header does not start with '{'"},
    {"[]", 0, "does not start with '{'"},
    {"{", 0, "byte 9: the header is not valid JSON here: a string expected"},
    {"{\"a\":" F32_2, 8, "',' expected"},
    {"{\"a\":" F32_2 ",}", 8, "a string expected"},
    {"{\"a\":" F32_2 "} x", 8, "something follows"},
    {"{'a':" F32_2 "}", 8, "byte 9"},
    {"{\"a\":1}", 0, "'{' expected"},
    {"{\"a\":null}", 0, "'{' expected"},
    {"{\"a\":{}}", 0, "lacks its dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "lacks its data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "lacks its shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4,
     "unknown key \"x\""},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
     "\"dtype\" twice"},
    {"{\"a\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "\"f32\" is not"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "whole number"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "whole number"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1e0],\"data_offsets\":[0,4]}}", 4, "whole number"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[01],\"data_offsets\":[0,4]}}", 4, "whole number"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, "'[' expected"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
     "more than 8 dimensions"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551616],\"data_offsets\":[0,4]}}", 4,
     "64 bits"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
     "overflows"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[576460752303423488],\"data_offsets\":[0,0]}}", 0,
     "overflows"},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, "whole bytes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "needs 8 bytes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "needs 4 bytes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "']' expected"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "a hole"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
     6, "an overlap"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[6,10]}}",
     10, "a hole"},
    {"{\"a\":" F32_2 "}", 7, "cut short"},
    {"{\"a\":" F32_2 "}", 9, "1 bytes of data belong to no tensor"},
    {"{}", 1, "belong to no tensor"},
    {"{\"a\":" F32_2 ",\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,8]}}", 8,
     "\"a\" is there twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "a string expected"},
    {"{\"__metadata__\":[]}", 0, "'{' expected"},
    {"{\"a\\u0000\":" F32_2 "}", 8, "NUL"},
    {"{\"\\ud800\":" F32_2 "}", 8, "surrogate"},
    {"{\"\\udc00\":" F32_2 "}", 8, "surrogate"},
    {"{\"\\x41\":" F32_2 "}", 8, "not an escape"},
    {"{\"\\u12g4\":" F32_2 "}", 8, "hexadecimal"},
    {"{\"a\n\":" F32_2 "}", 8, "control character"},
    {"{\"\xFF\":" F32_2 "}", 8, "byte 10: the header is not UTF-8"},
    {"{\"\xC0\xAF\":" F32_2 "}", 8, "not UTF-8"},
    {"{\"\xED\xA0\x80\":" F32_2 "}", 8, "not UTF-8"},
    {"{\"\xF4\x90\x80\x80\":" F32_2 "}", 8, "not UTF-8"},
};

ParameterizedTestParameters(safetensors, refuses_with_byte_and_reason) {
    return cr_make_param_array(struct bad, bad_files, sizeof bad_files / sizeof bad_files[0]);
}

ParameterizedTest(struct bad *bad, safetensors, refuses_with_byte_and_reason) {
    struct safetensors *st;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(open_header(bad->header, bad->data, &st, &em), ERR_INPUT, "%s", bad->header);
    cr_assert_null(st);
    cr_expect_not_null(strstr(em.text, bad->reason), "\"%s\" is not in \"%s\"", bad->reason,
                       em.text);
    cr_expect_not_null(strstr(em.text, ": byte "), "%s", em.text);
    cr_expect_not_null(strstr(em.text, path), "%s", em.text);
}

Test(safetensors, refuses_a_length_that_cannot_be) {
    struct safetensors *st;
    struct err_msg em = ERR_MSG_INIT;
    FILE *f = fopen(path, "wb");
    fputs("1234567", f);
    fclose(f);
    cr_assert_eq(safetensors_open(path, &st, &em), ERR_INPUT);
    cr_expect_not_null(strstr(em.text, "byte 7"), "%s", em.text);
    err_clear(&em);
    write_file(100000001, "{}", 2, 0);
    cr_assert_eq(safetensors_open(path, &st, &em), ERR_INPUT);
    cr_expect_not_null(strstr(em.text, "at most 100000000"), "%s", em.text);
    err_clear(&em);
    write_file(3, "{}", 2, 0);
    cr_assert_eq(safetensors_open(path, &st, &em), ERR_INPUT);
    cr_expect_not_null(strstr(em.text, "does not fit"), "%s", em.text);
    err_clear(&em);
    write_file(-1, "{}", 0, 0);
    cr_assert_eq(safetensors_open(path, &st, &em), ERR_INPUT);
    err_clear(&em);
    write_file(1LL << 62, "{}", 2, 0);
    cr_assert_eq(safetensors_open(path, &st, &em), ERR_INPUT);
}

Test(safetensors, refuses_a_name_longer_than_the_limit) {
    struct safetensors *st;
    struct err_msg em = ERR_MSG_INIT;
    char name[LIMIT_TENSOR_NAME + 2], header[LIMIT_TENSOR_NAME + 128];
    for (int extra = 0; extra < 2; extra++) {
        memset(name, 'n', sizeof name);
        name[LIMIT_TENSOR_NAME + extra] = '\0';
        (void)snprintf(header, sizeof header, "{\"%s\":" F32_2 "}", name);
        cr_assert_eq(open_header(header, 8, &st, &em), extra ? ERR_INPUT : ERR_OK, "%s", em.text);
        safetensors_close(st);
    }
}

Test(safetensors, missing_file_is_not_found) {
    struct safetensors *st;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(safetensors_open("/tmp/ffwd-no-such-file", &st, &em), ERR_NOT_FOUND);
}

/* Every prefix and every changed byte of a good file is either read or refused, never worse. The
 * sanitizer build makes this say more. */
Test(safetensors, survives_cut_and_changed_files) {
    struct safetensors *st;
    struct err_msg em = ERR_MSG_INIT;
    const char *good = "{\"__metadata__\":{\"format\":\"pt\"},\"a\\u00e9\":" F32_2 "}";
    size_t len = strlen(good);
    char changed[256];
    for (size_t i = 0; i < len; i++) {
        err_clear(&em);
        write_file(-1, good, i, 8);
        cr_assert_eq(safetensors_open(path, &st, &em), ERR_INPUT, "cut at %zu", i);
        for (int bit = 0; bit < 8; bit++) {
            memcpy(changed, good, len);
            changed[i] = (char)(changed[i] ^ 1 << bit);
            err_clear(&em);
            write_file(-1, changed, len, 8);
            if (safetensors_open(path, &st, &em) == ERR_OK)
                safetensors_close(st);
        }
    }
}

/* The bytes that safetensors 0.8.0's save_file writes for the same tensors. */
Test(safetensors, writes_what_the_reference_writes) {
    const float f32[] = {1, 2, 3};
    const uint16_t bf16[] = {0x3F80, 0x4000};
    const int64_t i64 = 7;
    const uint8_t u8[] = {1, 2, 3, 4, 5};
    const struct safetensor tensors[] = {
        {"z.u8", "U8", 1, {5}, u8, 5},       {"b.f32", "F32", 2, {1, 3}, f32, 12},
        {"a.bf16", "BF16", 1, {2}, bf16, 4}, {"a.f32", "F32", 1, {2}, f32, 8},
        {"c.i64", "I64", 0, {0}, &i64, 8},
    };
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"c.i64\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
                         "\"a.f32\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]},"
                         "\"b.f32\":{\"dtype\":\"F32\",\"shape\":[1,3],\"data_offsets\":[16,28]},"
                         "\"a.bf16\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[28,32]},"
                         "\"z.u8\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[32,37]}}";
    struct err_msg em = ERR_MSG_INIT;
    struct safetensors *st;
    char bytes[1024];
    cr_assert_eq(safetensors_write(path, tensors, 5, &em), ERR_OK, "%s", em.text);
    FILE *f = fopen(path, "rb");
    size_t n = fread(bytes, 1, sizeof bytes, f), len = strlen(header), padded = (len + 7) / 8 * 8;
    fclose(f);
    cr_assert_eq(n, 8 + padded + 37);
    cr_assert_eq((unsigned char)bytes[0] | (unsigned char)bytes[1] << 8, padded);
    cr_assert_eq(memcmp(bytes + 8, header, len), 0, "%.*s", (int)padded, bytes + 8);
    for (size_t i = len; i < padded; i++)
        cr_assert_eq(bytes[8 + i], ' ');
    cr_assert_eq(memcmp(bytes + 8 + padded + 16, f32, 12), 0);
    cr_assert_eq(safetensors_open(path, &st, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(memcmp(safetensors_find(st, "z.u8")->data, u8, 5), 0);
    safetensors_close(st);
}
