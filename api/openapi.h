/* openapi: the parts that /openapi.json is made of; only api_openapi*.c and api_schemas.c include
 * it.
 *
 * What:    what the route table does not say of an operation, and the components of the document:
 *          schemas, answers with their headers, examples.
 * Owns:    nothing; what is returned is a new reference.
 * Threads: the loop thread only.
 * Errors:  none.
 */
#ifndef FFWD_API_OPENAPI_H
#define FFWD_API_OPENAPI_H

#include "api/api_internal.h"

struct openapi_operation {
    void (*handle)(struct api *, const struct api_request *, const struct api_params *,
                   struct api_response *);
    const char *name, *summary;
    const char *schema; /* of the 200 answer; NULL: bytes of `media` */
    const char *media;  /* types beside JSON, with commas; NULL: none */
    const char *query;  /* letters: see add_query */
    bool ranges;        /* Range and If-None-Match work */
    const char *body;   /* schema of the request; NULL: none */
    const char *makes;  /* path parameter of other operations that the answer's id is, or NULL */
};

/* Which of them a route is. NULL: none, which a test finds. */
const struct openapi_operation *openapi_operation_of(const struct api_route *route);

json_t *openapi_schemas(void);
/* {"NAME": {"value": …}}: of schemas and of paths' parameters. */
json_t *openapi_examples(void);
/* Whether a schema has an example, to be referred to. */
bool openapi_has_example(const char *schema);
/* Of a path's parameter. */
json_t *openapi_parameter_example(const char *name);

/* Answers that several operations have, and their headers. */
json_t *openapi_responses(void);
json_t *openapi_headers(void);
/* Every answer that an operation can give, by status. */
json_t *openapi_responses_of(const struct api_route *route, const struct openapi_operation *op);

/* {"$ref":"#/components/KIND/NAME"} */
json_t *openapi_ref(const char *kind, const char *name);
/* {MEDIA: {"schema":schema_take, "examples":…}}; example: a schema's name or NULL. */
json_t *openapi_content(const char *media, json_t *schema_take, const char *example);

#endif
