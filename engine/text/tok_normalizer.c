/* tok_normalizer: the `normalizer` of tokenizer.json. */
#include "engine/text/tok_normalizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/text/tok_bytelevel.h"
#include "engine/text/tok_precompiled.h"
#include "engine/text/tok_unicode.h"

#define MAX_DEPTH 16
#define MAX_TEXT ((size_t)1 << 31) /* bytes a Replace may make of a text */

enum norm_kind {
    NORM_FORM,
    NORM_LOWERCASE,
    NORM_STRIP,
    NORM_STRIP_ACCENTS,
    NORM_REPLACE,
    NORM_PREPEND,
    NORM_CLEAN,
    NORM_CHINESE,
    NORM_STRIP_NONSPACING,
    NORM_NMT,
    NORM_PRECOMPILED,
    NORM_BYTELEVEL,
};

struct norm_step {
    enum norm_kind kind;
    enum tok_form form;          /* FORM */
    bool left, right;            /* STRIP */
    struct tok_pattern pattern;  /* REPLACE */
    struct text content;         /* REPLACE, PREPEND */
    struct precompiled charsmap; /* PRECOMPILED */
};

static struct norm_step *add_step(struct tok_normalizer *t, enum norm_kind kind) {
    t->steps = xreallocarray(t->steps, t->n_steps + 1, sizeof *t->steps);
    struct norm_step *s = &t->steps[t->n_steps++];
    *s = (struct norm_step){.kind = kind};
    return s;
}

static enum err load_content(struct norm_step *s, const json_t *json, const char *key,
                             const struct tok_path *at, struct err_msg *em) {
    const char *content;
    size_t len;
    enum err e = tok_json_string(json, key, true, &content, &len, at, em);
    if (e == ERR_OK)
        text_add(&s->content, content, len);
    return e;
}

static enum err load_bert(struct tok_normalizer *t, const json_t *json, const struct tok_path *at,
                          struct err_msg *em) {
    bool clean, chinese, lowercase, accents;
    enum err e = tok_json_bool(json, "clean_text", true, &clean, at, em);
    if (e == ERR_OK)
        e = tok_json_bool(json, "handle_chinese_chars", true, &chinese, at, em);
    if (e == ERR_OK)
        e = tok_json_bool(json, "lowercase", true, &lowercase, at, em);
    if (e == ERR_OK)
        e = tok_json_bool(json, "strip_accents", lowercase, &accents, at, em);
    if (e != ERR_OK)
        return e;
    if (clean)
        add_step(t, NORM_CLEAN);
    if (chinese)
        add_step(t, NORM_CHINESE);
    if (accents) {
        add_step(t, NORM_FORM)->form = TOK_NFD;
        add_step(t, NORM_STRIP_NONSPACING);
    }
    if (lowercase)
        add_step(t, NORM_LOWERCASE);
    return ERR_OK;
}

static enum err load_step(struct tok_normalizer *t, const json_t *json, const char *type,
                          const struct tok_path *at, struct err_msg *em) {
    static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"};
    static const struct {
        const char *type;
        enum norm_kind kind;
    } plain[] = {{"Lowercase", NORM_LOWERCASE},
                 {"StripAccents", NORM_STRIP_ACCENTS},
                 {"Nmt", NORM_NMT},
                 {"ByteLevel", NORM_BYTELEVEL}};
    enum err e;
    for (size_t i = 0; i < 4; i++)
        if (strcmp(type, forms[i]) == 0) {
            add_step(t, NORM_FORM)->form = (enum tok_form)i;
            return ERR_OK;
        }
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (strcmp(type, plain[i].type) == 0) {
            add_step(t, plain[i].kind);
            return ERR_OK;
        }
    if (strcmp(type, "Strip") == 0) {
        struct norm_step *s = add_step(t, NORM_STRIP);
        e = tok_json_bool(json, "strip_left", false, &s->left, at, em);
        return e == ERR_OK ? tok_json_bool(json, "strip_right", false, &s->right, at, em) : e;
    }
    if (strcmp(type, "Prepend") == 0)
        return load_content(add_step(t, NORM_PREPEND), json, "prepend", at, em);
    if (strcmp(type, "Replace") == 0) {
        struct norm_step *s = add_step(t, NORM_REPLACE);
        e = tok_pattern_load(&s->pattern, json, "pattern", at, em);
        return e == ERR_OK ? load_content(s, json, "content", at, em) : e;
    }
    if (strcmp(type, "Precompiled") == 0) {
        const char *base64;
        size_t len;
        e = tok_json_string(json, "precompiled_charsmap", true, &base64, &len, at, em);
        struct norm_step *s = add_step(t, NORM_PRECOMPILED);
        return e == ERR_OK ? precompiled_load(&s->charsmap, base64, len, at, em) : e;
    }
    if (strcmp(type, "BertNormalizer") == 0)
        return load_bert(t, json, at, em);
    return tok_json_error(at, ERR_UNSUPPORTED, em, "normalizer `%.40s` is not supported", type);
}

static enum err load(struct tok_normalizer *t, const json_t *json, int depth,
                     const struct tok_path *at, struct err_msg *em) {
    const char *type;
    const json_t *list, *element;
    enum err e = tok_json_type(json, &type, at, em);
    if (e != ERR_OK || strcmp(type, "Sequence") != 0)
        return e == ERR_OK ? load_step(t, json, type, at, em) : e;
    if (depth == MAX_DEPTH)
        return tok_json_error(at, ERR_LIMIT, em, "sequences are nested too deeply");
    e = tok_json_array(json, "normalizers", &list, at, em);
    const struct tok_path key = {at, "normalizers", 0};
    size_t i;
    json_array_foreach(list, i, element) {
        const struct tok_path here = {&key, NULL, i};
        if (e == ERR_OK)
            e = load(t, element, depth + 1, &here, em);
    }
    return e;
}

enum err tok_normalizer_load(struct tok_normalizer *t, const json_t *json,
                             const struct tok_path *at, struct err_msg *em) {
    *t = (struct tok_normalizer){0};
    if (json == NULL || json_is_null(json))
        return ERR_OK;
    return load(t, json, 0, at, em);
}

void tok_normalizer_clear(struct tok_normalizer *t) {
    for (size_t i = 0; i < t->n_steps; i++) {
        tok_pattern_clear(&t->steps[i].pattern);
        text_clear(&t->steps[i].content);
        precompiled_clear(&t->steps[i].charsmap);
    }
    free(t->steps);
    *t = (struct tok_normalizer){0};
}

/* ---- application ------------------------------------------------------------------------- */

static bool nmt_removes(uint32_t cp) {
    return (cp >= 0x1 && cp <= 0x8) || cp == 0xB || (cp >= 0xE && cp <= 0x1F) || cp == 0x7F ||
           cp == 0x8F || cp == 0x9F;
}

static bool nmt_blanks(uint32_t cp) {
    return cp == 0x9 || cp == 0xA || cp == 0xC || cp == 0xD || cp == 0x1680 ||
           (cp >= 0x200B && cp <= 0x200F) || cp == 0x2028 || cp == 0x2029 || cp == 0x2581 ||
           cp == 0xFEFF || cp == 0xFFFD;
}

/* The steps that look at one character at a time. */
static void apply_char(enum norm_kind kind, uint32_t cp, struct text *out) {
    switch (kind) {
    case NORM_STRIP_ACCENTS:
        if (!tok_is_mark(cp))
            text_add_cp(out, cp);
        break;
    case NORM_STRIP_NONSPACING:
        if (!tok_is_nonspacing(cp))
            text_add_cp(out, cp);
        break;
    case NORM_CLEAN:
        if (cp != 0 && cp != 0xFFFD && !tok_is_control(cp))
            text_add_cp(out, tok_is_whitespace(cp) ? ' ' : cp);
        break;
    case NORM_CHINESE:
        if (tok_is_chinese(cp)) {
            text_add_cp(out, ' ');
            text_add_cp(out, cp);
            text_add_cp(out, ' ');
        } else {
            text_add_cp(out, cp);
        }
        break;
    default: /* NORM_NMT */
        if (!nmt_removes(cp))
            text_add_cp(out, nmt_blanks(cp) ? ' ' : cp);
    }
}

static void apply_chars(enum norm_kind kind, const char *s, size_t n, struct text *out) {
    size_t len;
    if (kind == NORM_LOWERCASE) {
        tok_lowercase(s, n, out);
    } else if (kind == NORM_BYTELEVEL) {
        bytelevel_encode(s, n, out);
    } else {
        for (const char *end = s + n; s < end; s += len)
            apply_char(kind, utf8_get(s, end, &len), out);
    }
}

static void strip(const struct norm_step *step, struct norm_text *t) {
    const char *end = t->s + t->len;
    size_t len;
    while (step->left && t->s < end && tok_is_whitespace(utf8_get(t->s, end, &len))) {
        t->s += len;
        t->zero = t->zero > len ? t->zero - len : 0;
    }
    while (step->right && t->s < end && tok_is_whitespace(utf8_get_before(t->s, end, &len)))
        end -= len;
    t->len = (size_t)(end - t->s);
    t->zero = t->zero < t->len ? t->zero : t->len;
}

static enum err replace(const struct norm_step *step, struct norm_text *t, struct text *out,
                        struct tok_scratch *scratch, struct err_msg *em) {
    struct tok_find find;
    size_t begin, end, copied = 0, zero = 0;
    bool found;
    tok_find_start(&find, &step->pattern, scratch, t->s, t->len);
    for (;;) {
        enum err e = tok_find_next(&find, &found, &begin, &end, em);
        if (e != ERR_OK)
            return e;
        size_t stop = found ? begin : t->len;
        if (copied < t->zero) /* what is copied up to t->zero keeps its origin */
            zero += (stop < t->zero ? stop : t->zero) - copied;
        text_add(out, t->s + copied, stop - copied);
        if (!found)
            break;
        if (end == 0 || end - 1 < t->zero) /* the replacement stems from the match's last byte */
            zero += step->content.len;
        text_add(out, step->content.data, step->content.len);
        copied = end;
        if (out->len > MAX_TEXT)
            return err_set(em, ERR_LIMIT, "a Replace of the tokenizer makes the text too long");
    }
    t->s = out->data;
    t->len = out->len;
    t->zero = zero;
    return ERR_OK;
}

static enum err apply(const struct norm_step *step, struct norm_text *t, struct text *out,
                      struct tok_scratch *scratch, struct err_msg *em) {
    size_t zero = 0, len;
    text_reset(out);
    switch (step->kind) {
    case NORM_STRIP:
        strip(step, t);
        return ERR_OK;
    case NORM_REPLACE:
        return replace(step, t, out, scratch, em);
    case NORM_PREPEND:
        text_add(out, step->content.data, step->content.len);
        text_add(out, t->s, t->len);
        zero = t->zero > 0 ? t->zero + step->content.len : 0;
        break;
    case NORM_FORM:
    case NORM_PRECOMPILED:
        if (step->kind == NORM_FORM)
            tok_normal_form(step->form, t->s, t->len, out);
        else
            precompiled_apply(&step->charsmap, t->s, t->len, out);
        if (t->zero > 0 && out->len > 0) {
            (void)utf8_get(out->data, out->data + out->len, &len);
            zero = len;
        }
        break;
    default:
        apply_chars(step->kind, t->s, t->zero, out);
        zero = out->len;
        apply_chars(step->kind, t->s + t->zero, t->len - t->zero, out);
    }
    t->s = out->data;
    t->len = out->len;
    t->zero = zero;
    return ERR_OK;
}

enum err tok_normalize(const struct tok_normalizer *n, struct norm_text *t,
                       struct tok_scratch *scratch, struct err_msg *em) {
    int which = 0;
    for (size_t i = 0; i < n->n_steps && t->len > 0; i++) {
        enum err e = apply(&n->steps[i], t, &t->buffer[which], scratch, em);
        if (e != ERR_OK)
            return e;
        if (n->steps[i].kind != NORM_STRIP) /* which only moves the ends */
            which ^= 1;
    }
    return ERR_OK;
}

void norm_text_clear(struct norm_text *t) {
    text_clear(&t->buffer[0]);
    text_clear(&t->buffer[1]);
}
