/* api_permissions: which projects may use a checkpoint: /v1/fine_tuning/checkpoints/…/permissions.
 *
 * Only the project that a checkpoint belongs to sees and changes them. The name may be that of a
 * model too. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

#define MAX_PROJECTS 100 /* of one request */

/* Whether the checkpoint exists and is the request's project's; else *resp is the 404. */
static bool own_checkpoint(struct api *api, const struct api_request *req, const char *name,
                           struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    struct job_row job = {0};
    char *folder = NULL;
    enum err e = api__model_is_tuned(name) ? api__model_open(api->config, api->store, req->project,
                                                             name, &job, &folder, &em)
                                           : ERR_NOT_FOUND;
    bool own = e == ERR_OK && strcmp(job.project, req->project) == 0;
    if (e != ERR_OK && e != ERR_NOT_FOUND)
        api_error_from(resp, &em);
    else if (!own)
        api_error(resp, 404, "model_not_found", "fine_tuned_model_checkpoint",
                  "The checkpoint '%s' does not exist", name);
    free(folder);
    job_row_clear(&job);
    return own;
}

static json_t *permission_json(const struct permission_row *p) {
    json_t *o = json_object();
    json_object_set_new(o, "id", json_string(p->id));
    json_object_set_new(o, "object", json_string("checkpoint.permission"));
    json_object_set_new(o, "created_at", json_integer(p->created_at));
    json_object_set_new(o, "project_id", api__string(p->project));
    return o;
}

/* This list says ascending and descending where the others say asc and desc. */
static bool read_order(const struct api_request *req, struct page *page,
                       struct api_response *resp) {
    const char *order = api_query(req, "order");
    page->ascending = order != NULL && strcmp(order, "ascending") == 0;
    if (order == NULL || page->ascending || strcmp(order, "descending") == 0)
        return true;
    api_error(resp, 400, NULL, "order", "order must be ascending or descending.");
    return false;
}

API_HANDLER(api__permissions_list) {
    struct err_msg em = ERR_MSG_INIT;
    const char *name = params->value[0];
    struct page page;
    struct permission_row *rows = NULL;
    int n = 0;
    bool more = false;
    if (!api__page(req, 10, &page, resp) || !read_order(req, &page, resp) ||
        !own_checkpoint(api, req, name, resp))
        return;
    if (store_permission_list(api->store, name, api_query(req, "project_id"), &page, &rows, &n,
                              &more, &em) != ERR_OK) {
        api_error_from(resp, &em);
        return;
    }
    json_t *data = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(data, permission_json(&rows[i]));
        permission_row_clear(&rows[i]);
    }
    free(rows);
    api__ok(resp, api__list(data, more, json_null()));
}

/* ---- create --------------------------------------------------------------------------------- */

struct create_body {
    json_t *projects;
};

static const struct json_rule create_rules[] = {
    {"project_ids", .kind = JSON_KIND_TEXTS, .lo = 1, .hi = MAX_PROJECTS, .item_hi = LIMIT_FILENAME,
     .required = true, .at = offsetof(struct create_body, projects)}};
const struct json_table api__permission_create_table = {"PermissionCreate", create_rules, 1};

/* All or none. */
static enum err add_all(struct api *api, const char *name, const json_t *ids, json_t *data,
                        struct err_msg *em) {
    enum err e = store_begin(api->store, em);
    if (e != ERR_OK)
        return e;
    for (size_t i = 0; e == ERR_OK && i < json_array_size(ids); i++) {
        struct permission_row row;
        e = store_permission_add(api->store, name, json_string_value(json_array_get(ids, i)), &row,
                                 em);
        if (e == ERR_OK)
            json_array_append_new(data, permission_json(&row));
        permission_row_clear(&row);
    }
    if (e == ERR_OK)
        return store_commit(api->store, em);
    store_rollback(api->store);
    return e;
}

API_HANDLER(api__permissions_create) {
    struct err_msg em = ERR_MSG_INIT;
    const char *name = params->value[0];
    if (!own_checkpoint(api, req, name, resp))
        return;
    struct create_body b = {0};
    json_t *data = json_array();
    if (api__read(req, &api__permission_create_table, &b, resp)) {
        if (add_all(api, name, b.projects, data, &em) == ERR_OK)
            api__ok(resp, api__list(json_incref(data), false, json_null()));
        else
            api_error_from(resp, &em);
    }
    json_decref(data);
    json_decref(b.projects);
}

API_HANDLER(api__permissions_delete) {
    struct err_msg em = ERR_MSG_INIT;
    const char *name = params->value[0], *id = params->value[1];
    if (!own_checkpoint(api, req, name, resp))
        return;
    if (store_permission_delete(api->store, name, id, &em) == ERR_OK)
        api__ok(resp, json_pack("{s:s, s:s, s:b}", "id", id, "object", "checkpoint.permission",
                                "deleted", 1));
    else
        api_error_from(resp, &em);
}
