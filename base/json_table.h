/* json_table: a JSON object as a table of fields: read into a struct, or told as a JSON schema.
 *
 * What:    a table names the keys of an object with their types and ranges. The reader of requests
 *          and the schema in openapi.json are both made from it, so that they cannot differ.
 * Owns:    tables are static. Texts and arrays that are read are new and the struct's.
 * Threads: pure functions.
 * Errors:  ERR_INPUT with em->param = the path of the field and a sentence that states the range.
 */
#ifndef FFWD_BASE_JSON_TABLE_H
#define FFWD_BASE_JSON_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json_field.h"

/* A number or "auto". */
struct auto_number {
    bool is_auto;
    double value;
};

enum json_kind {
    JSON_KIND_INT,       /* int64_t, lo … hi; 3.0 is 3 */
    JSON_KIND_REAL,      /* double, lo … hi */
    JSON_KIND_AUTO_INT,  /* struct auto_number */
    JSON_KIND_AUTO_REAL, /* struct auto_number */
    JSON_KIND_BOOL,      /* bool */
    JSON_KIND_TEXT,      /* char *, 1 … hi characters, without NUL */
    JSON_KIND_TEXTS,     /* json_t *, an array of lo … hi texts of 1 … item_hi characters */
    JSON_KIND_CHOICE,    /* an enum: index into names */
    JSON_KIND_OBJECT,    /* the fields of `table`, in the same struct */
    JSON_KIND_OWN,       /* what `read` takes and `schema` describes */
};

struct json_table;
typedef enum err (*json_reader)(const json_t *value, void *out, const struct json_place *at);

/* What a kind does not mention stays 0. */
struct json_rule {
    const char *name;
    enum json_kind kind;
    size_t at; /* offset of the member */
    double lo, hi;
    bool lo_open, hi_open; /* the bound itself is not in the range */
    bool nullable;         /* null is as if the key were absent; true of AUTO_* */
    bool required;
    bool distinct;            /* TEXTS: none twice */
    int item_hi;              /* TEXTS */
    size_t mark;              /* offset of a bool that says the key was there; 0: none */
    const char *refused;      /* TEXT: characters that it cannot have, nor control characters */
    const char *word;         /* TEXTS: a text that may stand for an array, and leaves NULL */
    const char *pattern;      /* TEXT: what the user of the struct checks, for the schema */
    const char *const *names; /* CHOICE */
    int n_names;              /* CHOICE */
    const struct json_table *table; /* OBJECT */
    json_reader read;               /* OWN */
    const char *schema;             /* OWN: with ' for " */
    const char *about;              /* for people, or NULL */
};

struct json_table {
    const char *name; /* in the schemas; NULL: stands where it is used */
    const struct json_rule *rules;
    size_t n;
};

enum { JSON_TABLE_PARTIAL = 1 }; /* required keys of the outermost object may be absent */

/* Reads in the table's order, so that the order of a client's keys does not matter. Other keys are
 * refused. out: the struct with its defaults; also after an error its members are to be freed. */
enum err json_table_read(const json_t *object, const struct json_table *t, unsigned flags,
                         void *out, const struct json_place *at) NODISCARD;
/* Schema of the object (new reference). Schemas of named tables, this one's too, are added to
 * `named`, and referred to as #/components/schemas/NAME. */
json_t *json_table_schema(const struct json_table *t, json_t *named);
/* Parses a schema that is written with ' for ". */
json_t *json_table_parse(const char *text);
/* Characters of UTF-8 text, which the contract's limits count. */
size_t json_table_characters(const char *utf8);

#endif
