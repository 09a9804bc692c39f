/* json_field: typed reading of JSON values with the path in the message.
 *
 * What:    one reader per kind of value, used for request bodies and configuration files.
 * Owns:    nothing; strings read are new and the caller's.
 * Threads: pure functions.
 * Errors:  ERR_INPUT with em->param = the path and a sentence that states what is expected.
 */
#ifndef FFWD_BASE_JSON_FIELD_H
#define FFWD_BASE_JSON_FIELD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Where a value stands ("lora.rank") and where its message goes (not NULL). */
struct json_place {
    char path[ERR_PARAM_MAX];
    struct err_msg *em;
};
void json_place_child(const struct json_place *parent, const char *name, struct json_place *out);

/* "PATH must be EXPECTED" */
enum err json_field_wrong(const struct json_place *at, const char *expected);
/* lo … hi inclusive; 3.0 is accepted as 3, since many clients do not tell them apart. */
enum err json_field_int(const json_t *v, int64_t lo, int64_t hi, int64_t *out,
                        const struct json_place *at) NODISCARD;
enum err json_field_bool(const json_t *v, bool *out, const struct json_place *at) NODISCARD;
/* lo and hi are excluded where *_open; range says the same in words. */
enum err json_field_real(const json_t *v, double lo, bool lo_open, double hi, bool hi_open,
                         const char *range, double *out, const struct json_place *at) NODISCARD;
/* 1 … max bytes without NUL; *out (NULL or from malloc) is replaced. */
enum err json_field_string(const json_t *v, size_t max, char **out,
                           const struct json_place *at) NODISCARD;
/* *out: index into names. */
enum err json_field_choice(const json_t *v, const char *const *names, int n, int *out,
                           const struct json_place *at) NODISCARD;

#endif
