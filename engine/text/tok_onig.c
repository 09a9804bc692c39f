/* tok_onig: Oniguruma patterns as PCRE2 patterns. */
#include "engine/text/tok_onig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/tok_onig_parse.h"

#define MAX_DEPTH 100
#define NO_ATOM ((size_t)-1)

static void add(struct text *t, const char *s) {
    text_add(t, s, strlen(s));
}

static void insert(struct text *t, size_t at, const char *s) {
    size_t n = strlen(s), tail = t->len - at;
    text_add(t, s, n);
    memmove(t->data + at + n, t->data + at, tail);
    memcpy(t->data + at, s, n);
}

/* Wraps the last atom so that what follows applies to it as a whole. */
static void wrap(struct onig *o) {
    insert(o->out, o->atom, "(?:");
    add(o->out, ")");
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Length of an interval {n}, {n,}, {,m} or {n,m} at p, or 0 if the brace is a literal. */
static size_t interval_len(const char *p, const char *end, bool *fixed) {
    const char *q = p + 1;
    size_t digits = 0;
    *fixed = true;
    for (; q < end && is_digit(*q); q++)
        digits++;
    if (q < end && *q == ',') {
        *fixed = false;
        for (q++; q < end && is_digit(*q); q++)
            digits++;
    }
    return q < end && *q == '}' && digits > 0 ? (size_t)(q - p) + 1 : 0;
}

static enum err quantifier(struct onig *o) {
    bool fixed = false, interval = *o->p == '{';
    size_t n = interval ? interval_len(o->p, o->end, &fixed) : 1;
    if (o->atom == NO_ATOM)
        return onig_fail(o, ERR_INPUT, "a quantifier has nothing to repeat");
    if (o->quantified)
        wrap(o);
    if (interval && o->p[1] == ',') { /* {,m} */
        add(o->out, "{0");
        text_add(o->out, o->p + 1, n - 1);
    } else {
        text_add(o->out, o->p, n);
    }
    o->p += n;
    o->quantified = true;
    if (o->p < o->end && *o->p == '?') {
        if (fixed) /* Ruby reads a{2}? as (?:a{2})? */
            wrap(o);
        add(o->out, "?");
        o->p++;
    } else if (o->p < o->end && *o->p == '+' && !interval) {
        add(o->out, "+");
        o->p++;
    }
    return ERR_OK;
}

/* Option letters up to ':' or ')': Ruby's m is PCRE2's s; x is handled while reading. */
static enum err options(struct onig *o, struct text *flags) {
    bool on = true;
    for (; o->p < o->end && *o->p != ':' && *o->p != ')'; o->p++) {
        if (*o->p == '-') {
            on = false;
            add(flags, "-");
        } else if (*o->p == 'i') {
            add(flags, "i");
        } else if (*o->p == 'm') {
            add(flags, "s");
        } else if (*o->p == 'x') {
            o->extended = on;
        } else {
            return onig_fail(o, ERR_UNSUPPORTED, "an option other than i, m, x");
        }
    }
    return o->p < o->end ? ERR_OK : onig_fail(o, ERR_INPUT, "a group is not closed");
}

static enum err body(struct onig *o, int depth);

/* Behind "(?" of an option group. */
static enum err option_group(struct onig *o, int depth, bool extended_outside) {
    struct text flags = {0};
    enum err e = options(o, &flags);
    if (e == ERR_OK) {
        bool isolated = *o->p++ == ')';
        add(o->out, "(?");
        text_add(o->out, flags.data, flags.len);
        add(o->out, ":");
        e = body(o, depth + 1);
        add(o->out, ")");
        if (e == ERR_OK && !isolated) {
            e = onig_close(o);
            o->extended = extended_outside;
        }
    }
    text_clear(&flags);
    return e;
}

static enum err group(struct onig *o, int depth) {
    static const char *const heads[] = {"?:", "?=", "?!", "?>", "?<=", "?<!"};
    bool extended = o->extended;
    size_t start = o->out->len;
    enum err e = ERR_OK;
    o->p++;
    if (o->p < o->end && *o->p == '*')
        return onig_fail(o, ERR_UNSUPPORTED, "(*");
    if (o->p + 1 < o->end && o->p[0] == '?' && o->p[1] == '#') {
        while (o->p < o->end && *o->p != ')')
            o->p += *o->p == '\\' && o->p + 1 < o->end ? 2 : 1;
        return onig_close(o);
    }
    add(o->out, "(");
    if (o->p < o->end && *o->p == '?') {
        size_t n = 0;
        for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
            if (onig_at(o, heads[i]))
                n = strlen(heads[i]);
        if (n == 0 && (onig_at(o, "?<") || onig_at(o, "?'"))) { /* a named group */
            const char *close =
                memchr(o->p + 2, o->p[1] == '<' ? '>' : '\'', (size_t)(o->end - o->p) - 2);
            n = close == NULL ? 0 : (size_t)(close - o->p) + 1;
        } else if (n == 0 && o->p + 1 < o->end && strchr("imx-", o->p[1]) != NULL) {
            o->out->len = start;
            o->p++;
            e = option_group(o, depth, extended);
            o->atom = start;
            return e;
        }
        if (n == 0)
            return onig_fail(o, ERR_UNSUPPORTED, "a group that starts like this");
        text_add(o->out, o->p, n);
        o->p += n;
    }
    e = body(o, depth + 1);
    add(o->out, ")");
    o->extended = extended;
    o->atom = start;
    return e != ERR_OK ? e : onig_close(o);
}

/* One atom, quantifier or separator that is not a group. */
static enum err item(struct onig *o) {
    bool fixed;
    char c = *o->p;
    if (strchr("*+?", c) != NULL || (c == '{' && interval_len(o->p, o->end, &fixed) > 0))
        return quantifier(o);
    o->quantified = false;
    o->atom = o->out->len;
    if (c == '\\')
        return onig_escape(o, o->out);
    if (c == '[') {
        o->p++;
        return onig_class(o, o->out, 0);
    }
    o->p++;
    if (c == '|') {
        add(o->out, "|");
        o->atom = NO_ATOM;
    } else if (c == '^') {
        add(o->out, "(?m:^)");
    } else if (c == '$') {
        add(o->out, "(?m:$)");
    } else if (c == '.') {
        add(o->out, ".");
    } else {
        size_t n;
        onig_literal(o->out, utf8_get(--o->p, o->end, &n));
        o->p += n;
    }
    return ERR_OK;
}

/* Up to ')' or the end, which is left to the caller. */
static enum err body(struct onig *o, int depth) {
    if (depth > MAX_DEPTH)
        return onig_fail(o, ERR_LIMIT, "groups nested too deeply");
    o->atom = NO_ATOM;
    o->quantified = false;
    while (o->p < o->end && *o->p != ')') {
        if (o->extended && strchr(" \t\n\r\f\v", *o->p) != NULL) {
            o->p++;
            continue;
        }
        if (o->extended && *o->p == '#') {
            while (o->p < o->end && *o->p != '\n')
                o->p++;
            continue;
        }
        bool is_group = *o->p == '(';
        enum err e = is_group ? group(o, depth) : item(o);
        if (e != ERR_OK)
            return e;
        if (is_group)
            o->quantified = false;
    }
    return ERR_OK;
}

enum err onig_to_pcre(const char *pattern, size_t n, struct text *out, struct err_msg *em) {
    struct onig o = {.begin = pattern, .p = pattern, .end = pattern + n, .out = out, .em = em};
    enum err e = memchr(pattern, '\0', n) != NULL ? onig_fail(&o, ERR_UNSUPPORTED, "a NUL byte")
                                                  : body(&o, 0);
    if (e == ERR_OK && o.p < o.end)
        e = onig_fail(&o, ERR_INPUT, "a `)` without its `(`");
    return e;
}
