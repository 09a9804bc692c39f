/* tok_support: what the tokenizer tests share: the vectors, and opening a tokenizer from JSON text.
 *
 * What:    helpers of test_tok*.c.
 * Owns:    results are the caller's.
 * Threads: none.
 * Errors:  a broken fixture fails the test.
 */
#ifndef FFWD_TESTS_TOK_SUPPORT_H
#define FFWD_TESTS_TOK_SUPPORT_H

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/text/tokenizer.h"

#define TOK_DATA "tests/unit/engine/text/data/"

static inline json_t *support_json(const char *path) {
    json_error_t why;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &why);
    cr_assert_not_null(root, "%s: %s", path, why.text);
    return root;
}

/* A case of tok_vectors.json as the text of a tokenizer.json. The caller frees. */
static inline char *support_compose(const json_t *vectors, const json_t *test) {
    json_t *model = json_deep_copy(json_object_get(
        json_object_get(vectors, "models"), json_string_value(json_object_get(test, "model"))));
    cr_assert_eq(json_object_update(model, json_object_get(test, "model_set")), 0);
    json_t *root = json_deep_copy(json_object_get(test, "set"));
    cr_assert_eq(json_object_set_new(root, "model", model), 0);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

/* Opens a tokenizer.json of n bytes by way of a temporary folder. */
static inline enum err support_open(const char *json, size_t n, struct tokenizer **out,
                                    struct err_msg *em) {
    char dir[] = "/tmp/ffwd-test-tok-XXXXXX", path[64];
    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(json, 1, n, f), n);
    cr_assert_eq(fclose(f), 0);
    enum err e = tokenizer_open(dir, out, em);
    (void)unlink(path);
    (void)rmdir(dir);
    return e;
}

#endif
