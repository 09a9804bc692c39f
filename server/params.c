/* params: header values of the form `value; name=token; name="quoted"`. */
#include "server/params.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/percent.h"

static size_t type_length(const char *value) {
    size_t n = strcspn(value, ";");
    while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'))
        n--;
    return n;
}

bool params_media_type_is(const char *value, const char *type) {
    if (value == NULL)
        return false;
    size_t n = type_length(value);
    return n == strlen(type) && strncasecmp(value, type, n) == 0;
}

bool params_is_json(const char *value) {
    size_t n = type_length(value);
    return params_media_type_is(value, "application/json") ||
           (n > 5 && strncasecmp(value + n - 5, "+json", 5) == 0);
}

/* One value at p, quoted or not, unquoted into *out; returns what follows, NULL if malformed. */
static const char *read_value(const char *p, char **out) {
    char *text = xmalloc(strlen(p) + 1);
    size_t n = 0;
    if (*p == '"') {
        for (p++; *p != '"'; p++) {
            /* Browsers send backslashes of file names as they are, so only \" and \\ are escapes.
             */
            if (p[0] == '\\' && (p[1] == '"' || p[1] == '\\'))
                p++;
            if (*p == '\0') {
                free(text);
                return NULL;
            }
            text[n++] = *p;
        }
        p++;
    } else {
        while (*p != '\0' && *p != ';' && *p != ' ' && *p != '\t')
            text[n++] = *p++;
    }
    text[n] = '\0';
    *out = text;
    return p;
}

bool params_get(const char *value, const char *name, char **out) {
    size_t len = strlen(name);
    const char *p = value + strcspn(value, ";");
    while (p != NULL && *p == ';') {
        p += 1;
        p += strspn(p, " \t");
        const char *key = p;
        size_t n = strcspn(p, "=;");
        p += n;
        if (*p != '=')
            continue;
        char *text = NULL;
        p = read_value(p + 1, &text);
        if (p == NULL)
            return false;
        p += strspn(p, " \t");
        if (n == len && strncasecmp(key, name, n) == 0) {
            *out = text;
            return true;
        }
        free(text);
    }
    return false;
}

void params_percent_decode(char *text, bool plus) {
    char *to = text;
    for (const char *p = text; *p != '\0'; p++) {
        int byte = percent_byte(p);
        if (byte >= 0) {
            *to++ = (char)byte;
            p += 2;
        } else {
            *to++ = plus && *p == '+' ? ' ' : *p;
        }
    }
    *to = '\0';
}

bool params_get_extended(const char *value, const char *name, char **out) {
    char *key = xasprintf("%s*", name);
    char *text = NULL;
    bool found = params_get(value, key, &text) && strncasecmp(text, "utf-8'", 6) == 0 &&
                 strchr(text + 6, '\'') != NULL && strstr(text, "%00") == NULL;
    if (found) {
        *out = xstrdup(strchr(text + 6, '\'') + 1);
        params_percent_decode(*out, false);
    }
    free(text);
    free(key);
    return found;
}
