/* Ids and masks of chat templates against what transformers' apply_chat_template gave
 * (tests/reference/make_chat_vectors.py). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/text/chat.h"

#define DATA "tests/unit/engine/text/data"

static void link_file(const char *from, const char *name, const char *to) {
    char *source = xasprintf("%s/%s", from, name), *target = xasprintf("%s/%s", to, name);
    char *real = realpath(source, NULL);
    if (real != NULL)
        cr_assert_eq(symlink(real, target), 0);
    free(real);
    free(source);
    free(target);
}

/* A model folder with the tokenizer of `source`. With a template: that and the special tokens; else
 * the configuration that is in source, if any. */
static char *make_folder(const char *source, const json_t *set) {
    char *dir = xstrdup("/tmp/ffwd-test-chat-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    link_file(source, "tokenizer.json", dir);
    if (json_is_null(json_object_get(set, "template"))) {
        link_file(source, "tokenizer_config.json", dir);
        return dir;
    }
    json_t *config =
        json_pack("{s:O, s:O, s:O}", "chat_template", json_object_get(set, "template"), "bos_token",
                  json_object_get(set, "bos"), "eos_token", json_object_get(set, "eos"));
    char *text = json_dumps(config, 0), *path = xasprintf("%s/tokenizer_config.json", dir);
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(file_write(path, text, strlen(text), &em), ERR_OK, "%s", em.text);
    free(path);
    free(text);
    json_decref(config);
    return dir;
}

static void check_case(const struct chat_template *t, const json_t *expected, const char *name,
                       size_t number) {
    struct ids ids = {0}, labels = {0};
    struct err_msg em = ERR_MSG_INIT;
    const json_t *want = json_object_get(expected, "ids"),
                 *mask = json_object_get(expected, "mask");
    enum err e = chat_template_render(t, json_object_get(expected, "row"), TRAIN_ON_ASSISTANT, &ids,
                                      &labels, &em);
    cr_assert_eq(e, ERR_OK, "%s case %zu: %s", name, number, em.text);
    cr_assert_eq(labels.len, ids.len);
    cr_expect_eq(ids.len, json_array_size(want), "%s case %zu: %zu ids, not %zu", name, number,
                 ids.len, json_array_size(want));
    for (size_t i = 0; i < ids.len && i < json_array_size(want); i++) {
        json_int_t id = json_integer_value(json_array_get(want, i));
        cr_assert_eq(ids.data[i], id, "%s case %zu: id %zu is %d, not %d", name, number, i,
                     ids.data[i], (int)id);
        int32_t label =
            json_integer_value(json_array_get(mask, i)) != 0 ? (int32_t)id : LABEL_IGNORE;
        cr_expect_eq(labels.data[i], label, "%s case %zu: label %zu is %d, not %d", name, number, i,
                     labels.data[i], label);
    }
    ids_clear(&ids);
    ids_clear(&labels);
}

static void check_file(const char *vectors, const char *tokenizers) {
    json_error_t error;
    json_t *sets = json_load_file(vectors, 0, &error), *set;
    size_t i, k, checked = 0;
    cr_assert_not_null(sets, "%s: %s", vectors, error.text);
    json_array_foreach(sets, i, set) {
        const char *name = json_string_value(json_object_get(set, "tokenizer"));
        char *source = xasprintf("%s/%s", tokenizers, name), *dir = make_folder(source, set);
        struct tokenizer *tok = NULL;
        struct chat_template *t = NULL;
        struct err_msg em = ERR_MSG_INIT;
        cr_assert_eq(tokenizer_open(dir, &tok, &em), ERR_OK, "%s: %s", name, em.text);
        cr_assert_eq(chat_template_open(dir, tok, &t, &em), ERR_OK, "%s: %s", name, em.text);
        char *label = xasprintf("set %zu, %s as %s", i, name, chat_template_name(t));
        json_t *expected;
        json_array_foreach(json_object_get(set, "cases"), k, expected) {
            check_case(t, expected, label, k);
            checked++;
        }
        chat_template_close(t);
        tokenizer_close(tok);
        cr_assert_eq(file_remove_tree(dir, &em), ERR_OK);
        free(label);
        free(dir);
        free(source);
    }
    cr_assert(checked > 40);
    json_decref(sets);
}

Test(chat_vectors, small_tokenizers_equal_transformers) {
    check_file(DATA "/chat_vectors.json", DATA);
}

Test(chat_vectors, real_tokenizers_equal_transformers, .timeout = 120) {
    const char *shared = getenv("FFWD_SHARED") != NULL ? getenv("FFWD_SHARED") : "../shared";
    char *tokenizers = xasprintf("%s/data/tokenizers", shared);
    if (access(tokenizers, R_OK) != 0)
        printf("SKIP: no real tokenizers in %s\n", tokenizers);
    else
        check_file(DATA "/chat_vectors_shared.json", tokenizers);
    free(tokenizers);
}
