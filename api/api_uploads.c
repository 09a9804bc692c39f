/* api_uploads: /v1/uploads: a file in parts. Completing one is in api_upload_complete.c. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_field.h"
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

static enum err read_expiry(const json_t *value, struct upload_row *u,
                            const struct json_place *at) {
    struct json_place anchor, seconds;
    static const char *const anchors[] = {"created_at"};
    int choice = 0;
    if (json_is_null(value))
        return ERR_OK;
    if (!json_is_object(value))
        return json_field_wrong(at, "an object with anchor and seconds");
    json_place_child(at, "anchor", &anchor);
    json_place_child(at, "seconds", &seconds);
    if (json_object_size(value) > 2)
        return json_field_wrong(at, "an object with anchor and seconds and nothing else");
    enum err e = json_field_choice(json_object_get(value, "anchor"), anchors, 1, &choice, &anchor);
    if (e == ERR_OK)
        e = json_field_int(json_object_get(value, "seconds"), API_EXPIRY_MIN, API_EXPIRY_MAX,
                           &u->file_expires_after, &seconds);
    return e;
}

static enum err read_field(struct api *api, const char *key, const json_t *value,
                           struct upload_row *u, struct err_msg *em) {
    struct json_place at = {.em = em};
    json_place_child(&(struct json_place){.em = em}, key, &at);
    if (strcmp(key, "filename") == 0)
        return json_field_string(value, 4096, &u->filename, &at);
    if (strcmp(key, "purpose") == 0)
        return json_field_string(value, 255, &u->purpose, &at);
    if (strcmp(key, "mime_type") == 0)
        return json_field_string(value, LIMIT_MIME_TYPE, &u->mime_type, &at);
    if (strcmp(key, "bytes") == 0)
        return json_field_int(value, 1, api->config->max_upload_bytes, &u->bytes, &at);
    if (strcmp(key, "expires_after") == 0)
        return read_expiry(value, u, &at);
    return err_set_param(em, ERR_INPUT, at.path, "unknown field %s", at.path);
}

static enum err read_create(struct api *api, const json_t *body, struct upload_row *u,
                            struct err_msg *em) {
    enum err e = ERR_OK;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, key, value) {
        e = read_field(api, key, value, u, em);
        if (e != ERR_OK)
            return e;
    }
    const char *missing = u->filename == NULL    ? "filename"
                          : u->purpose == NULL   ? "purpose"
                          : u->bytes == 0        ? "bytes"
                          : u->mime_type == NULL ? "mime_type"
                                                 : NULL;
    return missing == NULL ? ERR_OK
                           : err_set_param(em, ERR_INPUT, missing, "%s is required", missing);
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
    struct err_msg em = ERR_MSG_INIT;
    struct upload_row u = {.status = UPLOAD_PENDING};
    json_t *body = api__body(req, resp);
    if (body == NULL)
        return;
    (void)api_expire(api);
    if (read_create(api, body, &u, &em) != ERR_OK) {
        api_error_from(resp, &em);
    } else if (api__file_purpose(u.purpose, resp) &&
               api__room_for(api, req->project, u.bytes, resp)) {
        char *name = api__display_name(u.filename, "filename", resp);
        free(u.filename);
        u.filename = name;
        u.project = xstrdup(req->project);
        if (name != NULL)
            add_upload(api, &u, resp);
    }
    upload_row_clear(&u);
    json_decref(body);
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
