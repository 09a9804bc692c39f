/* Mutated tokenizer files: whatever opens must encode and decode without a crash (the sanitizer
 * build shows reads and writes out of bounds). */
#include "tests/unit/engine/text/tok_support.h"

#include <stdint.h>

#define ROUNDS 1500

static uint32_t state = 12345;

static uint32_t below(uint32_t n) {
    state = state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)state * n) >> 32);
}

static const char *const snippets[] = {
    "0",        "-1",      "4294967295",
    "null",     "true",    "\"\"",
    "{}",       "[]",      "\"a\"",
    "\\u0000",  "1e9",     "(",
    ")",        "[",       "]",
    "\\\\p{L}", "\\\\b",   "(?i)",
    "*",        "+",       "{2,3}",
    "&&",       "|",       "^",
    "$",        "\\u2581", "\xF0\x9F\x98\x80",
};

/* Overwrites, removes, repeats or inserts something small. */
static size_t mutate(char *s, size_t n, size_t cap) {
    size_t at = below((uint32_t)n), len;
    const char *with;
    switch (below(4)) {
    case 0:
        s[at] = (char)below(256);
        return n;
    case 1:
        len = 1 + below(8);
        len = len < n - at ? len : n - at;
        memmove(s + at, s + at + len, n - at - len);
        return n - len;
    case 2: /* a piece of elsewhere */
        len = 1 + below(24);
        if (at + len > n || n + len > cap)
            return n;
        with = s + below((uint32_t)(n - len + 1));
        memmove(s + at, with, len);
        return n;
    default:
        with = snippets[below(sizeof snippets / sizeof snippets[0])];
        len = strlen(with);
        if (n + len > cap)
            return n;
        memmove(s + at + len, s + at, n - at);
        memcpy(s + at, with, len);
        return n + len;
    }
}

static void use(const struct tokenizer *tok) {
    static const char *const texts[] = {"", "Hello  world's 123\n\n\ttest <s>[A] ",
                                        "caf\xC3\xA9 e\xCC\x81\xCC\xA3 \xE6\x97\xA5\xE6\x9C\xAC",
                                        "\xF0\x9F\x98\x80\xE2\x96\x81 "
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    struct ids ids = {0};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ids_reset(&ids);
        char *text = NULL;
        if (tokenizer_encode(tok, texts[i], strlen(texts[i]), below(4), &ids, NULL) == ERR_OK &&
            tokenizer_decode(tok, ids.data, ids.len, &text, NULL, NULL) == ERR_OK)
            free(text);
    }
    ids_reset(&ids);
    for (int i = 0; i < 12; i++)
        ids_add(&ids, (int32_t)below((uint32_t)tokenizer_vocab_size(tok) + 1));
    char *text = NULL;
    if (tokenizer_decode(tok, ids.data, ids.len, &text, NULL, NULL) == ERR_OK)
        free(text);
    ids_clear(&ids);
}

Test(tok_fuzz, mutated_files_never_crash) {
    json_t *vectors = support_json(TOK_DATA "tok_vectors.json");
    const json_t *cases = json_object_get(vectors, "cases");
    int opened = 0;
    for (int round = 0; round < ROUNDS; round++) {
        const json_t *test = json_array_get(cases, below((uint32_t)json_array_size(cases)));
        char *whole = support_compose(vectors, test);
        size_t n = strlen(whole), cap = n + 1024;
        char *json = calloc(1, cap + 1);
        /* Half of the time only the fields in front of the model change. */
        const char *model = strstr(whole, "\"model\"");
        size_t front = model != NULL && below(2) == 0 ? (size_t)(model - whole) : n;
        memcpy(json, whole, front);
        size_t changed = front;
        for (uint32_t k = 1 + below(3); k > 0 && changed > 0; k--)
            changed = mutate(json, changed, front + 1024);
        memcpy(json + changed, whole + front, n - front);
        n = changed + n - front;
        free(whole);
        struct tokenizer *tok;
        struct err_msg em = ERR_MSG_INIT;
        if (support_open(json, n, &tok, &em) == ERR_OK) {
            use(tok);
            tokenizer_close(tok);
            opened++;
        } else {
            cr_assert_neq(em.text[0], '\0');
        }
        free(json);
    }
    json_decref(vectors);
    cr_assert_gt(opened, ROUNDS / 50); /* the mutations do not only make garbage */
}
