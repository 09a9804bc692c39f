/* chat_json: a small writer; jansson's own differs in control characters and floats. */
#include "engine/text/chat_json.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct writer {
    struct buf *b;
    int indent;
    enum err e; /* the first error; nothing is written after it */
};

static void put(struct writer *w, const char *bytes, size_t n) {
    if (w->e == ERR_OK)
        w->e = buf_add(w->b, bytes, n);
}

static void puts_(struct writer *w, const char *text) {
    put(w, text, strlen(text));
}

static void write_string(struct writer *w, const char *s, size_t n) {
    static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs: byte, letter */
    puts_(w, "\"");
    size_t plain = 0;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)s[i] >= 0x20 && s[i] != '"' && s[i] != '\\')
            continue;
        put(w, s + plain, i - plain);
        plain = i + 1;
        char escape[8];
        (void)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)(unsigned char)s[i]);
        for (const char *pair = short_forms; *pair != '\0'; pair += 2)
            if (pair[0] == s[i])
                (void)snprintf(escape, sizeof escape, "\\%c", pair[1]);
        puts_(w, escape);
    }
    put(w, s + plain, n - plain);
    puts_(w, "\"");
}

/* Python's repr: the fewest digits that read back as x; an exponent below 1e-4 and from 1e16. */
static void write_real(struct writer *w, double x) {
    char digits[40], text[64];
    int precision = 0;
    do
        (void)snprintf(digits, sizeof digits, "%.*e", precision, x);
    while (strtod(digits, NULL) != x && ++precision < 17);
    int exponent = (int)strtol(strchr(digits, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= 16) {
        puts_(w, digits);
        return;
    }
    int decimals = precision - exponent;
    (void)snprintf(text, sizeof text, "%.*f", decimals < 1 ? 1 : decimals, x);
    puts_(w, text);
}

static void new_line(struct writer *w, int depth) {
    if (w->indent == 0)
        return;
    puts_(w, "\n");
    for (int i = 0; i < depth * w->indent; i++)
        puts_(w, " ");
}

static void between(struct writer *w, bool first, int depth) {
    if (!first)
        puts_(w, w->indent == 0 ? ", " : ",");
    new_line(w, depth);
}

static void write_value(struct writer *w, const json_t *value, int depth);

static void write_array(struct writer *w, const json_t *array, int depth) {
    puts_(w, "[");
    size_t i;
    json_t *item;
    json_array_foreach(array, i, item) {
        between(w, i == 0, depth + 1);
        write_value(w, item, depth + 1);
    }
    if (json_array_size(array) > 0)
        new_line(w, depth);
    puts_(w, "]");
}

static void write_object(struct writer *w, const json_t *object, int depth) {
    puts_(w, "{");
    bool first = true;
    void *at = json_object_iter((json_t *)(uintptr_t)object);
    for (; at != NULL; at = json_object_iter_next((json_t *)(uintptr_t)object, at)) {
        between(w, first, depth + 1);
        first = false;
        const char *key = json_object_iter_key(at);
        write_string(w, key, strlen(key));
        puts_(w, ": ");
        write_value(w, json_object_iter_value(at), depth + 1);
    }
    if (!first)
        new_line(w, depth);
    puts_(w, "}");
}

static void write_value(struct writer *w, const json_t *value, int depth) {
    char number[32];
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        write_object(w, value, depth);
        break;
    case JSON_ARRAY:
        write_array(w, value, depth);
        break;
    case JSON_STRING:
        write_string(w, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        (void)snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        puts_(w, number);
        break;
    case JSON_REAL:
        write_real(w, json_real_value(value));
        break;
    case JSON_TRUE:
        puts_(w, "true");
        break;
    case JSON_FALSE:
        puts_(w, "false");
        break;
    default:
        puts_(w, "null");
        break;
    }
}

enum err chat_json_write(const json_t *value, int indent, struct buf *b) {
    struct writer w = {.b = b, .indent = indent};
    write_value(&w, value, 0);
    return w.e;
}
