/* JSON as text: what is written is what jansson writes; what is found is what jansson finds. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "base/mem.h"

static struct json_text w;

static void begin(void) {
    json_text_init(&w, 1 << 20);
}

/* The text since begin is that of the value, which is taken over. */
static void expect_same(json_t *value_take) {
    char *got = NULL, *want = json_dumps(value_take, JSON_COMPACT | JSON_ENCODE_ANY);
    cr_assert_eq(json_text_take(&w, &got, NULL), ERR_OK);
    cr_expect_str_eq(got, want);
    json_decref(value_take);
    free(got);
    free(want);
}

/* ---- writing -------------------------------------------------------------------------------- */

static uint64_t state = 1;
static uint64_t draw(void) { /* SplitMix64 */
    uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static void expect_real(double value) {
    begin();
    json_text_real(&w, value);
    expect_same(json_real(value));
}

Test(json_text, reals_are_written_as_jansson_does) {
    static const double some[] = {
        0,    -0.0,      1,    -1,   100,   0.1,   66.6,  1e15,   -1e15,           1e16,   1e17,
        1e21, 123456e-9, 1e-5, 1e-4, 1e100, 1e-99, 1e308, 5e-324, 999999999999999, 2.5e14, 1e-300};
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++)
        expect_real(some[i]);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = draw();
        double value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value))
            expect_real(value);
        expect_real((double)(int64_t)(bits >> (bits % 60)) / (i % 3 == 0 ? 1 : 1000));
    }
    begin();
    json_text_real(&w, NAN);
    expect_same(json_null());
}

Test(json_text, integers_are_written_as_jansson_does) {
    static const int64_t some[] = {0, 1, -1, 9, 10, -10, 99, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        begin();
        json_text_integer(&w, some[i]);
        expect_same(json_integer(some[i]));
    }
    for (int i = 0; i < 1000; i++) {
        int64_t value = (int64_t)(draw() >> (draw() % 64));
        begin();
        json_text_integer(&w, value);
        expect_same(json_integer(value));
    }
}

Test(json_text, strings_are_written_as_jansson_does) {
    for (int c = 1; c < 0x80; c++) {
        char text[] = {'a', (char)c, 'b', '\0'};
        begin();
        json_text_string(&w, text);
        expect_same(json_string(text));
    }
    static const char *const some[] = {"", "\xc3\xa9", "a\xf0\x9f\x98\x80\n", "\"\\/"};
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        begin();
        json_text_string(&w, some[i]);
        expect_same(json_string(some[i]));
    }
    begin();
    json_text_string(&w, "a\xff\xc3z\"");
    expect_same(json_string("a??z\""));
    begin();
    json_text_string(&w, NULL);
    expect_same(json_null());
}

Test(json_text, commas_stand_between_values) {
    begin();
    json_text_open(&w, '{');
    json_text_key(&w, "a");
    json_text_open(&w, '[');
    json_text_close(&w, ']');
    json_text_key(&w, "b");
    json_text_open(&w, '[');
    json_text_integer(&w, 1);
    json_text_open(&w, '{');
    json_text_close(&w, '}');
    json_text_bool(&w, true);
    json_text_bool(&w, false);
    json_text_null(&w);
    json_text_close(&w, ']');
    json_text_key(&w, "c");
    size_t from = w.out.len;
    json_text_string(&w, "x");
    size_t len = w.out.len - from;
    json_text_key(&w, "d");
    json_text_repeat(&w, from, len);
    json_text_key(&w, "e");
    json_text_part(&w, json_part_whole("[2]"));
    json_text_key(&w, "f");
    json_text_part(&w, json_part_whole(NULL));
    json_text_close(&w, '}');
    expect_same(json_pack("{s:[], s:[i,{},b,b,n], s:s, s:s, s:[i], s:n}", "a", "b", 1, 1, 0, "c",
                          "x", "d", "x", "e", 2, "f"));
}

/* Whatever the room: all of it or an error, and nothing behind its end. */
Test(json_text, does_not_grow_over_its_room) {
    for (size_t max = 0; max < 60; max++) {
        char *text = NULL;
        json_text_init(&w, max);
        json_text_open(&w, '{');
        json_text_key(&w, "key");
        json_text_string(&w, "0123456789");
        json_text_key(&w, "other");
        json_text_real(&w, 0.1);
        json_text_close(&w, '}');
        enum err e = json_text_take(&w, &text, NULL);
        cr_expect(e == (text == NULL ? ERR_LIMIT : ERR_OK));
        cr_expect(text == NULL || strlen(text) <= max);
        cr_expect(text != NULL || max < 48, "%zu bytes", max);
        free(text);
    }
}

/* ---- parts ---------------------------------------------------------------------------------- */

static const char sample[] =
    " { \"a\" : 1 , \"b\":{\"a\":2,\"}\":[\"]\",{}]},\"c\":\"x\\\"}\\\\\",\"\":null,"
    "\"d\":[1,[2,{\"a\":\"[\"}],\"{\"] ,\n\"e\":-1.5e-3,\"f\":true,\"aa\":false,\"g\":\"\"}";

Test(json_text, parts_are_what_jansson_finds) {
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "aa", "g", "none", "A"};
    enum { N = sizeof names / sizeof names[0] };
    struct json_part found[N];
    json_t *all = json_loads(sample, 0, NULL);
    cr_assert_not_null(all);
    json_parts(sample, names, N, found);
    for (int i = 0; i < N; i++) {
        const json_t *want = json_object_get(all, names[i]);
        cr_assert_eq(found[i].at != NULL, want != NULL, "%s", names[i]);
        if (want == NULL)
            continue;
        json_t *got = json_loadb(found[i].at, found[i].len, JSON_DECODE_ANY, NULL);
        cr_expect(json_equal(got, want), "%s: %.*s", names[i], (int)found[i].len, found[i].at);
        if (json_is_number(want))
            cr_expect_eq(json_part_number(found[i]), json_number_value(want));
        json_decref(got);
    }
    cr_expect_eq(json_part_kind(found[0]), '0');
    cr_expect_eq(json_part_kind(found[1]), '{');
    cr_expect_eq(json_part_kind(found[2]), '"');
    cr_expect_eq(json_part_kind(found[8]), '\0');
    cr_expect_eq(json_part_number(found[2]), 0);
    json_decref(all);
}

/* Text that is cut anywhere is read to its end and not further, which a sanitizer would see. */
Test(json_text, parts_end_with_the_text) {
    for (size_t n = 0; n <= strlen(sample); n++) {
        char *cut = xstrndup(sample, n);
        struct json_part g = json_part_of(cut, "g"), a = json_part_of(cut, "a");
        cr_expect_eq(g.at != NULL, n == strlen(sample));
        cr_expect(a.at == NULL || (a.len == 1 && a.at[0] == '1'));
        free(cut);
    }
    static const char *const none[] = {"",         "null",  "[]",      "[{\"g\":1}]",
                                       "{",        "{}",    "{\"g\"}", "{\"g\" 1}",
                                       "{\"g\":1", "{g:1}", "\"g\":1", "{\"x\":1 \"g\":1}"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        cr_expect_null(json_part_of(none[i], "g").at, "%s", none[i]);
    cr_expect_null(json_part_of(NULL, "g").at);
}

Test(json_text, numbers_of_parts_are_those_of_strtod) {
    static const char *const some[] = {"0",
                                       "1",
                                       "-1",
                                       "15.0",
                                       "15.5",
                                       "1e3",
                                       "123456789012345",
                                       "1234567890123456",
                                       "12345678901234.0",
                                       "-0.0",
                                       "0.1",
                                       "2.00"};
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++)
        cr_expect_eq(json_part_number(json_part_whole(some[i])), strtod(some[i], NULL));
}
