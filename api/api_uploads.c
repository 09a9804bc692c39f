/* api_uploads: /v1/uploads: a file in parts. Completing one is in api_upload_complete.c. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "storage/trash.h"
#include "storage/upload_parts.h"

static const char *status_name(enum upload_status status) {
    static const char *const names[] = {
        [UPLOAD_PENDING] = "pending",     [UPLOAD_COMPLETING] = "pending",
        [UPLOAD_COMPLETED] = "completed", [UPLOAD_CANCELLED] = "cancelled",
        [UPLOAD_EXPIRED] = "expired",
    };
    return names[status];
}

json_t *api__upload_json(const struct upload_row *u, const struct file_row *file) {
    json_t *o = json_object();
    json_object_set_new(o, "id", json_string(u->id));
    json_object_set_new(o, "object", json_string("upload"));
    json_object_set_new(o, "bytes", json_integer(u->bytes));
    json_object_set_new(o, "created_at", json_integer(u->created_at));
    json_object_set_new(o, "expires_at", json_integer(u->expires_at));
    json_object_set_new(o, "filename", api__string(u->filename));
    json_object_set_new(o, "purpose", api__string(u->purpose));
    json_object_set_new(o, "status", json_string(status_name(u->status)));
    if (file != NULL)
        json_object_set_new(o, "file", api__file_json(file));
    return o;
}

bool api__upload_open(struct api *api, const struct api_request *req, const char *id,
                      struct upload_row *out, struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    (void)api_expire(api);
    enum err e = store_upload_get(api->store, req->project, id, out, &em);
    if (e == ERR_NOT_FOUND)
        api_error(resp, 404, NULL, "upload_id", "No such Upload object: %s", id);
    else if (e != ERR_OK)
        api_error_from(resp, &em);
    if (e != ERR_OK)
        return false;
    if (out->status == UPLOAD_PENDING || out->status == UPLOAD_COMPLETING)
        return true;
    api_error(resp, 400, "upload_ended", "upload_id", "Upload %s is %s.", id,
              status_name(out->status));
    upload_row_clear(out);
    return false;
}

/* ---- create --------------------------------------------------------------------------------- */

struct create_body {
    char *filename, *mime_type;
    int purpose; /* index into api__file_purposes */
    int64_t bytes;
    int anchor;
    int64_t expiry; /* seconds; 0: never */
};

static const char *const anchors[] = {"created_at"};

/* clang-format off */
static const struct json_rule expiry_rules[] = {
    {"anchor", .kind = JSON_KIND_CHOICE, .names = anchors, .n_names = 1, .required = true,
     .at = offsetof(struct create_body, anchor)},
    {"seconds", .kind = JSON_KIND_INT, .lo = API_EXPIRY_MIN, .hi = API_EXPIRY_MAX, .required = true,
     .at = offsetof(struct create_body, expiry)},
};
static const struct json_table expiry_table = {NULL, expiry_rules, 2};

static const struct json_rule create_rules[] = {
    {"filename", .kind = JSON_KIND_TEXT, .hi = 4096, .required = true,
     .at = offsetof(struct create_body, filename), 
     .pattern = "^([^\\u0000]*[/\\\\])?[^/\\\\\\u0000]{0,255}$",
     .about = "what comes before the last / is cut off"},
    {"purpose", .kind = JSON_KIND_CHOICE, .names = api__file_purposes, .n_names = API_FILE_PURPOSES,
     .required = true, .at = offsetof(struct create_body, purpose)},
    {"bytes", .kind = JSON_KIND_INT, .lo = 1, .hi = API_MAX_BYTES, .required = true,
     .at = offsetof(struct create_body, bytes)},
    {"mime_type", .kind = JSON_KIND_TEXT, .hi = LIMIT_MIME_TYPE, .required = true,
     .at = offsetof(struct create_body, mime_type)},
    {"expires_after", .kind = JSON_KIND_OBJECT, .table = &expiry_table, .nullable = true,
     .about = "life of the file that the upload becomes"},
};
/* clang-format on */
const struct json_table api__upload_create_table = {"UploadCreate", create_rules, 5};

static bool read_create(struct api *api, const struct api_request *req, struct upload_row *u,
                        struct api_response *resp) {
    struct create_body b = {0};
    bool good = api__read(req, &api__upload_create_table, &b, resp);
    if (good && b.bytes > api->config->max_upload_bytes) {
        api_error(resp, 400, NULL, "bytes", "bytes must be an integer from 1 to %lld",
                  (long long)api->config->max_upload_bytes);
        good = false;
    }
    char *name = good ? api__display_name(b.filename, "filename", resp) : NULL;
    if (name != NULL) {
        u->filename = name;
        u->purpose = xstrdup(api__file_purposes[b.purpose]);
        u->mime_type = b.mime_type;
        u->bytes = b.bytes;
        u->file_expires_after = b.expiry;
        b.mime_type = NULL;
    }
    free(b.filename);
    free(b.mime_type);
    return name != NULL;
}

static void add_upload(struct api *api, struct upload_row *u, struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    const char *data_dir = api->config->data_dir;
    store_new_id("upload_", u->id);
    u->created_at = clock_unix();
    u->expires_at = u->created_at + api->config->upload_seconds;
    enum err e = upload_parts_create(data_dir, u->id, &em);
    if (e == ERR_OK) {
        e = store_upload_add(api->store, u, &em);
        /* After ERR_IO the row may be there all the same; the next start finds out. */
        if (e != ERR_OK && e != ERR_IO && upload_parts_remove(data_dir, u->id, NULL) != ERR_OK)
            log_warn("uploads.remove", "id=%s", u->id);
    }
    if (e == ERR_OK)
        api__ok(resp, api__upload_json(u, NULL));
    else
        api_error_from(resp, &em);
}

API_HANDLER(api__uploads_create) {
    (void)params;
    struct upload_row u = {.status = UPLOAD_PENDING};
    (void)api_expire(api);
    if (read_create(api, req, &u, resp) && api__room_for(api, req->project, u.bytes, resp)) {
        u.project = xstrdup(req->project);
        add_upload(api, &u, resp);
    }
    upload_row_clear(&u);
}

/* ---- parts ---------------------------------------------------------------------------------- */

/* Bytes first, then the row: a part that is acknowledged is there. */
static enum err store_part(struct api *api, const char *upload_id, const char *part_id,
                           struct spool *spool, int64_t now, struct err_msg *em) {
    char *path = upload_part_path(api->config->data_dir, upload_id, part_id);
    int64_t bytes = spool->bytes;
    enum err e = path == NULL ? err_set(em, ERR_BUG, "%s is not a part id", part_id)
                              : spool_publish_as(spool, path, em);
    if (e == ERR_OK) {
        e = store_upload_add_part(api->store, upload_id, part_id, bytes, now, em);
        if (e != ERR_OK && e != ERR_IO && trash_put(api->config->data_dir, path, NULL) != ERR_OK)
            log_warn("uploads.remove", "id=%s", part_id);
    }
    free(path);
    return e;
}

static bool part_is_welcome(struct api *api, const struct upload_row *u, const struct spool *data,
                            struct api_response *resp) {
    if (u->status != UPLOAD_PENDING || api__upload_is_busy(api, u->id))
        api_error(resp, 400, "upload_ended", "upload_id", "Upload %s is being completed.", u->id);
    else if (data == NULL)
        api_error(resp, 400, NULL, "data", "data is required");
    else if (data->bytes == 0)
        api_error(resp, 400, NULL, "data", "the part is empty");
    else if (u->parts >= LIMIT_UPLOAD_PARTS)
        api_error(resp, 400, "too_many_parts", "data", "An upload can have at most %d parts.",
                  LIMIT_UPLOAD_PARTS);
    else if (data->bytes > 2 * u->bytes - u->stored) /* others came in at the same time */
        api_error(resp, 413, "part_too_large", "data",
                  "Parts are kept up to twice the upload's bytes.");
    else
        return api__room_for(api, u->project, data->bytes, resp);
    return false;
}

API_HANDLER(api__uploads_add_part) {
    struct err_msg em = ERR_MSG_INIT;
    struct upload_row u;
    struct api_form *form = req->form;
    char id[STORE_ID_SIZE];
    if (form == NULL || form->n_fields > 0) {
        api_error(resp, 400, NULL, form != NULL ? form->fields[0].name : NULL,
                  "Send the part as multipart/form-data with the field data and no other.");
        return;
    }
    if (!api__upload_open(api, req, params->value[0], &u, resp))
        return;
    if (part_is_welcome(api, &u, form->file, resp)) {
        int64_t now = clock_unix();
        store_new_id("part_", id);
        if (store_part(api, u.id, id, form->file, now, &em) == ERR_OK)
            api__ok(resp, json_pack("{s:s, s:s, s:I, s:s}", "id", id, "object", "upload.part",
                                    "created_at", (json_int_t)now, "upload_id", u.id));
        else
            api_error_from(resp, &em);
    }
    upload_row_clear(&u);
}

/* ---- cancel --------------------------------------------------------------------------------- */

API_HANDLER(api__uploads_cancel) {
    struct err_msg em = ERR_MSG_INIT;
    struct upload_row u;
    const char *data_dir = api->config->data_dir;
    if (!api__upload_open(api, req, params->value[0], &u, resp))
        return;
    if (api__upload_is_busy(api, u.id)) {
        api_error(resp, 400, "upload_ended", "upload_id", "Upload %s is being completed.", u.id);
    } else if (store_upload_end(api->store, u.id, UPLOAD_CANCELLED, &em) != ERR_OK) {
        api_error_from(resp, &em);
    } else {
        /* The rows are gone, so the parts are; bytes left behind go at the next start. */
        if (upload_parts_remove(data_dir, u.id, &em) != ERR_OK ||
            (u.file_id[0] != '\0' && blobs_file_remove(data_dir, u.file_id, &em) != ERR_OK))
            log_warn("uploads.remove", "%s", em.text);
        u.status = UPLOAD_CANCELLED;
        api__ok(resp, api__upload_json(&u, NULL));
    }
    upload_row_clear(&u);
}
