/* config_json: typed, bounded reading of the keys of a JSON configuration file.
 *
 * What:    getters over one JSON object of a file; null counts as absent, as in transformers.
 * Owns:    config_json_open's root; sub-objects are borrowed from it.
 * Threads: pure functions.
 * Errors:  ERR_INPUT naming file and key, and the range that holds; ERR_UNSUPPORTED for features
 *          that ffwd does not have.
 */
#ifndef FFWD_ENGINE_MODEL_CONFIG_JSON_H
#define FFWD_ENGINE_MODEL_CONFIG_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct config_json {
    json_t *object;
    const char *path;   /* of the file, borrowed */
    const char *prefix; /* "" or e.g. "rope_scaling." for messages */
};

/* Reads a file whose top level is an object; the caller frees with config_json_close. */
enum err config_json_open(const char *path, struct config_json *out, struct err_msg *em) NODISCARD;
void config_json_close(struct config_json *c);

/* The value, or NULL if absent or null. Borrowed. */
json_t *config_get(const struct config_json *c, const char *key);

/* As fallback of config_int: the key must be there. */
#define CONFIG_REQUIRED INT64_MIN

/* Whole number in [lo, hi]; fallback (not range-checked) where absent. */
enum err config_int(const struct config_json *c, const char *key, int64_t lo, int64_t hi,
                    int64_t fallback, int32_t *out, struct err_msg *em) NODISCARD;
/* Number in [lo, hi]; NAN as fallback: the key must be there. */
enum err config_number(const struct config_json *c, const char *key, double lo, double hi,
                       double fallback, double *out, struct err_msg *em) NODISCARD;
enum err config_bool(const struct config_json *c, const char *key, bool fallback, bool *out,
                     struct err_msg *em) NODISCARD;
/* *out is borrowed; fallback NULL: the key must be there. */
enum err config_string(const struct config_json *c, const char *key, const char *fallback,
                       const char **out, struct err_msg *em) NODISCARD;
/* ERR_UNSUPPORTED if the key holds anything but null, false, 0, "", [] or {}. */
enum err config_refuse(const struct config_json *c, const char *key, const char *why,
                       struct err_msg *em) NODISCARD;

#endif
