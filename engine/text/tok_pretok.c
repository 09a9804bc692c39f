/* tok_pretok: the `pre_tokenizer` of tokenizer.json: reading it. */
#include "engine/text/tok_pretok.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "engine/text/tok_pretok_stage.h"
#include "engine/text/tok_unicode.h"

#define MAX_DEPTH 16
#define MAX_STAGES 64

/* What ByteLevel splits by (the GPT-2 tokenizer's pattern). */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static struct pretok_stage *add_stage(struct tok_pretok *p, enum pretok_kind kind) {
    p->stages = xreallocarray(p->stages, p->n_stages + 1, sizeof *p->stages);
    struct pretok_stage *s = &p->stages[p->n_stages++];
    *s = (struct pretok_stage){.kind = kind};
    return s;
}

static void add_class(struct tok_pretok *p, bool (*is_delimiter)(uint32_t),
                      enum split_behavior behavior) {
    struct pretok_stage *s = add_stage(p, PRETOK_CLASS);
    s->is_delimiter = is_delimiter;
    s->behavior = behavior;
}

static enum err load_behavior(const json_t *json, bool required, enum split_behavior *out,
                              const struct tok_path *at, struct err_msg *em) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name;
    enum err e = tok_json_string(json, "behavior", required, &name, NULL, at, em);
    *out = SPLIT_ISOLATED;
    if (e != ERR_OK || name == NULL)
        return e;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum split_behavior)i;
            return ERR_OK;
        }
    return tok_json_error(at, ERR_UNSUPPORTED, em, "behavior `%.40s` is not known", name);
}

static enum err load_bytelevel(struct tok_pretok *p, const json_t *json, const struct tok_path *at,
                               struct err_msg *em) {
    bool prefix, regex;
    enum err e = tok_json_bool(json, "add_prefix_space", true, &prefix, at, em);
    if (e == ERR_OK)
        e = tok_json_bool(json, "use_regex", true, &regex, at, em);
    if (e != ERR_OK)
        return e;
    if (prefix)
        add_stage(p, PRETOK_PREFIX_SPACE);
    if (regex) {
        struct pretok_stage *s = add_stage(p, PRETOK_SPLIT);
        s->behavior = SPLIT_ISOLATED;
        e = tok_pattern_regex(&s->pattern, gpt2_pattern, strlen(gpt2_pattern), at, em);
    }
    add_stage(p, PRETOK_BYTELEVEL);
    return e;
}

static enum err load_metaspace(struct tok_pretok *p, const json_t *json, const struct tok_path *at,
                               struct err_msg *em) {
    bool prefix, split;
    uint32_t replacement;
    const char *scheme;
    enum prepend_scheme prepend = PREPEND_ALWAYS;
    enum err e = tok_json_char(json, "replacement", &replacement, at, em);
    if (e == ERR_OK)
        e = tok_json_bool(json, "add_prefix_space", true, &prefix, at, em);
    if (e == ERR_OK)
        e = tok_json_bool(json, "split", true, &split, at, em);
    if (e == ERR_OK)
        e = tok_json_string(json, "prepend_scheme", false, &scheme, NULL, at, em);
    if (e != ERR_OK)
        return e;
    if (scheme != NULL && strcmp(scheme, "first") == 0)
        prepend = PREPEND_FIRST;
    else if ((scheme != NULL && strcmp(scheme, "never") == 0) || (scheme == NULL && !prefix))
        prepend = PREPEND_NEVER;
    else if (scheme != NULL && strcmp(scheme, "always") != 0)
        return tok_json_error(at, ERR_UNSUPPORTED, em, "prepend_scheme `%.40s` is not known",
                              scheme);
    if (!prefix && prepend != PREPEND_NEVER)
        return tok_json_error(at, ERR_INPUT, em,
                              "add_prefix_space false contradicts the prepend_scheme");
    struct pretok_stage *s = add_stage(p, PRETOK_METASPACE);
    s->character = replacement;
    s->scheme = prepend;
    if (split) {
        s = add_stage(p, PRETOK_CHAR);
        s->character = replacement;
        s->behavior = SPLIT_MERGED_WITH_NEXT;
    }
    return ERR_OK;
}

static enum err load_split(struct tok_pretok *p, const json_t *json, const struct tok_path *at,
                           struct err_msg *em) {
    struct pretok_stage *s = add_stage(p, PRETOK_SPLIT);
    enum err e = tok_pattern_load(&s->pattern, json, "pattern", at, em);
    if (e == ERR_OK)
        e = load_behavior(json, true, &s->behavior, at, em);
    return e == ERR_OK ? tok_json_bool(json, "invert", false, &s->invert, at, em) : e;
}

static enum err load_stage(struct tok_pretok *p, const json_t *json, const char *type,
                           const struct tok_path *at, struct err_msg *em) {
    enum err e;
    if (strcmp(type, "ByteLevel") == 0)
        return load_bytelevel(p, json, at, em);
    if (strcmp(type, "Metaspace") == 0)
        return load_metaspace(p, json, at, em);
    if (strcmp(type, "Split") == 0)
        return load_split(p, json, at, em);
    if (strcmp(type, "Digits") == 0) {
        bool individual;
        e = tok_json_bool(json, "individual_digits", false, &individual, at, em);
        add_class(p, tok_is_numeric, individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS);
        return e;
    }
    if (strcmp(type, "Punctuation") == 0) {
        enum split_behavior behavior;
        e = load_behavior(json, false, &behavior, at, em);
        add_class(p, tok_is_punctuation, behavior);
        return e;
    }
    if (strcmp(type, "WhitespaceSplit") == 0 || strcmp(type, "BertPreTokenizer") == 0) {
        add_class(p, tok_is_whitespace, SPLIT_REMOVED);
        if (type[0] == 'B')
            add_class(p, tok_is_punctuation, SPLIT_ISOLATED);
        return ERR_OK;
    }
    if (strcmp(type, "Whitespace") == 0) {
        add_stage(p, PRETOK_WORDS);
        return ERR_OK;
    }
    if (strcmp(type, "CharDelimiterSplit") == 0) {
        struct pretok_stage *s = add_stage(p, PRETOK_CHAR);
        s->behavior = SPLIT_REMOVED;
        return tok_json_char(json, "delimiter", &s->character, at, em);
    }
    if (strcmp(type, "FixedLength") == 0) {
        int64_t length = 5;
        e = json_object_get(json, "length") == NULL
                ? ERR_OK
                : tok_json_int(json, "length", INT32_MAX, &length, at, em);
        if (e == ERR_OK && length == 0)
            e = tok_json_error(at, ERR_INPUT, em, "`length` must be at least 1");
        add_stage(p, PRETOK_FIXED)->length = (size_t)length;
        return e;
    }
    return tok_json_error(at, ERR_UNSUPPORTED, em, "pre-tokenizer `%.40s` is not supported", type);
}

static enum err load(struct tok_pretok *p, const json_t *json, int depth, const struct tok_path *at,
                     struct err_msg *em) {
    const char *type;
    const json_t *list, *element;
    enum err e = tok_json_type(json, &type, at, em);
    if (e == ERR_OK && p->n_stages > MAX_STAGES)
        e = tok_json_error(at, ERR_LIMIT, em, "more than %d stages", MAX_STAGES);
    if (e != ERR_OK || strcmp(type, "Sequence") != 0)
        return e == ERR_OK ? load_stage(p, json, type, at, em) : e;
    if (depth == MAX_DEPTH)
        return tok_json_error(at, ERR_LIMIT, em, "sequences are nested too deeply");
    e = tok_json_array(json, "pretokenizers", &list, at, em);
    const struct tok_path key = {at, "pretokenizers", 0};
    size_t i;
    json_array_foreach(list, i, element) {
        const struct tok_path here = {&key, NULL, i};
        if (e == ERR_OK)
            e = load(p, element, depth + 1, &here, em);
    }
    return e;
}

enum err tok_pretok_load(struct tok_pretok *p, const json_t *json, const struct tok_path *at,
                         struct err_msg *em) {
    *p = (struct tok_pretok){0};
    if (json == NULL || json_is_null(json))
        return ERR_OK;
    return load(p, json, 0, at, em);
}

void tok_pretok_clear(struct tok_pretok *p) {
    for (size_t i = 0; i < p->n_stages; i++)
        tok_pattern_clear(&p->stages[i].pattern);
    free(p->stages);
    *p = (struct tok_pretok){0};
}
