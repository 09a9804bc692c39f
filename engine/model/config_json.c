/* config_json: getters with one message form for every wrong value. */
#include "engine/model/config_json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"

enum err config_json_open(const char *path, struct config_json *out, struct err_msg *em) {
    char *text = NULL;
    size_t len = 0;
    json_error_t je;
    *out = (struct config_json){.path = path, .prefix = ""};
    enum err e = file_read(path, LIMIT_JSON_FILE, &text, &len, em);
    if (e != ERR_OK)
        return e;
    out->object = json_loadb(text, len, 0, &je);
    free(text);
    if (out->object == NULL)
        return err_set(em, ERR_INPUT, "%s: byte %d: not valid JSON: %s", path, je.position,
                       je.text);
    if (!json_is_object(out->object)) {
        config_json_close(out);
        return err_set(em, ERR_INPUT, "%s: byte 0: a JSON object expected", path);
    }
    return ERR_OK;
}

void config_json_close(struct config_json *c) {
    json_decref(c->object);
    c->object = NULL;
}

json_t *config_get(const struct config_json *c, const char *key) {
    json_t *v = json_object_get(c->object, key);
    return json_is_null(v) ? NULL : v;
}

static enum err missing(const struct config_json *c, const char *key, struct err_msg *em) {
    return err_set(em, ERR_INPUT, "%s: the key \"%s%s\" is missing", c->path, c->prefix, key);
}

enum err config_int(const struct config_json *c, const char *key, int64_t lo, int64_t hi,
                    int64_t fallback, int32_t *out, struct err_msg *em) {
    json_t *v = config_get(c, key);
    if (v == NULL && fallback == CONFIG_REQUIRED)
        return missing(c, key, em);
    if (v != NULL &&
        (!json_is_integer(v) || json_integer_value(v) < lo || json_integer_value(v) > hi))
        return err_set(em, ERR_INPUT, "%s: \"%s%s\" must be a whole number from %lld to %lld",
                       c->path, c->prefix, key, (long long)lo, (long long)hi);
    *out = (int32_t)(v != NULL ? json_integer_value(v) : fallback);
    return ERR_OK;
}

enum err config_number(const struct config_json *c, const char *key, double lo, double hi,
                       double fallback, double *out, struct err_msg *em) {
    json_t *v = config_get(c, key);
    if (v == NULL && isnan(fallback))
        return missing(c, key, em);
    if (v != NULL &&
        (!json_is_number(v) || !(json_number_value(v) >= lo) || !(json_number_value(v) <= hi)))
        return err_set(em, ERR_INPUT, "%s: \"%s%s\" must be a number from %g to %g", c->path,
                       c->prefix, key, lo, hi);
    *out = v != NULL ? json_number_value(v) : fallback;
    return ERR_OK;
}

enum err config_bool(const struct config_json *c, const char *key, bool fallback, bool *out,
                     struct err_msg *em) {
    json_t *v = config_get(c, key);
    if (v != NULL && !json_is_boolean(v))
        return err_set(em, ERR_INPUT, "%s: \"%s%s\" must be true or false", c->path, c->prefix,
                       key);
    *out = v != NULL ? json_is_true(v) : fallback;
    return ERR_OK;
}

enum err config_string(const struct config_json *c, const char *key, const char *fallback,
                       const char **out, struct err_msg *em) {
    json_t *v = config_get(c, key);
    if (v == NULL && fallback == NULL)
        return missing(c, key, em);
    if (v != NULL && !json_is_string(v))
        return err_set(em, ERR_INPUT, "%s: \"%s%s\" must be a string", c->path, c->prefix, key);
    *out = v != NULL ? json_string_value(v) : fallback;
    return ERR_OK;
}

static bool is_empty(const json_t *v) {
    if (json_is_array(v))
        return json_array_size(v) == 0;
    if (json_is_object(v))
        return json_object_size(v) == 0;
    if (json_is_string(v))
        return json_string_length(v) == 0;
    if (json_is_number(v))
        return json_number_value(v) == 0.0;
    return !json_is_true(v);
}

enum err config_refuse(const struct config_json *c, const char *key, const char *why,
                       struct err_msg *em) {
    json_t *v = config_get(c, key);
    if (v == NULL || is_empty(v))
        return ERR_OK;
    return err_set(em, ERR_UNSUPPORTED, "%s: \"%s%s\": %s", c->path, c->prefix, key, why);
}
