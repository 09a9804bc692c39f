/* tok_decoder: the `decoder` of tokenizer.json. */
#include "engine/text/tok_decoder.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/text/tok_bytelevel.h"

#define MAX_DEPTH 16

enum decoder_kind {
    DECODER_BYTELEVEL,
    DECODER_REPLACE,
    DECODER_BYTE_FALLBACK,
    DECODER_FUSE,
    DECODER_STRIP,
    DECODER_METASPACE,
    DECODER_BPE,
    DECODER_WORDPIECE,
    DECODER_CTC,
};

struct decoder_step {
    enum decoder_kind kind;
    struct tok_pattern pattern; /* REPLACE; BPE: the suffix; CTC: the padding token */
    struct tok_pattern word;    /* CTC: the word delimiter */
    struct text content;        /* REPLACE; WORDPIECE: the prefix */
    uint32_t character;         /* STRIP, METASPACE */
    size_t start, stop;         /* STRIP: how many at most */
    bool prepended;             /* METASPACE: the first token's replacement goes */
    bool cleanup;               /* WORDPIECE, CTC */
};

/* ---- reading ----------------------------------------------------------------------------- */

static enum err load_literal(struct tok_pattern *p, const json_t *json, const char *key,
                             const struct tok_path *at, struct err_msg *em) {
    const char *s;
    size_t n;
    enum err e = tok_json_string(json, key, true, &s, &n, at, em);
    if (e == ERR_OK && n == 0)
        e = tok_pattern_regex(p, "", 0, at, em);
    else if (e == ERR_OK)
        p->needle = memcpy(xmalloc(n), s, n), p->needle_len = n;
    return e;
}

static enum err load_strip(struct decoder_step *s, const json_t *json, const struct tok_path *at,
                           struct err_msg *em) {
    int64_t start = 0, stop = 0;
    enum err e = tok_json_char(json, "content", &s->character, at, em);
    if (e == ERR_OK)
        e = tok_json_int(json, "start", INT32_MAX, &start, at, em);
    if (e == ERR_OK)
        e = tok_json_int(json, "stop", INT32_MAX, &stop, at, em);
    s->start = (size_t)start;
    s->stop = (size_t)stop;
    return e;
}

static enum err load_metaspace(struct decoder_step *s, const json_t *json,
                               const struct tok_path *at, struct err_msg *em) {
    const char *scheme;
    bool prefix;
    enum err e = tok_json_char(json, "replacement", &s->character, at, em);
    if (e == ERR_OK)
        e = tok_json_bool(json, "add_prefix_space", true, &prefix, at, em);
    if (e == ERR_OK)
        e = tok_json_string(json, "prepend_scheme", false, &scheme, NULL, at, em);
    if (e == ERR_OK)
        s->prepended = scheme != NULL ? strcmp(scheme, "never") != 0 : prefix;
    return e;
}

static enum err load_fields(struct decoder_step *s, const json_t *json, const struct tok_path *at,
                            struct err_msg *em) {
    const char *content;
    size_t n;
    enum err e;
    switch (s->kind) {
    case DECODER_REPLACE:
        e = tok_pattern_load(&s->pattern, json, "pattern", at, em);
        if (e == ERR_OK)
            e = tok_json_string(json, "content", true, &content, &n, at, em);
        if (e == ERR_OK)
            text_add(&s->content, content, n);
        return e;
    case DECODER_STRIP:
        return load_strip(s, json, at, em);
    case DECODER_METASPACE:
        return load_metaspace(s, json, at, em);
    case DECODER_BPE:
        return load_literal(&s->pattern, json, "suffix", at, em);
    case DECODER_WORDPIECE:
        e = tok_json_string(json, "prefix", true, &content, &n, at, em);
        if (e == ERR_OK)
            text_add(&s->content, content, n);
        return e == ERR_OK ? tok_json_bool(json, "cleanup", true, &s->cleanup, at, em) : e;
    case DECODER_CTC:
        e = load_literal(&s->pattern, json, "pad_token", at, em);
        if (e == ERR_OK)
            e = load_literal(&s->word, json, "word_delimiter_token", at, em);
        return e == ERR_OK ? tok_json_bool(json, "cleanup", true, &s->cleanup, at, em) : e;
    default:
        return ERR_OK;
    }
}

static enum err load(struct tok_decoder *d, const json_t *json, int depth,
                     const struct tok_path *at, struct err_msg *em) {
    static const char *const types[] = {"ByteLevel", "Replace",    "ByteFallback", "Fuse", "Strip",
                                        "Metaspace", "BPEDecoder", "WordPiece",    "CTC"};
    const char *type;
    enum err e = tok_json_type(json, &type, at, em);
    if (e != ERR_OK)
        return e;
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list, *element;
        if (depth == MAX_DEPTH)
            return tok_json_error(at, ERR_LIMIT, em, "sequences are nested too deeply");
        e = tok_json_array(json, "decoders", &list, at, em);
        const struct tok_path key = {at, "decoders", 0};
        size_t i;
        json_array_foreach(list, i, element) {
            const struct tok_path here = {&key, NULL, i};
            if (e == ERR_OK)
                e = load(d, element, depth + 1, &here, em);
        }
        return e;
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(type, types[i]) == 0) {
            d->steps = xreallocarray(d->steps, d->n_steps + 1, sizeof *d->steps);
            struct decoder_step *s = &d->steps[d->n_steps++];
            *s = (struct decoder_step){.kind = (enum decoder_kind)i};
            return load_fields(s, json, at, em);
        }
    return tok_json_error(at, ERR_UNSUPPORTED, em, "decoder `%.40s` is not supported", type);
}

enum err tok_decoder_load(struct tok_decoder *d, const json_t *json, const struct tok_path *at,
                          struct err_msg *em) {
    *d = (struct tok_decoder){0};
    if (json == NULL || json_is_null(json))
        return ERR_OK;
    d->present = true;
    return load(d, json, 0, at, em);
}

void tok_decoder_clear(struct tok_decoder *d) {
    for (size_t i = 0; i < d->n_steps; i++) {
        tok_pattern_clear(&d->steps[i].pattern);
        tok_pattern_clear(&d->steps[i].word);
        text_clear(&d->steps[i].content);
    }
    free(d->steps);
    *d = (struct tok_decoder){0};
}

/* ---- running ----------------------------------------------------------------------------- */

/* Puts `with` for every match of p in s; appends to out. */
static enum err replace_all(const struct tok_pattern *p, struct tok_scratch *scratch, const char *s,
                            size_t n, const char *with, size_t with_len, struct text *out,
                            struct err_msg *em) {
    struct tok_find find;
    size_t begin, end, at = 0;
    bool found;
    tok_find_start(&find, p, scratch, s, n);
    for (;;) {
        enum err e = tok_find_next(&find, &found, &begin, &end, em);
        if (e != ERR_OK)
            return e;
        text_add(out, s + at, (found ? begin : n) - at);
        if (!found)
            return ERR_OK;
        text_add(out, with, with_len);
        at = end;
    }
}

/* WordPiece's tidying of English punctuation, in this order. */
static void clean_up(struct text *t) {
    static const char *const pairs[][2] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    for (size_t k = 0; k < sizeof pairs / sizeof pairs[0]; k++) {
        size_t n = strlen(pairs[k][0]), with = strlen(pairs[k][1]), out = 0, at = 0;
        while (at < t->len) { /* no replacement is longer than what it stands for */
            bool hit = t->len - at >= n && memcmp(t->data + at, pairs[k][0], n) == 0;
            if (hit)
                memcpy(t->data + out, pairs[k][1], with);
            else
                t->data[out] = t->data[at];
            out += hit ? with : 1;
            at += hit ? n : 1;
        }
        t->len = out;
    }
}

static void byte_level(const struct strings *in, struct strings *out) {
    struct text bytes = {0};
    for (size_t i = 0; i < in->len; i++) {
        size_t n, len, start = bytes.len;
        const char *s = strings_get(in, i, &n), *end = s + n;
        for (const char *p = s; p < end; p += len) {
            int byte = bytelevel_byte(utf8_get(p, end, &len));
            if (byte < 0) { /* an added token: its own bytes */
                bytes.len = start;
                text_add(&bytes, s, n);
                break;
            }
            char c = (char)byte;
            text_add(&bytes, &c, 1);
        }
    }
    text_add_lossy(&out->bytes, bytes.data, bytes.len);
    strings_close(out);
    text_clear(&bytes);
}

/* The byte of a token <0xNN>, or -1. */
static int fallback_byte(const char *s, size_t n) {
    int value = 0;
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
        return -1;
    for (size_t i = 3; i < 5; i++) {
        static const char digits[] = "0123456789abcdef";
        char c = s[i] >= 'A' && s[i] <= 'F' ? (char)(s[i] + 32) : s[i];
        const char *hit = c == '\0' ? NULL : strchr(digits, c);
        if (i == 3 && c == '+') /* sic: the reference's parser takes a sign */
            continue;
        if (hit == NULL)
            return -1;
        value = value * 16 + (int)(hit - digits);
    }
    return value;
}

static void flush_bytes(struct text *bytes, struct strings *out) {
    bool good = utf8_valid_prefix(bytes->data, bytes->len) == bytes->len;
    if (bytes->len > 0 && good)
        strings_add(out, bytes->data, bytes->len);
    for (size_t i = 0; i < bytes->len && !good; i++)
        strings_add(out, "\xEF\xBF\xBD", 3);
    text_reset(bytes);
}

static void byte_fallback(const struct strings *in, struct strings *out) {
    struct text bytes = {0};
    for (size_t i = 0; i < in->len; i++) {
        size_t n;
        const char *s = strings_get(in, i, &n);
        int byte = fallback_byte(s, n);
        if (byte >= 0) {
            char c = (char)byte;
            text_add(&bytes, &c, 1);
            continue;
        }
        flush_bytes(&bytes, out);
        strings_add(out, s, n);
    }
    flush_bytes(&bytes, out);
    text_clear(&bytes);
}

static void strip(const struct decoder_step *step, const char *s, size_t n, struct text *out) {
    const char *end = s + n;
    size_t len;
    for (size_t i = 0; i < step->start && s < end && utf8_get(s, end, &len) == step->character; i++)
        s += len;
    for (size_t i = 0;
         i < step->stop && s < end && utf8_get_before(s, end, &len) == step->character; i++)
        end -= len;
    text_add(out, s, (size_t)(end - s));
}

static void metaspace(const struct decoder_step *step, bool first, const char *s, size_t n,
                      struct text *out) {
    size_t len;
    for (const char *end = s + n; s < end; s += len) {
        if (utf8_get(s, end, &len) != step->character)
            text_add(out, s, len);
        else if (!first || !step->prepended)
            text_add(out, " ", 1);
    }
}

static void word_piece(const struct decoder_step *step, bool first, const char *s, size_t n,
                       struct text *out) {
    size_t prefix = step->content.len;
    bool continues = n >= prefix && (prefix == 0 || memcmp(s, step->content.data, prefix) == 0);
    if (!first && !continues)
        text_add(out, " ", 1);
    if (!first && continues)
        s += prefix, n -= prefix;
    text_add(out, s, n);
    if (step->cleanup)
        clean_up(out);
}

static enum err ctc(const struct decoder_step *step, struct tok_scratch *scratch, const char *s,
                    size_t n, struct text *out, struct err_msg *em) {
    enum err e = replace_all(&step->pattern, scratch, s, n, "", 0, out, em);
    if (e != ERR_OK || !step->cleanup)
        return e;
    clean_up(out);
    struct text copy = *out;
    *out = (struct text){0};
    e = replace_all(&step->word, scratch, copy.data == NULL ? "" : copy.data, copy.len, " ", 1, out,
                    em);
    text_clear(&copy);
    return e;
}

/* The steps that take tokens one by one: token i of in, with `one` as work space. */
static enum err each(const struct decoder_step *step, struct tok_scratch *scratch,
                     const struct strings *in, size_t i, struct text *one, struct strings *out,
                     struct err_msg *em) {
    size_t n, before_n;
    const char *s = strings_get(in, i, &n);
    enum err e = ERR_OK;
    text_reset(one);
    if (step->kind == DECODER_REPLACE) {
        e = replace_all(&step->pattern, scratch, s, n, step->content.data, step->content.len, one,
                        em);
    } else if (step->kind == DECODER_BPE) {
        e = replace_all(&step->pattern, scratch, s, n, " ", i + 1 < in->len, one, em);
    } else if (step->kind == DECODER_STRIP) {
        strip(step, s, n, one);
    } else if (step->kind == DECODER_METASPACE) {
        metaspace(step, i == 0, s, n, one);
    } else if (step->kind == DECODER_WORDPIECE) {
        word_piece(step, i == 0, s, n, one);
    } else { /* CTC: repeated tokens count once, empty ones not at all */
        const char *before = i > 0 ? strings_get(in, i - 1, &before_n) : NULL;
        if (before != NULL && before_n == n && memcmp(before, s, n) == 0)
            return ERR_OK;
        e = ctc(step, scratch, s, n, one, em);
        if (one->len == 0)
            return e;
    }
    strings_add(out, one->data, one->len);
    return e;
}

static enum err run_step(const struct decoder_step *step, struct tok_scratch *scratch,
                         const struct strings *in, struct strings *out, struct err_msg *em) {
    enum err e = ERR_OK;
    struct text one = {0};
    switch (step->kind) {
    case DECODER_BYTELEVEL:
        byte_level(in, out);
        break;
    case DECODER_BYTE_FALLBACK:
        byte_fallback(in, out);
        break;
    case DECODER_FUSE:
        strings_add(out, in->bytes.data, in->bytes.len);
        break;
    default:
        for (size_t i = 0; i < in->len && e == ERR_OK; i++)
            e = each(step, scratch, in, i, &one, out, em);
    }
    text_clear(&one);
    return e;
}

enum err tok_decoder_run(const struct tok_decoder *d, const struct strings *tokens,
                         struct text *out, struct err_msg *em) {
    struct strings list[2] = {{{0}, 0, 0, 0}, {{0}, 0, 0, 0}};
    const struct strings *in = tokens;
    struct tok_scratch scratch;
    tok_scratch_init(&scratch, tokens->bytes.len);
    enum err e = ERR_OK;
    for (size_t i = 0; i < d->n_steps && e == ERR_OK; i++) {
        struct strings *to = &list[i & 1];
        strings_reset(to);
        e = run_step(&d->steps[i], &scratch, in, to, em);
        in = to;
    }
    for (size_t i = 0; i < in->len && e == ERR_OK; i++) {
        size_t n;
        const char *s = strings_get(in, i, &n);
        if (i > 0 && !d->present)
            text_add(out, " ", 1);
        text_add(out, s, n);
    }
    tok_scratch_clear(&scratch);
    strings_clear(&list[0]);
    strings_clear(&list[1]);
    return e;
}
