/* jsonl: what may be wrong with one line, in words that help to mend it. */
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "engine/text/jsonl.h"

static json_t *refuse(struct line_fault *fault, const struct jsonl_line *line, size_t at,
                      const char *reason) {
    fault->offset = line->offset + (int64_t)at;
    (void)snprintf(fault->reason, sizeof fault->reason, "%s", reason);
    return NULL;
}

/* Length of the well-formed sequence at s (RFC 3629: no overlong forms, surrogates, or code points
 * above U+10FFFF), 0 if there is none. n > 0. */
static size_t utf8_sequence(const unsigned char *s, size_t n) {
    unsigned char a = s[0];
    size_t len = a < 0x80 ? 1 : a < 0xc2 ? 0 : a < 0xe0 ? 2 : a < 0xf0 ? 3 : a < 0xf5 ? 4 : 0;
    if (len < 2 || len > n)
        return len > n ? 0 : len;
    unsigned char low = a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80;
    unsigned char high = a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

/* Offset of the first byte that is not UTF-8 or is NUL, or len. */
static size_t text_end(const char *data, size_t len) {
    const unsigned char *s = (const unsigned char *)data;
    size_t i = 0;
    while (i < len) {
        if (s[i] - 1u < 0x7f) { /* the common case: ASCII without NUL */
            i++;
            continue;
        }
        size_t n = s[i] == 0 ? 0 : utf8_sequence(s + i, len - i);
        if (n == 0)
            break;
        i += n;
    }
    return i;
}

static json_t *refuse_bytes(struct line_fault *fault, const struct jsonl_line *line, size_t at) {
    const char *s = line->data;
    if (line->number == 1 && line->len >= 2) {
        if (memcmp(s, "\x1f\x8b", 2) == 0 || memcmp(s, "PK", 2) == 0)
            return refuse(fault, line, 0,
                          "the file is compressed; give the JSONL file itself, unpacked");
        if (memcmp(s, "\xff\xfe", 2) == 0 || memcmp(s, "\xfe\xff", 2) == 0)
            return refuse(fault, line, 0, "the file is UTF-16; save it as UTF-8");
    }
    if (s[at] == '\0')
        return refuse(fault, line, at, "a NUL byte in the line");
    char reason[64];
    (void)snprintf(reason, sizeof reason, "byte 0x%02x is not valid UTF-8 here",
                   (unsigned)(unsigned char)s[at]);
    return refuse(fault, line, at, reason);
}

/* A reason for what people often upload instead of JSONL, or NULL. */
static const char *mistake(const struct jsonl_line *line) {
    const char *s = line->data + strspn(line->data, " \t");
    if (memcmp(s, "\xef\xbb\xbf", strnlen(s, 3)) == 0 && *s != '\0')
        return "a byte-order mark (BOM) may stand only at the start of the file";
    if (*s == '[')
        return line->number == 1 ? "the line starts a JSON array; JSONL has one object {...} a line"
                                 : "a row must be a JSON object, not an array";
    if (*s != '{')
        return "a row must be a JSON object {...}";
    s++;
    s += strspn(s, " \t");
    if (*s == '\'')
        return "single quotes: this is Python's notation, not JSON; write the rows with "
               "json.dumps()";
    if (*s == '\0')
        return "the object does not end on its line; write each row on one line "
               "(json.dumps() without indent)";
    return NULL;
}

static json_t *refuse_json(struct line_fault *fault, const struct jsonl_line *line,
                           const json_error_t *error) {
    /* On a line that just stops, jansson's position is the end of input. */
    size_t at = error->position > 0 ? (size_t)error->position : 0;
    if (at > line->len)
        at = line->len;
    const char *known = mistake(line);
    if (known != NULL)
        return refuse(fault, line, 0, known);
    switch (json_error_code(error)) {
    case json_error_duplicate_key: {
        const char *near = strstr(error->text, " near ");
        (void)snprintf(fault->reason, sizeof fault->reason,
                       "a key stands twice in one object%.120s", near != NULL ? near : "");
        fault->offset = line->offset + (int64_t)at;
        return NULL;
    }
    case json_error_premature_end_of_input:
        return refuse(fault, line, at, "the line ends before its JSON object does");
    case json_error_end_of_input_expected:
        return refuse(fault, line, at, "there is more text after the JSON object");
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return refuse(fault, line, at, "the escape \\u0000 is not accepted");
    case json_error_stack_overflow:
        return refuse(fault, line, at, "arrays and objects are nested too deeply");
    default:
        (void)snprintf(fault->reason, sizeof fault->reason, "not JSON: %.200s", error->text);
        fault->offset = line->offset + (int64_t)at;
        return NULL;
    }
}

json_t *jsonl_parse(const struct jsonl_line *line, struct line_fault *fault) {
    if (line->too_long) {
        char reason[96];
        (void)snprintf(reason, sizeof reason, "the line is longer than %u bytes; split the row",
                       LIMIT_ROW_BYTES);
        return refuse(fault, line, 0, reason);
    }
    size_t end = text_end(line->data, line->len);
    if (end < line->len)
        return refuse_bytes(fault, line, end);
    json_error_t error;
    json_t *row =
        json_loadb(line->data, line->len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (row == NULL)
        return refuse_json(fault, line, &error);
    if (json_is_object(row))
        return row;
    json_decref(row);
    const char *known = mistake(line);
    return refuse(fault, line, 0, known != NULL ? known : "a row must be a JSON object {...}");
}
