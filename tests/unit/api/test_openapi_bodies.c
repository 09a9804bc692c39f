/* Bodies of requests in /openapi.json against what reads them: the keys of each table are those of
 * its schema, and the create request's parser takes what its schema allows and nothing else. */
#include "api/api_internal.h"
#include "tests/unit/api/fixture.h"

TestSuite(openapi_bodies, .init = set_up, .fini = tear_down);

static json_t *doc, *schemas;
static int tried;

static const json_t *resolve(const json_t *schema) {
    static const char head[] = "#/components/schemas/";
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    return ref == NULL ? schema : json_object_get(schemas, ref + strlen(head));
}

static bool is(const json_t *schema, const char *type) {
    const json_t *have = json_object_get(schema, "type");
    size_t i = 0;
    json_t *one = NULL;
    json_array_foreach(have, i, one) {
        if (strcmp(json_string_value(one), type) == 0)
            return true;
    }
    return json_is_string(have) && strcmp(json_string_value(have), type) == 0;
}

static bool number_of(const json_t *schema, const char *key, double *out) {
    const json_t *value = json_object_get(schema, key);
    *out = json_number_value(value);
    return value != NULL;
}

static json_t *text(size_t characters, int mark) {
    char *s = xcalloc(2 * characters + 16, 1);
    for (size_t i = 0; i < characters; i++)
        memcpy(s + 2 * i, "\303\251", 2);
    if (mark > 0 && characters > 1)
        (void)snprintf(s, 2 * characters + 16, "%d", mark);
    json_t *value = json_string(s);
    free(s);
    return value;
}

static void add(json_t *list, json_t *value_take) {
    json_array_append_new(list, value_take);
}

static void add_number(json_t *list, const json_t *schema, double x) {
    add(list, is(schema, "integer") ? json_integer((json_int_t)x) : json_real(x));
}

/* ---- values that a schema allows, the first one the smallest -------------------------------- */

static json_t *good_values(const json_t *schema);

static json_t *first_good(const json_t *schema) {
    json_t *list = good_values(schema), *value = json_incref(json_array_get(list, 0));
    json_decref(list);
    return value;
}

/* With all its properties, or with the required ones. */
static json_t *good_object(const json_t *schema, bool all) {
    const char *name = NULL;
    json_t *property = NULL, *o = json_object(), *required = json_object_get(schema, "required");
    size_t i = 0;
    json_object_foreach(json_object_get(schema, "properties"), name, property) {
        bool needed = all;
        json_t *one = NULL;
        json_array_foreach(required, i, one) needed =
            needed || strcmp(json_string_value(one), name) == 0;
        if (needed)
            json_object_set_new(o, name, first_good(property));
    }
    return o;
}

static json_t *items(const json_t *schema, size_t n) {
    json_t *list = json_array(), *item = json_object_get(schema, "items");
    double most = 0;
    (void)number_of(item, "maxLength", &most);
    for (size_t i = 0; i < n; i++)
        add(list, text((size_t)most, (int)i + 1));
    return list;
}

static void good_numbers(const json_t *schema, json_t *out) {
    double x = 0;
    if (number_of(schema, "minimum", &x))
        add_number(out, schema, x);
    if (number_of(schema, "exclusiveMinimum", &x))
        add_number(out, schema, x + 1e-6);
    if (number_of(schema, "maximum", &x))
        add_number(out, schema, x);
    if (number_of(schema, "exclusiveMaximum", &x))
        add_number(out, schema, x - 1e-6);
}

static void good_pairs(const json_t *schema, json_t *out) {
    json_t *o = json_object();
    double pairs = 0, key = 0, value = 0;
    (void)number_of(schema, "maxProperties", &pairs);
    (void)number_of(json_object_get(schema, "propertyNames"), "maxLength", &key);
    (void)number_of(json_object_get(schema, "additionalProperties"), "maxLength", &value);
    for (int i = 0; i < (int)pairs; i++) {
        json_t *name = text((size_t)key, i + 1);
        json_object_set_new(o, json_string_value(name), text((size_t)value, 0));
        json_decref(name);
    }
    add(out, json_object());
    add(out, o);
}

static json_t *good_values(const json_t *reference) {
    const json_t *schema = resolve(reference);
    json_t *out = json_array(), *choice = NULL;
    size_t i = 0;
    double x = 0;
    json_array_foreach(json_object_get(schema, "oneOf"), i, choice) {
        json_t *more = good_values(choice);
        json_array_extend(out, more);
        json_decref(more);
    }
    json_array_extend(out, json_object_get(schema, "enum"));
    if (json_object_get(schema, "const") != NULL)
        json_array_append(out, json_object_get(schema, "const"));
    good_numbers(schema, out);
    if (is(schema, "boolean")) {
        add(out, json_false());
        add(out, json_true());
    } else if (is(schema, "string") && number_of(schema, "maxLength", &x)) {
        add(out, text(1, 0));
        add(out, text((size_t)x, 0));
    } else if (is(schema, "array") && number_of(schema, "maxItems", &x)) {
        add(out, items(schema, (size_t)x));
    } else if (is(schema, "object") && json_object_get(schema, "properties") != NULL) {
        add(out, good_object(schema, false));
        add(out, good_object(schema, true));
    } else if (is(schema, "object")) {
        good_pairs(schema, out);
    }
    if (is(schema, "null"))
        add(out, json_null());
    return out;
}

/* ---- values that it does not allow ---------------------------------------------------------- */

static void bad_numbers(const json_t *schema, json_t *out) {
    double x = 0;
    if (number_of(schema, "minimum", &x))
        add_number(out, schema, x - 1);
    if (number_of(schema, "exclusiveMinimum", &x))
        add_number(out, schema, x);
    if (number_of(schema, "maximum", &x))
        add_number(out, schema, x + 1);
    if (number_of(schema, "exclusiveMaximum", &x))
        add_number(out, schema, x);
    if (is(schema, "integer") && number_of(schema, "minimum", &x))
        add(out, json_real(x + 0.5));
}

static void bad_lengths(const json_t *schema, json_t *out) {
    double x = 0;
    if (is(schema, "string") && number_of(schema, "maxLength", &x)) {
        add(out, json_string(""));
        add(out, text((size_t)x + 1, 0));
    }
    if (is(schema, "array") && number_of(schema, "maxItems", &x))
        add(out, items(schema, (size_t)x + 1));
    if (is(schema, "array") && number_of(schema, "minItems", &x) && x > 0) {
        json_t *wrong = json_pack("[s]", ""), *other = json_pack("[i]", 7);
        add(out, json_array());
        add(out, wrong);
        add(out, other);
    }
}

static bool has_null(const json_t *schema) {
    size_t i = 0;
    json_t *choice = NULL;
    json_array_foreach(json_object_get(schema, "oneOf"), i, choice) {
        if (is(choice, "null"))
            return true;
    }
    return is(schema, "null");
}

static json_t *bad_values(const json_t *reference) {
    const json_t *schema = resolve(reference);
    json_t *out = json_array(), *choice = NULL;
    size_t i = 0;
    bool free_text = is(schema, "string") && json_object_get(schema, "enum") == NULL;
    json_array_foreach(json_object_get(schema, "oneOf"), i, choice) {
        bad_numbers(choice, out);
        if (!is(choice, "string"))
            bad_lengths(choice, out);
    }
    bad_numbers(schema, out);
    bad_lengths(schema, out);
    if (!free_text)
        add(out, json_string("none of these"));
    if (!has_null(schema))
        add(out, json_null());
    add(out, is(schema, "boolean") ? json_integer(1) : json_true());
    return out;
}

/* ---- the create request --------------------------------------------------------------------- */

/* A whole body with this value at the path of keys; others as required. value is taken over. */
static json_t *body_with(const json_t *reference, const char *path, json_t *value_take) {
    const json_t *schema = resolve(reference);
    json_t *choice = NULL, *o = NULL;
    size_t i = 0, n = strcspn(path, ".");
    json_array_foreach(json_object_get(schema, "oneOf"), i, choice) {
        if (!is(choice, "null"))
            return body_with(choice, path, value_take);
    }
    o = good_object(schema, false);
    if (path[0] == '\0') {
        json_decref(o);
        return value_take;
    }
    char *key = xstrndup(path, n);
    const json_t *property = json_object_get(json_object_get(schema, "properties"), key);
    json_object_set_new(
        o, key, path[n] == '.' ? body_with(property, path + n + 1, value_take) : value_take);
    free(key);
    return o;
}

static void expect_parse(const char *path, json_t *value_take, bool good) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_request r;
    char *shown = json_dumps(value_take, JSON_ENCODE_ANY);
    json_t *body = body_with(json_object_get(schemas, "JobCreate"), path, value_take);
    enum err e = job_request_parse(body, JOB_REQUEST_CREATE, &r, &em);
    cr_expect_eq(e == ERR_OK, good, "%s = %.80s: %s", path, shown, em.text);
    if (!good)
        cr_expect(strncmp(em.param, path, strlen(path)) == 0, "%s = %.80s: param %s", path, shown,
                  em.param);
    if (e == ERR_OK)
        job_request_clear(&r);
    tried++;
    json_decref(body);
    free(shown);
}

static void check_object(const char *path, const json_t *schema);

static void check_property(const char *path, const json_t *reference) {
    json_t *good = good_values(reference), *bad = bad_values(reference), *value = NULL;
    size_t i = 0;
    cr_expect_gt(json_array_size(good), 0, "%s", path);
    json_array_foreach(good, i, value) expect_parse(path, json_incref(value), true);
    json_array_foreach(bad, i, value) expect_parse(path, json_incref(value), false);
    json_decref(good);
    json_decref(bad);
    const json_t *schema = resolve(reference);
    json_t *choice = NULL;
    json_array_foreach(json_object_get(schema, "oneOf"), i, choice) {
        if (json_object_get(resolve(choice), "properties") != NULL)
            check_object(path, resolve(choice));
    }
    if (json_object_get(schema, "properties") != NULL)
        check_object(path, schema);
}

/* Every property; a key too many; each required key missing. */
static void check_object(const char *path, const json_t *schema) {
    const char *name = NULL, *dot = path[0] != '\0' ? "." : "";
    json_t *property = NULL, *required = NULL;
    size_t i = 0;
    cr_expect(json_is_false(json_object_get(schema, "additionalProperties")), "%s", path);
    json_object_foreach(json_object_get(schema, "properties"), name, property) {
        char *child = xasprintf("%s%s%s", path, dot, name);
        check_property(child, property);
        free(child);
    }
    json_array_foreach(json_object_get(schema, "required"), i, required) {
        json_t *o = good_object(schema, true);
        json_object_del(o, json_string_value(required));
        expect_parse(path, o, false);
    }
    json_t *o = good_object(schema, false);
    json_object_set_new(o, "none of these", json_true());
    expect_parse(path, o, false);
}

Test(openapi_bodies, a_create_request_is_read_as_its_schema_says) {
    doc = get("/openapi.json", NULL);
    schemas = json_object_get(json_object_get(doc, "components"), "schemas");
    check_object("", json_object_get(schemas, "JobCreate"));
    cr_expect_gt(tried, 250, "%d", tried);
    json_decref(doc);
}

/* ---- all bodies ----------------------------------------------------------------------------- */

static void check_keys(const struct json_table *t, const json_t *reference) {
    const json_t *schema = resolve(reference), *properties = json_object_get(schema, "properties");
    size_t required = 0, k = 0;
    json_t *choice = NULL;
    json_array_foreach(json_object_get(schema, "oneOf"), k, choice) {
        if (!is(choice, "null"))
            check_keys(t, choice);
    }
    if (json_object_get(schema, "oneOf") != NULL)
        return;
    cr_expect_eq(json_object_size(properties), t->n, "%s", t->name);
    for (size_t i = 0; i < t->n; i++) {
        const struct json_rule *f = &t->rules[i];
        const json_t *property = json_object_get(properties, f->name);
        cr_expect_not_null(property, "%s is not in the schema", f->name);
        required += f->required;
        if (f->kind == JSON_KIND_OBJECT)
            check_keys(f->table, property);
    }
    cr_expect_eq(json_array_size(json_object_get(schema, "required")), required, "%s", t->name);
}

Test(openapi_bodies, the_keys_of_a_schema_are_those_of_its_table) {
    const struct json_table *const tables[] = {
        &job_request_table,          &api__job_update_table,        &api__upload_create_table,
        &api__upload_complete_table, &api__permission_create_table, &api__webhook_create_table};
    doc = get("/openapi.json", NULL);
    schemas = json_object_get(json_object_get(doc, "components"), "schemas");
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        check_keys(tables[i], json_object_get(schemas, tables[i]->name));
    json_decref(doc);
}
