/* api_openapi: GET /openapi.json, made from the route table. */
#include "api/openapi.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

#define OCTETS "application/octet-stream"
#define ADAPTER_MEDIA OCTETS ",application/json,text/markdown,text/csv"
static const struct openapi_operation operations[] = {
    {api__files_create, "createFile", "Upload a file", "File", NULL, "", false, "FileUpload",
     "file_id"},
    {api__files_list, "listFiles", "List files", "FileList", NULL, "laop", false, NULL, NULL},
    {api__files_get, "retrieveFile", "One file", "File", NULL, "", false, NULL, NULL},
    {api__files_delete, "deleteFile", "Delete a file that no live job uses", "FileDeleted", NULL,
     "", false, NULL, NULL},
    {api__files_content, "downloadFile", "Bytes of a file", NULL, OCTETS, "", true, NULL, NULL},
    {api__uploads_create, "createUpload", "Begin a file that comes in parts", "Upload", NULL, "",
     false, "UploadCreate", "upload_id"},
    {api__uploads_add_part, "addUploadPart", "Add a part", "UploadPart", NULL, "", false,
     "PartUpload", NULL},
    {api__uploads_complete, "completeUpload", "Make the file of its parts", "Upload", NULL, "",
     false, "UploadComplete", NULL},
    {api__uploads_cancel, "cancelUpload", "Give up an upload", "Upload", NULL, "", false, NULL,
     NULL},
    {api__jobs_create, "createFineTuningJob", "Create a job", "JobOrDryRun", NULL, "", false,
     "JobCreate", "fine_tuning_job_id"},
    {api__jobs_list, "listFineTuningJobs", "List jobs, newest first", "JobList", NULL, "lam", false,
     NULL, NULL},
    {api__jobs_get, "retrieveFineTuningJob", "One job", "Job", NULL, "", false, NULL, NULL},
    {api__jobs_cancel, "cancelFineTuningJob", "Cancel a job", "Job", NULL, "", false, NULL, NULL},
    {api__jobs_pause, "pauseFineTuningJob", "Pause a job", "Job", NULL, "", false, NULL, NULL},
    {api__jobs_resume, "resumeFineTuningJob", "Resume a paused job", "Job", NULL, "", false, NULL,
     NULL},
    {api__jobs_update, "updateFineTuningJob", "Change the priority of a job that waits", "Job",
     NULL, "", false, "JobUpdate", NULL},
    {api__events_list, "listFineTuningEvents", "Events of a job: pages, or a stream", "EventList",
     "text/event-stream", "las", false, NULL, NULL},
    {api__checkpoints_list, "listFineTuningJobCheckpoints", "Checkpoints of a job, newest first",
     "CheckpointList", NULL, "la", false, NULL, NULL},
    {api__jobs_plot, "plotFineTuningJob",
     "Losses, Fast Forward stages and learning rate as a picture", NULL, "image/svg+xml", "", false,
     NULL, NULL},
    {api__adapter_tar, "downloadAdapter", "The trained adapter as a tar", NULL, "application/x-tar",
     "", true, NULL, NULL},
    {api__adapter_file, "downloadAdapterFile", "One file of the adapter", NULL, ADAPTER_MEDIA, "",
     true, NULL, NULL},
    {api__models_list, "listModels", "Base models and fine-tuned models", "ModelList", NULL, "",
     false, NULL, NULL},
    {api__models_get, "retrieveModel", "One model", "Model", NULL, "", false, NULL, NULL},
    {api__models_delete, "deleteModel", "Delete a fine-tuned model or a checkpoint", "ModelDeleted",
     NULL, "", false, NULL, NULL},
    {api__permissions_list, "listFineTuningCheckpointPermissions",
     "Projects that may use a checkpoint", "PermissionList", NULL, "laOP", false, NULL, NULL},
    {api__permissions_create, "createFineTuningCheckpointPermission",
     "Let projects use a checkpoint", "PermissionList", NULL, "", false, "PermissionCreate", NULL},
    {api__permissions_delete, "deleteFineTuningCheckpointPermission", "Take a permission back",
     "PermissionDeleted", NULL, "", false, NULL, NULL},
    {api__webhooks_create, "createWebhookEndpoint", "Tell an address when jobs end",
     "WebhookSecret", NULL, "", false, "WebhookCreate", "webhook_endpoint_id"},
    {api__webhooks_list, "listWebhookEndpoints", "Webhook endpoints, newest first", "WebhookList",
     NULL, "la", false, NULL, NULL},
    {api__webhooks_get, "retrieveWebhookEndpoint", "One webhook endpoint", "Webhook", NULL, "",
     false, NULL, NULL},
    {api__webhooks_delete, "deleteWebhookEndpoint", "Delete a webhook endpoint", "WebhookDeleted",
     NULL, "", false, NULL, NULL},
    {api__webhooks_update, "updateWebhookEndpoint", "Change a webhook endpoint", "Webhook", NULL,
     "", false, "WebhookUpdate", NULL},
    {api__webhooks_rotate, "rotateWebhookSecret", "A new secret of a webhook endpoint",
     "WebhookSecret", NULL, "", false, "WebhookRotate", NULL},
    {api__webhooks_test, "testWebhookEndpoint", "Send a sample event and wait for its answer",
     "WebhookTest", NULL, "", false, "WebhookTestRequest", NULL},
    {api__webhooks_event_types, "listWebhookEventTypes", "What endpoints can be told",
     "WebhookEventTypes", NULL, "", false, NULL, NULL},
    {api__system_health, "health", "Is the server alive?", "Status", NULL, "", false, NULL, NULL},
    {api__system_ready, "ready", "Does the server take jobs?", "Status", NULL, "", false, NULL,
     NULL},
    {api__system_metrics, "metrics", "Counters in Prometheus' text format", NULL, "text/plain", "",
     false, NULL, NULL},
    {api__system_openapi, "openapi", "This document", NULL, "application/json", "", false, NULL,
     NULL},
};

const struct openapi_operation *openapi_operation_of(const struct api_route *route) {
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
        if (operations[i].handle == route->handle)
            return &operations[i];
    return NULL;
}

json_t *openapi_ref(const char *kind, const char *name) {
    char *path = xasprintf("#/components/%s/%s", kind, name);
    json_t *o = json_pack("{s:s}", "$ref", path);
    free(path);
    return o;
}

json_t *openapi_content(const char *media, json_t *schema_take, const char *example) {
    json_t *one = json_pack("{s:o}", "schema", schema_take);
    if (example != NULL && openapi_has_example(example))
        json_object_set_new(one, "examples",
                            json_pack("{s:o}", example, openapi_ref("examples", example)));
    return json_pack("{s:o}", media, one);
}

/* ---- parameters ----------------------------------------------------------------------------- */

static json_t *parameter(const char *name, const char *in, json_t *schema_take) {
    return json_pack("{s:s, s:s, s:b, s:o}", "name", name, "in", in, "required",
                     strcmp(in, "path") == 0, "schema", schema_take);
}

/* Text without NUL, which no request can hold. */
static json_t *text_schema(const char *pattern) {
    return json_pack("{s:s, s:s}", "type", "string", "pattern", pattern);
}

static void add_path_parameters(json_t *out, const char *pattern) {
    for (const char *at = strchr(pattern, '{'); at != NULL; at = strchr(at + 1, '{')) {
        char *name = xstrndup(at + 1, strcspn(at + 1, ".}"));
        json_t *p = parameter(name, "path", text_schema("^[^\\u0000]+$"));
        json_object_set_new(p, "example", openapi_parameter_example(name));
        json_array_append_new(out, p);
        free(name);
    }
}

static json_t *metadata_parameter(void) {
    json_t *p = parameter("metadata", "query",
                          json_pack("{s:[s,s], s:o}", "type", "object", "null",
                                    "additionalProperties", text_schema("^[^\\u0000]*$")));
    json_object_set_new(p, "style", json_string("deepObject"));
    json_object_set_new(p, "explode", json_true());
    json_object_set_new(p, "description",
                        json_string("Jobs with these pairs; metadata=null: jobs without any"));
    json_object_set_new(p, "example", json_pack("{s:s}", "team", "a"));
    return p;
}

/* l limit, a after, o and O order, p purpose, P project_id, m metadata, s stream */
static const struct {
    char letter;
    const char *name, *schema, *about;
} queries[] = {
    {'l', "limit", "{'type':'integer','minimum':1,'maximum':10000}", "Objects of a page"},
    {'a', "after", "{'type':'string','pattern':'^[^\\\\u0000]*$'}",
     "Id of the last object of the page before"},
    {'o', "order", "{'enum':['asc','desc']}", "By time of creation; desc if absent"},
    {'O', "order", "{'enum':['ascending','descending']}",
     "By time of creation; descending if absent"},
    {'P', "project_id", "{'type':'string','pattern':'^[^\\\\u0000]*$'}",
     "Permissions of this project only"},
    {'p', "purpose", "{'type':'string','pattern':'^[^\\\\u0000]*$'}",
     "Files with this purpose only"},
    {'s', "stream", "{'type':'boolean'}", "Server-sent events, until the job has ended"},
};
_Static_assert(LIMIT_PAGE == 10000, "the schema of limit says so");

static void add_query(json_t *out, const char *letters) {
    for (; *letters != '\0'; letters++) {
        if (*letters == 'm')
            json_array_append_new(out, metadata_parameter());
        for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
            if (queries[i].letter != *letters)
                continue;
            json_t *p = parameter(queries[i].name, "query", json_table_parse(queries[i].schema));
            json_object_set_new(p, "description", json_string(queries[i].about));
            json_array_append_new(out, p);
        }
    }
}

static void add_header(json_t *out, const char *name, const char *about, json_t *schema_take) {
    json_t *p = parameter(name, "header", schema_take);
    json_object_set_new(p, "description", json_string(about));
    json_array_append_new(out, p);
}

static void add_headers(json_t *out, const struct api_route *route,
                        const struct openapi_operation *op) {
    if (route->handle == api__jobs_create)
        add_header(out, "Idempotency-Key", "The same key and body again is the same job",
                   json_pack("{s:s, s:i, s:i, s:s}", "type", "string", "minLength", 1, "maxLength",
                             255, "pattern", "^[!-~]([ -~]*[!-~])?$"));
    if (route->handle == api__events_list)
        add_header(out, "Last-Event-ID", "A stream goes on after this event",
                   json_pack("{s:s}", "type", "string"));
    if (op->ranges) {
        /* Any text: what does not have the form is as if it were absent (RFC 9110). */
        add_header(out, "Range",
                   "A part of the bytes: bytes=FIRST-LAST, bytes=FIRST-, bytes=-COUNT",
                   json_pack("{s:s}", "type", "string"));
        add_header(out, "If-None-Match", "ETag of the client's copy",
                   json_pack("{s:s}", "type", "string"));
    }
}

/* ---- bodies --------------------------------------------------------------------------------- */

/* By the beginning of their paths; the last one has the rest. */
static const struct {
    const char *path, *name, *about;
} tags[] = {
    {"/v1/files", "files", "Training data and results"},
    {"/v1/uploads", "uploads", "Files in parts"},
    {"/v1/fine_tuning/jobs", "jobs", "Fine-tuning jobs, their events, checkpoints and adapters"},
    {"/v1/models", "models", "Base models and fine-tuned models"},
    {"/v1/fine_tuning/checkpoints", "permissions", "Who may use a checkpoint"},
    {"/v1/webhook_e", "webhooks", "Who is told when a job ends"},
    {"/", "server", "Is it alive, and what has it counted"},
};
enum { N_TAGS = sizeof tags / sizeof tags[0] };

static const char *tag_of(const char *path) {
    int i = 0;
    while (i < N_TAGS - 1 && strncmp(path, tags[i].path, strlen(tags[i].path)) != 0)
        i++;
    return tags[i].name;
}

static json_t *tags_json(void) {
    json_t *all = json_array();
    for (int i = 0; i < N_TAGS; i++)
        json_array_append_new(
            all, json_pack("{s:s, s:s}", "name", tags[i].name, "description", tags[i].about));
    return all;
}

static void add_security(json_t *o, const struct api_route *route) {
    if (route->open)
        json_object_set_new(o, "security", json_array());
    else if (route->handle == api__system_metrics) /* the configuration says who may see them */
        json_object_set_new(o, "security", json_pack("[{}, {s:[]}, {s:[]}]", "bearer", "azure"));
}

static json_t *operation_json(const struct api_route *route, const struct openapi_operation *op) {
    bool repeated = route->method == HTTP_POST && strchr(op->query, 'l') != NULL;
    char *id = xasprintf("%s%s", op->name, repeated ? "ByPost" : "");
    json_t *parameters = json_array(), *o = json_object();
    add_path_parameters(parameters, route->pattern);
    add_query(parameters, op->query);
    add_headers(parameters, route, op);
    json_object_set_new(o, "operationId", json_string(id));
    json_object_set_new(o, "tags", json_pack("[s]", tag_of(route->pattern)));
    json_object_set_new(o, "summary", json_string(op->summary));
    json_object_set_new(o, "parameters", parameters);
    const char *media =
        route->accepts == API_ACCEPTS_FORM ? "multipart/form-data" : "application/json";
    if (op->body != NULL)
        json_object_set_new(
            o, "requestBody",
            json_pack("{s:b, s:o}", "required", 1, "content",
                      openapi_content(media, openapi_ref("schemas", op->body), op->body)));
    add_security(o, route);
    json_object_set_new(o, "responses", openapi_responses_of(route, op));
    free(id);
    return o;
}

/* "{model...}" is "{model}" in OpenAPI. */
static char *openapi_path(const char *pattern) {
    char *path = xstrdup(pattern), *dots = strstr(path, "...");
    if (dots != NULL)
        memmove(dots, dots + 3, strlen(dots + 3) + 1);
    return path;
}

static json_t *paths_json(void) {
    json_t *paths = json_object();
    int n = 0;
    const struct api_route *routes = api_routes(&n);
    for (int i = 0; i < n; i++) {
        static const char *const methods[] = {[HTTP_GET] = "get",
                                              [HTTP_POST] = "post",
                                              [HTTP_DELETE] = "delete",
                                              [HTTP_PATCH] = "patch"};
        const struct openapi_operation *op = openapi_operation_of(&routes[i]);
        char *path = openapi_path(routes[i].pattern);
        if (json_object_get(paths, path) == NULL)
            json_object_set_new(paths, path, json_object());
        if (op != NULL)
            json_object_set_new(json_object_get(paths, path), methods[routes[i].method],
                                operation_json(&routes[i], op));
        free(path);
    }
    return paths;
}

/* What the configuration says about a request. */
static json_t *schemas_json(const struct api_config *config) {
    json_t *all = openapi_schemas();
    json_t *upload = json_object_get(json_object_get(all, "UploadCreate"), "properties");
    json_object_set_new(json_object_get(upload, "bytes"), "maximum",
                        json_integer(config->max_upload_bytes));
    return all;
}

static json_t *info_json(const char *version) {
    return json_pack("{s:s, s:s, s:s, s:s, s:{s:s, s:s}}", "title", "ffwd", "version", version,
                     "summary", "Fine-tuning on your own machine, with OpenAI's API", "description",
                     "The prefixes /openai/v1 and /openai, which Azure's clients use, are the same "
                     "as /v1. What the HTTP library cannot parse is answered by a short page of "
                     "its own. No string of a request can hold U+0000.",
                     "license", "name", "Apache 2.0", "identifier", "Apache-2.0");
}

static json_t *security_schemes_json(void) {
    return json_pack("{s:{s:s, s:s, s:s}, s:{s:s, s:s, s:s, s:s}}", "bearer", "type", "http",
                     "scheme", "bearer", "description", "A key of `ffwd-server keys create`",
                     "azure", "type", "apiKey", "in", "header", "name", "api-key", "description",
                     "The same key, as Azure's clients send it");
}

/* Without any key the server asks for none. */
static json_t *security_json(bool keyed) {
    return keyed ? json_pack("[{s:[]}, {s:[]}]", "bearer", "azure") : json_array();
}

static char *make(const struct api_config *config, bool keyed) {
    json_t *parts =
        json_pack("{s:o, s:o, s:o, s:o, s:o}", "schemas", schemas_json(config), "responses",
                  openapi_responses(), "headers", openapi_headers(), "examples", openapi_examples(),
                  "securitySchemes", security_schemes_json());
    json_t *doc =
        json_pack("{s:s, s:o, s:[{s:s}], s:o, s:o, s:o, s:o}", "openapi", "3.1.0", "info",
                  info_json(config->version), "servers", "url", "/", "tags", tags_json(), "paths",
                  paths_json(), "components", parts, "security", security_json(keyed));
    char *text = json_dumps(doc, JSON_COMPACT);
    json_decref(doc);
    return text != NULL ? text : xstrdup("{}");
}

/* Nothing in the document changes but whether there are keys, and writing it takes long. */
API_HANDLER(api__system_openapi) {
    (void)req;
    (void)params;
    int64_t keys = 0;
    bool keyed = store_key_count(api->store, &keys, NULL) != ERR_OK || keys > 0;
    if (api->openapi == NULL || api->openapi_keyed != keyed) {
        free(api->openapi);
        api->openapi = make(api->config, keyed);
        api->openapi_keyed = keyed;
    }
    resp->status = 200;
    resp->kind = API_BODY_TEXT;
    resp->content_type = "application/json";
    resp->text = xstrdup(api->openapi);
}
