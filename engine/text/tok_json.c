/* tok_json: typed fields of tokenizer.json, with errors that name the JSON path. */
#include "engine/text/tok_json.h"

#include <stdarg.h>
#include <stdio.h>

#include "engine/text/tok_text.h"

/* Appends the path to out; returns the new length (may exceed cap, as snprintf). */
static size_t path_text(const struct tok_path *at, char *out, size_t cap) {
    if (at == NULL)
        return 0;
    size_t used = path_text(at->up, out, cap);
    size_t room = used < cap ? cap - used : 0;
    char *end = room > 0 ? out + used : NULL;
    int n = at->key == NULL ? snprintf(end, room, "[%zu]", at->index)
                            : snprintf(end, room, "%s%s", used > 0 ? "." : "", at->key);
    return used + (n > 0 ? (size_t)n : 0);
}

enum err tok_json_error(const struct tok_path *at, enum err code, struct err_msg *em,
                        const char *fmt, ...) {
    char path[128] = "", text[320];
    (void)path_text(at, path, sizeof path);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_set(em, code, "%s: %s", path, text);
}

enum err tok_json_bool(const json_t *object, const char *key, bool fallback, bool *out,
                       const struct tok_path *at, struct err_msg *em) {
    const json_t *v = json_object_get(object, key);
    if (v == NULL || json_is_null(v)) {
        *out = fallback;
        return ERR_OK;
    }
    if (!json_is_boolean(v))
        return tok_json_error(at, ERR_INPUT, em, "`%s` must be true or false", key);
    *out = json_is_true(v);
    return ERR_OK;
}

enum err tok_json_string(const json_t *object, const char *key, bool required, const char **out,
                         size_t *len, const struct tok_path *at, struct err_msg *em) {
    const json_t *v = json_object_get(object, key);
    *out = NULL;
    if (len != NULL)
        *len = 0;
    if (!required && (v == NULL || json_is_null(v)))
        return ERR_OK;
    if (!json_is_string(v))
        return tok_json_error(at, ERR_INPUT, em, "`%s` must be a string", key);
    *out = json_string_value(v);
    if (len != NULL)
        *len = json_string_length(v);
    return ERR_OK;
}

enum err tok_json_int(const json_t *object, const char *key, int64_t max, int64_t *out,
                      const struct tok_path *at, struct err_msg *em) {
    const json_t *v = json_object_get(object, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max)
        return tok_json_error(at, ERR_INPUT, em, "`%s` must be an integer from 0 to %lld", key,
                              (long long)max);
    *out = json_integer_value(v);
    return ERR_OK;
}

enum err tok_json_char(const json_t *object, const char *key, uint32_t *out,
                       const struct tok_path *at, struct err_msg *em) {
    const char *s;
    size_t len, n = 0;
    enum err e = tok_json_string(object, key, true, &s, &len, at, em);
    if (e != ERR_OK)
        return e;
    if (len > 0)
        *out = utf8_get(s, s + len, &n);
    if (len == 0 || n != len)
        return tok_json_error(at, ERR_INPUT, em, "`%s` must be one character", key);
    return ERR_OK;
}

enum err tok_json_array(const json_t *object, const char *key, const json_t **out,
                        const struct tok_path *at, struct err_msg *em) {
    *out = json_object_get(object, key);
    if (!json_is_array(*out))
        return tok_json_error(at, ERR_INPUT, em, "`%s` must be a list", key);
    return ERR_OK;
}

enum err tok_json_type(const json_t *object, const char **out, const struct tok_path *at,
                       struct err_msg *em) {
    if (!json_is_object(object))
        return tok_json_error(at, ERR_INPUT, em, "must be an object");
    return tok_json_string(object, "type", true, out, NULL, at, em);
}
