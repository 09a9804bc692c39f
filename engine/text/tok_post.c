/* tok_post: the `post_processor` of tokenizer.json. */
#include "engine/text/tok_post.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

#define MAX_DEPTH 16
#define MAX_TEXTS 8 /* times a template may repeat the text */

/* One piece of a template: a sequence or a special token. */
static enum err load_piece(struct tok_post *p, const json_t *piece, const json_t *tokens,
                           size_t *texts, const struct tok_path *at, struct err_msg *em) {
    const json_t *sequence = json_object_get(piece, "Sequence");
    const json_t *special = json_object_get(piece, "SpecialToken");
    const char *name;
    enum err e;
    if (sequence != NULL) {
        e = tok_json_string(sequence, "id", true, &name, NULL, at, em);
        if (e == ERR_OK && strcmp(name, "A") != 0)
            e = tok_json_error(at, ERR_INPUT, em, "sequence `%.20s` in the template for one", name);
        if (e == ERR_OK && ++*texts > MAX_TEXTS)
            e = tok_json_error(at, ERR_LIMIT, em, "the text more than %d times", MAX_TEXTS);
        ids_add(&p->items, TOK_POST_TEXT);
        return e;
    }
    e = tok_json_string(special, "id", true, &name, NULL, at, em);
    if (e != ERR_OK)
        return e;
    const json_t *ids = json_object_get(json_object_get(tokens, name), "ids"), *id;
    if (!json_is_array(ids))
        return tok_json_error(at, ERR_INPUT, em, "`%.60s` is not among `special_tokens`", name);
    size_t i;
    json_array_foreach(ids, i, id) {
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= LIMIT_VOCAB)
            return tok_json_error(at, ERR_INPUT, em, "`%.60s` has an id that is none", name);
        ids_add(&p->items, (int32_t)json_integer_value(id));
    }
    return ERR_OK;
}

static enum err load_template(struct tok_post *p, const json_t *json, const struct tok_path *at,
                              struct err_msg *em) {
    const json_t *single, *piece;
    enum err e = tok_json_array(json, "single", &single, at, em);
    const struct tok_path key = {at, "single", 0};
    size_t i, texts = 0;
    json_array_foreach(single, i, piece) {
        const struct tok_path here = {&key, NULL, i};
        if (e == ERR_OK)
            e = load_piece(p, piece, json_object_get(json, "special_tokens"), &texts, &here, em);
    }
    return e;
}

/* BertProcessing and RobertaProcessing: "cls" and "sep" are [token, id]. */
static enum err load_cls_sep(struct tok_post *p, const json_t *json, const struct tok_path *at,
                             struct err_msg *em) {
    static const char *const keys[] = {"cls", "sep"};
    for (size_t k = 0; k < 2; k++) {
        const json_t *id = json_array_get(json_object_get(json, keys[k]), 1);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= LIMIT_VOCAB)
            return tok_json_error(at, ERR_INPUT, em, "`%s` must be [token, id]", keys[k]);
        ids_add(&p->items, (int32_t)json_integer_value(id));
        if (k == 0)
            ids_add(&p->items, TOK_POST_TEXT);
    }
    return ERR_OK;
}

static enum err load(struct tok_post *p, const json_t *json, int depth, const struct tok_path *at,
                     struct err_msg *em) {
    const char *type;
    enum err e = tok_json_type(json, &type, at, em);
    if (e != ERR_OK || strcmp(type, "ByteLevel") == 0)
        return e;
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list, *element;
        if (depth == MAX_DEPTH)
            return tok_json_error(at, ERR_LIMIT, em, "sequences are nested too deeply");
        e = tok_json_array(json, "processors", &list, at, em);
        const struct tok_path key = {at, "processors", 0};
        size_t i;
        json_array_foreach(list, i, element) {
            const struct tok_path here = {&key, NULL, i};
            if (e == ERR_OK)
                e = load(p, element, depth + 1, &here, em);
        }
        return e;
    }
    if (p->present)
        return tok_json_error(at, ERR_UNSUPPORTED, em, "a second processor that adds tokens");
    p->present = true;
    if (strcmp(type, "TemplateProcessing") == 0)
        return load_template(p, json, at, em);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        return load_cls_sep(p, json, at, em);
    return tok_json_error(at, ERR_UNSUPPORTED, em, "post-processor `%.40s` is not supported", type);
}

enum err tok_post_load(struct tok_post *p, const json_t *json, const struct tok_path *at,
                       struct err_msg *em) {
    *p = (struct tok_post){0};
    if (json == NULL || json_is_null(json))
        return ERR_OK;
    return load(p, json, 0, at, em);
}

void tok_post_clear(struct tok_post *p) {
    ids_clear(&p->items);
    *p = (struct tok_post){0};
}

void tok_post_apply(const struct tok_post *p, bool special, struct ids *ids, size_t from) {
    if (!p->present)
        return;
    size_t n = ids->len - from;
    int32_t *text = xcalloc(n + 1, sizeof *text);
    if (n > 0)
        memcpy(text, ids->data + from, n * sizeof *text);
    ids->len = from;
    for (size_t i = 0; i < p->items.len; i++) {
        int32_t item = p->items.data[i];
        if (item != TOK_POST_TEXT && special)
            ids_add(ids, item);
        for (size_t k = 0; item == TOK_POST_TEXT && k < n; k++)
            ids_add(ids, text[k]);
    }
    free(text);
}
