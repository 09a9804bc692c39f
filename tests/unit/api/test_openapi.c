/* /openapi.json: every route is described, and every reference leads somewhere. */
#include "tests/unit/api/fixture.h"

TestSuite(openapi, .init = set_up, .fini = tear_down);

/* "#/components/KIND/NAME" leads somewhere. */
static void check_reference(const json_t *doc, const char *ref) {
    char *copy = xstrdup(ref), *rest = copy;
    const json_t *at = doc;
    cr_expect_str_eq(strsep(&rest, "/"), "#");
    for (const char *key; (key = strsep(&rest, "/")) != NULL;)
        at = json_object_get(at, key);
    cr_expect(json_is_object(at), "%s", ref);
    free(copy);
}

static int check_references(const json_t *doc, json_t *value) {
    const char *key = NULL;
    json_t *child = NULL;
    size_t i = 0;
    int seen = 0;
    if (json_is_array(value))
        json_array_foreach(value, i, child) seen += check_references(doc, child);
    json_object_foreach(value, key, child) {
        if (strcmp(key, "$ref") == 0) {
            check_reference(doc, json_string_value(child));
            seen++;
        }
        seen += check_references(doc, child);
    }
    return seen;
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
    cr_expect_gt(check_references(doc, doc), 500);
    json_decref(doc);
}
