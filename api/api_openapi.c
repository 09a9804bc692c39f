/* api_openapi: GET /openapi.json, made from the route table. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

/* What the route table does not say. Found by handler. */
struct operation {
    void (*handle)(struct api *, const struct api_request *, const struct api_params *,
                   struct api_response *);
    const char *name, *summary;
    const char *schema; /* of the 200 answer; NULL: bytes of `media` */
    const char *media;  /* NULL: JSON only */
    const char *query;  /* letters: see add_query */
    bool ranges;        /* Range and If-None-Match work */
    const char *body;   /* schema of the request; NULL: none */
};

#define OCTETS "application/octet-stream"
static const struct operation operations[] = {
    {api__files_create, "createFile", "Upload a file", "File", NULL, "", false, "FileUpload"},
    {api__files_list, "listFiles", "List files", "FileList", NULL, "laop", false, NULL},
    {api__files_get, "retrieveFile", "One file", "File", NULL, "", false, NULL},
    {api__files_delete, "deleteFile", "Delete a file that no live job uses", "FileDeleted", NULL,
     "", false, NULL},
    {api__files_content, "downloadFile", "Bytes of a file", NULL, OCTETS, "", true, NULL},
    {api__uploads_create, "createUpload", "Begin a file that comes in parts", "Upload", NULL, "",
     false, "UploadCreate"},
    {api__uploads_add_part, "addUploadPart", "Add a part", "UploadPart", NULL, "", false,
     "PartUpload"},
    {api__uploads_complete, "completeUpload", "Make the file of its parts", "Upload", NULL, "",
     false, "UploadComplete"},
    {api__uploads_cancel, "cancelUpload", "Give up an upload", "Upload", NULL, "", false, NULL},
    {api__jobs_create, "createFineTuningJob", "Create a job", "JobOrDryRun", NULL, "", false,
     "JobCreate"},
    {api__jobs_list, "listFineTuningJobs", "List jobs, newest first", "JobList", NULL, "lam", false,
     NULL},
    {api__jobs_get, "retrieveFineTuningJob", "One job", "Job", NULL, "", false, NULL},
    {api__jobs_cancel, "cancelFineTuningJob", "Cancel a job", "Job", NULL, "", false, NULL},
    {api__jobs_pause, "pauseFineTuningJob", "Pause a job", "Job", NULL, "", false, NULL},
    {api__jobs_resume, "resumeFineTuningJob", "Resume a paused job", "Job", NULL, "", false, NULL},
    {api__jobs_update, "updateFineTuningJob", "Change the priority of a job that waits", "Job",
     NULL, "", false, "JobUpdate"},
    {api__events_list, "listFineTuningEvents", "Events of a job: pages, or a stream", "EventList",
     "text/event-stream", "las", false, NULL},
    {api__checkpoints_list, "listFineTuningJobCheckpoints", "Checkpoints of a job, newest first",
     "CheckpointList", NULL, "la", false, NULL},
    {api__adapter_tar, "downloadAdapter", "The trained adapter as a tar", NULL, "application/x-tar",
     "", true, NULL},
    {api__adapter_file, "downloadAdapterFile", "One file of the adapter", NULL, "*/*", "", true,
     NULL},
    {api__models_list, "listModels", "Base models and fine-tuned models", "ModelList", NULL, "",
     false, NULL},
    {api__models_get, "retrieveModel", "One model", "Model", NULL, "", false, NULL},
    {api__models_delete, "deleteModel", "Delete a fine-tuned model or a checkpoint", "ModelDeleted",
     NULL, "", false, NULL},
    {api__permissions_list, "listFineTuningCheckpointPermissions",
     "Projects that may use a checkpoint", "PermissionList", NULL, "laOP", false, NULL},
    {api__permissions_create, "createFineTuningCheckpointPermission",
     "Let projects use a checkpoint", "PermissionList", NULL, "", false, "PermissionCreate"},
    {api__permissions_delete, "deleteFineTuningCheckpointPermission", "Take a permission back",
     "PermissionDeleted", NULL, "", false, NULL},
    {api__webhooks_create, "createWebhookEndpoint", "Tell an address when jobs end",
     "WebhookSecret", NULL, "", false, "WebhookCreate"},
    {api__webhooks_list, "listWebhookEndpoints", "Webhook endpoints", "WebhookList", NULL, "",
     false, NULL},
    {api__webhooks_get, "retrieveWebhookEndpoint", "One webhook endpoint", "Webhook", NULL, "",
     false, NULL},
    {api__webhooks_delete, "deleteWebhookEndpoint", "Delete a webhook endpoint", "WebhookDeleted",
     NULL, "", false, NULL},
    {api__webhooks_rotate, "rotateWebhookSecret", "A new secret; the old one signs for a day more",
     "WebhookSecret", NULL, "", false, NULL},
    {api__webhooks_test, "testWebhookEndpoint", "Send a test event", "WebhookDelivery", NULL, "",
     false, NULL},
    {api__system_health, "health", "Is the server alive?", "Status", NULL, "", false, NULL},
    {api__system_ready, "ready", "Does the server take jobs?", "Status", NULL, "", false, NULL},
    {api__system_metrics, "metrics", "Counters in Prometheus' text format", NULL, "text/plain", "",
     false, NULL},
    {api__system_openapi, "openapi", "This document", NULL, "application/json", "", false, NULL},
};

static const struct operation *operation_of(const struct api_route *route) {
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
        if (operations[i].handle == route->handle)
            return &operations[i];
    return NULL;
}

static json_t *ref(const char *name) {
    char *path = xasprintf("#/components/schemas/%s", name);
    json_t *o = json_pack("{s:s}", "$ref", path);
    free(path);
    return o;
}

/* ---- parameters ----------------------------------------------------------------------------- */

static json_t *parameter(const char *name, const char *in, json_t *schema_take) {
    return json_pack("{s:s, s:s, s:b, s:o}", "name", name, "in", in, "required",
                     strcmp(in, "path") == 0, "schema", schema_take);
}

static void add_path_parameters(json_t *out, const char *pattern) {
    for (const char *at = strchr(pattern, '{'); at != NULL; at = strchr(at + 1, '{')) {
        char *name = xstrndup(at + 1, strcspn(at + 1, ".}"));
        json_array_append_new(out, parameter(name, "path", json_pack("{s:s}", "type", "string")));
        free(name);
    }
}

static json_t *metadata_parameter(void) {
    json_t *p = parameter("metadata", "query",
                          json_pack("{s:[s,s], s:{s:s}}", "type", "object", "null",
                                    "additionalProperties", "type", "string"));
    json_object_set_new(p, "style", json_string("deepObject"));
    json_object_set_new(p, "explode", json_true());
    return p;
}

/* l limit, a after, o and O order, p purpose, P project_id, m metadata, s stream */
static void add_query(json_t *out, const char *letters) {
    for (; *letters != '\0'; letters++) {
        json_t *p = NULL;
        if (*letters == 'l')
            p = parameter("limit", "query",
                          json_pack("{s:s, s:i, s:i}", "type", "integer", "minimum", 1, "maximum",
                                    LIMIT_PAGE));
        else if (*letters == 'a')
            p = parameter("after", "query", json_pack("{s:s}", "type", "string"));
        else if (*letters == 'o')
            p = parameter("order", "query", json_pack("{s:[s,s]}", "enum", "asc", "desc"));
        else if (*letters == 'O')
            p = parameter("order", "query",
                          json_pack("{s:[s,s]}", "enum", "ascending", "descending"));
        else if (*letters == 'P')
            p = parameter("project_id", "query", json_pack("{s:s}", "type", "string"));
        else if (*letters == 'p')
            p = parameter("purpose", "query", json_pack("{s:s}", "type", "string"));
        else if (*letters == 'm')
            p = metadata_parameter();
        else
            p = parameter("stream", "query", json_pack("{s:s}", "type", "boolean"));
        json_array_append_new(out, p);
    }
}

static void add_headers(json_t *out, const struct api_route *route) {
    if (route->handle == api__jobs_create)
        json_array_append_new(
            out, parameter("Idempotency-Key", "header",
                           json_pack("{s:s, s:i, s:i, s:s}", "type", "string", "minLength", 1,
                                     "maxLength", 255, "pattern", "^[!-~]([ -~]*[!-~])?$")));
    if (route->handle == api__events_list)
        json_array_append_new(
            out, parameter("Last-Event-ID", "header", json_pack("{s:s}", "type", "string")));
}

/* ---- bodies --------------------------------------------------------------------------------- */

static json_t *content(const char *media, json_t *schema_take) {
    return json_pack("{s:{s:o}}", media, "schema", schema_take);
}

static json_t *bytes_schema(void) {
    return json_pack("{s:s, s:s}", "type", "string", "format", "binary");
}

static void add_response(json_t *responses, const char *status, const char *text,
                         json_t *content_take) {
    json_t *r = json_pack("{s:s}", "description", text);
    if (content_take != NULL)
        json_object_set_new(r, "content", content_take);
    json_object_set_new(responses, status, r);
}

static json_t *responses_of(const struct api_route *route, const struct operation *op) {
    static const char *const errors[][2] = {{"400", "A parameter or field is wrong"},
                                            {"401", "No valid key"},
                                            {"404", "There is no such object"},
                                            {"422", "The key was used with another body"},
                                            {"default", "Another error"}};
    json_t *out = json_object();
    json_t *good = op->schema != NULL ? content("application/json", ref(op->schema)) : NULL;
    if (op->media != NULL) {
        json_t *media = content(op->media, op->ranges ? bytes_schema() : json_object());
        if (good == NULL)
            good = json_object();
        json_object_update(good, media);
        json_decref(media);
    }
    add_response(out, "200", op->summary, good);
    if (op->ranges) {
        add_response(out, "206", "The range", content(op->media, bytes_schema()));
        add_response(out, "304", "The client's copy is current", NULL);
        add_response(out, "416", "No such range", content("application/json", ref("Error")));
    }
    if (route->handle == api__system_ready)
        add_response(out, "503", "Not ready", content("application/json", ref("Status")));
    for (size_t i = 0; !route->open && i < sizeof errors / sizeof errors[0]; i++)
        if (i != 3 || route->handle == api__jobs_create)
            add_response(out, errors[i][0], errors[i][1],
                         content("application/json", ref("Error")));
    return out;
}

static json_t *operation_json(const struct api_route *route, const struct operation *op) {
    bool repeated = route->method == HTTP_POST && strchr(op->query, 'l') != NULL;
    char *id = xasprintf("%s%s", op->name, repeated ? "ByPost" : "");
    json_t *parameters = json_array(), *o = json_object();
    add_path_parameters(parameters, route->pattern);
    add_query(parameters, op->query);
    add_headers(parameters, route);
    json_object_set_new(o, "operationId", json_string(id));
    json_object_set_new(o, "summary", json_string(op->summary));
    json_object_set_new(o, "parameters", parameters);
    const char *media =
        route->accepts == API_ACCEPTS_FORM ? "multipart/form-data" : "application/json";
    if (op->body != NULL)
        json_object_set_new(
            o, "requestBody",
            json_pack("{s:b, s:o}", "required", 1, "content", content(media, ref(op->body))));
    if (route->open)
        json_object_set_new(o, "security", json_array());
    json_object_set_new(o, "responses", responses_of(route, op));
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
        const struct operation *op = operation_of(&routes[i]);
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

/* Without any key the server asks for none. */
static json_t *security_json(struct api *api) {
    int64_t keys = 0;
    if (store_key_count(api->store, &keys, NULL) == ERR_OK && keys == 0)
        return json_array();
    return json_pack("[{s:[]}]", "bearer");
}

/* What the configuration says about a request. */
static json_t *schemas_json(const struct api_config *config) {
    json_t *all = api__schemas();
    json_t *upload = json_object_get(json_object_get(all, "UploadCreate"), "properties");
    json_object_set_new(json_object_get(upload, "bytes"), "maximum",
                        json_integer(config->max_upload_bytes));
    return all;
}

API_HANDLER(api__system_openapi) {
    (void)req;
    (void)params;
    json_t *doc =
        json_pack("{s:s, s:{s:s, s:s}, s:o, s:{s:o, s:{s:{s:s, s:s}}}, s:o}", "openapi", "3.1.0",
                  "info", "title", "ffwd", "version", api->config->version, "paths", paths_json(),
                  "components", "schemas", schemas_json(api->config), "securitySchemes", "bearer",
                  "type", "http", "scheme", "bearer", "security", security_json(api));
    api__ok(resp, doc);
}
