/* Token ids and texts against those of Hugging Face's tokenizers (make_tokenizer_vectors.py): small
 * tokenizers for every component and option, and the real ones where they are at hand. */
#include "tests/unit/engine/text/tok_support.h"

#include <stdint.h>
#include <sys/stat.h>

#define ENCODE (TOKENIZER_PARSE_SPECIAL)

/* "count:FNV-1a of the little-endian ids", as the generator writes long lists. */
static void digest(const struct ids *ids, char out[40]) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < ids->len; i++)
        for (unsigned shift = 0; shift < 32; shift += 8)
            h = (h ^ ((uint32_t)ids->data[i] >> shift & 0xFF)) * 0x100000001B3u;
    (void)snprintf(out, 40, "%zu:%016llx", ids->len, (unsigned long long)h);
}

static bool same_ids(const json_t *want, const struct ids *got) {
    char text[40];
    if (json_is_string(want)) {
        digest(got, text);
        return strcmp(json_string_value(want), text) == 0;
    }
    if (json_array_size(want) != got->len)
        return false;
    for (size_t i = 0; i < got->len; i++)
        if (json_integer_value(json_array_get(want, i)) != got->data[i])
            return false;
    return true;
}

static void print_ids(const struct ids *ids) {
    for (size_t i = 0; i < ids->len && i < 60; i++)
        (void)fprintf(stderr, " %d", ids->data[i]);
    (void)fputc('\n', stderr);
}

/* Encodes every text and compares with lists[i], or fallback[i] where that is null or missing. */
static int check_ids(const struct tokenizer *tok, const char *name, const json_t *texts,
                     const json_t *lists, const json_t *fallback, unsigned flags) {
    struct ids ids = {0};
    int wrong = 0;
    for (size_t i = 0; i < json_array_size(fallback); i++) {
        const json_t *text = json_array_get(texts, i), *want = json_array_get(lists, i);
        struct err_msg em = ERR_MSG_INIT;
        ids_reset(&ids);
        enum err e = tokenizer_encode(tok, json_string_value(text), json_string_length(text), flags,
                                      &ids, &em);
        want = want == NULL || json_is_null(want) ? json_array_get(fallback, i) : want;
        if (e != ERR_OK || !same_ids(want, &ids)) {
            (void)fprintf(stderr, "%s: text %zu, flags %u: %s; got", name, i, flags, em.text);
            print_ids(&ids);
            wrong++;
        }
    }
    ids_clear(&ids);
    return wrong;
}

/* Decodes the ids of every text, then those of random_ids, and compares. */
static int check_decoded(const struct tokenizer *tok, const char *name, const json_t *texts,
                         const json_t *test) {
    const json_t *decoded = json_object_get(test, "decoded");
    const json_t *random = json_object_get(test, "random_ids");
    size_t n = json_array_size(decoded) - json_array_size(random);
    struct ids ids = {0};
    int wrong = 0;
    for (size_t i = 0; i < json_array_size(decoded); i++) {
        const json_t *text = json_array_get(texts, i), *want = json_array_get(decoded, i);
        struct err_msg em = ERR_MSG_INIT;
        ids_reset(&ids);
        enum err e = ERR_OK;
        if (i < n)
            e = tokenizer_encode(tok, json_string_value(text), json_string_length(text), ENCODE,
                                 &ids, &em);
        for (size_t k = 0; i >= n && k < json_array_size(json_array_get(random, i - n)); k++)
            ids_add(&ids,
                    (int32_t)json_integer_value(json_array_get(json_array_get(random, i - n), k)));
        char *got = NULL;
        size_t len = 0;
        if (e == ERR_OK)
            e = tokenizer_decode(tok, ids.data, ids.len, &got, &len, &em);
        want = json_is_null(want) ? text : want;
        if (e != ERR_OK || len != json_string_length(want) ||
            memcmp(got, json_string_value(want), len) != 0) {
            (void)fprintf(stderr, "%s: decoding %zu: %s; got `%s`, not `%s`\n", name, i, em.text,
                          got == NULL ? "" : got, json_string_value(want));
            wrong++;
        }
        free(got);
    }
    ids_clear(&ids);
    return wrong;
}

/* All cases whose name starts with one of the prefixes (up to a NULL). */
static void check_group(const char *const *prefixes) {
    json_t *vectors = support_json(TOK_DATA "tok_vectors.json");
    const json_t *texts = json_object_get(vectors, "texts"), *test;
    size_t i;
    int run = 0, wrong = 0;
    json_array_foreach(json_object_get(vectors, "cases"), i, test) {
        const char *name = json_string_value(json_object_get(test, "name"));
        bool wanted = false;
        for (size_t k = 0; prefixes[k] != NULL; k++)
            wanted = wanted || strncmp(name, prefixes[k], strlen(prefixes[k])) == 0;
        if (!wanted)
            continue;
        char *json = support_compose(vectors, test);
        struct err_msg em = ERR_MSG_INIT;
        struct tokenizer *tok;
        enum err e = support_open(json, strlen(json), &tok, &em);
        free(json);
        cr_assert_eq(e, ERR_OK, "%s: %s", name, em.text);
        const json_t *ids = json_object_get(test, "ids");
        wrong += check_ids(tok, name, texts, NULL, ids, ENCODE);
        wrong += check_ids(tok, name, texts, json_object_get(test, "special"), ids,
                           ENCODE | TOKENIZER_ADD_SPECIAL);
        wrong += check_ids(tok, name, texts, json_object_get(test, "plain"), ids, 0);
        wrong += check_decoded(tok, name, texts, test);
        tokenizer_close(tok);
        run++;
    }
    json_decref(vectors);
    cr_assert_gt(run, 2);
    cr_assert_eq(wrong, 0, "%d differences", wrong);
}

#define GROUP(name, ...)                                                                           \
    Test(tokenizer, name) {                                                                        \
        check_group((const char *const[]){__VA_ARGS__, NULL});                                     \
    }
GROUP(normalizers_as_the_library, "norm_")
GROUP(pretokenizers_as_the_library, "pre_")
GROUP(added_tokens_as_the_library, "added_")
GROUP(postprocessors_as_the_library, "post_")
GROUP(sentencepiece_models_as_the_library, "sp_")
GROUP(decoders_as_the_library, "decode_")
GROUP(model_options_as_the_library, "chars", "affix")

/* The folder with the real tokenizers, or NULL after a SKIP line. */
static const char *shared(const char *what) {
    static char path[512];
    const char *dir = getenv("FFWD_SHARED");
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/data/%s", dir != NULL ? dir : "../shared", what);
    if (stat(path, &st) == 0)
        return path;
    (void)printf("SKIP: no %s (set FFWD_SHARED)\n", path);
    return NULL;
}

Test(tokenizer, real_tokenizers_as_the_library) {
    const char *dir = shared("tokenizers"), *name;
    if (dir == NULL)
        return;
    json_t *real = support_json(TOK_DATA "tok_real.json"), *test;
    const json_t *texts = json_object_get(real, "texts");
    int wrong = 0;
    json_object_foreach(json_object_get(real, "tokenizers"), name, test) {
        char path[600];
        struct err_msg em = ERR_MSG_INIT;
        struct tokenizer *tok;
        (void)snprintf(path, sizeof path, "%s/%s", dir, name);
        cr_assert_eq(tokenizer_open(path, &tok, &em), ERR_OK, "%s: %s", path, em.text);
        const json_t *ids = json_object_get(test, "ids");
        wrong += check_ids(tok, name, texts, NULL, ids, ENCODE);
        wrong += check_ids(tok, name, texts, json_object_get(test, "special"), ids,
                           ENCODE | TOKENIZER_ADD_SPECIAL);
        wrong += check_ids(tok, name, texts, json_object_get(test, "plain"), ids, 0);
        wrong += check_decoded(tok, name, texts, test);
        tokenizer_close(tok);
    }
    json_decref(real);
    cr_assert_eq(wrong, 0, "%d differences", wrong);
}

static char *read_all(const char *path) {
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f, "%s", path);
    char *text = calloc(1, 1 << 16);
    cr_assert_lt(fread(text, 1, (1 << 16) - 1, f), (1 << 16) - 1);
    (void)fclose(f);
    return text;
}

/* Texts with a line "__ggml_vocab_test__" between them, and a line of ids for each. */
static int check_vectors(const struct tokenizer *tok, const char *dir, const char *name) {
    static const char between[] = "\n__ggml_vocab_test__\n";
    char path[600];
    (void)snprintf(path, sizeof path, "%s/%s.inp", dir, name);
    char *texts = read_all(path), *text = texts;
    (void)snprintf(path, sizeof path, "%s/%s.out", dir, name);
    char *lists = read_all(path), *list = lists;
    struct ids ids = {0};
    int compared = 0;
    for (char *end; (end = strstr(text, between)) != NULL; text = end + strlen(between)) {
        struct err_msg em = ERR_MSG_INIT;
        ids_reset(&ids);
        cr_assert_eq(tokenizer_encode(tok, text, (size_t)(end - text), ENCODE, &ids, &em), ERR_OK);
        for (size_t i = 0; i < ids.len; i++)
            cr_assert_eq(strtol(list, &list, 10), ids.data[i], "%s: text %d, id %zu", name,
                         compared, i);
        while (*list == ' ')
            list++;
        cr_assert_eq(*list++, '\n', "%s: text %d has more ids", name, compared);
        compared++;
    }
    ids_clear(&ids);
    free(texts);
    free(lists);
    return compared;
}

Test(tokenizer, published_vectors) {
    static const char *const pairs[][2] = {{"gpt-2", "gpt2"},
                                           {"llama-bpe", "llama3"},
                                           {"qwen2", "qwen2.5"},
                                           {"mpt", "gpt-neox-20b"}}; /* MPT uses NeoX's */
    char dir[512], path[600];
    const char *found = shared("tokenizers");
    if (found == NULL)
        return;
    (void)snprintf(dir, sizeof dir, "%s", found);
    const char *vectors = shared("tok-vectors");
    if (vectors == NULL)
        return;
    for (size_t i = 0; i < 4; i++) {
        struct err_msg em = ERR_MSG_INIT;
        struct tokenizer *tok;
        (void)snprintf(path, sizeof path, "%s/%s", dir, pairs[i][1]);
        cr_assert_eq(tokenizer_open(path, &tok, &em), ERR_OK, "%s", em.text);
        cr_assert_gt(check_vectors(tok, vectors, pairs[i][0]), 40);
        tokenizer_close(tok);
    }
}
