/* tok_json: typed fields of tokenizer.json, with errors that name the JSON path.
 *
 * What:    getters for one field of an object; a struct tok_path is the path so far, kept on the
 *          stack as a chain.
 * Owns:    nothing; strings are borrowed from the document.
 * Threads: safe.
 * Errors:  ERR_INPUT "model.merges[3]: …".
 */
#ifndef FFWD_ENGINE_TEXT_TOK_JSON_H
#define FFWD_ENGINE_TEXT_TOK_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct tok_path {
    const struct tok_path *up; /* NULL at the root */
    const char *key;           /* NULL: an array index */
    size_t index;
};

/* ERR_INPUT with the path in front. */
enum err tok_json_error(const struct tok_path *at, enum err code, struct err_msg *em,
                        const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Each reads object[key]. A null or missing field gives the fallback where there is one (for
 * strings NULL), and is an error where `required`. */
enum err tok_json_bool(const json_t *object, const char *key, bool fallback, bool *out,
                       const struct tok_path *at, struct err_msg *em) NODISCARD;
enum err tok_json_string(const json_t *object, const char *key, bool required, const char **out,
                         size_t *len, const struct tok_path *at, struct err_msg *em) NODISCARD;
/* An integer from 0 to max. */
enum err tok_json_int(const json_t *object, const char *key, int64_t max, int64_t *out,
                      const struct tok_path *at, struct err_msg *em) NODISCARD;
/* A string of one character. */
enum err tok_json_char(const json_t *object, const char *key, uint32_t *out,
                       const struct tok_path *at, struct err_msg *em) NODISCARD;
/* object[key] must be an array; *out is borrowed. */
enum err tok_json_array(const json_t *object, const char *key, const json_t **out,
                        const struct tok_path *at, struct err_msg *em) NODISCARD;
/* object must be an object with a string `type`. */
enum err tok_json_type(const json_t *object, const char **out, const struct tok_path *at,
                       struct err_msg *em) NODISCARD;

#endif
