/* /openapi.json: every route is described, every reference leads somewhere, and the ranges of the
 * create request are those that the parser has. */
#include "base/job_request.h"
#include "tests/unit/api/fixture.h"

TestSuite(openapi, .init = set_up, .fini = tear_down);

static void check_references(const json_t *schemas, json_t *value) {
    const char *key = NULL;
    json_t *child = NULL;
    size_t i = 0;
    static const char head[] = "#/components/schemas/";
    if (json_is_array(value))
        json_array_foreach(value, i, child) check_references(schemas, child);
    json_object_foreach(value, key, child) {
        const char *text = json_string_value(child);
        if (strcmp(key, "$ref") == 0) {
            cr_assert_eq(strncmp(text, head, strlen(head)), 0);
            cr_expect(json_is_object(json_object_get(schemas, text + strlen(head))), "%s", text);
        }
        check_references(schemas, child);
    }
}

Test(openapi, describes_every_route_and_all_references_resolve) {
    json_t *doc = get("/openapi.json", NULL), *paths = json_object_get(doc, "paths");
    json_t *schemas = json_object_get(json_object_get(doc, "components"), "schemas");
    const char *name = NULL, *path = NULL;
    json_t *schema = NULL, *item = NULL;
    size_t operations = 0;
    int n = 0;
    cr_expect_str_eq(text_of(doc, "openapi"), "3.1.0");
    json_object_foreach(schemas, name, schema) cr_expect(json_is_object(schema), "%s", name);
    json_object_foreach(paths, path, item) operations += json_object_size(item);
    (void)api_routes(&n);
    cr_expect_eq(operations, (size_t)n);
    check_references(schemas, doc);
    json_decref(doc);
}

/* ---- ranges --------------------------------------------------------------------------------- */

/* Is {section: {name: value}} (or {name: value}) a good configuration? value is taken over. */
static bool accepted(const char *section, const char *name, json_t *value_take) {
    struct job_request r;
    json_t *inner = json_pack("{s:o}", name, value_take);
    json_t *body = section == NULL ? json_incref(inner) : json_pack("{s:O}", section, inner);
    enum err e = job_request_parse(body, 0, &r, NULL);
    if (e == ERR_OK)
        job_request_clear(&r);
    json_decref(inner);
    json_decref(body);
    return e == ERR_OK;
}

static json_t *number(double x, bool integer) {
    return integer ? json_integer((json_int_t)x) : json_real(x);
}

/* A bound that is part of the range is accepted and the next value is not; one that is not part of
 * the range is refused. Returns the number of bounds seen. */
static int check_bounds(const char *section, const char *name, const json_t *schema) {
    static const struct {
        const char *key;
        double out;
        bool open;
    } bounds[] = {{"minimum", -1, false},
                  {"maximum", 1, false},
                  {"exclusiveMinimum", -1, true},
                  {"exclusiveMaximum", 1, true}};
    const json_t *type = json_object_get(schema, "type");
    const char *type_name = json_string_value(json_is_array(type) ? json_array_get(type, 0) : type);
    bool integer = type_name != NULL && strcmp(type_name, "integer") == 0;
    int seen = 0;
    for (size_t i = 0; i < 4; i++) {
        const json_t *at = json_object_get(schema, bounds[i].key);
        double x = json_number_value(at);
        if (at == NULL)
            continue;
        seen++;
        cr_expect_eq(accepted(section, name, number(x, integer)), !bounds[i].open, "%s %s", name,
                     bounds[i].key);
        cr_expect_not(accepted(section, name, number(x + bounds[i].out, integer)), "%s beyond %s",
                      name, bounds[i].key);
    }
    return seen;
}

static int check_property(const char *section, const char *name, const json_t *schema) {
    const json_t *choices = json_object_get(schema, "enum"),
                 *one_of = json_object_get(schema, "oneOf");
    size_t i = 0;
    json_t *choice = NULL;
    int seen = check_bounds(section, name, schema);
    json_array_foreach(choices, i, choice) {
        cr_expect(accepted(section, name, json_incref(choice)), "%s", name);
        seen++;
    }
    if (choices != NULL)
        cr_expect_not(accepted(section, name, json_string("none of these")), "%s", name);
    json_array_foreach(one_of, i, choice) {
        if (json_object_get(choice, "const") != NULL)
            cr_expect(accepted(section, name, json_incref(json_object_get(choice, "const"))));
        seen += check_bounds(section, name, choice);
    }
    return seen;
}

Test(openapi, ranges_of_the_create_request_are_those_of_its_parser) {
    static const char *const sections[][2] = {{"JobCreate", NULL},
                                              {"Hyperparameters", "hyperparameters"},
                                              {"Lora", "lora"},
                                              {"FastForward", "fast_forward"},
                                              {"Training", "training"}};
    json_t *doc = get("/openapi.json", NULL);
    json_t *schemas = json_object_get(json_object_get(doc, "components"), "schemas");
    int seen = 0;
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        json_t *schema = json_object_get(schemas, sections[i][0]);
        const char *name = NULL;
        json_t *property = NULL;
        json_object_foreach(json_object_get(schema, "properties"), name, property) seen +=
            check_property(sections[i][1], name, property);
    }
    cr_expect_gt(seen, 45, "%d", seen);
    json_decref(doc);
}
