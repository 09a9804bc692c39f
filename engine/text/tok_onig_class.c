/* tok_onig_class: escapes and character classes of Oniguruma patterns. */
#include <stdio.h>
#include <string.h>

#include "engine/text/tok_onig_parse.h"

#define MAX_CLASS_DEPTH 20
#define MAX_CLASS_TERMS 8

static void add(struct text *t, const char *s) {
    text_add(t, s, strlen(s));
}

static void add_text(struct text *t, const struct text *s) {
    text_add(t, s->data, s->len);
}

enum err onig_fail(struct onig *o, enum err code, const char *what) {
    const char *verb = code == ERR_UNSUPPORTED ? "is not supported" : "is malformed";
    return err_set(o->em, code, "the regular expression %s at byte %zu: %s", verb,
                   (size_t)(o->p - o->begin), what);
}

bool onig_at(const struct onig *o, const char *s) {
    size_t n = strlen(s);
    return (size_t)(o->end - o->p) >= n && memcmp(o->p, s, n) == 0;
}

enum err onig_close(struct onig *o) {
    if (o->p >= o->end)
        return onig_fail(o, ERR_INPUT, "a group is not closed");
    o->p++;
    return ERR_OK;
}

void onig_literal(struct text *out, uint32_t cp) {
    char s[16];
    bool plain = (cp >= '0' && cp <= '9') || (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z');
    if (plain || cp >= 0x80) {
        text_add_cp(out, cp);
        return;
    }
    (void)snprintf(s, sizeof s, "\\x{%X}", (unsigned)cp);
    add(out, s);
}

enum err onig_set(struct onig *o, enum onig_place place, struct text *items, bool *negated,
                  bool *found) {
    static const struct {
        char letter;
        const char *property;
    } sets[] = {{'d', "digit"}, {'w', "word"}, {'s', "space"}, {'h', "xdigit"}};
    char c = o->p + 1 < o->end ? o->p[1] : '\0';
    *found = true;
    *negated = c >= 'A' && c <= 'Z';
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        if ((c | 0x20) == sets[i].letter && c != '\0') {
            o->p += 2;
            (void)onig_property(sets[i].property, strlen(sets[i].property), place, items);
            return ERR_OK;
        }
    if ((c == 'p' || c == 'P') && o->p + 2 < o->end && o->p[2] == '{') {
        const char *name = o->p + 3;
        const char *close = memchr(name, '}', (size_t)(o->end - name));
        if (close == NULL)
            return onig_fail(o, ERR_INPUT, "`\\p{` is not closed");
        if (*name == '^') {
            *negated = !*negated;
            name++;
        }
        if (!onig_property(name, (size_t)(close - name), place, items))
            return onig_fail(o, ERR_UNSUPPORTED, "unknown character property");
        o->p = close + 1;
        return ERR_OK;
    }
    *found = false;
    return ERR_OK;
}

/* Up to max hexadecimal digits at p. */
static enum err hex(struct onig *o, size_t max, uint32_t *cp) {
    size_t n = 0;
    *cp = 0;
    for (; n < max && o->p < o->end; n++, o->p++) {
        char c = *o->p;
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (uint32_t)((c | 0x20) - 'a' + 10);
        else
            break;
        *cp = *cp << 4 | digit;
    }
    if (n == 0 || *cp > 0x10FFFF || (*cp >= 0xD800 && *cp < 0xE000))
        return onig_fail(o, ERR_INPUT, "a character number");
    return ERR_OK;
}

enum err onig_char(struct onig *o, bool in_class, uint32_t *cp) {
    static const char from[] = "tnrfvae", to[] = "\t\n\r\f\v\a\x1b";
    size_t n;
    o->p++;
    if (o->p >= o->end)
        return onig_fail(o, ERR_INPUT, "a backslash at the end");
    char c = *o->p;
    const char *simple = c != '\0' ? strchr(from, c) : NULL;
    if (simple != NULL) {
        *cp = (uint32_t)to[simple - from];
        o->p++;
        return ERR_OK;
    }
    if (c == 'b' && in_class) {
        *cp = '\b';
        o->p++;
        return ERR_OK;
    }
    if (c == 'u') {
        o->p++;
        return hex(o, 4, cp);
    }
    if (c == 'x') {
        o->p++;
        if (o->p < o->end && *o->p == '{') {
            o->p++;
            enum err e = hex(o, 8, cp);
            if (e != ERR_OK)
                return e;
            if (o->p >= o->end || *o->p != '}')
                return onig_fail(o, ERR_INPUT, "`\\x{` is not closed");
            o->p++;
            return ERR_OK;
        }
        enum err e = hex(o, 2, cp);
        return e == ERR_OK && *cp >= 0x80 ? onig_fail(o, ERR_UNSUPPORTED, "a raw byte") : e;
    }
    if (c == 'c' || c == 'C' || c == 'M' || (c >= '0' && c <= '9'))
        return onig_fail(o, ERR_UNSUPPORTED, "this escape");
    *cp = utf8_get(o->p, o->end, &n);
    o->p += n;
    return ERR_OK;
}

/* \b and \B by the reference's idea of a word character. */
static void word_boundary(struct text *out, bool negated) {
    struct text w = {0};
    (void)onig_property("word", 4, ONIG_ALONE, &w);
    static const char *const yes[] = {"(?:(?<=[", "])(?![", "])|(?<![", "])(?=[", "]))"};
    static const char *const no[] = {"(?:(?<=[", "])(?=[", "])|(?<![", "])(?![", "]))"};
    for (size_t i = 0; i < 5; i++) {
        add(out, negated ? no[i] : yes[i]);
        if (i < 4)
            add_text(out, &w);
    }
    text_clear(&w);
}

enum err onig_escape(struct onig *o, struct text *out) {
    struct text items = {0};
    bool negated, found;
    enum err e = onig_set(o, ONIG_ALONE, &items, &negated, &found);
    if (e == ERR_OK && found) {
        add(out, negated ? "[^" : "[");
        add_text(out, &items);
        add(out, "]");
    }
    text_clear(&items);
    if (e != ERR_OK || found)
        return e;
    char c = o->p + 1 < o->end ? o->p[1] : '\0';
    if (c == 'b' || c == 'B') {
        word_boundary(out, c == 'B');
    } else if (c == 'O') {
        add(out, "(?s:.)");
    } else if (c != '\0' && strchr("AZzGKRXN123456789", c) != NULL) {
        text_add(out, o->p, 2);
    } else if (c == 'k' || c == 'g') {
        const char *close = memchr(o->p, '>', (size_t)(o->end - o->p));
        if (close == NULL || o->p[2] != '<')
            return onig_fail(o, ERR_INPUT, "a reference to a group");
        text_add(out, o->p, (size_t)(close - o->p) + 1);
        o->p = close + 1;
        return ERR_OK;
    } else {
        uint32_t cp;
        e = onig_char(o, false, &cp);
        if (e == ERR_OK)
            onig_literal(out, cp);
        return e;
    }
    o->p += 2;
    return ERR_OK;
}

/* One term of a class: flat items, and what cannot be written as items. */
struct term {
    struct text flat, others; /* others: "|expr|expr" */
};

static void term_expression(const struct term *t, struct text *out) {
    if (t->others.len == 0) {
        add(out, t->flat.len > 0 ? "[" : "(?!");
        add_text(out, &t->flat);
        add(out, t->flat.len > 0 ? "]" : ")");
        return;
    }
    add(out, "(?:");
    if (t->flat.len > 0) {
        add(out, "[");
        add_text(out, &t->flat);
        add(out, "]");
        add_text(out, &t->others);
    } else {
        text_add(out, t->others.data + 1, t->others.len - 1);
    }
    add(out, ")");
}

static void add_item(struct text *flat, uint32_t lo, uint32_t hi) {
    char s[40];
    (void)snprintf(s, sizeof s, lo == hi ? "\\x{%X}" : "\\x{%X}-\\x{%X}", (unsigned)lo,
                   (unsigned)hi);
    add(flat, s);
}

/* A character or a range of them at p. */
static enum err class_range(struct onig *o, struct term *t) {
    uint32_t lo, hi;
    size_t n;
    enum err e = ERR_OK;
    if (*o->p == '\\') {
        e = onig_char(o, true, &lo);
    } else {
        lo = utf8_get(o->p, o->end, &n);
        o->p += n;
    }
    if (e != ERR_OK)
        return e;
    hi = lo;
    bool range = o->p + 1 < o->end && o->p[0] == '-' && o->p[1] != ']' && o->p[1] != '[';
    if (range && o->p[1] == '\\' && o->p + 2 < o->end && strchr("dDwWsShHpP", o->p[2]) != NULL)
        range = false;
    if (range) {
        o->p++;
        if (*o->p == '\\') {
            e = onig_char(o, true, &hi);
        } else {
            hi = utf8_get(o->p, o->end, &n);
            o->p += n;
        }
        if (e == ERR_OK && hi < lo)
            e = onig_fail(o, ERR_INPUT, "a range that goes backwards");
    }
    if (e == ERR_OK)
        add_item(&t->flat, lo, hi);
    return e;
}

/* [:name:] at p; *found false if it is not one. */
static enum err posix_bracket(struct onig *o, struct term *t, bool *found) {
    const char *name = o->p + 2, *close = name;
    *found = false;
    if (!onig_at(o, "[:"))
        return ERR_OK;
    while (close + 1 < o->end && close[0] != ':' && close[0] != ']')
        close++;
    if (close + 1 >= o->end || close[0] != ':' || close[1] != ']')
        return ERR_OK;
    *found = true;
    struct text items = {0};
    bool negated = *name == '^';
    name += negated;
    bool known = onig_property(name, (size_t)(close - name), ONIG_BRACKET, &items);
    if (known && negated) {
        add(&t->others, "|[^");
        add_text(&t->others, &items);
        add(&t->others, "]");
    } else {
        add_text(&t->flat, &items);
    }
    text_clear(&items);
    if (!known)
        return onig_fail(o, ERR_UNSUPPORTED, "unknown POSIX class");
    o->p = close + 2;
    return ERR_OK;
}

static enum err class_item(struct onig *o, struct term *t, int depth) {
    bool found = false, negated = false;
    enum err e = posix_bracket(o, t, &found);
    if (e != ERR_OK || found)
        return e;
    if (*o->p == '[') {
        o->p++;
        add(&t->others, "|");
        return onig_class(o, &t->others, depth + 1);
    }
    if (*o->p == '\\') {
        struct text items = {0};
        e = onig_set(o, ONIG_CLASS, &items, &negated, &found);
        if (e == ERR_OK && found && negated) {
            add(&t->others, "|[^");
            add_text(&t->others, &items);
            add(&t->others, "]");
        } else if (e == ERR_OK && found) {
            add_text(&t->flat, &items);
        }
        text_clear(&items);
        if (e != ERR_OK || found)
            return e;
    }
    return class_range(o, t);
}

/* The class as one expression, from its terms joined by &&. */
static void class_expression(const struct term *t, size_t n, bool negated, struct text *out) {
    if (n == 1 && t[0].others.len == 0 && t[0].flat.len > 0) {
        add(out, negated ? "[^" : "[");
        add_text(out, &t[0].flat);
        add(out, "]");
        return;
    }
    add(out, negated ? "(?:(?!" : "(?:");
    for (size_t i = 0; i < n; i++) {
        if (i + 1 < n)
            add(out, "(?=");
        term_expression(&t[i], out);
        if (i + 1 < n)
            add(out, ")");
    }
    add(out, negated ? ")(?s:.))" : ")");
}

enum err onig_class(struct onig *o, struct text *out, int depth) {
    if (depth > MAX_CLASS_DEPTH)
        return onig_fail(o, ERR_LIMIT, "classes nested too deeply");
    struct term terms[MAX_CLASS_TERMS] = {0};
    size_t n = 1;
    enum err e = ERR_OK;
    bool negated = o->p < o->end && *o->p == '^';
    o->p += negated;
    bool first = true;
    while (e == ERR_OK && o->p < o->end && (*o->p != ']' || first)) {
        first = false;
        if (onig_at(o, "&&")) {
            o->p += 2;
            if (n == MAX_CLASS_TERMS)
                e = onig_fail(o, ERR_LIMIT, "too many && in a class");
            else
                n++;
        } else {
            e = class_item(o, &terms[n - 1], depth);
        }
    }
    if (e == ERR_OK && o->p >= o->end)
        e = onig_fail(o, ERR_INPUT, "a class is not closed");
    if (e == ERR_OK) {
        o->p++;
        class_expression(terms, n, negated, out);
    }
    for (size_t i = 0; i < MAX_CLASS_TERMS; i++) {
        text_clear(&terms[i].flat);
        text_clear(&terms[i].others);
    }
    return e;
}
