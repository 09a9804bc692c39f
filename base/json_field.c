/* json_field: typed reading of JSON values with the path in the message. */
#include "base/json_field.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void json_place_child(const struct json_place *parent, const char *name, struct json_place *out) {
    out->em = parent->em;
    const char *dot = parent->path[0] != '\0' ? "." : "";
    (void)snprintf(out->path, sizeof out->path, "%.60s%s%.60s", parent->path, dot, name);
}

enum err json_field_wrong(const struct json_place *at, const char *expected) {
    return err_set_param(at->em, ERR_INPUT, at->path, "%s must be %s", at->path, expected);
}

enum err json_field_int(const json_t *v, int64_t lo, int64_t hi, int64_t *out,
                        const struct json_place *at) {
    double d = json_is_number(v) ? json_number_value(v) : NAN;
    if (!(d >= (double)lo && d <= (double)hi) || d != floor(d))
        return err_set_param(at->em, ERR_INPUT, at->path, "%s must be an integer from %lld to %lld",
                             at->path, (long long)lo, (long long)hi);
    *out = json_is_integer(v) ? json_integer_value(v) : (int64_t)d;
    return ERR_OK;
}

enum err json_field_bool(const json_t *v, bool *out, const struct json_place *at) {
    if (!json_is_boolean(v))
        return json_field_wrong(at, "true or false");
    *out = json_is_true(v);
    return ERR_OK;
}

enum err json_field_real(const json_t *v, double lo, bool lo_open, double hi, bool hi_open,
                         const char *range, double *out, const struct json_place *at) {
    double d = json_is_number(v) ? json_number_value(v) : NAN;
    bool inside = (lo_open ? d > lo : d >= lo) && (hi_open ? d < hi : d <= hi);
    if (!isfinite(d) || !inside)
        return err_set_param(at->em, ERR_INPUT, at->path, "%s must be a number %s", at->path,
                             range);
    *out = d;
    return ERR_OK;
}

enum err json_field_string(const json_t *v, size_t max, char **out, const struct json_place *at) {
    const char *s = json_string_value(v);
    if (s == NULL || s[0] == '\0' || strlen(s) != json_string_length(v))
        return json_field_wrong(at, "a string that is not empty");
    if (strlen(s) > max)
        return err_set_param(at->em, ERR_INPUT, at->path, "%s is longer than %zu bytes", at->path,
                             max);
    free(*out);
    *out = xstrdup(s);
    return ERR_OK;
}

enum err json_field_choice(const json_t *v, const char *const *names, int n, int *out,
                           const struct json_place *at) {
    const char *s = json_string_value(v);
    char list[96] = "";
    for (int i = 0; i < n; i++) {
        if (s != NULL && strcmp(s, names[i]) == 0) {
            *out = i;
            return ERR_OK;
        }
        size_t used = strlen(list);
        (void)snprintf(list + used, sizeof list - used, "%s\"%s\"", i > 0 ? ", " : "", names[i]);
    }
    return err_set_param(at->em, ERR_INPUT, at->path, "%s must be one of %s", at->path, list);
}
