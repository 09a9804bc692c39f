/* json_text: JSON written as text, and parts of stored JSON found in it, without a tree. */
#include "base/json_text.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/decimal.h"
#include "base/mem.h"

#define FIRST_ROOM 4000 /* most objects fit without moving */

/* ---- parts ---------------------------------------------------------------------------------- */

static const char *skip_space(const char *p) {
    while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
        p++;
    return p;
}

/* p: after the opening quote. What follows the closing one, or the end of the text. */
static const char *skip_string(const char *p) {
    const char *quote = strchrnul(p, '"');
    if (*quote == '"' && (quote == p || quote[-1] != '\\'))
        return quote + 1;
    for (; *p != '\0'; p++) {
        if (*p == '"')
            return p + 1;
        if (p[0] == '\\' && p[1] != '\0')
            p++;
    }
    return p;
}

/* What follows an array or an object, or the end of the text. */
static const char *skip_nested(const char *p) {
    for (int depth = 0; *(p += strcspn(p, "\"{}[]")) != '\0';) {
        char c = *p++;
        if (c == '"')
            p = skip_string(p);
        else if (c == '{' || c == '[')
            depth++;
        else if (--depth == 0)
            break;
    }
    return p;
}

static const char *skip_value(const char *p) {
    if (*p == '"')
        return skip_string(p + 1);
    if (*p == '{' || *p == '[')
        return skip_nested(p);
    while (*p != '\0' && *p != ',' && *p != '}' && *p != ']' && *p > ' ')
        p++;
    return p;
}

/* How many of the names this one is: 1 or 0. */
static int note(const char *name, size_t name_len, struct json_part value, const char *const *names,
                int n, struct json_part *out) {
    for (int i = 0; i < n; i++) {
        if (names[i][0] != name[0] || strncmp(names[i], name, name_len) != 0 ||
            names[i][name_len] != '\0')
            continue;
        out[i] = value;
        return 1;
    }
    return 0;
}

void json_parts(const char *object, const char *const *names, int n, struct json_part *out) {
    int missing = n;
    for (int i = 0; i < n; i++)
        out[i] = (struct json_part){0};
    const char *p = object != NULL ? skip_space(object) : "";
    if (*p != '{')
        return;
    for (p = skip_space(p + 1); *p == '"'; p = skip_space(p + 1)) {
        const char *name = p + 1, *end = skip_string(name);
        p = skip_space(end);
        if (*p != ':')
            return;
        p = skip_space(p + 1);
        struct json_part value = {.at = p};
        p = skip_value(p);
        value.len = (size_t)(p - value.at);
        p = skip_space(p);
        if (*p != ',' && *p != '}')
            return;
        missing -= note(name, (size_t)(end - name) - 1, value, names, n, out);
        if (missing == 0 || *p == '}')
            return;
    }
}

struct json_part json_part_of(const char *object, const char *name) {
    struct json_part out;
    json_parts(object, &name, 1, &out);
    return out;
}

struct json_part json_part_whole(const char *text) {
    return (struct json_part){.at = text, .len = text != NULL ? strlen(text) : 0};
}

char json_part_kind(struct json_part p) {
    char c = p.at != NULL && p.len > 0 ? p.at[0] : '\0';
    return c == '-' || (c >= '0' && c <= '9') ? '0' : c;
}

double json_part_number(struct json_part p) {
    int64_t whole = 0;
    size_t n = 0;
    if (json_part_kind(p) != '0')
        return 0;
    while (n < p.len && n < 15 && p.at[n] >= '0' && p.at[n] <= '9')
        whole = whole * 10 + (p.at[n++] - '0');
    bool is_whole = n == p.len || (n + 2 == p.len && p.at[n] == '.' && p.at[n + 1] == '0');
    return is_whole ? (double)whole : strtod(p.at, NULL);
}

/* ---- writing -------------------------------------------------------------------------------- */

void json_text_init(struct json_text *w, size_t max) {
    *w = (struct json_text){0};
    buf_init(&w->out, max);
    w->full = buf_reserve(&w->out, FIRST_ROOM < max ? FIRST_ROOM : max) != ERR_OK;
}

void json_text_clear(struct json_text *w) {
    buf_clear(&w->out);
}

enum err json_text_take(struct json_text *w, char **text, struct err_msg *em) {
    *text = NULL;
    if (w->full) {
        buf_clear(&w->out);
        return err_set(em, ERR_LIMIT, "the JSON text is longer than %zu bytes", w->out.max);
    }
    *text = buf_take(&w->out);
    return ERR_OK;
}

/* Where n more bytes go, or NULL. */
static inline char *room_for(struct json_text *w, size_t n) {
    if (w->full || (n >= w->out.cap - w->out.len && buf_reserve(&w->out, n) != ERR_OK)) {
        w->full = true;
        return NULL;
    }
    return w->out.data + w->out.len;
}

static void added(struct json_text *w, const char *end) {
    w->out.len = (size_t)(end - w->out.data);
    w->out.data[w->out.len] = '\0';
}

static void put(struct json_text *w, const char *bytes, size_t n) {
    char *to = room_for(w, n);
    if (to != NULL)
        added(w, (char *)memcpy(to, bytes, n) + n);
}

/* bytes, between two quotes if quoted, after a comma if there was a value before. */
static void put_piece(struct json_text *w, const char *bytes, size_t n, bool quoted) {
    size_t more = (w->comma ? 1u : 0u) + (quoted ? 2u : 0u);
    char *to = n < SIZE_MAX - more ? room_for(w, n + more) : NULL;
    if (to == NULL) {
        w->full = true;
        return;
    }
    if (w->comma)
        *to++ = ',';
    if (quoted)
        *to++ = '"';
    memcpy(to, bytes, n);
    to += n;
    if (quoted)
        *to++ = '"';
    added(w, to);
    w->comma = true;
}

static void put_value(struct json_text *w, const char *bytes, size_t n) {
    put_piece(w, bytes, n, false);
}

void json_text_open(struct json_text *w, char bracket) {
    put_value(w, &bracket, 1);
    w->comma = false;
}

void json_text_close(struct json_text *w, char bracket) {
    put(w, &bracket, 1);
    w->comma = true;
}

void json_text__key(struct json_text *w, const char *name, size_t len) {
    char *to = room_for(w, len + 4);
    if (to == NULL)
        return;
    if (w->comma)
        *to++ = ',';
    *to++ = '"';
    to = (char *)memcpy(to, name, len) + len;
    *to++ = '"';
    *to++ = ':';
    added(w, to);
    w->comma = false;
}

void json_text__add(struct json_text *w, const char *text, size_t len) {
    put(w, text, len);
    w->comma = false;
}

/* jansson knows what is UTF-8. */
static void put_foreign(struct json_text *w, const char *text) {
    json_t *value = json_string(text);
    char *own = NULL;
    if (value == NULL) {
        own = xstrdup(text);
        for (char *p = own; *p != '\0'; p++)
            *p = (unsigned char)*p >= 0x80 ? '?' : *p;
        value = json_string(own);
    }
    char *quoted = json_dumps(value, JSON_ENCODE_ANY);
    put_value(w, quoted, strlen(quoted));
    free(quoted);
    json_decref(value);
    free(own);
}

/* What stands in a string as it is: ASCII but for controls, quotes and backslashes. */
static const bool plain[256] = {
    [' '] = true, [0x21] = true, [0x23 ... 0x5b] = true, [0x5d ... 0x7f] = true};

void json_text_string(struct json_text *w, const char *text) {
    if (text == NULL) {
        json_text_null(w);
        return;
    }
    size_t n = 0;
    while (plain[(unsigned char)text[n]])
        n++;
    if (text[n] == '\0')
        put_piece(w, text, n, true);
    else
        put_foreign(w, text);
}

void json_text_integer(struct json_text *w, int64_t value) {
    char text[DECIMAL_MAX];
    put_value(w, text, decimal_put(text, value));
}

/* "1e+05" as "1e5": no plus, no leading zeros. */
static void tidy_exponent(char *text) {
    char *e = strchr(text, 'e');
    if (e == NULL)
        return;
    char *to = e[1] == '-' ? e + 2 : e + 1, *from = to + (e[1] == '+');
    from += strspn(from, "0");
    memmove(to, from, strlen(from) + 1);
}

void json_text_real(struct json_text *w, double value) {
    char text[48];
    if (!isfinite(value)) {
        json_text_null(w);
        return;
    }
    if (value == floor(value) && fabs(value) < 1e15 && value != 0) {
        json_text_integer(w, (int64_t)value);
        put(w, ".0", 2);
        return;
    }
    int n = snprintf(text, sizeof text - 2, "%.17g", value);
    if (strpbrk(text, ".e") == NULL)
        memcpy(text + n, ".0", 3);
    tidy_exponent(text);
    put_value(w, text, strlen(text));
}

void json_text_bool(struct json_text *w, bool value) {
    put_value(w, value ? "true" : "false", value ? 4 : 5);
}

void json_text_null(struct json_text *w) {
    put_value(w, "null", 4);
}

void json_text_part(struct json_text *w, struct json_part p) {
    if (p.at != NULL)
        put_value(w, p.at, p.len);
    else
        json_text_null(w);
}

void json_text_repeat(struct json_text *w, size_t from, size_t len) {
    w->full = w->full || buf_reserve(&w->out, len + 1) != ERR_OK;
    if (!w->full)
        put_value(w, w->out.data + from, len);
}
