/* api_openapi_responses: every answer of every operation, with its headers. */
#include "api/openapi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- headers -------------------------------------------------------------------------------- */

static const struct {
    const char *name, *pattern, *about;
    bool always;
} headers[] = {
    {"x-request-id", "^req_[0-9a-z]{24}$", "Names the request in the server's log", true},
    {"openai-processing-ms", "^[0-9]+$", "Milliseconds until the answer began", true},
    {"openai-version", "^[0-9-]+$", "Version of the OpenAI API", true},
    {"openai-organization", "^org-", "The organization, always the same", true},
    {"x-ratelimit-limit-requests", "^[0-9]+$", "Requests a minute, with a rate limit", false},
    {"x-ratelimit-remaining-requests", "^[0-9]+$", "Requests left, with a rate limit", false},
    {"x-ratelimit-reset-requests", "^([0-9]+ms|([0-9]+m)?[0-9]+s)$",
     "When all of them are there again", false},
    {"Retry-After", "^[0-9]+$", "Seconds to wait before the request is repeated", false},
    {"retry-after-ms", "^[0-9]+$", "The same in milliseconds, after a rate limit", false},
    {"x-should-retry", "^false$", "The request must not be repeated", false},
    {"WWW-Authenticate", "^Bearer ", "How to say who asks", true},
    {"Allow", "^[A-Z]+(, [A-Z]+)*$", "The methods that the path has", true},
    {"ETag", "^\".+\"$", "Changes with the content", true},
    {"Accept-Ranges", "^bytes$", "Range works", true},
    {"Content-Disposition", "^attachment; filename=", "A name to store the bytes under", true},
    {"Content-Range", "^bytes (\\*|[0-9]+-[0-9]+)/[0-9]+$", "Which bytes, of how many", true},
};
enum { N_HEADERS = sizeof headers / sizeof headers[0] };

json_t *openapi_headers(void) {
    json_t *all = json_object();
    for (int i = 0; i < N_HEADERS; i++)
        json_object_set_new(all, headers[i].name,
                            json_pack("{s:s, s:b, s:{s:s, s:s}}", "description", headers[i].about,
                                      "required", headers[i].always, "schema", "type", "string",
                                      "pattern", headers[i].pattern));
    return all;
}

/* References to the headers that every answer has or may have, and to those of names, which are
 * separated by spaces. */
static json_t *header_refs(const char *names) {
    static const char common[] =
        "x-request-id openai-processing-ms openai-version openai-organization "
        "x-ratelimit-limit-requests x-ratelimit-remaining-requests x-ratelimit-reset-requests";
    char *list = xasprintf("%s%s%s", common, names[0] != '\0' ? " " : "", names), *rest = list;
    json_t *refs = json_object();
    for (char *name; (name = strsep(&rest, " ")) != NULL;)
        json_object_set_new(refs, name, openapi_ref("headers", name));
    free(list);
    return refs;
}

#define AGAIN "Retry-After retry-after-ms x-should-retry"
#define FILE_HEADERS "ETag Accept-Ranges Content-Disposition"

/* ---- errors --------------------------------------------------------------------------------- */

enum who {
    ALWAYS,
    CLOSED, /* needs a key, so that it has limits too */
    CHANGES,
    HAS_BODY,
    NAMES, /* something by its id or by `after` */
    CREATES_JOB,
    RANGES,
    NO_OPERATION, /* no operation of the path has the method */
};

static const struct {
    int status;
    const char *name, *about, *headers;
    const char *code, *param, *message;
    enum who who;
} errors[] = {
    {400, "BadRequest", "A field or parameter is wrong, or the object's state does not allow it",
     "x-should-retry", NULL, "lora.rank", "lora.rank must be an integer from 1 to 512", ALWAYS},
    {401, "Unauthorized", "No valid key", "WWW-Authenticate", "invalid_api_key", NULL,
     "The API key is not valid.", CLOSED},
    {403, "Forbidden", "Not allowed: a base model cannot be deleted; another origin's web page", "",
     "model_not_deletable", "model", "tiny is a base model; only fine-tuned models can be deleted.",
     CHANGES},
    {404, "NotFound", "There is no such object, or it is another project's", "", NULL, "id",
     "No such File object: file-none", NAMES},
    {405, "MethodNotAllowed", "The path has other methods", "Allow", "method_not_allowed", NULL,
     "PUT is not available on /v1/files; it has POST, GET, HEAD.", NO_OPERATION},
    {413, "TooLarge", "The body, the file or the part is too large", "x-should-retry",
     "body_too_large", NULL, "A JSON body can have at most 1 MiB.", ALWAYS},
    {414, "UriTooLong", "The target has more than 4096 bytes", "", "request_too_large", NULL,
     "the request target is longer than 4096 bytes", ALWAYS},
    {415, "UnsupportedMediaType", "The body has another Content-Type than the address takes", "",
     "unsupported_media_type", NULL,
     "This address takes JSON: send it with Content-Type: application/json.", HAS_BODY},
    {416, "RangeNotSatisfiable", "There is no such range", "Content-Range", "range_not_satisfiable",
     NULL, "The file has 4480 bytes.", RANGES},
    {422, "KeyReused", "The Idempotency-Key was used with another body", "",
     "idempotency_key_reused", "Idempotency-Key",
     "This Idempotency-Key was used for job ftjob-abc with another body.", CREATES_JOB},
    {429, "TooManyRequests", "Too much at once: a rate limit, a full queue, too many streams",
     AGAIN, "rate_limit_exceeded", NULL,
     "Rate limit reached for this key: 60 requests a minute. Try again in 0.8 s.", CLOSED},
    {431, "HeadersTooLarge", "The request has more than 100 headers", "", "request_too_large", NULL,
     "the request has more than 100 headers", ALWAYS},
    {500, "ServerError", "A fault of the server; its log says more", "x-should-retry", "io", NULL,
     "The server had an error; its log says more.", CLOSED},
    {503, "Unavailable", "Not now: the server shuts down, or is busy with the same upload", AGAIN,
     "shutting_down", NULL, "The server is shutting down; try again in a moment.", CLOSED},
    {504, "Timeout", "A dry run took too long", "x-should-retry", "dry_run_timeout", NULL,
     "The files could not be checked in time: the limit is 60 s.", CREATES_JOB},
    {507, "DiskFull", "The server's disk is full; nothing was stored", "x-should-retry",
     "disk_full", NULL, "The server's disk is full; nothing was stored.", CHANGES},
};
enum { N_ERRORS = sizeof errors / sizeof errors[0] };

static json_t *text_or_null(const char *text) {
    return text != NULL ? json_string(text) : json_null();
}

static json_t *error_response(int i) {
    json_t *example =
        json_pack("{s:{s:s, s:s, s:o, s:o}}", "error", "message", errors[i].message, "type",
                  api__error_type(errors[i].status), "param", text_or_null(errors[i].param), "code",
                  text_or_null(errors[i].code));
    json_t *content = openapi_content("application/json", openapi_ref("schemas", "Error"), NULL);
    json_object_set_new(json_object_get(content, "application/json"), "example", example);
    return json_pack("{s:s, s:o, s:o}", "description", errors[i].about, "headers",
                     header_refs(errors[i].headers), "content", content);
}

json_t *openapi_responses(void) {
    json_t *all = json_object();
    for (int i = 0; i < N_ERRORS; i++)
        json_object_set_new(all, errors[i].name, error_response(i));
    return all;
}

static bool can_answer(enum who who, const struct api_route *route,
                       const struct openapi_operation *op) {
    switch (who) {
    case ALWAYS:
        return true;
    case CLOSED:
        return !route->open;
    case CHANGES:
        return route->method != HTTP_GET;
    case HAS_BODY:
        return route->accepts != API_ACCEPTS_NOTHING;
    case NAMES:
        return strchr(route->pattern, '{') != NULL || strchr(op->query, 'a') != NULL;
    case CREATES_JOB:
        return route->handle == api__jobs_create;
    case RANGES:
        return op->ranges;
    case NO_OPERATION:
        return false;
    }
    return false;
}

/* ---- the good answers ----------------------------------------------------------------------- */

/* Of a stream's media the schema is that of one event; a part of a file's bytes has none. */
static json_t *media_content(const char *media, bool whole) {
    if (!whole)
        return openapi_content(media, json_object(), NULL);
    if (strcmp(media, "text/event-stream") == 0)
        return openapi_content(media, openapi_ref("schemas", "StreamEvent"), "StreamEvent");
    bool json = strcmp(media, "application/json") == 0;
    return openapi_content(media, json_pack("{s:s}", "type", json ? "object" : "string"), NULL);
}

static void add_media(json_t *content, const char *list, bool whole) {
    char *copy = xstrdup(list), *rest = copy;
    for (char *media; (media = strsep(&rest, ",")) != NULL;) {
        json_t *one = media_content(media, whole);
        json_object_update(content, one);
        json_decref(one);
    }
    free(copy);
}

/* The operations that take what this one makes, by its id. */
static json_t *links_of(const struct openapi_operation *op) {
    int n = 0;
    const struct api_route *routes = api_routes(&n);
    char *part = xasprintf("{%s}", op->makes);
    json_t *links = json_object();
    for (int i = 0; i < n; i++) {
        const struct openapi_operation *other = openapi_operation_of(&routes[i]);
        if (other == NULL || strstr(routes[i].pattern, part) == NULL ||
            json_object_get(links, other->name) != NULL)
            continue;
        json_object_set_new(links, other->name,
                            json_pack("{s:s, s:{s:s}}", "operationId", other->name, "parameters",
                                      op->makes, "$response.body#/id"));
    }
    free(part);
    return links;
}

static json_t *good_response(const struct openapi_operation *op) {
    json_t *content =
        op->schema != NULL
            ? openapi_content("application/json", openapi_ref("schemas", op->schema), op->schema)
            : json_object();
    if (op->media != NULL)
        add_media(content, op->media, true);
    json_t *o = json_pack("{s:s, s:o, s:o}", "description", op->summary, "headers",
                          header_refs(op->ranges ? FILE_HEADERS : ""), "content", content);
    if (op->makes != NULL)
        json_object_set_new(o, "links", links_of(op));
    return o;
}

static void add_range_responses(json_t *out, const struct openapi_operation *op) {
    json_t *part = json_object();
    add_media(part, op->media, false);
    json_object_set_new(out, "206",
                        json_pack("{s:s, s:o, s:o}", "description", "The range", "headers",
                                  header_refs(FILE_HEADERS " Content-Range"), "content", part));
    json_object_set_new(out, "304",
                        json_pack("{s:s, s:o}", "description", "The client's copy is current",
                                  "headers", header_refs("ETag")));
}

static void add_errors(json_t *out, const struct api_route *route,
                       const struct openapi_operation *op) {
    for (int i = 0; i < N_ERRORS; i++) {
        char status[16];
        (void)snprintf(status, sizeof status, "%d", errors[i].status);
        if (can_answer(errors[i].who, route, op))
            json_object_set_new(out, status, openapi_ref("responses", errors[i].name));
    }
}

json_t *openapi_responses_of(const struct api_route *route, const struct openapi_operation *op) {
    json_t *out = json_object();
    json_object_set_new(out, "200", good_response(op));
    if (op->ranges)
        add_range_responses(out, op);
    add_errors(out, route, op);
    if (route->handle == api__system_ready)
        json_object_set_new(
            out, "503",
            json_pack("{s:s, s:o, s:o}", "description", "Not ready", "headers", header_refs(AGAIN),
                      "content",
                      openapi_content("application/json", openapi_ref("schemas", "Status"), NULL)));
    return out;
}
