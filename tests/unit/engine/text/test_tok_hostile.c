/* Files and texts that a tokenizer must refuse, or get through quickly. */
#include "tests/unit/engine/text/tok_support.h"

#include "base/clock.h"

#define MODEL                                                                                      \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\" \":3},\"merges\":[\"a "    \
    "b\"]}"
#define SPLIT(re)                                                                                  \
    "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" re                \
    "\"},\"behavior\":\"Isolated\",\"invert\":false}}"
#define ADDED(token) "{" MODEL ",\"added_tokens\":[" token "]}"

static struct tokenizer *open_ok(const char *json) {
    struct tokenizer *tok;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(support_open(json, strlen(json), &tok, &em), ERR_OK, "%s", em.text);
    return tok;
}

static const struct {
    const char *json;
    enum err code;
    const char *names; /* what the message must hold */
} malformed[] = {
    {"", ERR_INPUT, "line 1"},
    {"{", ERR_INPUT, "line 1"},
    {"[]", ERR_INPUT, "object"},
    {"{}", ERR_INPUT, "model"},
    {"{\"version\":\"2.0\"," MODEL "}", ERR_UNSUPPORTED, "2.0"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", ERR_UNSUPPORTED, "Unigram"},
    {"{\"model\":{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", ERR_INPUT, "duplicate"},
    {"{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", ERR_INPUT, "same id"},
    {"{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", ERR_INPUT, "model.vocab"},
    {"{\"model\":{\"vocab\":{\"a\":2097152},\"merges\":[]}}", ERR_INPUT, "below"},
    {"{\"model\":{\"vocab\":{\"a\":1.5},\"merges\":[]}}", ERR_INPUT, "integer"},
    {"{\"model\":{\"vocab\":{\"a\":0}}}", ERR_INPUT, "merges"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", ERR_INPUT, "model.merges[0]"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]}}", ERR_INPUT, "one space"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\"]]}}", ERR_INPUT, "vocabulary"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\",1]]}}", ERR_INPUT, "strings"},
    {"{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"],"
     "\"continuing_subword_prefix\":\"##\"}}",
     ERR_INPUT, "shorter"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", ERR_UNSUPPORTED, "dropout"},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Uppercase\"}}", ERR_UNSUPPORTED, "Uppercase"},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Replace\",\"content\":\"\"}}", ERR_INPUT,
     "normalizer.pattern"},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"//8A\"}}",
     ERR_INPUT, "cut short"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}", ERR_UNSUPPORTED,
     "UnicodeScripts"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"FixedLength\",\"length\":0}}", ERR_INPUT,
     "at least 1"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"__\"}}", ERR_INPUT,
     "one character"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Punctuation\",\"behavior\":\"Gone\"}}",
     ERR_UNSUPPORTED, "Gone"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{}]}}", ERR_INPUT,
     "pre_tokenizer.pretokenizers[0]"},
    {"{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":"
     "{\"id\":\"B\",\"type_id\":0}}],\"special_tokens\":{}}}",
     ERR_INPUT, "`B`"},
    {"{" MODEL ",\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"x\",-1]}}", ERR_INPUT,
     "cls"},
    {"{" MODEL ",\"decoder\":{\"type\":\"Magic\"}}", ERR_UNSUPPORTED, "Magic"},
    {ADDED("{\"id\":99999999,\"content\":\"x\"}"), ERR_INPUT, "added_tokens[0]"},
    {ADDED("{\"id\":5,\"content\":7}"), ERR_INPUT, "content"},
    {SPLIT("(a"), ERR_INPUT, "not closed"},
    {SPLIT("a)"), ERR_INPUT, "without its"},
    {SPLIT("[a"), ERR_INPUT, "class"},
    {SPLIT("*a"), ERR_INPUT, "quantifier"},
    {SPLIT("\\\\p{Nonsense}"), ERR_UNSUPPORTED, "property"},
    {SPLIT("(?~a)"), ERR_UNSUPPORTED, "group"},
    {SPLIT("(*FAIL)"), ERR_UNSUPPORTED, "(*"},
};

Test(tok_hostile, malformed_files_are_refused_by_name) {
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        struct tokenizer *tok;
        struct err_msg em = ERR_MSG_INIT;
        enum err e = support_open(malformed[i].json, strlen(malformed[i].json), &tok, &em);
        cr_expect_eq(e, malformed[i].code, "%s: %s", malformed[i].json, em.text);
        cr_expect_null(tok);
        cr_expect_not_null(strstr(em.text, malformed[i].names), "%s: %s", malformed[i].json,
                           em.text);
    }
}

/* Nesting beyond what a recursive reader's stack holds. */
Test(tok_hostile, deep_nesting_is_refused) {
    static const char *const heads[] = {
        "{" MODEL ",\"normalizer\":", "{" MODEL ",\"pre_tokenizer\":", "{" MODEL ",\"decoder\":",
        "{" MODEL ",\"post_processor\":"};
    static const char *const lists[] = {"normalizers", "pretokenizers", "decoders", "processors"};
    enum { DEPTH = 300 };
    for (size_t k = 0; k < 4; k++) {
        char *json = calloc(1, 64 * DEPTH + 512), *end = stpcpy(json, heads[k]);
        for (int i = 0; i < DEPTH; i++)
            end += sprintf(end, "{\"type\":\"Sequence\",\"%s\":[", lists[k]);
        for (int i = 0; i < DEPTH; i++)
            end = stpcpy(end, "]}");
        (void)stpcpy(end, "}");
        struct tokenizer *tok;
        struct err_msg em = ERR_MSG_INIT;
        cr_expect_eq(support_open(json, strlen(json), &tok, &em), ERR_LIMIT, "%s", em.text);
        free(json);
    }
    char *regex = calloc(1, 8192),
         *end = stpcpy(regex, "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\","
                              "\"pattern\":{\"Regex\":\"");
    for (int i = 0; i < 2000; i++)
        *end++ = '(';
    (void)stpcpy(end, "\"},\"behavior\":\"Isolated\",\"invert\":false}}");
    struct tokenizer *tok;
    struct err_msg em = ERR_MSG_INIT;
    cr_expect_eq(support_open(regex, strlen(regex), &tok, &em), ERR_LIMIT, "%s", em.text);
    free(regex);
}

Test(tok_hostile, catastrophic_patterns_end) {
    static const char *const files[] = {SPLIT("(a+)+$x"), SPLIT("(?:a|a)*b$"), SPLIT("(a|aa)+c"),
                                        SPLIT("(?=(a+)+b)c")};
    enum { N = 20000 };
    char *text = malloc(N);
    memset(text, 'a', N);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct tokenizer *tok = open_ok(files[i]);
        struct ids ids = {0};
        struct err_msg em = ERR_MSG_INIT;
        double start = clock_mono();
        enum err e = tokenizer_encode(tok, text, N, 0, &ids, &em);
        cr_expect(e == ERR_OK || e == ERR_LIMIT, "%s", em.text);
        cr_expect_lt(clock_mono() - start, 30.0, "pattern %zu", i);
        cr_expect(e == ERR_OK || ids.len == 0);
        ids_clear(&ids);
        tokenizer_close(tok);
    }
    free(text);
}

/* One word of a million symbols: every length doubles in the vocabulary, so merging goes on to the
 * end. The time grows with the length, not with its square. */
Test(tok_hostile, giant_words_take_linear_time) {
    enum { N = 1000000 };
    json_t *vocab = json_object(), *merges = json_array(), *root = json_object();
    char token[1025] = "", pair[1100];
    for (int i = 0, n = 1; n <= 1024; i++, n *= 2) {
        memset(token, 'a', (size_t)n);
        token[n] = '\0';
        json_object_set_new(vocab, token, json_integer(i));
        if (n < 1024) {
            (void)snprintf(pair, sizeof pair, "%s %s", token, token);
            if (n <= 512)
                json_array_append_new(merges, json_string(pair));
        }
    }
    json_object_set_new(root, "model", json_pack("{s:o,s:o}", "vocab", vocab, "merges", merges));
    char *json = json_dumps(root, 0), *text = malloc(N);
    struct tokenizer *tok = open_ok(json);
    memset(text, 'a', N);
    struct ids ids = {0};
    struct err_msg em = ERR_MSG_INIT;
    double start = clock_mono();
    cr_assert_eq(tokenizer_encode(tok, text, N, 0, &ids, &em), ERR_OK, "%s", em.text);
    cr_expect_lt(clock_mono() - start, 20.0);
    /* 976 tokens of 1024, then 512 + 64: 1000000 = 976 * 1024 + 576 */
    cr_assert_eq(ids.len, 978);
    cr_expect_eq(ids.data[975], 10);
    cr_expect_eq(ids.data[976], 9);
    cr_expect_eq(ids.data[977], 6);
    ids_clear(&ids);
    tokenizer_close(tok);
    free(text);
    free(json);
    json_decref(root);
}

Test(tok_hostile, bad_text_and_ids_are_refused) {
    struct tokenizer *tok = open_ok("{" MODEL "}");
    static const struct {
        const char *text;
        const char *at;
    } bad[] = {{"ab\xff", "byte 2"},
               {"\xc0\xaf", "byte 0"},
               {"a\xed\xa0\x80", "byte 1"},
               {"\xf4\x90\x80\x80", "byte 0"},
               {"abcdefghi\xe2\x82", "byte 9"}};
    struct ids ids = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err_msg em = ERR_MSG_INIT;
        cr_expect_eq(tokenizer_encode(tok, bad[i].text, strlen(bad[i].text), 0, &ids, &em),
                     ERR_INPUT);
        cr_expect_not_null(strstr(em.text, bad[i].at), "%s", em.text);
    }
    static const int32_t wrong[] = {0, 4, -1, INT32_MAX};
    for (size_t i = 1; i < 4; i++) {
        struct err_msg em = ERR_MSG_INIT;
        char *text;
        const int32_t pair[] = {0, wrong[i]};
        cr_expect_eq(tokenizer_decode(tok, pair, 2, &text, NULL, &em), ERR_INPUT);
        cr_expect_null(text);
        cr_expect_not_null(strstr(em.text, "position 1"), "%s", em.text);
    }
    cr_expect_eq(tokenizer_vocab_size(tok), 4);
    cr_expect_eq(tokenizer_id(tok, "ab"), 2);
    cr_expect_eq(tokenizer_id(tok, "c"), -1);
    ids_clear(&ids);
    tokenizer_close(tok);
}

Test(tok_hostile, a_missing_file_is_not_found) {
    struct tokenizer *tok;
    struct err_msg em = ERR_MSG_INIT;
    cr_expect_eq(tokenizer_open("/nonexistent/model", &tok, &em), ERR_NOT_FOUND);
    cr_expect_not_null(strstr(em.text, "/nonexistent/model/tokenizer.json"), "%s", em.text);
}
