/* json_table_schema: a table as a JSON schema (2020-12, as OpenAPI 3.1 has it). */
#include "base/json_table.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

json_t *json_table_parse(const char *text) {
    char *quoted = xstrdup(text);
    for (char *p = quoted; *p != '\0'; p++)
        if (*p == '\'')
            *p = '"';
    json_t *value = json_loads(quoted, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    free(quoted);
    return value;
}

static json_t *number(double value, bool whole) {
    return whole ? json_integer((json_int_t)value) : json_real(value);
}

static json_t *number_schema(const struct json_rule *f, bool whole) {
    json_t *o = json_pack("{s:s}", "type", whole ? "integer" : "number");
    json_object_set_new(o, f->lo_open ? "exclusiveMinimum" : "minimum", number(f->lo, whole));
    json_object_set_new(o, f->hi_open ? "exclusiveMaximum" : "maximum", number(f->hi, whole));
    return o;
}

/* "^[^/:\\\u0000-\u001f\u007f]*$" */
static json_t *pattern_without(const char *refused) {
    char *out = xstrdup("^[^");
    for (const char *p = refused; *p != '\0'; p++) {
        char *longer = xasprintf("%s%s%c", out, strchr("\\]^-", *p) != NULL ? "\\" : "", *p);
        free(out);
        out = longer;
    }
    json_t *pattern = json_sprintf("%s\\u0000-\\u001f\\u007f]*$", out);
    free(out);
    return pattern;
}

static json_t *text_schema(int most) {
    return json_pack("{s:s, s:i, s:i, s:s}", "type", "string", "minLength", 1, "maxLength", most,
                     "pattern", "^[^\\u0000]*$");
}

static json_t *field_text_schema(const struct json_rule *f) {
    json_t *o = text_schema((int)f->hi);
    if (f->refused != NULL)
        json_object_set_new(o, "pattern", pattern_without(f->refused));
    if (f->pattern != NULL)
        json_object_set_new(o, "pattern", json_string(f->pattern));
    return o;
}

static json_t *texts_schema(const struct json_rule *f) {
    json_t *o = json_pack("{s:s, s:i, s:i, s:o}", "type", "array", "minItems", (int)f->lo,
                          "maxItems", (int)f->hi, "items", text_schema(f->item_hi));
    if (f->distinct)
        json_object_set_new(o, "uniqueItems", json_true());
    if (f->word == NULL)
        return o;
    return json_pack("{s:[{s:s}, o]}", "oneOf", "const", f->word, o);
}

static json_t *choice_schema(const struct json_rule *f) {
    json_t *names = json_array();
    for (int i = 0; i < f->n_names; i++)
        json_array_append_new(names, json_string(f->names[i]));
    return json_pack("{s:s, s:o}", "type", "string", "enum", names);
}

static json_t *value_schema(const struct json_rule *f, json_t *named) {
    switch (f->kind) {
    case JSON_KIND_INT:
    case JSON_KIND_REAL:
        return number_schema(f, f->kind == JSON_KIND_INT);
    case JSON_KIND_AUTO_INT:
    case JSON_KIND_AUTO_REAL:
        return json_pack("{s:[{s:s}, o]}", "oneOf", "const", "auto",
                         number_schema(f, f->kind == JSON_KIND_AUTO_INT));
    case JSON_KIND_BOOL:
        return json_pack("{s:s}", "type", "boolean");
    case JSON_KIND_TEXT:
        return field_text_schema(f);
    case JSON_KIND_TEXTS:
        return texts_schema(f);
    case JSON_KIND_CHOICE:
        return choice_schema(f);
    case JSON_KIND_OBJECT:
        return json_table_schema(f->table, named);
    case JSON_KIND_OWN:
        return json_table_parse(f->schema);
    }
    return NULL;
}

/* null beside what the schema allows. */
static json_t *or_null(json_t *schema_take) {
    json_t *type = json_object_get(schema_take, "type"),
           *one_of = json_object_get(schema_take, "oneOf");
    if (one_of != NULL) {
        json_array_append_new(one_of, json_pack("{s:s}", "type", "null"));
        return schema_take;
    }
    if (type == NULL || json_object_get(schema_take, "enum") != NULL)
        return json_pack("{s:[o, {s:s}]}", "oneOf", schema_take, "type", "null");
    json_object_set_new(schema_take, "type", json_pack("[O, s]", type, "null"));
    return schema_take;
}

static json_t *object_schema(const struct json_table *t, json_t *named) {
    json_t *properties = json_object(), *required = json_array();
    for (size_t i = 0; i < t->n; i++) {
        const struct json_rule *f = &t->rules[i];
        json_t *schema = value_schema(f, named);
        if (f->nullable)
            schema = or_null(schema);
        if (f->about != NULL)
            json_object_set_new(schema, "description", json_string(f->about));
        json_object_set_new(properties, f->name, schema);
        if (f->required)
            json_array_append_new(required, json_string(f->name));
    }
    return json_pack("{s:s, s:b, s:o, s:o}", "type", "object", "additionalProperties", 0,
                     "required", required, "properties", properties);
}

json_t *json_table_schema(const struct json_table *t, json_t *named) {
    if (t->name == NULL)
        return object_schema(t, named);
    if (json_object_get(named, t->name) == NULL)
        json_object_set_new(named, t->name, object_schema(t, named));
    char *path = xasprintf("#/components/schemas/%s", t->name);
    json_t *o = json_pack("{s:s}", "$ref", path);
    free(path);
    return o;
}
