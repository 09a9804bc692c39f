/* Character classes and mappings, for every code point, against Hugging Face's tokenizers
 * (make_tokenizer_unicode.py). */
#include "tests/unit/engine/text/tok_support.h"

#include <stdint.h>

#include "engine/text/tok_pattern.h"
#include "engine/text/tok_unicode.h"

struct hash {
    uint64_t h;
    long n;
};

static void hash_bytes(struct hash *hash, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        hash->h = (hash->h ^ (unsigned char)s[i]) * 0x100000001B3u;
}

static void hash_cp(struct hash *hash, uint32_t cp) {
    for (unsigned shift = 0; shift < 32; shift += 8) {
        char byte = (char)(cp >> shift & 0xFF);
        hash_bytes(hash, &byte, 1);
    }
    hash->n++;
}

static void check(const struct hash *got, const json_t *list, const char *name) {
    const json_t *want = json_object_get(list, name);
    char text[20];
    (void)snprintf(text, sizeof text, "%016llx", (unsigned long long)got->h);
    cr_expect_eq(json_integer_value(json_array_get(want, 0)), got->n, "%s: %ld code points", name,
                 got->n);
    cr_expect_str_eq(json_string_value(json_array_get(want, 1)), text, "%s", name);
}

#define EACH(cp) (uint32_t cp = 0; cp < 0x110000; cp += cp == 0xD7FF ? 0x801 : 1)

Test(tok_unicode, classes_as_the_library) {
    static const struct {
        const char *name;
        bool (*is)(uint32_t);
    } classes[] = {{"whitespace", tok_is_whitespace},   {"numeric", tok_is_numeric},
                   {"punctuation", tok_is_punctuation}, {"control", tok_is_control},
                   {"nonspacing", tok_is_nonspacing},   {"mark", tok_is_mark},
                   {"chinese", tok_is_chinese},         {"word", tok_is_word}};
    json_t *data = support_json(TOK_DATA "tok_unicode.json");
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        struct hash hash = {0xCBF29CE484222325u, 0};
        for
            EACH(cp)
        if (classes[i].is(cp))
            hash_cp(&hash, cp);
        check(&hash, json_object_get(data, "classes"), classes[i].name);
    }
    json_decref(data);
}

Test(tok_unicode, regular_expression_properties_as_the_library) {
    json_t *data = support_json(TOK_DATA "tok_unicode.json");
    const json_t *list = json_object_get(data, "classes");
    const char *name;
    json_t *value;
    int checked = 0;
    json_object_foreach((json_t *)list, name, value) {
        char regex[64];
        if (strncmp(name, "property ", 9) != 0)
            continue;
        (void)snprintf(regex, sizeof regex, "\\A\\p{%s}", name + 9);
        struct tok_pattern pattern;
        struct tok_scratch scratch;
        struct err_msg em = ERR_MSG_INIT;
        cr_assert_eq(tok_pattern_regex(&pattern, regex, strlen(regex), NULL, &em), ERR_OK, "%s",
                     em.text);
        tok_scratch_init(&scratch, 1 << 24);
        struct hash hash = {0xCBF29CE484222325u, 0};
        for
            EACH(cp) {
                char s[4];
                struct tok_find find;
                bool found;
                size_t begin, end;
                tok_find_start(&find, &pattern, &scratch, s, utf8_put(cp, s));
                cr_assert_eq(tok_find_next(&find, &found, &begin, &end, &em), ERR_OK, "%s",
                             em.text);
                if (found)
                    hash_cp(&hash, cp);
            }
        check(&hash, list, name);
        checked++;
        tok_scratch_clear(&scratch);
        tok_pattern_clear(&pattern);
    }
    cr_assert_gt(checked, 20);
    json_decref(data);
}

Test(tok_unicode, mappings_as_the_library) {
    static const char *const names[] = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase"};
    json_t *data = support_json(TOK_DATA "tok_unicode.json");
    for (size_t i = 0; i < 5; i++) {
        struct hash hash = {0xCBF29CE484222325u, 0};
        struct text out = {0};
        for
            EACH(cp) {
                char s[4];
                size_t n = utf8_put(cp, s);
                text_reset(&out);
                if (i < 4)
                    tok_normal_form((enum tok_form)i, s, n, &out);
                else
                    tok_lowercase(s, n, &out);
                if (out.len == n && memcmp(out.data, s, n) == 0)
                    continue;
                hash_cp(&hash, cp);
                hash_bytes(&hash, out.data, out.len);
                hash_bytes(&hash, "", 1);
            }
        check(&hash, json_object_get(data, "maps"), names[i]);
        text_clear(&out);
    }
    json_decref(data);
}

/* A long run of marks in the worst order is sorted in linear time, and stably. */
Test(tok_unicode, marks_are_ordered_in_linear_time) {
    enum { N = 400000 };
    struct text in = {0}, out = {0};
    text_add(&in, "q", 1);
    for (int i = 0; i < N; i++)
        text_add_cp(&in, i % 2 == 0 ? 0x301 : 0x323); /* class 230, class 220 */
    tok_normal_form(TOK_NFD, in.data, in.len, &out);
    cr_assert_eq(out.len, in.len);
    size_t n;
    for (size_t i = 0; i < N; i++)
        cr_assert_eq(utf8_get(out.data + 1 + 2 * i, out.data + out.len, &n),
                     i < N / 2 ? 0x323u : 0x301u);
    text_clear(&in);
    text_clear(&out);
}
