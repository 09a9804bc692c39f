/* json_table: reading an object by its table. Its schema is in json_table_schema.c. */
#include "base/json_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

size_t json_table_characters(const char *utf8) {
    size_t n = 0;
    for (; *utf8 != '\0'; utf8++)
        n += ((unsigned char)*utf8 & 0xc0) != 0x80;
    return n;
}

/* ---- numbers -------------------------------------------------------------------------------- */

static void describe_range(const struct json_rule *f, char out[96]) {
    (void)snprintf(out, 96, "%s %.10g%s%.10g", f->lo_open ? "above" : "from", f->lo,
                   f->hi_open   ? " to below "
                   : f->lo_open ? ", at most "
                                : " to ",
                   f->hi);
}

static enum err read_real(const json_t *v, const struct json_rule *f, double *out,
                          const struct json_place *at) {
    char range[96];
    describe_range(f, range);
    return json_field_real(v, f->lo, f->lo_open, f->hi, f->hi_open, range, out, at);
}

static enum err read_auto(const json_t *v, const struct json_rule *f, struct auto_number *out,
                          const struct json_place *at) {
    const char *text = json_string_value(v);
    bool whole = f->kind == JSON_KIND_AUTO_INT;
    int64_t n = 0;
    double d = 0;
    if (text != NULL && strcmp(text, "auto") == 0) {
        *out = (struct auto_number){.is_auto = true};
        return ERR_OK;
    }
    if (text != NULL)
        return json_field_wrong(at, whole ? "\"auto\" or an integer" : "\"auto\" or a number");
    enum err e =
        whole ? json_field_int(v, (int64_t)f->lo, (int64_t)f->hi, &n, at) : read_real(v, f, &d, at);
    if (e == ERR_OK)
        *out = (struct auto_number){.value = whole ? (double)n : d};
    return e;
}

/* ---- texts ---------------------------------------------------------------------------------- */

static enum err read_text(const json_t *v, const struct json_rule *f, char **out,
                          const struct json_place *at) {
    const char *s = json_string_value(v);
    if (s == NULL || s[0] == '\0' || strlen(s) != json_string_length(v))
        return json_field_wrong(at, "a string that is not empty");
    if (json_table_characters(s) > (size_t)f->hi)
        return err_set_param(at->em, ERR_INPUT, at->path, "%s is longer than %.0f characters",
                             at->path, f->hi);
    for (const char *p = s; f->refused != NULL && *p != '\0'; p++)
        if (strchr(f->refused, *p) != NULL || (unsigned char)*p < 0x20 || *p == 0x7f)
            return err_set_param(
                at->em, ERR_INPUT, at->path,
                "%s must be a text without control characters and without any of %s", at->path,
                f->refused);
    free(*out);
    *out = xstrdup(s);
    return ERR_OK;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum err check_distinct(const json_t *v, const struct json_place *at) {
    size_t n = json_array_size(v);
    const char **texts = xcalloc(n, sizeof *texts);
    enum err e = ERR_OK;
    for (size_t i = 0; i < n; i++)
        texts[i] = json_string_value(json_array_get(v, i));
    qsort(texts, n, sizeof *texts, by_text);
    for (size_t i = 1; e == ERR_OK && i < n; i++)
        if (strcmp(texts[i - 1], texts[i]) == 0)
            e = err_set_param(at->em, ERR_INPUT, at->path, "%s names %s twice", at->path, texts[i]);
    free(texts);
    return e;
}

static bool is_item(const json_t *v, const struct json_rule *f) {
    const char *text = json_string_value(v);
    return text != NULL && text[0] != '\0' && json_table_characters(text) <= (size_t)f->item_hi;
}

/* A wrong item is named by its place, but where there might be no array at all. */
static enum err wrong_texts(const struct json_rule *f, size_t item, const struct json_place *at) {
    if (f->word != NULL)
        return err_set_param(at->em, ERR_INPUT, at->path,
                             "%s must be \"%s\" or an array of %.0f to %.0f strings of 1 to %d "
                             "characters",
                             at->path, f->word, f->lo, f->hi, f->item_hi);
    if (item == SIZE_MAX)
        return err_set_param(at->em, ERR_INPUT, at->path,
                             "%s must be an array of %.0f to %.0f strings", at->path, f->lo, f->hi);
    struct json_place place = {.em = at->em};
    (void)snprintf(place.path, sizeof place.path, "%.80s[%zu]", at->path, item);
    return err_set_param(at->em, ERR_INPUT, place.path, "%s must be a string of 1 to %d characters",
                         place.path, f->item_hi);
}

static enum err read_texts(const json_t *v, const struct json_rule *f, json_t **out,
                           const struct json_place *at) {
    const char *word = json_string_value(v);
    size_t n = json_array_size(v);
    json_decref(*out);
    *out = NULL;
    if (f->word != NULL && word != NULL && strcmp(word, f->word) == 0)
        return ERR_OK;
    if (!json_is_array(v) || (double)n < f->lo || (double)n > f->hi)
        return wrong_texts(f, SIZE_MAX, at);
    for (size_t i = 0; i < n; i++)
        if (!is_item(json_array_get(v, i), f))
            return wrong_texts(f, i, at);
    enum err e = f->distinct ? check_distinct(v, at) : ERR_OK;
    if (e == ERR_OK)
        *out = json_deep_copy(v);
    return e;
}

/* ---- objects -------------------------------------------------------------------------------- */

static enum err read_choice(const json_t *v, const struct json_rule *f, void *out,
                            const struct json_place *at) {
    int i = 0;
    enum err e = json_field_choice(v, f->names, f->n_names, &i, at);
    if (e == ERR_OK)
        memcpy(out, &i, sizeof i);
    return e;
}

static enum err read_value(const json_t *v, const struct json_rule *f, char *base,
                           const struct json_place *at) {
    void *out = base + f->at;
    if (json_is_null(v) && f->nullable)
        return ERR_OK;
    switch (f->kind) {
    case JSON_KIND_INT:
        return json_field_int(v, (int64_t)f->lo, (int64_t)f->hi, out, at);
    case JSON_KIND_REAL:
        return read_real(v, f, out, at);
    case JSON_KIND_AUTO_INT:
    case JSON_KIND_AUTO_REAL:
        return read_auto(v, f, out, at);
    case JSON_KIND_BOOL:
        return json_field_bool(v, out, at);
    case JSON_KIND_TEXT:
        return read_text(v, f, out, at);
    case JSON_KIND_TEXTS:
        return read_texts(v, f, out, at);
    case JSON_KIND_CHOICE:
        return read_choice(v, f, out, at);
    case JSON_KIND_OBJECT:
        return json_table_read(v, f->table, 0, base, at);
    case JSON_KIND_OWN:
        return f->read(v, base, at);
    }
    return ERR_BUG;
}

static enum err refuse_others(const json_t *object, const struct json_table *t,
                              const struct json_place *at) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        bool known = false;
        for (size_t i = 0; i < t->n; i++)
            known = known || strcmp(t->rules[i].name, key) == 0;
        if (known)
            continue;
        struct json_place child;
        json_place_child(at, key, &child);
        return err_set_param(at->em, ERR_INPUT, child.path, "unknown field %s", child.path);
    }
    return ERR_OK;
}

enum err json_table_read(const json_t *object, const struct json_table *t, unsigned flags,
                         void *out, const struct json_place *at) {
    char *base = out;
    const struct json_rule *missing = NULL;
    enum err e = ERR_OK;
    if (!json_is_object(object))
        return json_field_wrong(at, "an object");
    for (size_t i = 0; e == ERR_OK && i < t->n; i++) {
        const struct json_rule *f = &t->rules[i];
        const json_t *value = json_object_get(object, f->name);
        struct json_place child;
        json_place_child(at, f->name, &child);
        if (value != NULL)
            e = read_value(value, f, base, &child);
        else if (f->required && missing == NULL)
            missing = f;
        if (value != NULL && f->mark != 0 && !(f->nullable && json_is_null(value)))
            memcpy(base + f->mark, &(bool){true}, sizeof(bool));
    }
    if (e == ERR_OK)
        e = refuse_others(object, t, at);
    if (e == ERR_OK && missing != NULL && (flags & JSON_TABLE_PARTIAL) == 0) {
        struct json_place child;
        json_place_child(at, missing->name, &child);
        e = err_set_param(at->em, ERR_INPUT, child.path, "%s is required", child.path);
    }
    return e;
}
